//! What is shown of an export by itself: that the files have the weights' bits, and that the network in them
//! makes the same logits of text, and of a picture and text.

use std::fmt;

use anyhow::{Result, ensure};
use mm1_data::document::Special;
use mm1_data::tokenizer::Tokenizer;
use mm1_model::export::{FloatType, ReadBack};
use mm1_model::{Compute, Mm1, PictureContent, Piece, Placed};
use serde::Serialize;

/// The largest difference that passes where numbers are stored as they are, relative to the largest logit of
/// a position. Of a connector that averages n x n patches each weight is rounded where n is no power of two.
const LIMIT: f32 = 1e-5;

/// Tokens of text that are compared.
const TEXT: usize = 24;

/// How the files compare with the model.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct ExportProof {
    /// Parameters, as tensors.
    tensors: usize,
    /// Largest difference of logits of text, relative to the largest of its position.
    text: f32,
    /// The same of a picture and text.
    picture: f32,
}

impl fmt::Display for ExportProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tensors, text, picture } = self;
        write!(
            f,
            "read back: {tensors} tensors with the same bits; logits differ by {text:.1e} (text) and \
             {picture:.1e} (picture and text) of the largest"
        )
    }
}

/// Compares the network that was read back with `model`.
///
/// # Errors
/// A tensor with other bits; other logits, where no number was rounded.
pub(super) fn compare(
    model: &Mm1,
    back: &ReadBack,
    tokenizer: &Tokenizer,
    numbers: FloatType,
) -> Result<ExportProof> {
    let ReadBack { model: read, tensors, equal } = back;
    ensure!(equal == tensors, "{} of {tensors} tensors have other bits in the files", tensors - equal);
    let logits = |model: &Mm1, pictures: usize| logits(model, tokenizer, pictures);
    let mut apart = [0.0, 0.0];
    for (pictures, apart) in apart.iter_mut().enumerate() {
        *apart = difference(&logits(model, pictures)?, &logits(read, pictures)?, model.config().lm.vocab());
    }
    let [text, picture] = apart;
    ensure!(
        numbers != FloatType::F32 || text.max(picture) <= LIMIT,
        "the files make other logits: {text:.1e} of text and {picture:.1e} of a picture and text, more than \
         {LIMIT:e}"
    );
    Ok(ExportProof { tensors: *tensors, text, picture })
}

/// The logits of so many pictures and text, in f32: `[n * v]`.
fn logits(model: &Mm1, tokenizer: &Tokenizer, pictures: usize) -> Result<Vec<f32>> {
    let config = model.config();
    let (vocab, side) = (tokenizer.vocab(), config.vision.image_size);
    let mut ids = vec![tokenizer.id(Special::Image); pictures * config.image_tokens()];
    ids.extend((0..TEXT).map(|i| (i * 7919 % vocab) as u32));
    // All levels, in no order that a model could have been fitted to.
    let level = |i: usize| (i * 7919 % 256) as f32 / 127.5 - 1.0;
    let pixels: Vec<f32> = (0..side * side * 3).map(level).collect();
    let content = PictureContent::Pixels(pixels);
    let placed = |_| Placed { slot: 0, size: [side; 2], content: content.clone() };
    let pictures: Vec<Placed> = (0..pictures).map(placed).collect();
    let piece = Piece { sequence: 0, ids: &ids, pictures: &pictures };
    let compute = Compute::new(model.device());
    let logits = model.extend_all(&compute, &[piece], &mut model.cache(1))?;
    Ok(logits.into_data().iter::<f32>().collect())
}

/// The largest difference, relative to the largest value of its position. What is no number is far.
fn difference(ours: &[f32], theirs: &[f32], vocab: usize) -> f32 {
    let positions = ours.chunks_exact(vocab).zip(theirs.chunks_exact(vocab));
    let apart = |(a, b): (&f32, &f32)| if (a - b).is_nan() { f32::INFINITY } else { (a - b).abs() };
    let of_position = |(ours, theirs): (&[f32], &[f32])| {
        let largest = ours.iter().fold(f32::MIN_POSITIVE, |most, value| most.max(value.abs()));
        ours.iter().zip(theirs).map(apart).fold(0.0, f32::max) / largest
    };
    positions.map(of_position).fold(0.0, f32::max)
}
