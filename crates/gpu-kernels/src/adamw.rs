//! AdamW (Loshchilov and Hutter 2019, algorithm 2) with clipping by the norm of all gradients, and the sum of
//! gradients of micro-batches, several parameters in a launch. Of the engine's operations a parameter takes
//! 15 launches, 2 for the norm, and 1 for each micro-batch behind the first.

use cubecl::client::Client;
use cubecl::prelude::*;

use crate::rows::{UNITS, cubes_of_rows, sum_of_units};

/// Values that a cube has of a parameter: fixed, so that no sum depends on the device.
pub const PIECE: usize = 16_384;

/// Parameters in a launch at most: its kernel has a branch for each.
const AT_ONCE: usize = 32;

/// Buffers of a launch beside those of parameters: one of this kernel, and one of cubecl for numbers.
const OTHER_BUFFERS: usize = 2;

/// The numbers of one step that all parameters share.
#[derive(Clone, Copy, Debug)]
pub struct StepNumbers {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// One over the root of the correction of the second moment's bias.
    pub root: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
}

/// A parameter of `count` values in a step: buffers of f32, each as long as it.
pub struct ParameterStep {
    /// Its values; changed in place.
    pub values: BufferArg,
    /// Its gradient; without one it is 0.
    pub grad: Option<BufferArg>,
    /// Its first moment; changed in place.
    pub first: BufferArg,
    /// Its second moment; changed in place.
    pub second: BufferArg,
    /// Number of values.
    pub count: usize,
    /// The learning rate over the correction of the first moment's bias.
    pub rate: f32,
    /// What weight decay leaves of a value.
    pub keep: f32,
}

/// One step of all `parameters`, whose gradients are multiplied by `scale` `[1]`; nothing changes where that
/// is below 0. A launch takes as many of them as the device has room for buffers.
pub fn step(
    client: &Client,
    numbers: StepNumbers,
    scale: impl Fn() -> BufferArg,
    parameters: Vec<ParameterStep>,
) {
    let StepNumbers { beta1, beta2, root, eps } = numbers;
    let (graded, others): (Vec<_>, Vec<_>) = parameters.into_iter().partition(|p| p.grad.is_some());
    for (parameters, buffers) in [(graded, 4), (others, 3)] {
        for Group { tensors, starts, pieces } in groups(client, buffers, parameters, |p| p.count) {
            let count = tensors.len();
            let [mut values, mut grads, mut firsts, mut seconds] = [(); 4].map(|()| SequenceArg::new());
            let [mut rates, mut keeps] = [(); 2].map(|()| SequenceArg::new());
            for parameter in tensors {
                values.push(parameter.values);
                parameter.grad.into_iter().for_each(|grad| grads.push(grad));
                firsts.push(parameter.first);
                seconds.push(parameter.second);
                rates.push(parameter.rate);
                keeps.push(parameter.keep);
            }
            step_pieces::launch(
                client,
                cubes_of_rows(pieces),
                CubeDim::new_1d(UNITS),
                values,
                grads,
                firsts,
                seconds,
                scale(),
                starts,
                rates,
                keeps,
                beta1,
                beta2,
                root,
                eps,
                count,
                buffers == 4,
            );
        }
    }
}

/// Two tensors of `count` values: buffers of f32.
pub struct Pair {
    /// What is added to; changed in place.
    pub sum: BufferArg,
    /// What is added.
    pub other: BufferArg,
    /// Number of values.
    pub count: usize,
}

/// Adds the two of each pair, as many pairs in a launch as the device has room for buffers.
pub fn add(client: &Client, pairs: Vec<Pair>) {
    for Group { tensors, starts, pieces } in groups(client, 2, pairs, |pair| pair.count) {
        let count = tensors.len();
        let [mut sums, mut others] = [(); 2].map(|()| SequenceArg::new());
        for pair in tensors {
            sums.push(pair.sum);
            others.push(pair.other);
        }
        let (cubes, units) = (cubes_of_rows(pieces), CubeDim::new_1d(UNITS));
        add_pieces::launch(client, cubes, units, sums, others, starts, count);
    }
}

/// Sums of squares that `count` values have: one for each [`PIECE`].
pub fn pieces(count: usize) -> usize {
    count.div_ceil(PIECE)
}

/// Writes the sum of squares of each [`PIECE`] of each of `tensors`, f32 with their number, to `sums`, in
/// their order. (A sum of f32 in a tree: good to some 1e-6 of itself.)
pub fn sums_of_squares(client: &Client, tensors: Vec<(BufferArg, usize)>, sums: impl Fn() -> BufferArg) {
    let mut at = 0;
    for Group { tensors, starts, pieces } in groups(client, 1, tensors, |(_, count)| *count) {
        let (count, tensors) = (tensors.len(), tensors.into_iter().map(|(tensor, _)| tensor).collect());
        let (cubes, units) = (cubes_of_rows(pieces), CubeDim::new_1d(UNITS));
        sum_pieces::launch(client, cubes, units, tensors, sums(), starts, at, count, UNITS);
        at += pieces as u32;
    }
}

/// Writes to `scale` `[1]` what gradients are multiplied by, so that their norm is at most `most`: the root
/// of the first `count` of `sums`. It is -1 once one of all `sums` is not finite, and stays so.
pub fn clip(client: &Client, sums: BufferArg, count: usize, scale: BufferArg, most: f32) {
    let (cubes, units) = (CubeCount::Static(1, 1, 1), CubeDim::new_1d(UNITS));
    clip_norm::launch(client, cubes, units, sums, scale, count as u32, most, UNITS);
}

/// What one launch goes over.
struct Group<T> {
    tensors: Vec<T>,
    /// The first cube of each tensor, and the one behind the last.
    starts: SequenceArg<u32>,
    /// Cubes, one for each [`PIECE`].
    pieces: usize,
}

/// Tensors of `buffers` buffers and of `count` values each, as many in a launch as the device has room for.
///
/// # Panics
/// If a launch has more cubes than a device counts.
fn groups<T>(
    client: &Client,
    buffers: usize,
    all: Vec<T>,
    count: impl Fn(&T) -> usize,
) -> impl Iterator<Item = Group<T>> {
    let room = client.properties().hardware.max_bindings as usize;
    let most = (room.saturating_sub(OTHER_BUFFERS) / buffers).clamp(1, AT_ONCE);
    let mut all = all.into_iter();
    std::iter::from_fn(move || {
        let tensors: Vec<T> = all.by_ref().take(most).collect();
        let (mut starts, mut end) = (SequenceArg::<u32>::new(), 0);
        starts.push(0);
        for tensor in &tensors {
            end += pieces(count(tensor));
            starts.push(u32::try_from(end).expect("more pieces than u32 counts"));
        }
        (!tensors.is_empty()).then_some(Group { tensors, starts, pieces: end })
    })
}

#[cube(launch)]
fn step_pieces(
    values: &mut Sequence<Box<[f32]>>,
    grads: &Sequence<Box<[f32]>>,
    firsts: &mut Sequence<Box<[f32]>>,
    seconds: &mut Sequence<Box<[f32]>>,
    scale: &[f32],
    starts: &Sequence<u32>,
    rates: &Sequence<f32>,
    keeps: &Sequence<f32>,
    beta1: f32,
    beta2: f32,
    root: f32,
    eps: f32,
    #[comptime] parameters: usize,
    #[comptime] graded: bool,
) {
    let cube = CUBE_POS as u32;
    let scale = scale[0];
    if scale >= 0.0f32 {
        #[unroll]
        for k in 0..parameters {
            if cube >= starts[k] && cube < starts[k + 1] {
                let here = (cube - starts[k]) as usize * comptime!(PIECE);
                let values = values.index_mut(k);
                let first = firsts.index_mut(k);
                let second = seconds.index_mut(k);
                let end = min(here + comptime!(PIECE), values.len());
                let mut i = here + UNIT_POS as usize;
                while i < end {
                    let mut g = f32::new(0.0);
                    if comptime!(graded) {
                        g = grads[k][i] * scale;
                    }
                    let mean = beta1 * first[i] + (1.0f32 - beta1) * g;
                    let square = beta2 * second[i] + (1.0f32 - beta2) * g * g;
                    first[i] = mean;
                    second[i] = square;
                    values[i] = keeps[k] * values[i] - rates[k] * mean / (square.sqrt() * root + eps);
                    i += CUBE_DIM as usize;
                }
            }
        }
    }
}

#[cube(launch)]
fn add_pieces(
    sums: &mut Sequence<Box<[f32]>>,
    others: &Sequence<Box<[f32]>>,
    starts: &Sequence<u32>,
    #[comptime] tensors: usize,
) {
    let cube = CUBE_POS as u32;
    #[unroll]
    for k in 0..tensors {
        if cube >= starts[k] && cube < starts[k + 1] {
            let here = (cube - starts[k]) as usize * comptime!(PIECE);
            let sums = sums.index_mut(k);
            let end = min(here + comptime!(PIECE), sums.len());
            let mut i = here + UNIT_POS as usize;
            while i < end {
                sums[i] += others[k][i];
                i += CUBE_DIM as usize;
            }
        }
    }
}

#[cube(launch)]
fn sum_pieces(
    tensors: &Sequence<Box<[f32]>>,
    sums: &mut [f32],
    starts: &Sequence<u32>,
    at: u32,
    #[comptime] parameters: usize,
    #[comptime] units: u32,
) {
    let mut scratch = Shared::<[f32]>::new_slice(units as usize);
    let cube = CUBE_POS as u32;
    let mut sum = f32::new(0.0);
    #[unroll]
    for k in 0..parameters {
        if cube >= starts[k] && cube < starts[k + 1] {
            let first = (cube - starts[k]) as usize * comptime!(PIECE);
            let end = min(first + comptime!(PIECE), tensors[k].len());
            let mut i = first + UNIT_POS as usize;
            while i < end {
                let value = tensors[k][i];
                sum += value * value;
                i += units as usize;
            }
        }
    }
    let sum = sum_of_units(sum, &mut scratch);
    if UNIT_POS == 0 && cube < starts[parameters] {
        sums[(at + cube) as usize] = sum;
    }
}

#[cube(launch)]
fn clip_norm(sums: &[f32], scale: &mut [f32], count: u32, most: f32, #[comptime] units: u32) {
    let mut scratch = Shared::<[f32]>::new_slice(units as usize);
    let mut sum = f32::new(0.0);
    let mut others = f32::new(0.0);
    let mut i = UNIT_POS as usize;
    while i < sums.len() {
        if i < count as usize {
            sum += sums[i];
        } else {
            others += sums[i];
        }
        i += units as usize;
    }
    let sum = sum_of_units(sum, &mut scratch);
    let others = sum_of_units(others, &mut scratch);
    if UNIT_POS == 0 {
        let mut factor = f32::new(-1.0);
        // No infinity and no NaN is below that.
        if scale[0] >= 0.0f32 && sum < 3e38f32 && others < 3e38f32 {
            factor = min(most / (sum.sqrt() + 1e-6f32), 1.0f32);
        }
        scale[0] = factor;
    }
}
