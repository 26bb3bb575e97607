//! The memory of a step, of training or of reading: the arena for large values, and the gradients of the
//! micro-batches before.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::backend::Flex;
use burn::backend::autodiff::NodeId;
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use mm1_kernels::rows;

use super::{GradientHook, Operand, floats, shape, tensor};

/// What fused operations work in: outside of a step the allocator's memory; inside of one the
/// arena's, with the step's [`GradientSums`].
///
/// A backward pass gets nothing from the engine but what its operation saved, so each saves a handle to this.
#[derive(Clone, Debug, Default)]
pub struct StepMemory {
    sums: Option<Arc<GradientSums>>,
    hook: Option<Arc<GradientHook>>,
}

/// The sums of gradients over a step's micro-batches so far, by parameter. The backward pass of the next one
/// adds to them where they are, parameter by parameter, so that a step of several micro-batches holds one set
/// of gradients instead of two.
#[derive(Debug, Default)]
pub struct GradientSums(Mutex<HashMap<NodeId, FlexTensor>>);

impl StepMemory {
    /// That of a new step.
    pub(super) fn of_step() -> Self {
        Self { sums: Some(Arc::default()), hook: None }
    }

    /// The same with a hook.
    pub(super) fn with_hook(&self, hook: &Arc<GradientHook>) -> Self {
        Self { hook: Some(hook.clone()), ..self.clone() }
    }

    /// Whether this is a step's.
    pub(super) fn in_step(&self) -> bool {
        self.sums.is_some()
    }

    /// The step's sums.
    pub fn gradient_sums(&self) -> Option<&GradientSums> {
        self.sums.as_deref()
    }

    /// Who takes gradients during the backward pass.
    pub fn gradient_hook(&self) -> Option<&GradientHook> {
        self.hook.as_deref()
    }

    /// An operation takes the tensor of `node`.
    pub(super) fn count_use(&self, node: NodeId) {
        if let Some(hook) = &self.hook {
            hook.count_use(node);
        }
    }

    /// A node's gradient, if the hook does not take it.
    pub(super) fn without_hook(&self, node: NodeId, grad: FlexTensor) -> Option<FlexTensor> {
        match &self.hook {
            Some(hook) => hook.take(node, grad, |sum, grad| self.add(sum, &grad)),
            None => Some(grad),
        }
    }

    /// The sum of a node's gradients in the micro-batches before, to be added to: for its first gradient in
    /// this one.
    pub(super) fn take_sum(&self, node: NodeId) -> Option<FlexTensor> {
        self.sums.as_ref()?.take_node(node)
    }

    /// A node's gradient, with its sum so far if that is not in it already.
    pub(super) fn with_sum(&self, node: NodeId, grad: FlexTensor) -> FlexTensor {
        match self.take_sum(node) {
            Some(sum) => self.add(sum, &grad),
            None => grad,
        }
    }

    /// `sum + grad`, of one shape or `sum` flat.
    pub(super) fn add(&self, sum: FlexTensor, grad: &FlexTensor) -> FlexTensor {
        let mut sum = self.to_change(sum);
        rows::add(&mut sum, floats(grad));
        tensor(sum, shape(grad))
    }
}

impl GradientSums {
    /// Hands over the sum of a parameter's gradients so far `[n]`: the next backward pass adds to it where it
    /// is. What that does not use is to be had from [`Self::take`]. Gives the sum back where `parameter` has
    /// no gradient.
    pub fn insert<const D: usize>(&self, parameter: Tensor<D>, sum: Tensor<1>) -> Option<Tensor<1>> {
        let Some(node) = Operand::new(parameter).node else { return Some(sum) };
        let sum = sum.try_into_primitive::<Flex>().expect("a sum is where its parameter is, without a graph");
        self.lock().insert(node.id(), sum.to_contiguous());
        None
    }

    /// The sum that was handed over for a parameter `[n]`, if the backward pass has not used it.
    pub fn take<const D: usize>(&self, parameter: Tensor<D>) -> Option<Tensor<1>> {
        let node = Operand::new(parameter).node?;
        self.take_node(node.id()).map(Tensor::from_primitive::<Flex>)
    }

    fn take_node(&self, node: NodeId) -> Option<FlexTensor> {
        self.lock().remove(&node)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, FlexTensor>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
