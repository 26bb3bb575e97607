//! Alignment of image tokens with a decoder's token embeddings, before the decoder has read a picture:
//! the mean image token of a picture is to be the mean embedding of its caption's tokens. It needs no
//! pass through the decoder, so that a connector from random weights sees many more pictures in the same
//! time. MM1 has no such stage; BLIP-2 (Li et al. 2023, section 3.2) aligns its connector by a contrast
//! first, with a text tower in the place of the embeddings.

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};

use crate::clip::{PackedCaptions, softmax_contrast};
use crate::compute::Compute;
use crate::connector::Connector;
use crate::lm::Lm;
use crate::mm1::Mm1;
use crate::ops;
use crate::superclass::inverse_document_frequency;
use crate::vision::Vision;

/// The factor on the cosines: CLIP's at the start, one over a temperature of 0.07 (Radford et al. 2021,
/// section 2.5). It is not learned: a parameter of its own would be left over after the stage.
const SCALE: f64 = 1.0 / 0.07;

/// Weight of the distance beside the contrast.
// The contrast alone leaves open how long image tokens are: the decoder would meet vectors of another
// size than those it knows. At 0.5 all image tokens of a picture became alike: of a frozen SmolLM2 a caption
// beside its picture cost 8.08 nats a token in place of 7.87, in a study in PyTorch.
const DISTANCE: f64 = 0.1;

/// The whole model, of which the decoder gives its embeddings alone.
#[derive(Module, Debug)]
pub struct Alignment {
    /// Pictures to patch features.
    pub vision: Vision,
    /// Patch features to image tokens.
    pub connector: Connector,
    /// The decoder as it is.
    pub lm: Lm,
    /// Of each token, above 0: what stands in every caption says little of a picture.
    #[module(skip)]
    weights: Vec<f32>,
    /// The mean of the captions' mean embeddings `[d]`: cosines are taken from there.
    #[module(skip)]
    centre: Vec<f32>,
    /// Mean square of the entries of the embeddings: what a distance is measured by.
    #[module(skip)]
    spread: f64,
}

impl Alignment {
    /// Of `model`, by the frequencies of tokens in `captions`, which are those that it will see or some of
    /// them; empty ones are left out.
    pub fn new(model: Mm1, captions: &[Vec<u32>]) -> Self {
        let Mm1 { vision, connector, lm, .. } = model;
        let [vocab, width] = lm.embedding.dims();
        let weights = inverse_document_frequency(captions, vocab);
        // Of each token its share in the mean over the captions.
        let (mut shares, mut count) = (vec![0.0; vocab], 0);
        for caption in captions.iter().filter(|caption| !caption.is_empty()) {
            count += 1;
            let own = normalised(&weights, caption);
            caption.iter().zip(own).for_each(|(&id, weight)| shares[id as usize] += weight);
        }
        let (mut centre, mut squares) = (vec![0.0; width], 0.0);
        let table: Vec<f32> = lm.embedding.val().into_data().iter::<f32>().collect();
        for (row, share) in table.chunks_exact(width).zip(shares) {
            squares += row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
            if share > 0.0 {
                centre.iter_mut().zip(row).for_each(|(sum, x)| *sum += share * x / count as f32);
            }
        }
        Self { vision, connector, lm, weights, centre, spread: squares / table.len() as f64 }
    }

    /// The SUM over the n pictures of their loss: `[n, s, s, 3]` and n captions.
    pub fn loss(&self, compute: &Compute, pixels: Tensor<4>, captions: PackedCaptions<'_>) -> AlignmentLoss {
        let grid = self.vision.grid(&pixels);
        let tokens = self.connector.forward(compute, self.vision.forward(compute, pixels), grid);
        let texts = self.texts(compute, captions);
        let [n, k, width] = tokens.dims();
        let away = (tokens.clone() - texts.clone().unsqueeze_dim(1)).square().sum() / (k * width) as f64;
        let device = texts.device();
        let centre = Tensor::<1>::from_data(TensorData::new(self.centre.clone(), [width]), &device);
        let centre = centre.unsqueeze::<2>();
        let pictures = ops::unit(tokens.mean_dim(1).squeeze_dim(1) - centre.clone(), 1);
        let logits = pictures.matmul(ops::unit(texts - centre, 1).transpose()) * SCALE;
        let own = Tensor::<2>::from_data(TensorData::new(belonging(captions), [n, n]), &device);
        AlignmentLoss { contrast: softmax_contrast(logits, own), distance: away * (DISTANCE / self.spread) }
    }

    /// The weighted means of the captions' token embeddings `[n, d]`.
    fn texts(&self, compute: &Compute, captions: PackedCaptions<'_>) -> Tensor<2> {
        let PackedCaptions { ids, lens } = captions;
        let embeddings = compute.ops().embedding(&self.lm.embedding.val(), ids, 1, ids.len());
        let mut share = vec![0.0; lens.len() * ids.len()];
        let mut start = 0;
        for (caption, &len) in lens.iter().enumerate() {
            let at = caption * ids.len() + start;
            share[at..at + len].copy_from_slice(&normalised(&self.weights, &ids[start..start + len]));
            start += len;
        }
        let share = TensorData::new(share, [lens.len(), ids.len()]);
        Tensor::<2>::from_data(share, &embeddings.device()).matmul(embeddings.squeeze_dim(0))
    }
}

/// The parts of a loss, each `[1]`.
#[derive(Debug)]
pub struct AlignmentLoss {
    /// CLIP's (Radford et al. 2021, figure 3), between the means of image tokens and of token embeddings.
    pub contrast: Tensor<1>,
    /// A tenth of the mean squared distance of image tokens from the latter, by the mean square of the
    /// embeddings.
    pub distance: Tensor<1>,
}

/// How much picture i belongs to caption j, `[n, n]`: all to its own, or in equal parts to all of the same
/// text. The drawings of one emoji by four vendors have one name.
fn belonging(captions: PackedCaptions<'_>) -> Vec<f32> {
    let mut rest = captions.ids;
    let texts: Vec<&[u32]> = captions
        .lens
        .iter()
        .map(|&len| {
            let (text, after) = rest.split_at(len);
            rest = after;
            text
        })
        .collect();
    let mut own = Vec::with_capacity(texts.len() * texts.len());
    for text in &texts {
        let same: Vec<f32> = texts.iter().map(|other| f32::from(u8::from(other == text))).collect();
        let count: f32 = same.iter().sum();
        own.extend(same.into_iter().map(|one| one / count));
    }
    own
}

/// The weights of a caption's tokens, which sum to 1: each caption counts the same, however long it is.
fn normalised(weights: &[f32], caption: &[u32]) -> Vec<f32> {
    let own: Vec<f32> = caption.iter().map(|&id| weights[id as usize]).collect();
    let sum: f32 = own.iter().sum();
    own.into_iter().map(|weight| weight / sum).collect()
}
