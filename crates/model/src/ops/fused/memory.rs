//! The memory of operations: in a step of training, of the arena; and what they keep for the way back.

use std::ops::{Deref, DerefMut};

use burn::tensor::{DType, Shape};
use burn_flex::{FlexTensor, Layout};
use burn_std::Bytes;
use half::bf16;
use mm1_kernels::activation::Activation;
use mm1_kernels::arena;
use mm1_kernels::gemm::Precision;
use mm1_kernels::rows::{clear, copy, narrow, widen};

use super::{floats, shape};
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

/// Whether `len` values are of the arena.
fn in_arena(len: usize) -> bool {
    len >= SMALL && in_step()
}

/// `len` values to be overwritten: they are what somebody left there.
pub(super) fn vector(len: usize) -> Values {
    if in_arena(len) { Values::new(arena::floats(len), len) } else { vec![0.0; len].into() }
}

/// `len` zeros.
pub(super) fn zeros(len: usize) -> Values {
    let mut values = vector(len);
    clear(&mut values);
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

/// A contiguous tensor for the way back. Where products round their operands to bfloat16 it is kept so, as PyTorch's autocast does.
#[derive(Clone, Debug)]
pub(super) struct Kept(FlexTensor);

impl Kept {
    pub(super) fn new(value: FlexTensor, precision: Precision) -> Self {
        if precision == Precision::F32 {
            return Self(value);
        }
        let values = floats(&value);
        let len = values.len();
        let bytes = if in_arena(len) { arena::halves(len) } else { Bytes::from_elems(vec![bf16::ZERO; len]) };
        let mut kept = FlexTensor::new(bytes, Layout::contiguous(shape(&value)), DType::BF16);
        narrow(kept.storage_mut(), values);
        Self(kept)
    }

    pub(super) fn shape(&self) -> Shape {
        shape(&self.0)
    }

    /// [`Activation::backward`] from these values.
    pub(super) fn back_through(
        &self,
        activation: Activation,
        width: usize,
        grad: &mut [f32],
        dh: &mut [f32],
    ) {
        if self.0.dtype() == DType::F32 {
            activation.backward(floats(&self.0), width, grad, dh);
        } else {
            activation.backward(self.0.storage::<bf16>(), width, grad, dh);
        }
    }

    /// As it came, but for the rounding.
    pub(super) fn value(self) -> FlexTensor {
        if self.0.dtype() == DType::F32 {
            return self.0;
        }
        let halves = self.0.storage::<bf16>();
        let mut values = vector(halves.len());
        widen(&mut values, halves);
        values.shaped(self.0.layout().clone())
    }
}
