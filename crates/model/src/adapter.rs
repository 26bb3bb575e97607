//! Low-rank adapters (LoRA, Hu et al. 2021): beside a linear map `x w` whose weight stays as it is, a trained
//! map `alpha / rank * dropout(x) a b` of low rank.
//!
//! An adapter stands beside its weight and adds to what comes out. Rejected: a weight
//! `w + alpha / rank * a b` made in each forward pass. It has no place for dropout, which in peft is on the
//! adapter's input, and its backward pass makes the gradient of the whole weight.

use anyhow::{Result, ensure};
use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compute::Compute;
use crate::init::{Init, Initializer};
use crate::ops::{Activation, Affine, LowRank, Norm};
use crate::weight::LinearWeight;

/// Low-rank adapters (LoRA, Hu et al. 2021), `adapter`: small trained maps beside the linear maps of a part
/// of the model, whose own weights stay as they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdapterConfig {
    /// Rank of the added maps: peft's `r`.
    /// Unit: none.
    #[schemars(range(min = 1))]
    pub rank: usize,
    /// The added maps are multiplied by `alpha / rank`: peft's `lora_alpha`.
    /// Unit: none.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub alpha: f64,
    /// Share of an adapter's inputs that a training step drops: peft's `lora_dropout`.
    /// Unit: share.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub dropout: f64,
    /// The maps that get adapters, in every block.
    #[schemars(length(min = 1))]
    pub targets: Vec<AdapterTarget>,
    /// The parts of the model that get adapters. The rest of such a part is frozen.
    #[schemars(length(min = 1))]
    pub parts: Vec<AdapterPart>,
    /// Whether the adapters become part of the weights when the stage ends. With `false` a stage that follows
    /// and has the same adapters trains them further; without adapters it takes the weights that they make.
    pub merge: bool,
}

impl Default for AdapterConfig {
    fn default() -> Self {
        Self {
            rank: 8,
            alpha: 16.0,
            dropout: 0.0,
            targets: vec![AdapterTarget::Q, AdapterTarget::V],
            parts: vec![AdapterPart::Lm],
            merge: true,
        }
    }
}

/// A linear map of a transformer block. The names of Hugging Face's models are read too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AdapterTarget {
    /// Of queries: `q_proj` there.
    #[serde(alias = "q_proj")]
    Q,
    /// Of keys: `k_proj`.
    #[serde(alias = "k_proj")]
    K,
    /// Of values: `v_proj`.
    #[serde(alias = "v_proj")]
    V,
    /// Behind the attention: `o_proj`.
    #[serde(alias = "o_proj")]
    Out,
    /// The gate of the decoder's MLP: `gate_proj`.
    #[serde(alias = "gate_proj")]
    Gate,
    /// The first map of an MLP: `up_proj`, in encoders `fc1`.
    #[serde(alias = "up_proj")]
    Up,
    /// The last map of an MLP: `down_proj`, in encoders `fc2`.
    #[serde(alias = "down_proj")]
    Down,
}

impl AdapterTarget {
    /// As a recipe writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q => "q",
            Self::K => "k",
            Self::V => "v",
            Self::Out => "out",
            Self::Gate => "gate",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// A part of the network whose blocks have adapters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AdapterPart {
    /// The image encoder.
    Vision,
    /// The decoder.
    Lm,
}

impl AdapterPart {
    /// As a recipe writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vision => "vision",
            Self::Lm => "lm",
        }
    }
}

impl AdapterConfig {
    /// Checks the numbers and names.
    ///
    /// # Errors
    /// One line that names the field.
    pub fn check(&self) -> Result<()> {
        let Self { rank, alpha, dropout, targets, parts, .. } = self;
        ensure!(*rank > 0, "adapter.rank must be at least 1");
        ensure!(alpha.is_finite() && *alpha > 0.0, "adapter.alpha = {alpha} must be above 0");
        ensure!((0.0..1.0).contains(dropout), "adapter.dropout = {dropout} must be at least 0 and below 1");
        ensure!(!targets.is_empty(), "adapter.targets names no map: \"q\" and \"v\" are usual");
        ensure!(!parts.is_empty(), "adapter.parts names no part: \"lm\" or \"vision\"");
        for (i, target) in targets.iter().enumerate() {
            let name = target.name();
            ensure!(!targets[..i].contains(target), "adapter.targets has \"{name}\" twice");
            ensure!(
                *target != AdapterTarget::Gate || parts.contains(&AdapterPart::Lm),
                "adapter.targets: the image encoder has no \"gate\"; it has q, k, v, out, up, down"
            );
        }
        for (i, part) in parts.iter().enumerate() {
            ensure!(!parts[..i].contains(part), "adapter.parts has \"{}\" twice", part.name());
        }
        Ok(())
    }

    /// Whether the map is one of those with adapters.
    pub fn has(&self, target: AdapterTarget) -> bool {
        self.targets.contains(&target)
    }
}

/// The adapter of one linear map of `i` inputs and `o` outputs.
#[derive(Module, Debug)]
pub struct Adapter {
    /// `[i, r]`
    pub lora_a: Param<Tensor<2>>,
    /// `[r, o]`
    pub lora_b: Param<Tensor<2>>,
    /// The first of its columns in a weight that has several maps side by side.
    #[module(skip)]
    first: usize,
    #[module(skip)]
    scale: f64,
    #[module(skip)]
    dropout: f64,
    /// By which dropout draws.
    #[module(skip)]
    key: u64,
}

impl Adapter {
    /// For the map of `inputs` inputs to the columns from `first` on.
    fn new(init: &Init<'_>, config: &AdapterConfig, [inputs, outputs]: [usize; 2], first: usize) -> Self {
        let bound = (inputs as f64).sqrt().recip();
        Self {
            lora_a: init.param("lora_a", [inputs, config.rank], Initializer::Uniform(bound)),
            lora_b: init.param("lora_b", [config.rank, outputs], Initializer::Zeros),
            first,
            scale: config.alpha / config.rank as f64,
            dropout: config.dropout,
            key: init.key(),
        }
    }

    /// As the operations take it.
    fn map(&self, compute: &Compute) -> LowRank {
        LowRank {
            a: self.lora_a.val(),
            b: self.lora_b.val(),
            first: self.first,
            scale: self.scale,
            dropout: compute.dropout(self.dropout, self.key),
        }
    }

    /// `weight` with the added map in it.
    ///
    /// # Panics
    /// If the weight is for reading only.
    pub(crate) fn merged_into(&self, weight: LinearWeight) -> LinearWeight {
        let LinearWeight::Parameter(weight) = weight else {
            panic!("a weight for reading only takes no adapter")
        };
        let (value, scale, id, device) = (weight.val(), self.scale as f32, weight.id, weight.lazy_device());
        let ([inputs, width], [rank, outputs]) = (value.dims(), self.lora_b.val().dims());
        let (a, b) = (floats(&self.lora_a), floats(&self.lora_b));
        let mut values: Vec<f32> = value.into_data().iter::<f32>().collect();
        // On the host and by itself for each value: the same bits on every device and by any threads.
        values.par_chunks_mut(width).zip(a.par_chunks(rank)).for_each(|(row, a)| {
            let columns = &mut row[self.first..self.first + outputs];
            for (b, &a) in b.chunks_exact(outputs).zip(a) {
                columns.iter_mut().zip(b).for_each(|(value, &b)| *value += scale * a * b);
            }
        });
        let values = Tensor::from_data(TensorData::new(values, [inputs, width]), &device);
        weight.transform_for_load(values, id).into()
    }
}

fn floats(parameter: &Param<Tensor<2>>) -> Vec<f32> {
    parameter.val().into_data().iter::<f32>().collect()
}

/// The adapters of a block's attention, of those of its maps that have some.
#[derive(Module, Debug, Default)]
pub struct AttentionAdapters {
    /// Of queries.
    pub q: Option<Adapter>,
    /// Of keys.
    pub k: Option<Adapter>,
    /// Of values.
    pub v: Option<Adapter>,
    /// Behind the heads.
    pub out: Option<Adapter>,
}

impl AttentionAdapters {
    /// For a residual stream of width `dim`, `q` queries and `kv` keys.
    pub(crate) fn new(init: &Init<'_>, config: &AdapterConfig, [dim, q, kv]: [usize; 3]) -> Self {
        let of = |target, dims, first| of_target(init, config, target, (dims, first));
        Self {
            q: of(AdapterTarget::Q, [dim, q], 0),
            k: of(AdapterTarget::K, [dim, kv], q),
            v: of(AdapterTarget::V, [dim, kv], q + kv),
            out: of(AdapterTarget::Out, [q, dim], 0),
        }
    }

    /// Those of queries, keys and values, which share a weight.
    pub(crate) fn of_input(&self) -> impl Iterator<Item = &Adapter> {
        [&self.q, &self.k, &self.v].into_iter().flatten()
    }
}

/// The adapters of a block's MLP, of those of its maps that have some.
#[derive(Module, Debug, Default)]
pub struct MlpAdapters {
    /// Of the gate, in the decoder only.
    pub gate: Option<Adapter>,
    /// Of the first map.
    pub up: Option<Adapter>,
    /// Of the last map.
    pub down: Option<Adapter>,
}

impl MlpAdapters {
    /// For a residual stream of width `dim` and a hidden width `ffn`.
    pub(crate) fn new(
        init: &Init<'_>,
        config: &AdapterConfig,
        [dim, ffn]: [usize; 2],
        activation: Activation,
    ) -> Self {
        let of = |target, dims, first| of_target(init, config, target, (dims, first));
        let gated = activation == Activation::Swiglu;
        Self {
            gate: if gated { of(AdapterTarget::Gate, [dim, ffn], 0) } else { None },
            up: of(AdapterTarget::Up, [dim, ffn], if gated { ffn } else { 0 }),
            down: of(AdapterTarget::Down, [ffn, dim], 0),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.of_input().chain(&self.down).next().is_none()
    }

    /// Those of gate and first map, which share a weight.
    pub(crate) fn of_input(&self) -> impl Iterator<Item = &Adapter> {
        [&self.gate, &self.up].into_iter().flatten()
    }
}

/// The adapter of a map of these inputs and outputs, from the column `first` on, if it is to have one.
fn of_target(
    init: &Init<'_>,
    config: &AdapterConfig,
    target: AdapterTarget,
    (dims, first): ([usize; 2], usize),
) -> Option<Adapter> {
    let init = init.at("adapter").at(target.name());
    config.has(target).then(|| Adapter::new(&init, config, dims, first))
}

/// `norm(x) w + bias` with what `adapters` add: `[b, t, d] -> [b, t, o]`. It may be in the precision of
/// products, as of [`crate::ops::Operations::norm_linear_rounded`].
pub(crate) fn norm_linear<'a>(
    compute: &Compute,
    x: Tensor<3>,
    (norm, map): (&Norm, Affine),
    adapters: impl Iterator<Item = &'a Adapter>,
) -> Tensor<3> {
    let (ops, maps) = (compute.ops(), maps(compute, adapters));
    if maps.is_empty() {
        return ops.norm_linear_rounded(x, norm, map);
    }
    let y = ops.norm_linear(x.clone(), norm, map);
    ops.rounded(ops.add_low_rank(y, ops.norm(x, norm), Activation::Identity, &maps))
}

/// `y` with what `adapter` adds of `activation(x)`: `[b, t, o]` and `[b, t, f]` -> `[b, t, o]`.
pub(crate) fn add(
    compute: &Compute,
    y: Tensor<3>,
    x: Tensor<3>,
    activation: Activation,
    adapter: Option<&Adapter>,
) -> Tensor<3> {
    let maps = maps(compute, adapter.into_iter());
    if maps.is_empty() { y } else { compute.ops().add_low_rank(y, x, activation, &maps) }
}

fn maps<'a>(compute: &Compute, adapters: impl Iterator<Item = &'a Adapter>) -> Vec<LowRank> {
    adapters.map(|adapter| adapter.map(compute)).collect()
}
