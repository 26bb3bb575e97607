//! A prompt on its way to the model: [`PromptPart`] as it is given, [`EncodedPrompt`] with its text in
//! tokens, [`ModelInput`] with its pictures prepared.

use mm1_data::document::{Image, Segment};
use mm1_data::picture_tokens::PictureTokens;
use mm1_model::{Piece, Placed};

/// A stretch of a prompt whose pictures are encoded in one resolution.
#[derive(Clone, Copy, Debug)]
pub struct PromptPart<'a> {
    /// Its text and pictures.
    pub segments: &'a [Segment],
    /// Pixels a side of its pictures, whole patches; `None`: as many as the model was trained with.
    pub side: Option<usize>,
    /// Whether its pictures are shown by their overviews alone, where the model's are tiled.
    pub overviews: bool,
}

impl<'a, S: AsRef<[Segment]> + ?Sized> From<&'a S> for PromptPart<'a> {
    fn from(segments: &'a S) -> Self {
        Self { segments: segments.as_ref(), side: None, overviews: false }
    }
}

/// A prompt whose text is tokenised. Its pictures are prepared when the model reads it: a batch of prompts
/// would hold a megabyte for each picture of 336 pixels a side.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EncodedPrompt {
    pub(crate) segments: Vec<EncodedSegment>,
    /// What the segments take together.
    pub(crate) positions: usize,
}

impl EncodedPrompt {
    /// Positions that the prompt takes in the context, pictures as their image tokens.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Its ids, with as many placeholders for each picture as it has positions.
    pub fn ids(&self) -> Vec<u32> {
        let ids = |segment: &EncodedSegment| match segment {
            EncodedSegment::Tokens(ids) => ids.clone(),
            EncodedSegment::Picture { tokens, .. } => tokens.ids.clone(),
        };
        self.segments.iter().flat_map(ids).collect()
    }

    /// What follows `beginning`; `None` if the prompt begins otherwise.
    pub fn after(&self, beginning: &Self) -> Option<Self> {
        let rest = self.segments.strip_prefix(beginning.segments.as_slice())?;
        let mut after = Self::default();
        rest.iter().cloned().for_each(|segment| after.push(segment));
        Some(after)
    }

    /// What follows the first stretch that is the token `id` alone.
    pub(crate) fn after_token(&self, id: u32) -> Option<Self> {
        let token =
            self.segments.iter().position(|s| matches!(s, EncodedSegment::Tokens(ids) if *ids == [id]))?;
        self.after(&Self { segments: self.segments[..=token].to_vec(), positions: 0 })
    }

    pub(crate) fn push(&mut self, segment: EncodedSegment) {
        self.positions += match &segment {
            EncodedSegment::Tokens(ids) => ids.len(),
            EncodedSegment::Picture { tokens, .. } => tokens.ids.len(),
        };
        self.segments.push(segment);
    }
}

/// A stretch of text, or a picture.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum EncodedSegment {
    /// The ids of a text or of a special token.
    Tokens(Vec<u32>),
    /// A picture.
    Picture {
        image: Image,
        /// Pixels a side at which each of its views is encoded.
        side: usize,
        /// What it is read as.
        tokens: PictureTokens,
    },
}

/// Token ids and pictures in the form that the model reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct ModelInput {
    /// With as many placeholders for each picture as it has image tokens.
    pub(crate) ids: Vec<u32>,
    /// In order, of a tiled one its views; each slot is the index of its first placeholder in `ids`.
    pub(crate) pictures: Vec<Placed>,
}

impl ModelInput {
    pub(crate) fn token(id: u32) -> Self {
        Self::tokens(&[id])
    }

    pub(crate) fn tokens(ids: &[u32]) -> Self {
        Self { ids: ids.to_vec(), ..Self::default() }
    }

    /// As sequence `sequence` of a cache reads it.
    pub(crate) fn piece(&self, sequence: usize) -> Piece<'_> {
        Piece { sequence, ids: &self.ids, pictures: &self.pictures }
    }

    /// Appends what is read after.
    pub(crate) fn append(&mut self, after: Self) {
        let before = self.ids.len();
        self.pictures.extend(after.pictures.into_iter().map(|p| Placed { slot: before + p.slot, ..p }));
        self.ids.extend(after.ids);
    }
}
