//! The matrix of a linear map: trained, or only read.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::ops::{Packed, Weight};

/// The matrix `[i, o]` of a linear map.
#[derive(Module, Debug)]
pub enum Matrix {
    /// A parameter.
    Trained(Param<Tensor<2>>),
    /// See [`crate::Mm1::packed`].
    Packed(Packed),
}

impl Matrix {
    /// As the operations take it.
    pub fn weight(&self) -> Weight {
        match self {
            Self::Trained(parameter) => Weight::Matrix(parameter.val()),
            Self::Packed(packed) => Weight::Packed(packed.clone()),
        }
    }

    /// The same for reading only.
    pub fn packed(self) -> Self {
        match self.weight().packed() {
            Weight::Packed(packed) => Self::Packed(packed),
            _ => self,
        }
    }
}

impl From<Param<Tensor<2>>> for Matrix {
    fn from(parameter: Param<Tensor<2>>) -> Self {
        Self::Trained(parameter)
    }
}
