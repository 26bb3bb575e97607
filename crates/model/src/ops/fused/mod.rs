//! The operations of [`super`] over `mm1_kernels`, each with its own backward pass: on the CPU backend, with or
//! without gradients.
//!
//! An operation takes its operands' values and their nodes in the graph of gradients, computes its result, and records
//! how to go back. Parents come in a fixed order; one that is missing or frozen costs no work on the way back.

mod act_linear;
mod attention;
mod conv;
mod cross_entropy;
mod elementwise;
mod embedding;
mod linear;
mod memory;
mod norm;
mod norm_linear;
mod recomputed;
mod sums;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::{Autodiff, AutodiffBackend, Flex, GradientCheckpointingStrategy};
use burn::tensor::{DType, Device, Shape, Tensor};
use burn_flex::{FlexTensor, Layout};
use mm1_kernels::arena;

use memory::{Number, Values};

pub(super) use act_linear::{act_linear_residual, linear};
pub(super) use attention::{attention, cross_attention};
pub(super) use conv::{adaptive_avg_pool, conv3x3, depthwise3x3};
pub(super) use cross_entropy::linear_cross_entropy;
pub(super) use elementwise::{add_activation, gate};
pub(super) use embedding::{embedding, splice};
pub(super) use linear::packed;
pub(super) use norm::{norm, norm_activation};
pub(super) use norm_linear::norm_linear;
pub(super) use recomputed::recomputed;
pub(super) use sums::{sum_into, take_sum};

/// Whether a tensor is where these operations are: on the CPU backend, without the engine's own checkpointing.
pub(super) fn takes<const D: usize>(tensor: &Tensor<D>) -> bool {
    let device = tensor.device();
    device == Device::flex()
        && matches!(tensor.dtype(), DType::F32 | DType::BF16)
        && device.gradient_checkpointing_strategy() != Some(GradientCheckpointingStrategy::Balanced)
}

/// Ends a step of training.
pub(super) fn end_step() {
    sums::clear();
    arena::end_step();
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
                let value = tensor.try_into_primitive::<Flex>().expect("operands are on one device");
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
    values.into().shaped(Layout::contiguous(shape.into()))
}

/// The shape of a tensor.
fn shape(tensor: &FlexTensor) -> Shape {
    tensor.layout().shape().clone()
}

/// Gives an operation's result its place in the graph of gradients; `state` is kept only if a parent is tracked.
fn record<const D: usize, const N: usize, B: Backward<Flex, N>>(
    operation: B,
    parents: [Option<NodeGuard>; N],
    output: FlexTensor,
    state: impl FnOnce() -> B::State,
) -> Tensor<D> {
    if parents.iter().all(Option::is_none) {
        return Tensor::from_primitive::<Flex>(output);
    }
    let constant = || Autodiff::<Flex>::from_inner(output.clone()).node();
    let parents = parents.map(|parent| parent.unwrap_or_else(constant));
    let output = match operation.prepare::<NoCheckpointing>(parents).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(state(), output),
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    };
    Tensor::from_primitive::<Autodiff<Flex>>(output)
}

/// The way back through an operation with `N` parents.
struct Back<'a, const N: usize> {
    grads: &'a mut Gradients,
    parents: [Option<NodeId>; N],
}

impl<'a, const N: usize> Back<'a, N> {
    /// Gives the gradient of the operation's output and what it kept as well.
    fn start<S>(ops: Ops<S, N>, grads: &'a mut Gradients) -> (FlexTensor, S, Self) {
        let (dy, state, back) = Self::start_rounded(ops, grads);
        (memory::wide(dy), state, back)
    }

    /// The same; the gradient is in bfloat16 where it comes from an operation that rounded it, for products.
    fn start_rounded<S>(ops: Ops<S, N>, grads: &'a mut Gradients) -> (FlexTensor, S, Self) {
        let dy = grads.consume::<Flex>(&ops.node).to_contiguous();
        let parents = ops.parents.map(|parent| parent.map(|parent| parent.id));
        (dy, ops.state, Self { grads, parents })
    }

    /// Whether a parent's gradient is wanted.
    fn wants(&self, parent: usize) -> bool {
        self.parents[parent].is_some()
    }

    /// The sum of a parent's gradients in the micro-batches before, for an operation that adds to it itself.
    fn sum(&self, parent: usize) -> Option<Values> {
        self.parents[parent].and_then(sums::take).map(memory::owned)
    }

    /// Gives a parent its gradient, computed only if it is wanted.
    fn give(&mut self, parent: usize, grad: impl FnOnce() -> FlexTensor) {
        if let Some(id) = self.parents[parent] {
            self.grads.register::<Flex>(id, sums::with_sum(id, grad()));
        }
    }
}
