//! What kernels over rows have in common: how many cubes there are, and sums over a cube.

use cubecl::prelude::*;

/// Units of a cube: as many as every device has.
pub(crate) const UNITS: u32 = 256;

/// Cubes in one direction at most: below the 65,535 that WebGPU promises.
pub(crate) const CUBES: usize = 1 << 15;

/// Cubes for `count` values, each a unit's, and their units; a launch of more goes over them several times.
pub(crate) fn cubes_of_values(count: usize) -> (CubeCount, CubeDim) {
    let cubes = count.div_ceil(UNITS as usize).clamp(1, CUBES) as u32;
    (CubeCount::Static(cubes, 1, 1), CubeDim::new_1d(UNITS))
}

/// A cube for each of `rows` rows, and some more where they do not fit into one direction.
pub(crate) fn cubes_of_rows(rows: usize) -> CubeCount {
    CubeCount::Static(rows.clamp(1, CUBES) as u32, rows.div_ceil(CUBES).max(1) as u32, 1)
}

/// Units for a row of `width` values: a power of two.
pub(crate) fn units_of_row(width: usize) -> u32 {
    (width as u32).next_power_of_two().clamp(32, UNITS)
}

/// The sum of `value` over all units of the cube, whose number is a power of two.
#[cube]
pub(crate) fn sum_of_units(value: f32, scratch: &mut Shared<[f32]>) -> f32 {
    sum_of_every(value, 1u32, scratch)
}

/// The sum of `value` over every `nth` unit of the cube from this one's on, around its end; `nth` is a power
/// of two.
#[cube]
pub(crate) fn sum_of_every(value: f32, nth: u32, scratch: &mut Shared<[f32]>) -> f32 {
    let me = UNIT_POS as usize;
    sync_cube();
    scratch[me] = value;
    sync_cube();
    let mut step = CUBE_DIM / 2;
    while step >= nth {
        if UNIT_POS < step {
            let other = scratch[me + step as usize];
            scratch[me] += other;
        }
        step /= 2;
        sync_cube();
    }
    scratch[(UNIT_POS % nth) as usize]
}

/// Of `values[from..to]` the greatest, -1e30 if there is none, and the sum of `exp(value - greatest)`: what a
/// softmax needs of its row, over all units of the cube.
#[cube]
pub(crate) fn most_and_exp_sum(
    values: &[f32],
    from: usize,
    to: usize,
    scratch: &mut Shared<[f32]>,
) -> (f32, f32) {
    let mut most = f32::new(-1e30);
    let mut i = from + UNIT_POS as usize;
    while i < to {
        let value = values[i];
        if value > most {
            most = value;
        }
        i += CUBE_DIM as usize;
    }
    let most = most_of_units(most, scratch);
    let mut sum = f32::new(0.0);
    let mut i = from + UNIT_POS as usize;
    while i < to {
        sum += (values[i] - most).exp();
        i += CUBE_DIM as usize;
    }
    let sum = sum_of_units(sum, scratch);
    (most, sum)
}

/// The greatest `value` of all units of the cube.
#[cube]
fn most_of_units(value: f32, scratch: &mut Shared<[f32]>) -> f32 {
    let me = UNIT_POS as usize;
    sync_cube();
    scratch[me] = value;
    sync_cube();
    let mut step = CUBE_DIM / 2;
    while step > 0 {
        if UNIT_POS < step {
            let other = scratch[me + step as usize];
            if other > scratch[me] {
                scratch[me] = other;
            }
        }
        step /= 2;
        sync_cube();
    }
    scratch[0]
}
