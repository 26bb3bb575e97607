//! A linear map as the operations take it: its weight, as a tensor or packed for reading, and its bias.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use mm1_kernels::gemm::{PackedB, Q8Matrix};

/// The weight of a linear map of `i` inputs and `o` outputs.
#[derive(Clone, Debug)]
pub enum Weight {
    /// `[i, o]`
    Matrix(Tensor<2>),
    /// `[o, i]`: an embedding table as the decoder's output head.
    Table(Tensor<2>),
    /// For reading only.
    Packed(PackedWeight),
}

/// How the weights of a language model that is only read are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightFormat {
    /// As products of the precision in use take them: the results are the same bits.
    #[default]
    Precision,
    /// In 8 bits, in the layout of llama.cpp's Q8_0: less to read for each token, and other results.
    Q8_0,
}

/// A weight laid out as the CPU's matrix products take it, in the precision or format it was packed for. It
/// has no gradient.
#[derive(Module, Debug)]
pub struct PackedWeight {
    #[module(skip)]
    matrix: Arc<PackedMatrix>,
}

/// The forms of a [`PackedWeight`].
#[derive(Debug)]
pub(super) enum PackedMatrix {
    Panels(PackedB),
    Bytes(Q8Matrix),
}

impl PackedWeight {
    pub(super) fn new(matrix: PackedMatrix) -> Self {
        Self { matrix: Arc::new(matrix) }
    }

    pub(super) fn matrix(&self) -> &PackedMatrix {
        &self.matrix
    }
}

impl Weight {
    /// The matrix or table.
    ///
    /// # Panics
    /// If it is packed.
    pub(super) fn unpacked(self) -> Tensor<2> {
        match self {
            Self::Matrix(weight) | Self::Table(weight) => weight,
            Self::Packed(_) => panic!("a packed weight is only read, and only on the CPU"),
        }
    }
}

impl From<Tensor<2>> for Weight {
    fn from(matrix: Tensor<2>) -> Self {
        Self::Matrix(matrix)
    }
}

impl From<&Param<Tensor<2>>> for Weight {
    fn from(matrix: &Param<Tensor<2>>) -> Self {
        Self::Matrix(matrix.val())
    }
}

/// `x w + bias` of `i` inputs and `o` outputs.
#[derive(Clone, Debug)]
pub struct Affine {
    /// `w`
    pub weight: Weight,
    /// `[o]`
    pub bias: Option<Tensor<1>>,
}

impl Affine {
    /// By parameters: `weight` is `[i, o]` and `bias` `[o]`.
    pub fn new(weight: impl Into<Weight>, bias: &Param<Tensor<1>>) -> Self {
        Self { weight: weight.into(), bias: Some(bias.val()) }
    }

    /// By a `weight` `[i, o]`, with a bias `[o]` where there is one.
    pub(crate) fn with_optional_bias(weight: impl Into<Weight>, bias: Option<&Param<Tensor<1>>>) -> Self {
        Self { weight: weight.into(), bias: bias.map(Param::val) }
    }
}

/// Without a bias.
impl<W: Into<Weight>> From<W> for Affine {
    fn from(weight: W) -> Self {
        Self { weight: weight.into(), bias: None }
    }
}
