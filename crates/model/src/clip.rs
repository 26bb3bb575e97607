//! Contrastive training of the image encoder beside a text tower (Radford et al. 2021, "Learning transferable visual
//! models from natural language supervision").

use anyhow::Result;
use burn::module::{Module, Param};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor, TensorData};

use crate::config::LmConfig;
use crate::init::{Fill, Init};
use crate::lm::Lm;
use crate::ops::{Layout, Sight};
use crate::vision::Vision;

/// The largest factor on the cosines, as in the paper (section 2.5).
const MAX_SCALE: f64 = 100.0;
/// The factor at the start: one over a temperature of 0.07.
const FIRST_SCALE: f64 = 1.0 / 0.07;

/// An image encoder and a text tower with a common space.
#[derive(Module, Debug)]
pub struct Clip {
    /// The encoder that is kept.
    pub vision: Vision,
    /// The text tower: a causal decoder, of which the last token's state is the text's.
    pub text: Lm,
    /// From the mean of the patch features `[d, e]`.
    pub image_projection: Param<Tensor<2>>,
    /// From the last token's state `[d, e]`.
    pub text_projection: Param<Tensor<2>>,
    /// Logarithm of the factor on the cosines `[1]`.
    pub log_scale: Param<Tensor<1>>,
}

/// Captions packed in one row.
#[derive(Clone, Copy, Debug)]
pub struct Captions<'a> {
    /// Token ids of all captions, one after another.
    pub ids: &'a [u32],
    /// Number of tokens of each; none is 0.
    pub lens: &'a [usize],
}

impl Clip {
    /// Puts a text tower of the decoder's shape beside `vision`; their common space has the decoder's width.
    ///
    /// # Errors
    /// When `vision` has no parameters.
    pub fn new(vision: Vision, text: &LmConfig, seed: u64) -> Result<Self> {
        let device = vision.patch.val().device();
        let init = Init::new(seed, &device);
        let [_, width] = vision.patch.val().dims();
        let log_scale = init.param("log_scale", [1], Fill::Ones);
        Ok(Self {
            text: Lm::new(&init.at("text"), &LmConfig { tied: true, ..text.clone() }),
            image_projection: init.param("image_projection", [width, text.dim], Fill::fan_in(width)),
            text_projection: init.param("text_projection", [text.dim, text.dim], Fill::fan_in(text.dim)),
            log_scale: log_scale.map(|one| (one * FIRST_SCALE.ln()).detach().require_grad()),
            vision,
        })
    }

    /// Unit vectors of pictures `[n, s, s, 3] -> [n, e]`.
    pub fn embed_pictures(&self, pixels: Tensor<4>) -> Tensor<2> {
        let features: Tensor<2> = self.vision.forward(pixels).mean_dim(1).squeeze_dim(1);
        unit(features.matmul(self.image_projection.val()))
    }

    /// Unit vectors of captions `[n, e]`.
    pub fn embed_captions(&self, captions: Captions<'_>) -> Tensor<2> {
        let Captions { ids, lens } = captions;
        let mut start = 0;
        let mut layout = Layout { spans: Vec::new(), sight: Sight::Causal };
        let mut last = Vec::new();
        for &len in lens {
            layout.spans.push(crate::ops::Span { row: 0, start, len });
            start += len;
            last.push((start - 1) as i64);
        }
        let states = self.text.forward(self.text.embed(ids, 1, ids.len()), &layout);
        let last = Tensor::<1, Int>::from_data(TensorData::new(last, [lens.len()]), &states.device());
        let [_, _, d] = states.dims();
        let states = states.reshape([ids.len(), d]).select(0, last);
        unit(states.matmul(self.text_projection.val()))
    }

    /// The SUM over the n pairs of the symmetric cross-entropy (figure 3 of the paper), as `[1]`: picture i belongs to
    /// caption i and to no other.
    pub fn loss(&self, pixels: Tensor<4>, captions: Captions<'_>) -> Tensor<1> {
        let (pictures, texts) = (self.embed_pictures(pixels), self.embed_captions(captions));
        contrast(pictures, texts, self.log_scale.val())
    }
}

/// The sum over pairs of the mean of both directions' cross-entropy: `[n, e]`, `[n, e]`, `[1]` -> `[1]`.
pub fn contrast(pictures: Tensor<2>, texts: Tensor<2>, log_scale: Tensor<1>) -> Tensor<1> {
    let [n, _] = pictures.dims();
    let scale = log_scale.clamp_max(MAX_SCALE.ln()).exp().unsqueeze::<2>();
    let logits = pictures.matmul(texts.transpose()) * scale;
    let own = Tensor::<2>::eye(n, &logits.device());
    let by_picture = (log_softmax(logits.clone(), 1) * own.clone()).sum();
    let by_text = (log_softmax(logits, 0) * own).sum();
    (by_picture + by_text) * -0.5
}

fn unit(x: Tensor<2>) -> Tensor<2> {
    let norm = x.clone().powi_scalar(2).sum_dim(1).sqrt().clamp_min(1e-12);
    x / norm
}
