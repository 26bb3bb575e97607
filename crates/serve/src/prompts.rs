//! [`PromptTokenizer`]: prompts to tokens, and so to lengths, without a network.

use std::sync::Arc;

use anyhow::Result;
use mm1_data::document::Segment;
use mm1_data::layout::Laid;
use mm1_data::tokenizer::Tokenizer;

use crate::input::{EncodedPrompt, EncodedSegment, PromptPart};

/// Positions that a prompt and its answer may take together by default: the paper's sequence
/// length.
const CONTEXT: usize = 4096;

/// Encodes the prompts of a model. It needs no weights: what does not fit is known before there are any.
#[derive(Clone)]
pub struct PromptTokenizer {
    tokenizer: Arc<Tokenizer>,
    /// Pixels a side with which a picture is encoded, where a prompt says nothing else.
    image_size: usize,
    /// Positions of a picture.
    image_tokens: usize,
    context: usize,
}

impl PromptTokenizer {
    /// Of a model that sees pictures of `image_size` pixels a side as `image_tokens` positions.
    pub fn new(tokenizer: Arc<Tokenizer>, image_size: usize, image_tokens: usize) -> Self {
        Self { tokenizer, image_size, image_tokens, context: CONTEXT }
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
    /// A placeholder of a picture without the picture; a conversation that a chat template refuses.
    pub fn encode(&self, parts: &[PromptPart<'_>]) -> Result<EncodedPrompt> {
        // A chat template writes a conversation as a whole, so the parts are joined before.
        let segments: Vec<Segment> = parts.iter().flat_map(|part| part.segments).cloned().collect();
        let sides = parts.iter().flat_map(|part| {
            let pictures = part.segments.iter().filter(|segment| matches!(segment, Segment::Image(_)));
            pictures.map(|_| part.side.unwrap_or(self.image_size))
        });
        let mut sides = sides.collect::<Vec<_>>().into_iter();
        let mut encoded = EncodedPrompt::default();
        for laid in self.tokenizer.lay_out(&segments)? {
            encoded.push(match laid {
                Laid::Tokens { ids, .. } => EncodedSegment::Tokens(ids),
                Laid::Picture(image) => {
                    let side = sides.next().unwrap_or(self.image_size);
                    EncodedSegment::Picture { image: image.clone(), side, positions: self.image_tokens }
                }
            });
        }
        Ok(encoded)
    }

    /// The ids of a text that may follow a prompt.
    pub fn encode_text(&self, text: &str) -> Vec<u32> {
        self.tokenizer.encode(text)
    }

    pub(crate) fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }
}
