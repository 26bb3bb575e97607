//! A linear map: its weight, and the gradients of its input and its weight.

use burn::backend::autodiff::ops::NodeGuard;
use burn_flex::FlexTensor;
use mm1_kernels::Stored;
use mm1_kernels::gemm::{Elements, Matrix, MatrixMut, PackedB, Precision, Q8Matrix, gemm};
use mm1_kernels::rows::column_sums;

use super::memory::{Number, Values};
use super::{Fused, Operand, StepMemory, floats, shape, tensor};
use crate::ops::weight::PackedMatrix;
use crate::ops::{PackedWeight, Weight, WeightFormat};

/// See [`crate::ops::Operations::packed`].
pub(super) fn packed(fused: &Fused, weight: Weight, format: WeightFormat) -> Weight {
    match weight {
        Weight::Packed(_) => weight,
        weight => {
            let (linear, _) = Linear::new(fused, weight);
            Weight::Packed(PackedWeight::new(match format {
                WeightFormat::Precision => {
                    PackedMatrix::Panels(PackedB::new(fused.precision, linear.matrix()))
                }
                WeightFormat::Q8_0 => PackedMatrix::Bytes(Q8Matrix::new(linear.matrix())),
            }))
        }
    }
}

/// The weight of a linear map, for its forward and its backward pass.
#[derive(Clone, Debug)]
pub(super) enum Linear {
    /// By a matrix of the graph.
    Matrix {
        value: FlexTensor,
        /// Whether it is `[o, i]`, being an embedding table.
        transposed: bool,
        precision: Precision,
    },
    /// By one for reading only.
    Packed(PackedWeight),
}

impl Linear {
    /// By `weight`, with products in the precision of `fused`, and the node of the weight.
    pub(super) fn new(fused: &Fused, weight: Weight) -> (Self, Option<NodeGuard>) {
        if let Weight::Packed(packed) = weight {
            return (Self::Packed(packed), None);
        }
        let transposed = matches!(weight, Weight::Table(_));
        let Operand { value, node, .. } = Operand::new(weight.unpacked());
        (Self::Matrix { value, transposed, precision: fused.precision }, node)
    }

    pub(super) fn precision(&self) -> Precision {
        match self {
            Self::Matrix { precision, .. } => *precision,
            Self::Packed(packed) => match packed.matrix() {
                PackedMatrix::Panels(panels) => panels.precision(),
                // It rounds its input itself.
                PackedMatrix::Bytes(_) => Precision::F32,
            },
        }
    }

    /// Inputs and outputs.
    pub(super) fn dims(&self) -> [usize; 2] {
        match self {
            Self::Matrix { .. } => [self.matrix().rows(), self.matrix().cols()],
            Self::Packed(packed) => match packed.matrix() {
                PackedMatrix::Panels(panels) => panels.dims(),
                PackedMatrix::Bytes(bytes) => bytes.dims(),
            },
        }
    }

    /// As `[i, o]`, of a matrix of the graph.
    fn matrix(&self) -> Matrix<'_> {
        let Self::Matrix { value, transposed, .. } = self else {
            panic!("a packed weight is for reading only: it has no gradient")
        };
        let [rows, columns] = shape(value).dims();
        let matrix = Matrix::new(floats(value), rows, columns);
        if *transposed { matrix.transposed() } else { matrix }
    }

    /// Writes `x w` to `y` `[n, o]`, or adds it.
    pub(super) fn multiply<Y: Stored>(&self, x: Elements<'_>, y: &mut [Y], add: bool) {
        let [i, o] = self.dims();
        let n = x.len() / i;
        let (x, y) = (Matrix::of(x, n, i), MatrixMut::of(Y::elements_mut(y), n, o));
        match self {
            Self::Matrix { .. } => gemm(self.precision(), x, self.matrix(), y, add),
            Self::Packed(packed) => match packed.matrix() {
                PackedMatrix::Panels(panels) => gemm(self.precision(), x, panels, y, add),
                PackedMatrix::Bytes(bytes) => bytes.multiply(x, y, add),
            },
        }
    }

    /// The gradient of the input from that of the output.
    pub(super) fn input_grad<T: Number>(&self, memory: &StepMemory, dy: Elements<'_>) -> Values<T> {
        self.grads(memory, dy, true, None).0.expect("wanted")
    }

    /// The gradient of the weight from the input and the gradient of the output, added to `sum`.
    pub(super) fn weight_grad(
        &self,
        memory: &StepMemory,
        x: Elements<'_>,
        dy: Elements<'_>,
        sum: Option<Values>,
    ) -> FlexTensor {
        self.grads::<f32>(memory, dy, false, Some((x, sum))).1.expect("wanted")
    }

    /// What is wanted of both: of the input, of the weight from `(x, sum)`. A thread that one product leaves
    /// idle works on the other.
    pub(super) fn grads<T: Number>(
        &self,
        memory: &StepMemory,
        dy: Elements<'_>,
        input: bool,
        weight: Option<(Elements<'_>, Option<Values>)>,
    ) -> (Option<Values<T>>, Option<FlexTensor>) {
        let ([i, o], precision) = (self.dims(), self.precision());
        let n = dy.len() / o;
        let dy = Matrix::of(dy, n, o);
        let table = matches!(self, Self::Matrix { transposed: true, .. });
        let dims = if table { [o, i] } else { [i, o] };
        let mut dx = input.then(|| memory.uninitialised::<T>(n * i));
        let mut dw = weight.map(|(x, sum)| {
            let add = sum.is_some();
            (Matrix::of(x, n, i), sum.unwrap_or_else(|| memory.floats(i * o)), add)
        });
        let to_input = || {
            if let Some(dx) = &mut dx {
                let dx = MatrixMut::of(T::elements_mut(dx), n, i);
                gemm(precision, dy, self.matrix().transposed(), dx, false);
            }
        };
        let to_weight = || {
            if let Some((x, dw, add)) = &mut dw {
                let (left, right) = if table { (dy, *x) } else { (*x, dy) };
                gemm(precision, left.transposed(), right, MatrixMut::new(dw, dims[0], dims[1]), *add);
            }
        };
        rayon::join(to_input, to_weight);
        (dx, dw.map(|(_, dw, _)| tensor(dw, dims)))
    }
}

/// The gradient of a bias `[o]`.
pub(super) fn bias_grad(dy: Elements<'_>, o: usize) -> FlexTensor {
    let sums = match dy {
        Elements::Floats(dy) => column_sums(dy, o),
        Elements::Halves(dy) => column_sums(dy, o),
    };
    tensor(sums, [o])
}
