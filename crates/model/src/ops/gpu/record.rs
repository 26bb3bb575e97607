//! An operation's place in the graph of gradients, and the run of its backward pass, on GPUs.

use std::fmt::Debug;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::{Autodiff, AutodiffBackend, Cube};
use burn::tensor::Tensor;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

/// What an operation takes: values, contiguous, and their node in the graph of gradients where there is one.
#[derive(Debug)]
pub(super) struct Operand {
    pub(super) value: CubeTensor,
    pub(super) node: Option<NodeGuard>,
}

impl Operand {
    pub(super) fn new<const D: usize>(tensor: Tensor<D>) -> Self {
        match tensor.clone().try_into_primitive::<Autodiff<Cube>>() {
            Ok(tensor) => {
                let (value, node) = tensor.into_parts();
                Self { value: into_contiguous(value), node: Some(node) }
            }
            Err(_) => {
                let value = tensor.try_into_primitive::<Cube>().expect("operands are on the GPU");
                Self { value: into_contiguous(value), node: None }
            }
        }
    }
}

/// An operation with `N` parents, for its backward pass.
pub(super) trait Operation<const N: usize>: Debug + Send + 'static {
    /// What its forward pass saves.
    type State: Clone + Debug + Send + 'static;

    /// Gives each parent its gradient, from that of the output `dy`.
    fn backward(state: Self::State, dy: CubeTensor, pass: BackwardPass<'_, N>);
}

/// Gives an operation's result its place in the graph of gradients; `state` is saved only if a parent is
/// tracked.
pub(super) fn record<const D: usize, const N: usize, O: Operation<N>>(
    operation: O,
    parents: [Option<NodeGuard>; N],
    output: CubeTensor,
    state: impl FnOnce() -> O::State,
) -> Tensor<D> {
    if parents.iter().all(Option::is_none) {
        return Tensor::from_primitive::<Cube>(output);
    }
    let constant = || Autodiff::<Cube>::from_inner(output.clone()).node();
    let parents = parents.map(|parent| parent.unwrap_or_else(constant));
    let output = match Recorded(operation).prepare::<NoCheckpointing>(parents).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(state(), output),
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    };
    Tensor::from_primitive::<Autodiff<Cube>>(output)
}

/// An operation as the engine takes it.
#[derive(Debug)]
struct Recorded<O>(O);

impl<const N: usize, O: Operation<N>> Backward<Cube, N> for Recorded<O> {
    type State = O::State;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = into_contiguous(grads.consume::<Cube>(&ops.node));
        let parents = ops.parents.map(|parent| parent.map(|parent| parent.id));
        O::backward(ops.state, dy, BackwardPass { grads, parents });
    }
}

/// The backward pass through one operation with `N` parents.
pub(super) struct BackwardPass<'a, const N: usize> {
    grads: &'a mut Gradients,
    parents: [Option<NodeId>; N],
}

impl<const N: usize> BackwardPass<'_, N> {
    /// Whether a parent's gradient is wanted.
    pub(super) fn wants(&self, parent: usize) -> bool {
        self.parents[parent].is_some()
    }

    /// Gives a parent its gradient, computed only if it is wanted.
    pub(super) fn give(&mut self, parent: usize, grad: impl FnOnce() -> CubeTensor) {
        if let Some(id) = self.parents[parent] {
            self.grads.register::<Cube>(id, grad());
        }
    }
}
