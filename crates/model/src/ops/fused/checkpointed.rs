//! Activation checkpointing (Chen et al. 2016): of a whole block only the input is saved, and the backward
//! pass runs the block's forward pass again, in a graph of its own.

use std::fmt;
use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::autodiff::ops::NodeGuard;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};
use burn_flex::FlexTensor;

use super::record::{BackwardPass, Operation, record};
use super::{Operand, StepMemory, tensor};

/// The input of a block and its parameters, of which an encoder's block has twelve, and an adapter two.
const PARENTS: usize = 1 + 12 + 2 * 7;

/// `forward(module, x)`: `[b, t, d] -> [b, t, d]`, of which only `x` is saved for backward, where `forward`
/// runs again, bit for bit.
///
/// # Panics
/// When the module has more parameters than a block.
pub fn checkpointed<M: Module + Sync + 'static>(
    memory: &StepMemory,
    module: &M,
    x: Tensor<3>,
    forward: impl Fn(&M, Tensor<3>) -> Tensor<3> + Send + Sync + 'static,
) -> Tensor<3> {
    let (x, plain) = (Operand::new(x), module.valid());
    let y = without_graph(forward(&plain, Tensor::from_primitive::<Flex>(x.value.clone())));
    let mut nodes = ParameterNodes(vec![x.node]);
    module.visit(&mut nodes);
    nodes.0.resize_with(PARENTS, || None);
    let parents = nodes.0.try_into().expect("a block has no more parameters");
    record(Checkpointed, memory, parents, y, || {
        let memory = memory.clone();
        let recompute = move |x: FlexTensor, dy| {
            let (module, x) = (plain.clone().train(), Tensor::from_primitive::<Flex>(x));
            let x = x.autodiff().require_grad();
            let y = forward(&module, x.clone());
            let grads = start_backward(&memory, y, dy).backward();
            let mut found = ParameterGrads { grads, found: Vec::new() };
            found.take(&x);
            module.visit(&mut found);
            found.found
        };
        State { x: x.value, recompute: Recompute(Arc::new(recompute)) }
    })
}

/// From a block's input and the gradient of its output to those of its input and parameters.
type BlockGrads = dyn Fn(FlexTensor, FlexTensor) -> Vec<Option<FlexTensor>> + Send + Sync;

#[derive(Clone)]
struct Recompute(Arc<BlockGrads>);

impl fmt::Debug for Recompute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recompute")
    }
}

#[derive(Debug)]
struct Checkpointed;

#[derive(Clone, Debug)]
struct State {
    x: FlexTensor,
    recompute: Recompute,
}

impl Operation<PARENTS> for Checkpointed {
    type State = State;

    fn backward(State { x, recompute }: State, dy: FlexTensor, mut pass: BackwardPass<'_, PARENTS>) {
        let dy = pass.memory.in_f32(dy);
        for (parent, grad) in recompute.0(x, dy).into_iter().enumerate() {
            if let Some(grad) = grad {
                pass.give(parent, || grad);
            }
        }
    }
}

/// A number whose backward pass gives `y` the gradient `dy`.
fn start_backward(memory: &StepMemory, y: Tensor<3>, dy: FlexTensor) -> Tensor<1> {
    record(Start, memory, [Operand::new(y).node], tensor(vec![0.0], [1]), || dy)
}

#[derive(Debug)]
struct Start;

impl Operation<1> for Start {
    type State = FlexTensor;

    fn backward(dy: FlexTensor, _: FlexTensor, mut pass: BackwardPass<'_, 1>) {
        pass.give(0, || dy);
    }
}

/// The nodes of a module's parameters, in its order.
struct ParameterNodes(Vec<Option<NodeGuard>>);

impl ModuleVisitor for ParameterNodes {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push(Operand::new(param.val()).node);
    }
}

/// The gradients of a module's parameters, in its order.
struct ParameterGrads {
    grads: Gradients,
    found: Vec<Option<FlexTensor>>,
}

impl ParameterGrads {
    fn take<const D: usize>(&mut self, tensor: &Tensor<D>) {
        self.found.push(tensor.grad_remove(&mut self.grads).map(without_graph));
    }
}

impl ModuleVisitor for ParameterGrads {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.take(&param.val());
    }
}

/// The value of a tensor outside of any graph.
fn without_graph<const D: usize>(tensor: Tensor<D>) -> FlexTensor {
    tensor.try_into_primitive::<Flex>().expect("a tensor of the CPU, without a graph").to_contiguous()
}
