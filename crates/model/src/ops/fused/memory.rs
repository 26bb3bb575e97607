//! The memory of operations: in a step of training, of the arena; and what they keep for the way back.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use burn::tensor::DType;
use burn_flex::{FlexTensor, Layout};
use burn_std::Bytes;
use half::bf16;
use mm1_kernels::arena;
use mm1_kernels::gemm::{Elements, Precision};
use mm1_kernels::rows::{clear, copy, narrow, widen};

use super::{floats, shape, tensor};
use crate::ops::mode::in_step;

/// Values below which the allocator's memory is as good.
const SMALL: usize = 4096;

/// How numbers lie in a tensor.
pub(super) trait Number: mm1_kernels::Stored {
    const DTYPE: DType;
    /// Zeros, or of the arena whatever was there.
    fn bytes(len: usize) -> Bytes;
    /// The values of a contiguous tensor of such numbers.
    fn of(tensor: &FlexTensor) -> &[Self];
    fn of_mut(tensor: &mut FlexTensor) -> &mut [Self];
}

macro_rules! number {
    ($kind:ty, $dtype:ident, $arena:ident) => {
        impl Number for $kind {
            const DTYPE: DType = DType::$dtype;

            fn bytes(len: usize) -> Bytes {
                if in_arena(len) {
                    arena::$arena(len)
                } else {
                    Bytes::from_elems(vec![mm1_kernels::Stored::stored(0.0); len] as Vec<Self>)
                }
            }
            fn of(tensor: &FlexTensor) -> &[Self] {
                tensor.as_slice().expect("a contiguous tensor of such numbers")
            }
            fn of_mut(tensor: &mut FlexTensor) -> &mut [Self] {
                tensor.storage_mut()
            }
        }
    };
}
number!(f32, F32, floats);
number!(bf16, BF16, halves);

/// Computes something with `T` for the numbers that products take in a precision.
macro_rules! rounded {
    ($precision:expr, $T:ident => $body:expr) => {
        match $precision {
            mm1_kernels::gemm::Precision::F32 => {
                type $T = f32;
                $body
            }
            mm1_kernels::gemm::Precision::Bf16 => {
                type $T = half::bf16;
                $body
            }
        }
    };
}
pub(super) use rounded;

/// Values that an operation makes: a tensor without a shape.
pub(super) struct Values<T = f32>(FlexTensor, PhantomData<T>);

impl<T: Number> Values<T> {
    fn new(bytes: Bytes, len: usize) -> Self {
        Self(FlexTensor::new(bytes, Layout::contiguous([len].into()), T::DTYPE), PhantomData)
    }

    /// `len` values to be overwritten: they are what somebody left there.
    pub(super) fn some(len: usize) -> Self {
        Self::new(T::bytes(len), len)
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

impl<T: Number> Deref for Values<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        T::of(&self.0)
    }
}

impl<T: Number> DerefMut for Values<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        T::of_mut(&mut self.0)
    }
}

/// Whether `len` values are of the arena.
fn in_arena(len: usize) -> bool {
    len >= SMALL && in_step()
}

/// `len` floats to be overwritten: they are what somebody left there.
pub(super) fn vector(len: usize) -> Values {
    Values::some(len)
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
        return Values(tensor.with_layout(Layout::contiguous([len].into())), PhantomData);
    }
    let mut values = vector(floats(&tensor).len());
    copy(&mut values, floats(&tensor));
    values
}

/// How the values of a tensor lie.
pub(super) fn lies_in(tensor: &FlexTensor) -> Precision {
    if tensor.dtype() == DType::F32 { Precision::F32 } else { Precision::Bf16 }
}

/// A contiguous tensor as products in a precision take it: PyTorch's autocast keeps it so for the way back as well.
pub(super) fn kept(value: FlexTensor, precision: Precision) -> FlexTensor {
    match precision {
        Precision::Bf16 if lies_in(&value) == Precision::F32 => {
            let mut halves = Values::<bf16>::some(floats(&value).len());
            narrow(&mut halves, floats(&value));
            tensor(halves, shape(&value))
        }
        Precision::Bf16 => value,
        Precision::F32 => wide(value),
    }
}

/// A contiguous tensor in f32 again, but for the rounding.
pub(super) fn wide(value: FlexTensor) -> FlexTensor {
    if lies_in(&value) == Precision::F32 {
        return value;
    }
    let mut floats = vector(bf16::of(&value).len());
    widen(&mut floats, bf16::of(&value));
    tensor(floats, shape(&value))
}

/// The values of a contiguous tensor, of either kind.
pub(super) fn elements(tensor: &FlexTensor) -> Elements<'_> {
    match lies_in(tensor) {
        Precision::F32 => Elements::Floats(f32::of(tensor)),
        Precision::Bf16 => Elements::Halves(bf16::of(tensor)),
    }
}
