//! Values that operations make, and the precision of what they save for backward.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use burn::tensor::DType;
use burn_flex::{FlexTensor, Layout};
use burn_std::Bytes;
use half::bf16;
use mm1_kernels::arena;
use mm1_kernels::gemm::{Elements, Precision};
use mm1_kernels::rows::{clear, copy, narrow, widen};

use super::{StepMemory, floats, shape, tensor};

/// Values below which the allocator's memory is as good.
const SMALL: usize = 4096;

/// A number type of tensors.
pub(super) trait Number: mm1_kernels::Stored {
    const DTYPE: DType;
    /// Uninitialised, of the arena: whatever was there.
    fn of_arena(len: usize) -> Bytes;
    /// Zeros of the allocator.
    fn of_allocator(len: usize) -> Bytes;
    /// The values of a contiguous tensor of such numbers.
    fn of(tensor: &FlexTensor) -> &[Self];
    fn of_mut(tensor: &mut FlexTensor) -> &mut [Self];
}

macro_rules! number {
    ($kind:ty, $dtype:ident, $arena:ident) => {
        impl Number for $kind {
            const DTYPE: DType = DType::$dtype;

            fn of_arena(len: usize) -> Bytes {
                arena::$arena(len)
            }
            fn of_allocator(len: usize) -> Bytes {
                Bytes::from_elems(vec![mm1_kernels::Stored::stored(0.0); len] as Vec<Self>)
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
macro_rules! with_number {
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
pub(super) use with_number;

/// Values that an operation makes: a tensor without a shape.
pub(super) struct Values<T = f32>(FlexTensor, PhantomData<T>);

impl<T: Number> Values<T> {
    fn new(bytes: Bytes, len: usize) -> Self {
        Self(FlexTensor::new(bytes, Layout::contiguous([len].into()), T::DTYPE), PhantomData)
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

impl StepMemory {
    /// `len` values to be overwritten: uninitialised in the arena, else zeros.
    pub(super) fn uninitialised<T: Number>(&self, len: usize) -> Values<T> {
        let in_arena = len >= SMALL && self.in_step();
        Values::new(if in_arena { T::of_arena(len) } else { T::of_allocator(len) }, len)
    }

    /// `len` floats to be overwritten.
    pub(super) fn floats(&self, len: usize) -> Values {
        self.uninitialised(len)
    }

    /// `len` zeros.
    pub(super) fn zeros(&self, len: usize) -> Values {
        let mut values = self.floats(len);
        clear(&mut values);
        values
    }

    /// The values of a contiguous tensor, to be changed: copied only if somebody else holds them.
    pub(super) fn to_change(&self, tensor: FlexTensor) -> Values {
        let len = floats(&tensor).len();
        if tensor.is_unique() && tensor.storage::<f32>().len() == len {
            return Values(tensor.with_layout(Layout::contiguous([len].into())), PhantomData);
        }
        let mut values = self.floats(len);
        copy(&mut values, floats(&tensor));
        values
    }

    /// A contiguous tensor as products in `precision` take it, which is how it is saved for backward: so does
    /// PyTorch's autocast.
    pub(super) fn in_precision(&self, value: FlexTensor, precision: Precision) -> FlexTensor {
        match (precision, precision_of(&value)) {
            (Precision::F32, Precision::F32) | (Precision::Bf16, Precision::Bf16) => value,
            (Precision::Bf16, Precision::F32) => {
                let mut halves = self.uninitialised::<bf16>(floats(&value).len());
                narrow(&mut halves, floats(&value));
                tensor(halves, shape(&value))
            }
            (Precision::F32, Precision::Bf16) => {
                let mut floats = self.floats(bf16::of(&value).len());
                widen(&mut floats, bf16::of(&value));
                tensor(floats, shape(&value))
            }
        }
    }

    /// A contiguous tensor in f32.
    pub(super) fn in_f32(&self, value: FlexTensor) -> FlexTensor {
        self.in_precision(value, Precision::F32)
    }
}

/// The precision of a tensor's values.
pub(super) fn precision_of(tensor: &FlexTensor) -> Precision {
    if tensor.dtype() == DType::F32 { Precision::F32 } else { Precision::Bf16 }
}

/// The values of a contiguous tensor, of either kind.
pub(super) fn elements(tensor: &FlexTensor) -> Elements<'_> {
    match precision_of(tensor) {
        Precision::F32 => Elements::Floats(f32::of(tensor)),
        Precision::Bf16 => Elements::Halves(bf16::of(tensor)),
    }
}
