//! AdamW (Loshchilov and Hutter 2019, algorithm 2) in one launch a parameter, and the sums of squares that
//! its gradients' norm is made of. Of the engine's operations a parameter takes 15 launches and 2.

use cubecl::client::Client;
use cubecl::prelude::*;

use crate::rows::{CUBES, UNITS, cubes_of_values, sum_of_units};

/// Values that a cube sums: fixed, so that no sum depends on the device.
pub const PIECE: usize = 16_384;

/// The numbers of one step of one parameter.
#[derive(Clone, Copy, Debug)]
pub struct StepNumbers {
    /// Multiplies the gradient.
    pub grad_scale: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// The learning rate over the correction of the first moment's bias.
    pub rate: f32,
    /// What weight decay leaves of a parameter.
    pub keep: f32,
    /// One over the root of the correction of the second moment's bias.
    pub root: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
}

/// The buffers of a parameter of `count` values: f32, each as long as it.
pub struct ParameterBuffers {
    /// The parameter; changed in place.
    pub values: BufferArg,
    /// Its gradient.
    pub grad: BufferArg,
    /// Its first moment; changed in place.
    pub first: BufferArg,
    /// Its second moment; changed in place.
    pub second: BufferArg,
    /// Number of values.
    pub count: usize,
}

/// One step of one parameter.
pub fn step(client: &Client, numbers: &StepNumbers, buffers: ParameterBuffers) {
    let ParameterBuffers { values, grad, first, second, count } = buffers;
    let StepNumbers { grad_scale, beta1, beta2, rate, keep, root, eps } = *numbers;
    step_values::launch(
        client,
        cubes_of_values(count),
        CubeDim::new_1d(UNITS),
        values,
        grad,
        first,
        second,
        grad_scale,
        beta1,
        beta2,
        rate,
        keep,
        root,
        eps,
    );
}

/// Sums of squares that `count` values have: one for each [`PIECE`].
pub fn pieces(count: usize) -> usize {
    count.div_ceil(PIECE)
}

/// Writes the sum of squares of each [`PIECE`] of `x`, `count` values of f32, to `sums` from `at` on. (A sum
/// of f32 in a tree: good to some 1e-6 of itself.)
///
/// # Panics
/// If there are more than 2^29 values, which a launch has no cubes for.
pub fn sums_of_squares(client: &Client, x: BufferArg, count: usize, sums: BufferArg, at: usize) {
    assert!(pieces(count) <= CUBES, "{count} values are more than a launch sums");
    sum_pieces::launch(
        client,
        CubeCount::Static(pieces(count) as u32, 1, 1),
        CubeDim::new_1d(UNITS),
        x,
        sums,
        count as u32,
        at as u32,
        UNITS,
    );
}

#[cube(launch)]
fn step_values(
    values: &mut [f32],
    grad: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    grad_scale: f32,
    beta1: f32,
    beta2: f32,
    rate: f32,
    keep: f32,
    root: f32,
    eps: f32,
) {
    let stride = CUBE_DIM as usize * CUBE_COUNT;
    let mut i = ABSOLUTE_POS;
    while i < values.len() {
        let g = grad[i] * grad_scale;
        let mean = beta1 * first[i] + (1.0f32 - beta1) * g;
        let square = beta2 * second[i] + (1.0f32 - beta2) * g * g;
        first[i] = mean;
        second[i] = square;
        values[i] = keep * values[i] - rate * mean / (square.sqrt() * root + eps);
        i += stride;
    }
}

#[cube(launch)]
fn sum_pieces(x: &[f32], sums: &mut [f32], count: u32, at: u32, #[comptime] units: u32) {
    let mut scratch = Shared::<[f32]>::new_slice(units as usize);
    let mut end = (CUBE_POS as u32 + 1u32) * comptime!(PIECE as u32);
    if end > count {
        end = count;
    }
    let mut sum = f32::new(0.0);
    let mut i = CUBE_POS as u32 * comptime!(PIECE as u32) + UNIT_POS;
    while i < end {
        let value = x[i as usize];
        sum += value * value;
        i += units;
    }
    let sum = sum_of_units(sum, &mut scratch);
    if UNIT_POS == 0 {
        sums[at as usize + CUBE_POS] = sum;
    }
}
