//! Contrastive training of the image encoder beside a text tower: CLIP (Radford et al. 2021, "Learning
//! transferable visual models from natural language supervision") and SigLIP (Zhai et al. 2023, "Sigmoid loss
//! for language image pre-training").

use anyhow::Result;
use burn::module::{Module, Param};
use burn::tensor::activation::{log_sigmoid, log_softmax};
use burn::tensor::{Int, Tensor, TensorData};

use crate::compute::Compute;
use crate::init::{Init, Initializer};
use crate::lm::{Lm, LmConfig};
use crate::ops::{self, Layout, Sight, Span};
use crate::vision::Vision;

/// The largest factor on the cosines (CLIP, section 2.5).
const MAX_SCALE: f64 = 100.0;

/// The loss that tells the pairs of a batch from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contrast {
    /// Among all captions the picture's own, and among all pictures the caption's own: CLIP.
    Softmax,
    /// Each picture and caption by itself, a pair or not: SigLIP. It asks less of the batch's size.
    Sigmoid,
}

impl Contrast {
    /// The factor on the cosines at the start: one over a temperature of 0.07 (CLIP, section 2.5), or 10
    /// (SigLIP, section 3.2).
    fn first_scale(self) -> f64 {
        match self {
            Self::Softmax => 1.0 / 0.07,
            Self::Sigmoid => 10.0,
        }
    }
}

/// What is added to SigLIP's logits at the start: nearly all of them are of no pair (section 3.2).
const FIRST_BIAS: f64 = -10.0;

/// An image encoder and a text tower with a common space.
#[derive(Module, Debug)]
pub struct Clip {
    /// The encoder, which later stages use.
    pub vision: Vision,
    /// The text tower: a causal decoder, of which the last token's state is the text's.
    pub text: Lm,
    /// From the picture's features `[d, e]`.
    pub image_projection: Param<Tensor<2>>,
    /// From the last token's state `[d, e]`.
    pub text_projection: Param<Tensor<2>>,
    /// Logarithm of the factor on the cosines `[1]`.
    pub log_scale: Param<Tensor<1>>,
    /// Added to the logits `[1]`: SigLIP's alone.
    pub bias: Option<Param<Tensor<1>>>,
}

/// Captions, packed in one row.
#[derive(Clone, Copy, Debug)]
pub struct PackedCaptions<'a> {
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
    pub fn new(vision: Vision, text: &LmConfig, contrast: Contrast, seed: u64) -> Result<Self> {
        let device = vision.device();
        let init = Init::new(seed, &device);
        let width = vision.dim();
        let scalar = |name: &str, value: f64| init.param(name, [1], Initializer::Constant(value));
        Ok(Self {
            // Tied: a text tower has no logits, and a head would be a parameter without a gradient.
            text: Lm::new(&init.at("text"), &LmConfig { tied: true, ..text.clone() }),
            image_projection: init.param("image_projection", [width, text.dim], Initializer::fan_in(width)),
            text_projection: init.param(
                "text_projection",
                [text.dim, text.dim],
                Initializer::fan_in(text.dim),
            ),
            log_scale: scalar("log_scale", contrast.first_scale().ln()),
            bias: (contrast == Contrast::Sigmoid).then(|| scalar("bias", FIRST_BIAS)),
            vision,
        })
    }

    /// Unit vectors of pictures `[n, s, s, 3] -> [n, e]`.
    pub fn embed_pictures(&self, compute: &Compute, pixels: Tensor<4>) -> Tensor<2> {
        let features = self.vision.pooled(&self.vision.tokens(compute, pixels));
        ops::unit(features.matmul(self.image_projection.val()), 1)
    }

    /// Unit vectors of captions `[n, e]`.
    pub fn embed_captions(&self, compute: &Compute, captions: PackedCaptions<'_>) -> Tensor<2> {
        let PackedCaptions { ids, lens } = captions;
        // All captions in one row, each a span of its own: no padding, and none sees another.
        let mut start = 0;
        let mut layout = Layout { spans: Vec::new(), sight: Sight::Causal };
        let mut last = Vec::new();
        for &len in lens {
            layout.spans.push(Span { row: 0, start, len });
            start += len;
            last.push((start - 1) as i64);
        }
        let states = self.text.forward(compute, self.text.embed(compute, ids, 1, ids.len()), &layout);
        let last = Tensor::<1, Int>::from_data(TensorData::new(last, [lens.len()]), &states.device());
        let [_, _, d] = states.dims();
        let states = states.reshape([ids.len(), d]).select(0, last);
        ops::unit(states.matmul(self.text_projection.val()), 1)
    }

    /// The SUM over the n pairs of their loss, as `[1]`, where picture i belongs to caption i and to no
    /// other, from unit vectors `[n, e]` of both. CLIP: the mean of both directions' cross-entropy (figure
    /// 3). SigLIP: the sum over all captions of `-log sigmoid(z)` for the own and `-log sigmoid(-z)` for the
    /// others (section 3.2, equation 1).
    pub fn contrast(&self, pictures: Tensor<2>, texts: Tensor<2>) -> Tensor<1> {
        let [n, _] = pictures.dims();
        let logits = pictures.matmul(texts.transpose()) * self.log_scale.val().exp().unsqueeze::<2>();
        // Where picture and caption belong together.
        let own = Tensor::<2>::eye(n, &logits.device());
        match &self.bias {
            None => {
                let by_picture = (log_softmax(logits.clone(), 1) * own.clone()).sum();
                let by_text = (log_softmax(logits, 0) * own).sum();
                (by_picture + by_text) * -0.5
            }
            Some(bias) => {
                let signs = own * 2.0 - 1.0;
                -log_sigmoid((logits + bias.val().unsqueeze::<2>()) * signs).sum()
            }
        }
    }

    /// Brings the factor on the cosines back into 1..=100 (CLIP, section 2.5).
    pub fn clamped(mut self) -> Self {
        // After the update, as OpenCLIP does: clamped in the forward pass it would have no gradient at the
        // edge.
        self.log_scale =
            self.log_scale.map(|scale| keeping(&scale.clone(), scale.clamp(0.0, MAX_SCALE.ln())));
        self
    }
}

/// `new` in the place of the parameter `old`: outside of any graph, and trained if that was.
fn keeping(old: &Tensor<1>, new: Tensor<1>) -> Tensor<1> {
    if old.is_require_grad() { new.detach().require_grad() } else { new }
}
