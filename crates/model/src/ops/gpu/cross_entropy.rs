//! Cross-entropy of rows of scores.

use burn::backend::Cube;
use burn::tensor::{DType, Int, Tensor, TensorData};
use burn_cubecl::tensor::CubeTensor;
use mm1_gpu_kernels::cross_entropy::{self, ScoredRows};

use super::record::{BackwardPass, Operand, Operation, record};
use super::{arg, empty, value};

/// The sum over rows of `weight * -log softmax(scores)[target]` as `[1]`: `scores` are `[1, n, v]`.
pub(super) fn cross_entropy(scores: Tensor<3>, targets: &[u32], weights: &[f32]) -> Tensor<1> {
    let ([_, rows, width], device) = (scores.dims(), scores.device().without_autodiff());
    let scores = Operand::new(scores);
    // The kernel reads the same bits as u32.
    let targets: Vec<i32> = targets.iter().map(|&id| id.cast_signed()).collect();
    let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [rows]), (&device, DType::I32));
    let targets = targets.try_into_primitive::<Cube>().expect("they were sent to a GPU");
    let weights = value(Tensor::<1>::from_data(TensorData::new(weights.to_vec(), [rows]), &device));
    let (losses, dscores) = (empty(&scores.value, [rows]), empty(&scores.value, [1, rows, width]));
    let given = [&scores.value, &targets, &weights].map(arg);
    let written = [&losses, &dscores].map(arg);
    cross_entropy::forward(&losses.client, ScoredRows { rows, width }, given, written);
    // In a fixed order, and in one launch, other than the engine's sum of all.
    let loss = value(Tensor::<1>::from_primitive::<Cube>(losses).sum_dim(0));
    record(CrossEntropy, [scores.node], loss, || dscores)
}

#[derive(Debug)]
struct CrossEntropy;

impl Operation<1> for CrossEntropy {
    /// The gradient of the scores where that of the sum is 1.
    type State = CubeTensor;

    fn backward(dscores: CubeTensor, dy: CubeTensor, mut pass: BackwardPass<'_, 1>) {
        pass.give(0, || {
            let dy = Tensor::<1>::from_primitive::<Cube>(dy).reshape([1, 1, 1]);
            value(Tensor::<3>::from_primitive::<Cube>(dscores) * dy)
        });
    }
}
