//! [`PromptTokenizer`]: prompts to tokens, and so to lengths, without a network.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use mm1_data::document::Segment;
use mm1_data::image::ImageSpec;
use mm1_data::layout::Laid;
use mm1_data::picture_tokens::PictureFormat;
use mm1_data::tokenizer::Tokenizer;

use crate::input::{EncodedPrompt, EncodedSegment, PromptPart};

/// Positions that a prompt and its answer may take together by default: the paper's sequence
/// length.
const CONTEXT: usize = 4096;

/// Encodes the prompts of a model. It needs no weights: what does not fit is known before there are any.
#[derive(Clone)]
pub struct PromptTokenizer {
    tokenizer: Arc<Tokenizer>,
    /// Pixels a side with which a picture is encoded, where a prompt says nothing else, and its tiling.
    image: ImageSpec,
    /// Positions of a view.
    image_tokens: usize,
    context: usize,
}

impl PromptTokenizer {
    /// Of a model that sees pictures as `image` says, each view of one as `image_tokens` positions.
    pub fn new(tokenizer: Arc<Tokenizer>, image: ImageSpec, image_tokens: usize) -> Self {
        Self { tokenizer, image, image_tokens, context: CONTEXT }
    }

    /// The same with another limit on the positions of a prompt and its answer together.
    pub fn with_context(self, positions: usize) -> Self {
        Self { context: positions, ..self }
    }

    /// Positions that a prompt and its answer may take together: 4096, or what [`Self::with_context`] was
    /// given.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Tokenises the text of a prompt's parts, one behind the other. This is the one place where it is done:
    /// the prompt's length and its answers follow from what is given here.
    ///
    /// # Errors
    /// A placeholder of a picture without the picture; a conversation that a chat template refuses; a tiled
    /// picture whose header can't be read.
    pub fn encode(&self, parts: &[PromptPart<'_>]) -> Result<EncodedPrompt> {
        // A chat template writes a conversation as a whole, so the parts are joined before.
        let segments: Vec<Segment> = parts.iter().flat_map(|part| part.segments).cloned().collect();
        let shown = parts.iter().flat_map(|part| {
            let pictures = part.segments.iter().filter(|segment| matches!(segment, Segment::Image(_)));
            pictures.map(move |_| part)
        });
        let mut shown = shown.collect::<Vec<_>>().into_iter().enumerate();
        let format = PictureFormat { image: &self.image, image_tokens: self.image_tokens };
        let mut encoded = EncodedPrompt::default();
        for laid in self.tokenizer.lay_out(&segments)? {
            encoded.push(match laid {
                Laid::Tokens { ids, .. } => EncodedSegment::Tokens(ids),
                Laid::Picture(image) => {
                    let (number, part) = shown.next().context("a picture that no part has")?;
                    let side = part.side.unwrap_or(self.image.size);
                    let tokens = match part.overviews {
                        true => format.overview(&self.tokenizer, number),
                        false => format.tokens(&self.tokenizer, image, number)?,
                    };
                    EncodedSegment::Picture { image: image.clone(), side, tokens }
                }
            });
        }
        Ok(encoded)
    }

    /// The ids of a text that may follow the prompt of these parts.
    pub fn encode_after(&self, parts: &[PromptPart<'_>], text: &str) -> Vec<u32> {
        self.tokenizer.encode_after(parts.iter().flat_map(|part| part.segments), text)
    }

    pub(crate) fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }
}
