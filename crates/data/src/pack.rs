//! Packing: documents become [`Example`]s of token ids, examples fill [`Row`]s of a fixed length.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};

use crate::augment::{Drawn, Views};
use crate::document::{Document, Kind, Segment, Special};
use crate::image::ImageSpec;
use crate::tokenizer::Tokenizer;

/// How documents become examples.
#[derive(Clone)]
pub struct Packing {
    /// Text to ids.
    pub tokenizer: Arc<Tokenizer>,
    /// What the image encoder takes.
    pub image: ImageSpec,
    /// What is shown of each picture: by default the whole, as `image` says.
    pub views: Views,
    /// Image tokens that the connector makes of a picture.
    pub image_tokens: usize,
    /// Positions in a row.
    pub length: usize,
}

/// A document as ids and pixels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Example {
    /// The document's id.
    pub id: String,
    /// Token ids; `image_tokens` times the image token in the place of a picture.
    pub ids: Vec<u32>,
    /// For each token whether the loss is taken on predicting it.
    pub learn: Vec<bool>,
    /// For each picture the place of its first image token in `ids`, and its global views `[global, size, size, 3]`.
    pub images: Vec<(usize, Vec<u8>)>,
    /// The local views of all pictures `[pictures * local, local size, local size, 3]`.
    pub crops: Vec<u8>,
    /// Whether the document was longer than a row and lost its end.
    pub truncated: bool,
}

impl Packing {
    /// The examples of a document: one, but of a text that is longer than a row as many as it takes. Each but the first
    /// begins with the last token of the one before, so that every token of the text but its first is learned once. `key`
    /// is what views are drawn with ([`crate::augment::key`]).
    ///
    /// # Errors
    /// As [`Packing::example`].
    pub fn examples(&self, document: &Document, key: u64) -> Result<Vec<Example>> {
        if document.kind != Kind::TextOnly || document.pictures().next().is_some() {
            return Ok(vec![self.drawn(document, key)?]);
        }
        let whole = Self { length: usize::MAX, ..self.clone() }.example(document)?;
        if whole.ids.len() <= self.length {
            return Ok(vec![whole]);
        }
        let starts = (0..whole.ids.len() - 1).step_by(self.length - 1);
        let piece = |(number, start): (usize, usize)| {
            let end = (start + self.length).min(whole.ids.len());
            Example {
                id: format!("{}#{number}", whole.id),
                ids: whole.ids[start..end].to_vec(),
                learn: whole.learn[start..end].to_vec(),
                ..Example::default()
            }
        };
        Ok(starts.enumerate().map(piece).collect())
    }

    /// Tokenises the document and prepares its pictures. What is longer than a row is cut (see [`Packing::examples`] for
    /// text): text after any token, pictures as a whole. Views are drawn with the key 0.
    ///
    /// # Errors
    /// A picture that can't be prepared; a padding or image token given as a segment.
    pub fn example(&self, document: &Document) -> Result<Example> {
        self.drawn(document, 0)
    }

    fn drawn(&self, document: &Document, key: u64) -> Result<Example> {
        let mut example = Example { id: document.id.clone(), ..Example::default() };
        for segment in &document.segments {
            let room = self.length - example.ids.len();
            match segment {
                Segment::Text { text, learn } => {
                    let ids = self.tokenizer.encode(text);
                    example.truncated = ids.len() > room;
                    example.append(&ids[..ids.len().min(room)], *learn);
                }
                Segment::Image(_) if self.image_tokens > room => example.truncated = true,
                Segment::Image(image) => {
                    let views = self.views.draw(image, &self.image, key, example.images.len());
                    let Drawn { global, mut local } = views.with_context(|| document.id.clone())?;
                    example.images.push((example.ids.len(), global));
                    example.crops.append(&mut local);
                    example.append(&vec![self.tokenizer.id(Special::Image); self.image_tokens], false);
                }
                Segment::Token { token: token @ (Special::Image | Special::Pad), .. } => {
                    bail!("{}: a document can't hold the bare token {token:?}", document.id)
                }
                Segment::Token { .. } if room == 0 => example.truncated = true,
                Segment::Token { token, learn } => example.append(&[self.tokenizer.id(*token)], *learn),
            }
            if example.truncated {
                break;
            }
        }
        Ok(example)
    }
}

impl Example {
    /// Whether any position has a target.
    pub fn teaches(&self) -> bool {
        self.learn.iter().skip(1).any(|&l| l)
    }

    fn append(&mut self, ids: &[u32], learn: bool) {
        self.ids.extend_from_slice(ids);
        self.learn.resize(self.ids.len(), learn);
    }
}

/// A row being filled with consecutive examples of one source.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    length: usize,
    used: usize,
    examples: Vec<Example>,
}

impl Row {
    /// An empty row of `length` positions.
    pub fn new(length: usize) -> Self {
        Self { length, used: 0, examples: Vec::new() }
    }

    /// Adds an example, or gives it back where it does not fit: the row is then done.
    ///
    /// # Errors
    /// The example itself.
    #[expect(
        clippy::result_large_err,
        reason = "the example is handed back to be used, not an error to be told"
    )]
    pub fn push(&mut self, example: Example) -> Result<(), Example> {
        if self.used + example.ids.len() > self.length {
            return Err(example);
        }
        self.used += example.ids.len();
        self.examples.push(example);
        Ok(())
    }

    /// Whether no position is left.
    pub fn is_full(&self) -> bool {
        self.used == self.length
    }

    /// The examples in order.
    pub fn examples(&self) -> &[Example] {
        &self.examples
    }
}
