//! The weight of a linear map: a parameter, or only read.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::ops::{PackedWeight, Precision, Weight};

/// The weight `[i, o]` of a linear map.
#[derive(Module, Debug)]
pub enum LinearWeight {
    /// A parameter.
    Parameter(Param<Tensor<2>>),
    /// See [`crate::Mm1::read_only`].
    ReadOnly(PackedWeight),
}

impl LinearWeight {
    /// As the operations take it.
    pub fn weight(&self) -> Weight {
        match self {
            Self::Parameter(parameter) => Weight::Matrix(parameter.val()),
            Self::ReadOnly(packed) => Weight::Packed(packed.clone()),
        }
    }

    /// The same for reading only, on the CPU.
    pub(crate) fn read_only(self, precision: Precision) -> Self {
        match self.weight().packed(precision) {
            Weight::Packed(packed) => Self::ReadOnly(packed),
            _ => self,
        }
    }

    pub(crate) fn is_read_only(&self) -> bool {
        matches!(self, Self::ReadOnly(_))
    }
}

impl From<Param<Tensor<2>>> for LinearWeight {
    fn from(parameter: Param<Tensor<2>>) -> Self {
        Self::Parameter(parameter)
    }
}
