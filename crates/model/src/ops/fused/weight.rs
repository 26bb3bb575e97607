//! The weight of a linear map and its gradients.

use burn_flex::FlexTensor;
use mm1_kernels::gemm::{Matrix, MatrixMut, Precision, gemm};

use super::memory::{Values, vector};
use super::{NodeGuard, Operand, floats, shape, tensor};
use crate::ops::{Head, precision};

/// A weight as kept for the way back.
#[derive(Clone, Debug)]
pub(super) struct Weight {
    value: FlexTensor,
    /// Whether it is `[o, i]`, being an embedding table.
    transposed: bool,
    precision: Precision,
}

impl Weight {
    /// A weight for products in the precision of now, and its node.
    pub(super) fn of(head: Head<'_>) -> (Self, Option<NodeGuard>) {
        let (weight, transposed) = match head {
            Head::Linear(w) => (w, false),
            Head::Tied(table) => (table, true),
        };
        let Operand { value, node, .. } = Operand::new(weight.clone());
        (Self { value, transposed, precision: precision() }, node)
    }

    pub(super) fn precision(&self) -> Precision {
        self.precision
    }

    /// Inputs and outputs.
    pub(super) fn dims(&self) -> [usize; 2] {
        let [rows, columns] = shape(&self.value).dims();
        if self.transposed { [columns, rows] } else { [rows, columns] }
    }

    /// As `[i, o]`.
    fn matrix(&self) -> Matrix<'_> {
        let [rows, columns] = shape(&self.value).dims();
        let matrix = Matrix::new(floats(&self.value), rows, columns);
        if self.transposed { matrix.transposed() } else { matrix }
    }

    /// Writes `x w` to `y` `[n, o]`, or adds it.
    pub(super) fn multiply(&self, x: &[f32], y: &mut [f32], add: bool) {
        let [i, o] = self.dims();
        let n = x.len() / i;
        gemm(self.precision, Matrix::new(x, n, i), self.matrix(), MatrixMut::new(y, n, o), add);
    }

    /// The gradient of the input from that of the output.
    pub(super) fn input_grad(&self, dy: &[f32]) -> Values {
        let [i, o] = self.dims();
        let n = dy.len() / o;
        let mut dx = vector(n * i);
        let dy = Matrix::new(dy, n, o);
        gemm(self.precision, dy, self.matrix().transposed(), MatrixMut::new(&mut dx, n, i), false);
        dx
    }

    /// The gradient of the weight from the input and the gradient of the output, added to `sum`.
    pub(super) fn weight_grad(&self, x: &[f32], dy: &[f32], sum: Option<Values>) -> FlexTensor {
        let [i, o] = self.dims();
        let n = x.len() / i;
        let (x, dy) = (Matrix::new(x, n, i), Matrix::new(dy, n, o));
        let (left, right) = if self.transposed { (dy, x) } else { (x, dy) };
        let add = sum.is_some();
        let mut dw = sum.unwrap_or_else(|| vector(i * o));
        let out = MatrixMut::new(&mut dw, left.cols(), right.cols());
        gemm(self.precision, left.transposed(), right, out, add);
        tensor(dw, shape(&self.value))
    }
}
