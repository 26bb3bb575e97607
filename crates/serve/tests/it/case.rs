//! A tiny random model, and generation without a cache or a batch as the reference.

use std::sync::Arc;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor};
use mm1_data::document::{Picture, Segment, Special};
use mm1_data::image::{ImageSpec, normalise_into, prepare};
use mm1_data::tokenizer::Tokenizer;
use mm1_model::connector::{AveragePoolConfig, ConnectorConfig, CrossAttentionConfig};
use mm1_model::lm::LmConfig;
use mm1_model::ops::Precision;
use mm1_model::rope::RopeScaling;
use mm1_model::vision::{VisionConfig, VisionSizes};
use mm1_model::{Compute, Input, Layout, Mm1, Mm1Config, Sight, weights};
use mm1_serve::generate::{AnswerOptions, GenerateOptions, Generator};

pub(crate) struct Case {
    pub(crate) model: Mm1,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) image: ImageSpec,
}

/// Larger matrices than a fresh model has: every token then depends on the ones before, and on pictures.
struct Louder;

impl ModuleMapper for Louder {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|value| if D > 1 { value * 6.0 } else { value })
    }
}

impl Case {
    pub(crate) fn new(seed: u64) -> Self {
        Self::of(seed, ConnectorConfig::AveragePool(AveragePoolConfig { tokens: 4, bias: true }))
    }

    /// One whose decoder looks at pictures beside its sequence, with gates that are open.
    pub(crate) fn looking(seed: u64) -> Self {
        let config = CrossAttentionConfig { latents: 40, depth: 1, heads: 4, every: 1 };
        let case = Self::of(seed, ConnectorConfig::CrossAttention(config));
        let opened = |(path, shape, values): (String, Vec<usize>, Vec<f32>)| {
            let values = if path.ends_with("gate") { vec![0.5] } else { values };
            (path, shape, values)
        };
        let parameters = weights::parameters(&case.model).into_iter().map(opened).collect();
        Self { model: weights::assign(case.model, parameters).unwrap(), ..case }
    }

    fn of(seed: u64, connector: ConnectorConfig) -> Self {
        let texts = ["the red apple and the green apple", "the owl is on the left, the cat is on the right"];
        let texts = texts.iter().cycle().take(20).map(|t| (*t).to_string());
        let tokenizer = Tokenizer::train(texts, 290).unwrap();
        let config = Mm1Config {
            from: None,
            vision: VisionConfig::plain(VisionSizes {
                image_size: 16,
                patch: 4,
                dim: 16,
                layers: 1,
                heads: 2,
                ffn: 32,
            }),
            connector,
            lm: LmConfig {
                from: None,
                vocab: Some(tokenizer.vocab()),
                dim: 32,
                layers: 2,
                heads: 4,
                kv_heads: 2,
                ffn: 64,
                head_width: None,
                rope_base: 10_000.0,
                rope_scaling: RopeScaling::None,
                qkv_bias: false,
                qk_norm: false,
                norm_eps: 1e-5,
                tied: false,
            },
        };
        let model = Mm1::new(&config, seed, &Device::flex()).unwrap().map(&mut Louder);
        Self { model, tokenizer: Arc::new(tokenizer), image: ImageSpec::new(16) }
    }

    pub(crate) fn generator(&self) -> Generator {
        self.generator_in(Precision::F32)
    }

    pub(crate) fn generator_in(&self, precision: Precision) -> Generator {
        let compute = compute().with_precision(precision);
        Generator::new(&compute, self.model.clone(), self.tokenizer.clone(), self.image.clone())
    }

    /// The segments as ids, pixels and slots, made here once more.
    pub(crate) fn read(&self, segments: &[Segment]) -> (Vec<u32>, Vec<f32>, Vec<usize>) {
        let (mut ids, mut pixels, mut slots) = (Vec::new(), Vec::new(), Vec::new());
        for segment in segments {
            match segment {
                Segment::Text { text, .. } => ids.extend(self.tokenizer.encode(text)),
                Segment::Token { token, .. } => ids.push(self.tokenizer.id(*token)),
                Segment::Image(picture) => {
                    slots.push(ids.len());
                    ids.extend([self.tokenizer.id(Special::Image); 4]);
                    normalise_into(&prepare(picture, &self.image).unwrap(), &self.image, &mut pixels);
                }
            }
        }
        (ids, pixels, slots)
    }

    /// Greedy tokens after `ids`, up to `count` or the end token (which is not among them); the whole prompt
    /// is computed anew for each.
    pub(crate) fn reference(&self, ids: &[u32], pixels: &[f32], slots: &[usize], count: usize) -> Vec<u32> {
        let mut all = ids.to_vec();
        for _ in 0..count {
            let layout = Layout::full(1, all.len(), Sight::Causal);
            let input =
                Input { rows: 1, length: all.len(), ids: &all, layout: &layout, pixels, image_slots: slots };
            let logits = logits(&self.model, &input);
            let logits: Vec<f32> = logits.into_data().iter::<f32>().collect();
            let last = &logits[logits.len() - self.tokenizer.vocab()..];
            let best = last.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0 as u32;
            if best == self.tokenizer.id(Special::End) {
                break;
            }
            all.push(best);
        }
        all.split_off(ids.len())
    }
}

/// The CPU, in f32.
pub(crate) fn compute() -> Compute {
    Compute::new(Device::flex())
}

/// The logits of every position: `[rows, length, v]`.
pub(crate) fn logits(model: &Mm1, input: &Input<'_>) -> Tensor<3> {
    let compute = compute();
    let embeds = model.embeds(&compute, input).unwrap();
    model.lm.logits(&compute, model.lm.forward(&compute, embeds, input.layout))
}

/// A picture of noise that `seed` determines, wider than high.
pub(crate) fn picture(seed: u32) -> Segment {
    let byte = |i: u32| (i.wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(40_503)) >> 13) as u8;
    Segment::Image(
        Arc::new(Picture { width: 20, height: 12, rgb: (0..20 * 12 * 3).map(byte).collect() }).into(),
    )
}

pub(crate) fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { answer: AnswerOptions::greedy(max_tokens), batch: 8 }
}

/// Prompts of different lengths, with no, one and two pictures.
pub(crate) fn prompts() -> Vec<Vec<Segment>> {
    let text = Segment::prompt;
    vec![
        vec![text("the red apple")],
        vec![picture(1), text("the owl")],
        vec![text("left"), picture(2), text(" and right "), picture(3), text("which is the green one?")],
        vec![picture(4)],
        vec![text("a")],
        vec![picture(5), picture(6), text("two apples, an owl and a cat in a very long line of words")],
        vec![text("the"), Segment::Token { token: Special::User, learn: false }, text("cat")],
        vec![picture(7), text("Question: what is on the left? Short answer:")],
        vec![text("é 😀 ünïcode")],
    ]
}
