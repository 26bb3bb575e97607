//! Training of the image encoder as a classifier whose labels are the tokens of a picture's caption (Huang et
//! al. 2024, "Classification done right for vision-language pre-training"; Joulin et al. 2016). It has no
//! text tower, and no contrast that wants large batches.

use std::iter::repeat_n;

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::clip::PackedCaptions;
use crate::compute::Compute;
use crate::init::{Init, Initializer};
use crate::vision::Vision;

/// An image encoder and a linear classifier.
#[derive(Module, Debug)]
pub struct SuperClass {
    /// The encoder, which later stages use.
    pub vision: Vision,
    /// From the mean of the patch features to the vocabulary `[d, v]`.
    pub head: Param<Tensor<2>>,
    /// Of each label, above 0.
    #[module(skip)]
    weights: Vec<f32>,
}

impl SuperClass {
    /// Puts a classifier behind `vision` with a label for each of `weights`; see
    /// [`inverse_document_frequency`].
    pub fn new(vision: Vision, weights: Vec<f32>, seed: u64) -> Self {
        let device = vision.device();
        let width = vision.dim();
        let head = Init::new(seed, &device).param("head", [width, weights.len()], Initializer::fan_in(width));
        Self { vision, head, weights }
    }

    /// The SUM over the n pictures of the weighted mean of `-log p(token)` over their captions' tokens
    /// (section 3 of the paper), as `[1]`: `[n, s, s, 3]` and n captions.
    pub fn loss(&self, compute: &Compute, pixels: Tensor<4>, captions: PackedCaptions<'_>) -> Tensor<1> {
        let features: Tensor<2> = self.vision.forward(compute, pixels).mean_dim(1).squeeze_dim(1);
        let lens = || captions.lens.iter().copied();
        let picture: Vec<u32> = (0..).zip(lens()).flat_map(|(i, len)| repeat_n(i, len)).collect();
        // A caption's weights sum to 1, however long it is: each picture counts the same.
        let mut weights: Vec<f32> = captions.ids.iter().map(|&id| self.weights[id as usize]).collect();
        let mut rest = weights.as_mut_slice();
        for len in lens() {
            let (caption, after) = rest.split_at_mut(len);
            let sum: f32 = caption.iter().sum();
            caption.iter_mut().for_each(|w| *w /= sum);
            rest = after;
        }
        // Each token has its picture's features.
        let features = compute.ops().embedding(&features, &picture, 1, picture.len());
        compute.ops().linear_cross_entropy(features, (&self.head).into(), captions.ids, &weights)
    }
}

/// Weights of the labels `0..vocab`: `ln((1 + n) / (1 + df)) + 0.01`, where `df` of the n `captions` have the
/// label. What stands in every caption tells little about a picture (section 3 of the paper).
pub fn inverse_document_frequency(captions: &[Vec<u32>], vocab: usize) -> Vec<f32> {
    let mut having = vec![0u32; vocab];
    for caption in captions {
        // A token counts once for a caption, however often it stands there.
        for id in caption.iter().collect::<std::collections::BTreeSet<_>>() {
            having[*id as usize] += 1;
        }
    }
    let all = (1 + captions.len()) as f32;
    having.into_iter().map(|df| (all / (1 + df) as f32).ln() + 0.01).collect()
}
