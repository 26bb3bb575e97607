//! The memory of operations: in a step of training, of the arena.

use std::ops::{Deref, DerefMut};

use burn::tensor::DType;
use burn_flex::{FlexTensor, Layout};
use burn_std::Bytes;
use mm1_kernels::arena;
use mm1_kernels::rows::copy;

use super::floats;
use crate::ops::mode::in_step;

/// Values below which the allocator's memory is as good.
const SMALL: usize = 4096;

/// Values that an operation makes: a tensor without a shape.
pub(super) struct Values(FlexTensor);

impl Values {
    fn new(bytes: Bytes, len: usize) -> Self {
        Self(FlexTensor::new(bytes, Layout::contiguous([len].into()), DType::F32))
    }

    /// As a tensor, without a copy.
    pub(super) fn shaped(self, layout: Layout) -> FlexTensor {
        self.0.with_layout(layout)
    }
}

impl From<Vec<f32>> for Values {
    fn from(values: Vec<f32>) -> Self {
        let len = values.len();
        Self::new(Bytes::from_elems(values), len)
    }
}

impl Deref for Values {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        floats(&self.0)
    }
}

impl DerefMut for Values {
    fn deref_mut(&mut self) -> &mut [f32] {
        self.0.storage_mut()
    }
}

/// `len` values to be overwritten: they are what somebody left there.
pub(super) fn vector(len: usize) -> Values {
    if len < SMALL || !in_step() { vec![0.0; len].into() } else { Values::new(arena::floats(len), len) }
}

/// `len` zeros.
pub(super) fn zeros(len: usize) -> Values {
    let mut values = vector(len);
    values.fill(0.0);
    values
}

/// The values of a contiguous tensor, to be changed: copied only if somebody else holds them.
pub(super) fn owned(tensor: FlexTensor) -> Values {
    if tensor.is_unique() && tensor.storage::<f32>().len() == floats(&tensor).len() {
        let len = floats(&tensor).len();
        return Values(tensor.with_layout(Layout::contiguous([len].into())));
    }
    let mut values = vector(floats(&tensor).len());
    copy(&mut values, floats(&tensor));
    values
}
