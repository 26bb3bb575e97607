//! Activation checkpointing (Chen et al. 2016): of a whole block only the input is kept, and the block runs again on
//! the way back, in a graph of its own.

use std::fmt;
use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{self, Tensor};
use burn_flex::FlexTensor;

use super::{Back, NodeGuard, Operand, record, tensor};
use crate::ops::{precision, with_precision};

/// The input of a block and its parameters, of which an encoder's block has twelve.
const PARENTS: usize = 1 + 12;

/// See [`crate::ops::recomputed`].
pub(in crate::ops) fn recomputed<M: Module + Sync + 'static>(
    module: &M,
    x: Tensor<3>,
    run: impl Fn(&M, Tensor<3>) -> Tensor<3> + Send + Sync + 'static,
) -> Tensor<3> {
    let (x, plain, precision) = (Operand::new(x), module.valid(), precision());
    let y = plain_value(run(&plain, Tensor::from_primitive::<Flex>(x.value.clone())));
    let mut nodes = Nodes(vec![x.node]);
    module.visit(&mut nodes);
    nodes.0.resize_with(PARENTS, || None);
    let parents = nodes.0.try_into().expect("a block has at most twelve parameters");
    record(Recomputed, parents, y, || {
        let again = move |x: FlexTensor, dy| {
            let (module, x) = (plain.clone().train(), Tensor::from_primitive::<Flex>(x));
            let x = x.autodiff().require_grad();
            let y = with_precision(precision, || run(&module, x.clone()));
            let mut slopes = Slopes { grads: start(y, dy).backward(), found: Vec::new() };
            slopes.take(&x);
            module.visit(&mut slopes);
            slopes.found
        };
        State { x: x.value, again: Again(Arc::new(again)) }
    })
}

/// From a block's input and the gradient of its output to those of its input and parameters.
type Run = dyn Fn(FlexTensor, FlexTensor) -> Vec<Option<FlexTensor>> + Send + Sync;

#[derive(Clone)]
struct Again(Arc<Run>);

impl fmt::Debug for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Again")
    }
}

#[derive(Debug)]
struct Recomputed;

#[derive(Clone, Debug)]
struct State {
    x: FlexTensor,
    again: Again,
}

impl Backward<Flex, PARENTS> for Recomputed {
    type State = State;

    fn backward(self, ops: Ops<State, PARENTS>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (dy, State { x, again }, mut back) = Back::start(ops, grads);
        for (parent, slope) in again.0(x, dy).into_iter().enumerate() {
            if let Some(slope) = slope {
                back.give(parent, || slope);
            }
        }
    }
}

/// A number that goes back with the gradient `dy` for `y`.
fn start(y: Tensor<3>, dy: FlexTensor) -> Tensor<1> {
    record(Start, [Operand::new(y).node], tensor(vec![0.0], [1]), || dy)
}

#[derive(Debug)]
struct Start;

impl Backward<Flex, 1> for Start {
    type State = FlexTensor;

    fn backward(self, ops: Ops<FlexTensor, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (_, dy, mut back) = Back::start(ops, grads);
        back.give(0, || dy);
    }
}

/// The nodes of a module's parameters, in its order.
struct Nodes(Vec<Option<NodeGuard>>);

impl ModuleVisitor for Nodes {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push(Operand::new(param.val()).node);
    }
}

/// The gradients of a module's parameters, in its order.
struct Slopes {
    grads: tensor::Gradients,
    found: Vec<Option<FlexTensor>>,
}

impl Slopes {
    fn take<const D: usize>(&mut self, tensor: &Tensor<D>) {
        self.found.push(tensor.grad_remove(&mut self.grads).map(plain_value));
    }
}

impl ModuleVisitor for Slopes {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.take(&param.val());
    }
}

/// The value of a tensor outside of any graph.
fn plain_value<const D: usize>(tensor: Tensor<D>) -> FlexTensor {
    tensor.try_into_primitive::<Flex>().expect("a tensor of the CPU, without a graph").to_contiguous()
}
