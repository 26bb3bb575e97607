//! Sums of the gradients of a step's micro-batches. The way back through the next one adds to them where they are, parameter
//! by parameter, so that a step of several holds one set of gradients.

use std::cell::RefCell;
use std::collections::HashMap;

use burn::backend::Flex;
use burn::backend::autodiff::NodeId;
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use mm1_kernels::rows;

use super::memory::owned;
use super::{Operand, floats, shape, tensor};

thread_local! {
    static SUMS: RefCell<HashMap<NodeId, FlexTensor>> = RefCell::default();
}

/// See [`crate::ops::sum_into`].
pub(in crate::ops) fn sum_into<const D: usize>(parameter: Tensor<D>, sum: Tensor<1>) -> Option<Tensor<1>> {
    let Some(node) = Operand::new(parameter).node else { return Some(sum) };
    let sum = sum.try_into_primitive::<Flex>().expect("a sum is where its parameter is, without a graph");
    SUMS.with_borrow_mut(|sums| sums.insert(node.id(), sum.to_contiguous()));
    None
}

/// See [`crate::ops::take_sum`].
pub(in crate::ops) fn take_sum<const D: usize>(parameter: Tensor<D>) -> Option<Tensor<1>> {
    Operand::new(parameter).node.and_then(|node| take(node.id())).map(Tensor::from_primitive::<Flex>)
}

/// A parameter's sum so far, for its first gradient of this micro-batch.
pub(super) fn take(node: NodeId) -> Option<FlexTensor> {
    SUMS.with_borrow_mut(|sums| sums.remove(&node))
}

/// A node's gradient, with its sum so far if that is not in it already.
pub(super) fn with_sum(node: NodeId, grad: FlexTensor) -> FlexTensor {
    let Some(sum) = take(node) else { return grad };
    let mut sum = owned(sum);
    rows::add(&mut sum, floats(&grad));
    let shape = shape(&grad);
    tensor(sum, shape)
}

/// Forgets what a step that failed has left.
pub(super) fn clear() {
    SUMS.with_borrow_mut(HashMap::clear);
}
