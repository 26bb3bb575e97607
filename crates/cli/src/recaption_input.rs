//! What a recaption stage reads and asks: its source's documents and the prompt of each.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use mm1_data::document::{Document, Image};
use mm1_data::recaption::caption;
use mm1_data::shard::Provenance;
use mm1_data::show;
use mm1_data::source::{Source, Split};
use mm1_data::tokenizer::Tokenizer;
use mm1_eval::prompt::Style;
use mm1_serve::prompts::PromptTokenizer;

use crate::captioner::{CaptionRequest, CaptionedDocuments};
use crate::evaluation::style_after;
use crate::recipe::{RecaptionStage, Recipe};
use crate::sources::Sources;

/// Images of which the first prompt is tried when a run is planned, and whose size is that of all.
const TRIED: u64 = 20;

/// What a caption takes in a shard beside its image: a block of tar for each head, its text, and what fills
/// up the last block.
const SHARD_BYTES: u64 = 2 << 10;

/// The first training documents of a source.
struct FirstOfSource {
    stage: String,
    name: String,
    source: Arc<dyn Source>,
    count: u64,
}

impl CaptionedDocuments for FirstOfSource {
    fn read(&self, number: u64) -> Result<(Document, Provenance)> {
        Ok((self.source.document(Split::Train, number)?, Provenance::default()))
    }

    fn name(&self, _: u64) -> String {
        self.name.clone()
    }

    fn title(&self) -> &str {
        &self.stage
    }

    fn count(&self) -> u64 {
        self.count
    }
}

/// What the stage describes.
pub(crate) fn documents(sources: &Sources, stage: &RecaptionStage) -> impl CaptionedDocuments {
    let name = format!("data.{}", stage.source);
    let source = sources.named(&stage.source).clone();
    FirstOfSource { stage: stage.name.clone(), name, source, count: stage.images }
}

/// What the model is asked with each image.
pub(crate) fn request<'a>(recipe: &Recipe, stage: &'a RecaptionStage) -> CaptionRequest<'a> {
    CaptionRequest {
        tuned: style_after(recipe.trained_before(&stage.name)) == Style::Chat,
        words: stage.prompt.as_deref(),
        with_alt_text: stage.with_alt_text,
    }
}

/// Finds what the stage can't do before anything is trained: a source without captions, a prompt without
/// room.
///
/// # Errors
/// The first document that can be read and is no caption, or whose prompt is too long.
pub(crate) fn rehearse(
    recipe: &Recipe,
    sources: &Sources,
    tokenizer: &Arc<Tokenizer>,
    stage: &RecaptionStage,
) -> Result<()> {
    let documents = documents(sources, stage);
    let of_stage = recipe.as_of(&stage.name);
    let image_tokens = of_stage.model.image_tokens();
    let prompts = PromptTokenizer::new(tokenizer.clone(), of_stage.image_spec(), image_tokens);
    // One that is damaged is skipped and counted later.
    let read = (0..stage.images.min(TRIED)).find_map(|number| documents.read(number).ok());
    let Some((document, _)) = read else { return Ok(()) };
    let (image, alt_text) = caption(&document).with_context(|| {
        format!("source = \"{}\": give a source of pictures with one caption each", stage.source)
    })?;
    let request = request(recipe, stage);
    request.encode(&prompts, image.clone(), &alt_text, stage.max_tokens).map(drop)
}

/// Bytes of what the stage writes, at most: none of its first images is skipped, and no description refused.
pub(crate) fn bytes(sources: &Sources, stage: &RecaptionStage) -> u64 {
    let documents = documents(sources, stage);
    let first = (0..stage.images.min(TRIED)).filter_map(|number| documents.read(number).ok());
    let stored = |image: &Image| match image {
        Image::File { bytes, .. } => Some(bytes.len()),
        Image::Pixels(_) => show::png(image).ok().map(|png| png.len()),
    };
    let bytes = first.filter_map(|(document, _)| Some(stored(caption(&document).ok()?.0)? as u64));
    let bytes: Vec<u64> = bytes.collect();
    let mean = bytes.iter().sum::<u64>() / (bytes.len() as u64).max(1);
    (mean + SHARD_BYTES) * stage.images
}
