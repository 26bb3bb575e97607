//! Packing: documents become [`Example`]s of token ids, examples fill [`PackedRow`]s of a fixed length.
//!
//! Packing takes lengths only. So a document is laid out first ([`Packing::lay_out`]), and its pictures are
//! decoded by those alone that train on them ([`Example::draw`]): of several ranks each lays out every row,
//! and decodes its own.

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};

use crate::augment::{DrawnViews, PictureViews};
use crate::document::{Document, DocumentKind, Image};
use crate::image::{DecodeBudget, ImageSpec, TileGrid, check_decodable, prepare_views};
use crate::layout::Laid;
use crate::picture_tokens::{PictureFormat, PictureTokens};
use crate::tokenizer::Tokenizer;

/// How documents become examples.
#[derive(Clone)]
pub struct Packing {
    /// Text to ids.
    pub tokenizer: Arc<Tokenizer>,
    /// What the image encoder takes, and into which views of that size a picture is cut.
    pub image: ImageSpec,
    /// What is shown of each picture in an encoder's training: by default the whole, as `image` says. Only
    /// then a picture may be tiled.
    pub views: PictureViews,
    /// Image tokens that the connector makes of a view.
    pub image_tokens: usize,
    /// Positions in a row.
    pub length: usize,
    /// Memory for pictures while they are decoded, shared by all threads.
    pub decoding: DecodeBudget,
}

/// How many examples a row takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RowFill {
    /// As many as fit, as language models are trained.
    #[default]
    Packed,
    /// One, so that a batch has as many as rows, as most image encoders are trained.
    Single,
}

impl RowFill {
    pub(crate) fn is_done(self, row: &PackedRow) -> bool {
        match self {
            Self::Packed => row.is_full(),
            Self::Single => !row.examples().is_empty(),
        }
    }
}

/// A document as ids and pictures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Example {
    /// The document's id.
    pub id: String,
    /// Token ids; `image_tokens` times the image token in the place of each view of a picture.
    pub ids: Vec<u32>,
    /// For each token whether the loss is taken on predicting it.
    pub learn: Vec<bool>,
    /// The pictures in reading order.
    pub pictures: Vec<ExamplePicture>,
    /// Whether the document was longer than a row and lost its end.
    pub truncated: bool,
    /// Why a picture could not be decoded, which only decoding shows. The example keeps its place in its row,
    /// so that ranks that did not decode it pack the same rows; a batch leaves it out.
    pub damage: Option<String>,
}

/// A picture of an example.
#[derive(Clone, Debug, PartialEq)]
pub struct ExamplePicture {
    /// For each of its views the place of the first image token in the example's ids.
    pub offsets: Vec<usize>,
    /// The tiles that the views show; `None`: all of it in one view.
    pub grid: Option<TileGrid>,
    /// Its pixels, now or later.
    pub content: HeldPicture,
}

/// What is held of a picture.
#[derive(Clone, Debug, PartialEq)]
pub enum HeldPicture {
    /// The picture as its source has it, and the key that its views are drawn with ([`crate::augment::key`]).
    Stored(Image, u64),
    /// Its views.
    Drawn(DrawnViews),
}

impl Packing {
    /// How pictures become tokens.
    pub fn pictures(&self) -> PictureFormat<'_> {
        PictureFormat { image: &self.image, image_tokens: self.image_tokens }
    }

    /// The examples of a document, its pictures drawn: one, but of a text that is longer than a row as many
    /// as it takes. Each but the first begins with the last token of the one before, so that every token of
    /// the text but its first is learned once. `key` is what views are drawn with ([`crate::augment::key`]).
    ///
    /// # Errors
    /// A picture that can't be decoded; a padding or image token given as a segment.
    pub fn examples(&self, document: &Document, key: u64) -> Result<Vec<Example>> {
        let mut examples = self.lay_out(document, key)?;
        for example in &mut examples {
            example.draw(self);
            if let Some(damage) = &example.damage {
                bail!("{damage}");
            }
        }
        Ok(examples)
    }

    /// As [`Packing::examples`], for what is one example: text that is longer than a row is cut too. Views
    /// are drawn with the key 0.
    ///
    /// # Errors
    /// As [`Packing::examples`].
    pub fn example(&self, document: &Document) -> Result<Example> {
        let mut example = self.tokenised(document, 0)?;
        example.draw(self);
        match example.damage {
            Some(damage) => bail!("{damage}"),
            None => Ok(example),
        }
    }

    /// As [`Packing::examples`], without decoding: pictures are checked as far as their headers and ends show
    /// it.
    ///
    /// # Errors
    /// A picture that is no picture, is truncated or too large; a padding or image token given as a segment.
    pub fn lay_out(&self, document: &Document, key: u64) -> Result<Vec<Example>> {
        // Only text is cut into pieces: what follows a picture must not be parted from it.
        if document.kind != DocumentKind::TextOnly || document.pictures().next().is_some() {
            return Ok(vec![self.tokenised(document, key)?]);
        }
        let whole = Self { length: usize::MAX, ..self.clone() }.tokenised(document, key)?;
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

    /// What is longer than a row is cut: text after any token, pictures as a whole.
    fn tokenised(&self, document: &Document, key: u64) -> Result<Example> {
        let mut example = Example { id: document.id.clone(), ..Example::default() };
        let laid = self.tokenizer.lay_out(&document.segments);
        let laid = laid.map_err(|error| anyhow!("{}: {error:#}", document.id))?;
        for laid in laid {
            let room = self.length - example.ids.len();
            match laid {
                Laid::Tokens { ids, learn } => {
                    example.truncated = ids.len() > room;
                    example.append(&ids[..ids.len().min(room)], learn);
                }
                Laid::Picture(image) => {
                    let number = example.pictures.len();
                    let tokens = self.pictures().tokens(&self.tokenizer, image, number);
                    let tokens = tokens.with_context(|| document.id.clone())?;
                    // It ends the example: the text that follows would speak of what is not there.
                    example.truncated = tokens.ids.len() > room;
                    if !example.truncated {
                        check_decodable(image).with_context(|| document.id.clone())?;
                        example.place(tokens, HeldPicture::Stored(image.clone(), key));
                    }
                }
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

    /// Whether a picture is still to be drawn.
    pub(crate) fn is_undrawn(&self) -> bool {
        self.pictures.iter().any(|picture| matches!(picture.content, HeldPicture::Stored(..)))
    }

    /// Decodes the pictures and draws their views. What can't be decoded becomes the example's damage.
    pub fn draw(&mut self, packing: &Packing) {
        for (number, picture) in self.pictures.iter_mut().enumerate() {
            let HeldPicture::Stored(image, key) = &picture.content else { continue };
            let held = packing.decoding.hold(image);
            let drawn = match picture.grid {
                None => packing.views.draw(image, &packing.image, *key, number),
                grid => prepare_views(image, &packing.image, grid)
                    .map(|global| DrawnViews { global, local: Vec::new() }),
            };
            drop(held);
            match drawn {
                Ok(views) => picture.content = HeldPicture::Drawn(views),
                Err(error) => {
                    self.damage = Some(format!("{:#}", error.context(self.id.clone())));
                    self.pictures.clear();
                    return;
                }
            }
        }
    }

    /// Appends a picture as a whole.
    fn place(&mut self, tokens: PictureTokens, content: HeldPicture) {
        let before = self.ids.len();
        let offsets = tokens.views.iter().map(|offset| before + offset).collect();
        self.pictures.push(ExamplePicture { offsets, grid: tokens.grid, content });
        self.append(&tokens.ids, false);
    }

    fn append(&mut self, ids: &[u32], learn: bool) {
        self.ids.extend_from_slice(ids);
        self.learn.resize(self.ids.len(), learn);
    }
}

/// A row being filled with consecutive examples of one source.
#[derive(Clone, Debug, PartialEq)]
pub struct PackedRow {
    /// Positions of the row.
    length: usize,
    /// Positions taken: the sum of the examples' lengths, never above `length`.
    used: usize,
    examples: Vec<Example>,
}

impl PackedRow {
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

    /// The examples in order, to have their pictures drawn. Their lengths must stay.
    pub(crate) fn examples_mut(&mut self) -> &mut [Example] {
        &mut self.examples
    }
}
