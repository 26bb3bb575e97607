//! The operations of [`super`] over `mm1_kernels`, each with its own backward pass: on the CPU, with or
//! without gradients.
//!
//! An operation takes its operands' values and their nodes in the graph of gradients, computes its result,
//! and records its backward pass. Parents come in a fixed order; one that is missing or frozen costs the
//! backward pass no work.

mod act_linear;
mod attention;
mod checkpointed;
mod conv;
mod cross_entropy;
mod elementwise;
mod embedding;
mod hook;
mod linear;
mod low_rank;
mod memory;
mod norm;
mod norm_linear;
mod qk_norm;
mod record;
mod step_memory;

use std::sync::Arc;

use burn::backend::autodiff::ops::NodeGuard;
use burn::backend::{Autodiff, Flex};
use burn::tensor::{Shape, Tensor};
use burn_flex::{FlexTensor, Layout as TensorLayout};

pub use checkpointed::checkpointed;
pub use hook::GradientHook;
pub use step_memory::{GradientSums, StepMemory};

use super::{
    Activation, Affine, CachedLayer, Heads, Layout, LowRank, Norm, Operations, Precision, QkNorm, Rope,
    Weight, WeightFormat,
};
use memory::{Number, Values};

/// Operations whose forward and backward pass are one kernel of `mm1_kernels` each.
#[derive(Clone, Debug)]
pub struct Fused {
    precision: Precision,
    memory: StepMemory,
}

impl Fused {
    /// With products in `precision`, outside of a step.
    pub fn new(precision: Precision) -> Self {
        Self { precision, memory: StepMemory::default() }
    }
}

impl Operations for Fused {
    fn precision(&self) -> Precision {
        self.precision
    }

    fn with_precision(&self, precision: Precision) -> Arc<dyn Operations> {
        Arc::new(Self { precision, ..self.clone() })
    }

    fn in_step(&self) -> Arc<dyn Operations> {
        Arc::new(Self { memory: StepMemory::of_step(), ..self.clone() })
    }

    fn gives_gradients_away(&self) -> bool {
        true
    }

    fn with_gradient_hook(&self, hook: &Arc<GradientHook>) -> Option<Arc<dyn Operations>> {
        Some(Arc::new(Self { memory: self.memory.with_hook(hook), ..self.clone() }))
    }

    fn memory(&self) -> Option<&StepMemory> {
        Some(&self.memory)
    }

    fn packed(&self, weight: Weight, format: WeightFormat) -> Weight {
        linear::packed(self, weight, format)
    }

    fn norm_activation(&self, x: Tensor<3>, norm: &Norm, activation: Activation) -> Tensor<3> {
        norm::norm_activation(self, x, norm, activation)
    }

    fn add_activation(&self, x: Tensor<3>, y: Tensor<3>, activation: Activation) -> Tensor<3> {
        elementwise::add_activation(self, x, y, activation)
    }

    fn gate(&self, x: Tensor<3>, gates: Tensor<3>) -> Tensor<3> {
        elementwise::gate(self, x, gates)
    }

    fn norm_linear(&self, x: Tensor<3>, norm: &Norm, map: Affine) -> Tensor<3> {
        norm_linear::norm_linear(self, x, norm, map, Precision::F32)
    }

    fn norm_linear_rounded(&self, x: Tensor<3>, norm: &Norm, map: Affine) -> Tensor<3> {
        norm_linear::norm_linear(self, x, norm, map, self.precision)
    }

    fn qk_norm(&self, qkv: Tensor<3>, heads: Heads, norm: &QkNorm) -> Tensor<3> {
        qk_norm::qk_norm(self, qkv, heads, norm)
    }

    fn attention(&self, qkv: Tensor<3>, heads: Heads, layout: &Layout, rope: Option<&Rope>) -> Tensor<3> {
        attention::attention(self, qkv, heads, layout, rope)
    }

    fn attention_cached(&self, qkv: Tensor<3>, heads: Heads, layer: CachedLayer<'_>) -> Tensor<3> {
        attention::attention_cached(self, qkv, heads, layer)
    }

    fn cross_attention(&self, q: Tensor<3>, kv: Tensor<3>, heads: usize) -> Tensor<3> {
        attention::cross_attention(self, q, kv, heads)
    }

    fn act_linear_residual(
        &self,
        h: Tensor<3>,
        activation: Activation,
        map: Affine,
        residual: Option<Tensor<3>>,
    ) -> Tensor<3> {
        act_linear::act_linear_residual(self, h, activation, map, residual)
    }

    fn add_low_rank(
        &self,
        y: Tensor<3>,
        x: Tensor<3>,
        activation: Activation,
        maps: &[LowRank],
    ) -> Tensor<3> {
        low_rank::add_low_rank(self, y, x, activation, maps)
    }

    fn rounded(&self, x: Tensor<3>) -> Tensor<3> {
        elementwise::rounded(self, x)
    }

    fn linear_cross_entropy(
        &self,
        x: Tensor<3>,
        head: Weight,
        targets: &[u32],
        weights: &[f32],
    ) -> Tensor<1> {
        cross_entropy::linear_cross_entropy(self, x, head, targets, weights)
    }

    fn embedding(&self, table: &Tensor<2>, ids: &[u32], rows: usize, length: usize) -> Tensor<3> {
        embedding::embedding(self, table, ids, [rows, length])
    }

    fn splice(&self, embeds: Tensor<3>, image_tokens: Tensor<3>, slots: &[usize]) -> Tensor<3> {
        embedding::splice(self, embeds, image_tokens, slots)
    }

    fn conv3x3(
        &self,
        x: Tensor<4>,
        weight: &Tensor<2>,
        bias: Option<&Tensor<1>>,
        stride: usize,
    ) -> Tensor<4> {
        conv::conv3x3(self, x, weight, bias, stride)
    }

    fn depthwise3x3(&self, x: Tensor<4>, weight: &Tensor<2>) -> Tensor<4> {
        conv::depthwise3x3(self, x, weight)
    }

    fn adaptive_avg_pool(&self, x: Tensor<4>, out: usize) -> Tensor<4> {
        conv::adaptive_avg_pool(self, x, out)
    }
}

/// What an operation takes: values, and their node in the graph of gradients where there is one.
#[derive(Debug)]
struct Operand {
    value: FlexTensor,
    node: Option<NodeGuard>,
    /// Whether its gradient is wanted.
    tracked: bool,
}

impl Operand {
    fn new<const D: usize>(tensor: Tensor<D>) -> Self {
        match tensor.clone().try_into_primitive::<Autodiff<Flex>>() {
            Ok(tensor) => {
                let tracked = tensor.is_tracked();
                let (value, node) = tensor.into_parts();
                Self { value: value.to_contiguous(), node: Some(node), tracked }
            }
            Err(_) => {
                let value = tensor.try_into_primitive::<Flex>().expect("operands are on the CPU");
                Self { value: value.to_contiguous(), node: None, tracked: false }
            }
        }
    }

    fn values(&self) -> &[f32] {
        floats(&self.value)
    }
}

/// The node of an operand that may be missing.
fn node(operand: Option<Operand>) -> Option<NodeGuard> {
    operand.and_then(|o| o.node)
}

/// The values of a contiguous tensor.
fn floats(tensor: &FlexTensor) -> &[f32] {
    f32::of(tensor)
}

/// A tensor of `values`, without a copy.
fn tensor<T: Number>(values: impl Into<Values<T>>, shape: impl Into<Shape>) -> FlexTensor {
    values.into().shaped(TensorLayout::contiguous(shape.into()))
}

/// The shape of a tensor.
fn shape(tensor: &FlexTensor) -> Shape {
    tensor.layout().shape().clone()
}
