//! An operation's place in the graph of gradients, and the run of its backward pass.

use std::fmt::Debug;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::{Autodiff, AutodiffBackend, Flex};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;

use super::StepMemory;
use super::memory::Values;

/// An operation with `N` parents, for its backward pass.
pub(super) trait Operation<const N: usize>: Debug + Send + 'static {
    /// What its forward pass saves.
    type State: Clone + Debug + Send + 'static;

    /// Gives each parent its gradient, from that of the output `dy`, which is in bfloat16 where it comes from
    /// an operation that rounded it for products.
    fn backward(state: Self::State, dy: FlexTensor, pass: BackwardPass<'_, N>);
}

/// Gives an operation's result its place in the graph of gradients; `state` is saved only if a parent is
/// tracked.
pub(super) fn record<const D: usize, const N: usize, O: Operation<N>>(
    operation: O,
    memory: &StepMemory,
    parents: [Option<NodeGuard>; N],
    output: FlexTensor,
    state: impl FnOnce() -> O::State,
) -> Tensor<D> {
    if parents.iter().all(Option::is_none) {
        return Tensor::from_primitive::<Flex>(output);
    }
    parents.iter().flatten().for_each(|parent| memory.count_use(parent.id()));
    let constant = || Autodiff::<Flex>::from_inner(output.clone()).node();
    let parents = parents.map(|parent| parent.unwrap_or_else(constant));
    let output = match Recorded(operation).prepare::<NoCheckpointing>(parents).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish((state(), memory.clone()), output),
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    };
    Tensor::from_primitive::<Autodiff<Flex>>(output)
}

/// An operation as the engine takes it.
#[derive(Debug)]
struct Recorded<O>(O);

impl<const N: usize, O: Operation<N>> Backward<Flex, N> for Recorded<O> {
    /// What the operation saved, and the memory it works in: the engine gives a backward pass nothing else.
    type State = (O::State, StepMemory);

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<Flex>(&ops.node).to_contiguous();
        let parents = ops.parents.map(|parent| parent.map(|parent| parent.id));
        let (state, memory) = ops.state;
        O::backward(state, dy, BackwardPass { grads, parents, memory });
    }
}

/// The backward pass through one operation with `N` parents.
pub(super) struct BackwardPass<'a, const N: usize> {
    grads: &'a mut Gradients,
    parents: [Option<NodeId>; N],
    pub(super) memory: StepMemory,
}

impl<const N: usize> BackwardPass<'_, N> {
    /// Whether a parent's gradient is wanted.
    pub(super) fn wants(&self, parent: usize) -> bool {
        self.parents[parent].is_some()
    }

    /// The sum of a parent's gradients in the micro-batches before, for an operation that adds to it itself.
    pub(super) fn sum(&self, parent: usize) -> Option<Values> {
        let sum = self.parents[parent].and_then(|node| self.memory.take_sum(node))?;
        Some(self.memory.to_change(sum))
    }

    /// Gives a parent its gradient, computed only if it is wanted.
    pub(super) fn give(&mut self, parent: usize, grad: impl FnOnce() -> FlexTensor) {
        if let Some(id) = self.parents[parent] {
            let grad = self.memory.with_sum(id, grad());
            if let Some(grad) = self.memory.without_hook(id, grad) {
                self.grads.register::<Flex>(id, grad);
            }
        }
    }
}
