//! [`ReadyPrompt`]: a prompt in the pieces in which it is read.

use std::collections::VecDeque;
use std::sync::Arc;

use anyhow::Result;
use mm1_model::{PictureContent, Placed};
use sha2::{Digest as _, Sha256};

use crate::input::{EncodedPrompt, ModelInput};
use crate::prompts::PromptTokenizer;

/// The most positions of text that are read in one step of a prompt: others go on between two of them.
const PIECE: usize = 128;

/// Tells a view of a picture from all others: of its size and its pixels.
pub(super) type ViewDigest = [u8; 32];

/// What stands at a position: equal units after equal units have equal keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Token(u32),
    /// An image token: of which pixels, and the how-manieth.
    View(ViewDigest, u32),
}

/// A prompt that is tokenised, and whose pictures are prepared and cut as the model takes them.
///
/// It is read in pieces that end behind each view of a picture, and after 128 positions of text. Where it is
/// cut follows from what comes before alone. So prompts that begin alike are read alike, bit by bit, whether
/// their beginning was read for them or for another.
#[derive(Clone, Debug)]
pub struct ReadyPrompt {
    /// Several answers to one prompt share them: a picture of 336 pixels a side takes 1.3 MB.
    pub(super) pieces: VecDeque<Arc<ModelInput>>,
    pub(super) units: Arc<[Unit]>,
    /// Positions before the end of each piece; the last is the prompt's length.
    pub(super) cuts: Arc<[usize]>,
}

impl ReadyPrompt {
    /// Its positions.
    pub fn positions(&self) -> usize {
        self.units.len()
    }

    /// Its pictures' views that are not read yet.
    pub fn views(&self) -> usize {
        self.pieces.iter().map(|piece| piece.pictures.len()).sum()
    }

    /// Memory of the prepared pictures that are not read yet.
    /// Unit: bytes.
    pub(super) fn picture_bytes(&self) -> usize {
        let pictures = self.pieces.iter().flat_map(|piece| &piece.pictures);
        pictures.map(|picture| size_of_val(values(picture))).sum()
    }

    pub(super) fn new(input: ModelInput, image_tokens: usize) -> Self {
        let mut units: Vec<Unit> = input.ids.iter().map(|&id| Unit::Token(id)).collect();
        for picture in &input.pictures {
            let (slot, mut digest) = (picture.slot, Sha256::new());
            picture.size.iter().for_each(|side| digest.update(side.to_le_bytes()));
            values(picture).iter().for_each(|value| digest.update(value.to_le_bytes()));
            let digest: ViewDigest = digest.finalize().into();
            for (i, unit) in units[slot..slot + image_tokens].iter_mut().enumerate() {
                *unit = Unit::View(digest, i as u32);
            }
        }
        let slots: Vec<usize> = input.pictures.iter().map(|picture| picture.slot).collect();
        let cuts = cuts(units.len(), &slots, image_tokens);
        Self { pieces: pieces(input, &cuts), units: units.into(), cuts: cuts.into() }
    }
}

/// What is given of a picture: its pixels, as it comes from [`PromptTokenizer::prepare`].
fn values(picture: &Placed) -> &[f32] {
    match &picture.content {
        PictureContent::Pixels(values) => values,
        PictureContent::Tokens(values) => values,
    }
}

impl PromptTokenizer {
    /// Prepares the prompt's pictures and cuts it.
    ///
    /// # Errors
    /// A picture that can't be prepared.
    pub fn ready(&self, prompt: &EncodedPrompt) -> Result<ReadyPrompt> {
        Ok(ReadyPrompt::new(self.prepare(prompt)?, self.image_tokens()))
    }
}

/// Where a prompt of `len` positions is cut that has views at `slots`.
fn cuts(len: usize, slots: &[usize], image_tokens: usize) -> Vec<usize> {
    let (mut cuts, mut slots, mut start) = (Vec::new(), slots.iter().peekable(), 0);
    while start < len {
        let end = start + PIECE;
        start = match slots.next_if(|slot| **slot < end) {
            Some(slot) => slot + image_tokens,
            None => end.min(len),
        };
        cuts.push(start);
    }
    cuts
}

fn pieces(input: ModelInput, cuts: &[usize]) -> VecDeque<Arc<ModelInput>> {
    let (mut pictures, mut start) = (input.pictures.into_iter().peekable(), 0);
    let piece = |&end: &usize| {
        let mut piece = ModelInput::tokens(&input.ids[start..end]);
        while let Some(picture) = pictures.next_if(|picture| picture.slot < end) {
            piece.pictures.push(Placed { slot: picture.slot - start, ..picture });
        }
        start = end;
        Arc::new(piece)
    };
    cuts.iter().map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_cut_behind_views_and_after_long_text() {
        assert_eq!(cuts(300, &[], 16), [128, 256, 300]);
        assert_eq!(cuts(128, &[], 16), [128]);
        assert_eq!(cuts(300, &[3, 19, 140], 16), [19, 35, 156, 284, 300]);
        // A view that would be cut goes whole into the piece in which it begins.
        assert_eq!(cuts(200, &[120], 64), [184, 200]);
        assert_eq!(cuts(200, &[128], 64), [128, 192, 200]);
        assert!(cuts(0, &[], 16).is_empty());
    }

    #[test]
    fn pieces_join_to_the_prompt() {
        let pixels = |slot| PictureContent::Pixels(vec![slot as f32; 3]);
        let picture = |slot| Placed { slot, size: [1, 1], content: pixels(slot) };
        let ids: Vec<u32> = (0..300).collect();
        let input = ModelInput { ids: ids.clone(), pictures: vec![picture(3), picture(19), picture(140)] };
        let ready = ReadyPrompt::new(input, 16);
        let mut joined = ModelInput::default();
        ready.pieces.iter().for_each(|piece| joined.append(ModelInput::clone(piece)));
        assert_eq!(joined.ids, ids);
        assert_eq!(joined.pictures.iter().map(|p| p.slot).collect::<Vec<_>>(), [3, 19, 140]);
        assert_eq!(ready.units[2], Unit::Token(2));
        // The same place in two pictures is not the same.
        assert_ne!(ready.units[3], ready.units[19]);
        assert_ne!(ready.units[3], ready.units[4]);
        assert_eq!(ready.units[35], Unit::Token(35));
        assert_eq!(ready.picture_bytes(), 3 * 3 * size_of::<f32>());
    }
}
