//! `y + scale * dropout(activation(x)) a b` on some columns; the backward pass drops the same values again.

use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use mm1_kernels::dropout::Dropout;
use mm1_kernels::gemm::{Matrix, MatrixMut, Precision, gemm};
use mm1_kernels::rows::{add, scale};

use super::memory::{Number as _, Values, elements, precision_of, with_number};
use super::record::{BackwardPass, Operation, record};
use super::{Fused, Operand, StepMemory, floats, shape, tensor};
use crate::ops::{Activation, LowRank};

/// Maps that share an input: those of queries, keys and values.
const MAPS: usize = 3;
/// `y`, `x`, and `a` and `b` of each map.
const PARENTS: usize = 2 + 2 * MAPS;

/// See [`crate::ops::Operations::add_low_rank`].
pub(super) fn add_low_rank(
    fused: &Fused,
    y: Tensor<3>,
    x: Tensor<3>,
    activation: Activation,
    maps: &[LowRank],
) -> Tensor<3> {
    assert!(maps.len() <= MAPS, "{} maps of one input, at most {MAPS}", maps.len());
    let (dims, memory, precision) = (y.dims(), &fused.memory, fused.precision);
    let [b, t, width] = x.dims();
    let (y, x) = (Operand::new(y), Operand::new(x));
    let mut nodes = vec![y.node, x.node];
    let grad_precision = precision_of(&x.value);
    let x = memory.in_precision(x.value, precision);
    let input = MapInput { x, activation, dims: [b * t, activation.width(width)] };
    let seen = input.seen(memory);
    let mut out = memory.to_change(y.value);
    let mut applied = Vec::new();
    for map in maps {
        let (a, b) = (Operand::new(map.a.clone()), Operand::new(map.b.clone()));
        nodes.extend([a.node, b.node]);
        let (factor, dropout) = (map.factor() as f32, map.dropout);
        let map = Factors { a: a.value, b: b.value, first: map.first, factor, dropout };
        let low = map.add_to(memory, (&seen, precision), (&mut out, dims[2]));
        applied.push((map, low));
    }
    nodes.resize_with(PARENTS, || None);
    let parents = nodes.try_into().expect("they were made so many");
    let state = || State { input, applied, precision, grad_precision };
    record(AddLowRank, memory, parents, tensor(out, dims), state)
}

/// What maps see.
#[derive(Clone, Debug)]
struct MapInput {
    /// In the precision of products.
    x: FlexTensor,
    activation: Activation,
    /// Rows, and their width behind the activation.
    dims: [usize; 2],
}

impl MapInput {
    /// The activation of `x`, in its precision.
    fn seen(&self, memory: &StepMemory) -> FlexTensor {
        if self.activation == Activation::Identity {
            return self.x.clone();
        }
        let [n, width] = self.dims;
        with_number!(precision_of(&self.x), T => {
            let mut seen = memory.uninitialised::<T>(n * width);
            self.activation.forward(T::of(&self.x), width, &mut seen);
            tensor(seen, [n, width])
        })
    }

    /// The gradient of `x` from that of what is seen.
    fn grad(&self, memory: &StepMemory, mut grad: Values) -> FlexTensor {
        if self.activation == Activation::Identity {
            return tensor(grad, shape(&self.x));
        }
        let mut dx = memory.floats(elements(&self.x).len());
        with_number!(precision_of(&self.x), T => {
            self.activation.backward(T::of(&self.x), self.dims[1], &mut grad, &mut dx);
        });
        tensor(dx, shape(&self.x))
    }
}

/// One map.
#[derive(Clone, Debug)]
struct Factors {
    /// `[i, r]`
    a: FlexTensor,
    /// `[r, w]`
    b: FlexTensor,
    first: usize,
    factor: f32,
    dropout: Option<Dropout>,
}

impl Factors {
    /// Adds the map of `seen` to its columns of `out` `[n, o]`. Gives what `a` made of it, times the factor:
    /// `[n, r]`.
    fn add_to(
        &self,
        memory: &StepMemory,
        (seen, precision): (&FlexTensor, Precision),
        (out, o): (&mut [f32], usize),
    ) -> FlexTensor {
        let (a, b, n) = (matrix(&self.a), matrix(&self.b), out.len() / o);
        let mut low = memory.floats(n * a.cols());
        let seen = self.dropped(memory, seen.clone());
        let to_low = MatrixMut::new(&mut low, n, a.cols());
        gemm(precision, Matrix::of(elements(&seen), n, a.rows()), a, to_low, false);
        scale(&mut low, self.factor);
        let columns = MatrixMut::strided(&mut out[self.first..], [n, b.cols()], o);
        gemm(precision, Matrix::new(&low, n, b.rows()), b, columns, true);
        tensor(low, [n, b.rows()])
    }

    /// What the map sees of `seen`.
    fn dropped(&self, memory: &StepMemory, seen: FlexTensor) -> FlexTensor {
        let Some(dropout) = self.dropout else { return seen };
        with_number!(precision_of(&seen), T => {
            let mut left = memory.uninitialised::<T>(elements(&seen).len());
            left.copy_from_slice(T::of(&seen));
            dropout.apply(&mut left);
            tensor(left, shape(&seen))
        })
    }
}

/// A contiguous matrix of floats.
fn matrix(tensor: &FlexTensor) -> Matrix<'_> {
    let [rows, columns] = shape(tensor).dims();
    Matrix::new(floats(tensor), rows, columns)
}

#[derive(Debug)]
struct AddLowRank;

#[derive(Clone, Debug)]
struct State {
    input: MapInput,
    /// The maps, and what [`Factors::add_to`] gave.
    applied: Vec<(Factors, FlexTensor)>,
    precision: Precision,
    /// That of the gradient of `x`: the one in which `x` came.
    grad_precision: Precision,
}

impl Operation<PARENTS> for AddLowRank {
    type State = State;

    fn backward(state: State, dy: FlexTensor, mut pass: BackwardPass<'_, PARENTS>) {
        let (memory, seen) = (pass.memory.clone(), state.input.seen(&pass.memory));
        let mut sum: Option<Values> = None;
        for (k, (map, low)) in state.applied.iter().enumerate() {
            let (d_low, columns) = state.d_low(&memory, map, &dy);
            pass.give(2 + 2 * k, || state.d_a(&memory, map, (&seen, &d_low)));
            pass.give(3 + 2 * k, || state.d_b(&memory, matrix(low), columns));
            if pass.wants(1) {
                let part = state.d_seen(&memory, map, &d_low);
                sum = Some(match sum {
                    None => part,
                    Some(mut sum) => {
                        add(&mut sum, &part);
                        sum
                    }
                });
            }
        }
        if let Some(sum) = sum {
            pass.give(1, || memory.in_precision(state.input.grad(&memory, sum), state.grad_precision));
        }
        pass.give(0, || dy);
    }
}

impl State {
    /// The gradient `[n, r]` of what `a` of `map` makes, and that of the map's columns `[n, w]`.
    fn d_low<'a>(&self, memory: &StepMemory, map: &Factors, dy: &'a FlexTensor) -> (Values, Matrix<'a>) {
        let ([n, _], b, [_, _, o]) = (self.input.dims, matrix(&map.b), shape(dy).dims());
        let columns = Matrix::of(elements(dy), n, o).col_range(map.first..map.first + b.cols());
        let mut d_low = memory.floats(n * b.rows());
        gemm(self.precision, columns, b.transposed(), MatrixMut::new(&mut d_low, n, b.rows()), false);
        scale(&mut d_low, map.factor);
        (d_low, columns)
    }

    /// The gradient of `a` of `map`.
    fn d_a(&self, memory: &StepMemory, map: &Factors, (seen, d_low): (&FlexTensor, &[f32])) -> FlexTensor {
        let ([n, i], seen, rank) =
            (self.input.dims, map.dropped(memory, seen.clone()), matrix(&map.a).cols());
        let mut grad = memory.floats(i * rank);
        let (seen, d_low) = (Matrix::of(elements(&seen), n, i), Matrix::new(d_low, n, rank));
        gemm(self.precision, seen.transposed(), d_low, MatrixMut::new(&mut grad, i, rank), false);
        tensor(grad, [i, rank])
    }

    /// The gradient of `b`, from what `a` made `[n, r]`.
    fn d_b(&self, memory: &StepMemory, low: Matrix<'_>, columns: Matrix<'_>) -> FlexTensor {
        let (rank, width) = (low.cols(), columns.cols());
        let mut grad = memory.floats(rank * width);
        gemm(self.precision, low.transposed(), columns, MatrixMut::new(&mut grad, rank, width), false);
        tensor(grad, [rank, width])
    }

    /// The gradient of what is seen, by `map`.
    fn d_seen(&self, memory: &StepMemory, map: &Factors, d_low: &[f32]) -> Values {
        let ([n, i], a) = (self.input.dims, matrix(&map.a));
        let mut grad = memory.floats(n * i);
        let d_low = Matrix::new(d_low, n, a.cols());
        gemm(self.precision, d_low, a.transposed(), MatrixMut::new(&mut grad, n, i), false);
        if let Some(dropout) = map.dropout {
            dropout.apply(&mut grad);
        }
        grad
    }
}
