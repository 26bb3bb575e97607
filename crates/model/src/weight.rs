//! The weight of a linear map: a parameter, or for reading only.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::ops::{Operations, PackedWeight, Weight, WeightFormat};

/// The weight `[i, o]` of a linear map.
#[derive(Module, Debug)]
pub enum LinearWeight {
    /// A parameter.
    Parameter(Param<Tensor<2>>),
    /// See [`crate::Mm1::read_only`].
    ReadOnly(PackedWeight),
}

impl LinearWeight {
    /// The same for reading only, where `ops` have a layout for that.
    pub(crate) fn read_only(self, ops: &dyn Operations, format: WeightFormat) -> Self {
        match ops.packed((&self).into(), format) {
            Weight::Packed(packed) => Self::ReadOnly(packed),
            _ => self,
        }
    }

    /// Outputs of the map.
    ///
    /// # Panics
    /// If it is for reading only.
    pub(crate) fn outputs(&self) -> usize {
        match self {
            Self::Parameter(parameter) => parameter.lazy_shape()[1],
            Self::ReadOnly(_) => panic!("a weight for reading only takes no adapter"),
        }
    }

    pub(crate) fn is_read_only(&self) -> bool {
        matches!(self, Self::ReadOnly(_))
    }
}

/// As the operations take it.
impl From<&LinearWeight> for Weight {
    fn from(weight: &LinearWeight) -> Self {
        match weight {
            LinearWeight::Parameter(parameter) => Self::Matrix(parameter.val()),
            LinearWeight::ReadOnly(packed) => Self::Packed(packed.clone()),
        }
    }
}

impl From<Param<Tensor<2>>> for LinearWeight {
    fn from(parameter: Param<Tensor<2>>) -> Self {
        Self::Parameter(parameter)
    }
}
