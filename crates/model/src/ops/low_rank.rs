//! A low-rank map beside a linear one, as the operations take it.

use burn::tensor::Tensor;
use mm1_kernels::dropout::Dropout;

/// A map `[i, w]` of rank `r` that is added to some columns of a linear map's result.
#[derive(Clone, Debug)]
pub struct LowRank {
    /// `[i, r]`
    pub a: Tensor<2>,
    /// `[r, w]`
    pub b: Tensor<2>,
    /// The first of the `w` columns.
    pub first: usize,
    /// Factor on the map.
    pub scale: f64,
    /// What it does not see of its input.
    pub dropout: Option<Dropout>,
}

impl LowRank {
    /// Factor on the product of what is seen with `a` and `b`.
    pub(super) fn factor(&self) -> f64 {
        self.scale * self.dropout.map_or(1.0, |dropout| dropout.factor())
    }
}
