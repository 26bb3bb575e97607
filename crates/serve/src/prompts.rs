//! [`PromptTokenizer`]: prompts to tokens, and so to lengths, without a network.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use mm1_data::document::{Image, Segment};
use mm1_data::image::{ImageSpec, TileView, normalise_into, prepare_views, upright_sides};
use mm1_data::layout::Laid;
use mm1_data::picture_tokens::{PictureFormat, PictureTokens};
use mm1_data::tokenizer::Tokenizer;
use mm1_model::{PictureContent, Placed};

use crate::input::{EncodedPrompt, EncodedSegment, ModelInput, PromptPart};

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

/// How a picture is cut, and what it takes.
pub(crate) struct ShownPicture {
    /// Width and height in pixels.
    pub(crate) sides: [u32; 2],
    /// Positions in the context.
    pub(crate) tokens: usize,
    /// Tiles, and the overview.
    pub(crate) views: usize,
    /// Which of the views shows all of it, from 0.
    pub(crate) overview: usize,
    /// Image tokens of a view.
    pub(crate) view_tokens: usize,
    /// Where tiles part from left to right, in shares of the width.
    pub(crate) down: Vec<f64>,
    /// The same from top to bottom, in shares of the height.
    pub(crate) across: Vec<f64>,
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

    /// The prompt as the model reads it, its pictures prepared.
    ///
    /// # Errors
    /// A picture that can't be prepared.
    pub(crate) fn prepare(&self, prompt: &EncodedPrompt) -> Result<ModelInput> {
        let mut input = ModelInput::default();
        for segment in &prompt.segments {
            match segment {
                EncodedSegment::Tokens(ids) => input.ids.extend(ids),
                EncodedSegment::Picture { image: picture, side, tokens } => {
                    let (image, before) = (self.image.at(*side), input.ids.len());
                    input.ids.extend(&tokens.ids);
                    let views = prepare_views(picture, &image, tokens.grid)?;
                    for (offset, view) in tokens.views.iter().zip(views.chunks(image.bytes())) {
                        let (slot, size, mut pixels) = (before + offset, [image.size; 2], Vec::new());
                        normalise_into(view, &image, &mut pixels);
                        let content = PictureContent::Pixels(pixels);
                        input.pictures.push(Placed { slot, size, content });
                    }
                }
            }
        }
        Ok(input)
    }

    /// How a picture is cut, and what it takes.
    ///
    /// # Errors
    /// A picture whose header can't be read.
    pub(crate) fn shown(&self, picture: &Image) -> Result<ShownPicture> {
        let format = PictureFormat { image: &self.image, image_tokens: self.image_tokens };
        let PictureTokens { ids, views, grid } = format.tokens(&self.tokenizer, picture, 0)?;
        let sides = upright_sides(picture)?;
        let order = self.image.config.tiling.views(grid);
        let mut shown = ShownPicture {
            sides,
            tokens: ids.len(),
            views: views.len(),
            overview: order.iter().position(|view| *view == TileView::Overview).unwrap_or(0),
            view_tokens: self.image_tokens,
            down: Vec::new(),
            across: Vec::new(),
        };
        if let Some(grid) = grid {
            let (size, tiling) = (self.image.size, &self.image.config.tiling);
            let canvas = tiling.canvas(sides, grid, size);
            let resized = canvas.resized.last().copied().unwrap_or(grid.sides(size));
            // Lines that lie in the padding part nothing of the picture.
            let lines = |count: u32, side: usize| {
                let at = |line: u32| f64::from(line * size as u32) - f64::from(canvas.offset[side]);
                let share = move |line| at(line) / f64::from(resized[side]);
                (1..count).map(share).filter(|share| *share > 0.0 && *share < 1.0).collect()
            };
            (shown.down, shown.across) = (lines(grid.columns, 0), lines(grid.rows, 1));
        }
        Ok(shown)
    }

    /// Positions of a view of a picture.
    pub(crate) fn image_tokens(&self) -> usize {
        self.image_tokens
    }

    /// The ids of a text that may follow the prompt of these parts.
    pub fn encode_after(&self, parts: &[PromptPart<'_>], text: &str) -> Vec<u32> {
        self.tokenizer.encode_after(parts.iter().flat_map(|part| part.segments), text)
    }

    /// What splits text into tokens.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }
}
