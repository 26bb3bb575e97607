//! RMSNorm (Zhang and Sennrich 2019) and LayerNorm (Ba et al. 2016) of rows: `y = (x - mean) scale gamma +
//! beta`, where `scale` is `1 / sqrt(variance + eps)`; RMSNorm has a mean of 0 and no beta.

use cubecl::client::Client;
use cubecl::prelude::*;

use crate::Number;
use crate::rows::{UNITS, cubes_of_rows, sum_of_every, sum_of_units, units_of_row};

/// Columns whose gradients a cube sums: 32 bytes of each row, which a device reads at once.
const COLUMNS: u32 = 8;

/// Rows that are normed.
#[derive(Clone, Copy, Debug)]
pub struct NormedRows {
    /// Number of rows.
    pub rows: usize,
    /// Values in a row.
    pub width: usize,
    /// LayerNorm, in place of RMSNorm.
    pub centred: bool,
    /// Added to the variance.
    pub eps: f32,
}

/// Writes `y`, in `number`, and, for [`backward`], the mean and scale of each row to `stats` `[rows, 2]`.
/// RMSNorm does not read `beta`.
pub fn forward(
    client: &Client,
    by: NormedRows,
    [x, gamma, beta]: [BufferArg; 3],
    [y, stats]: [BufferArg; 2],
    number: Number,
) {
    let units = units_of_row(by.width);
    let (rows, width) = (by.rows as u32, by.width as u32);
    forward_rows::launch(
        client,
        cubes_of_rows(by.rows),
        CubeDim::new_1d(units),
        x,
        gamma,
        beta,
        y,
        stats,
        rows,
        width,
        by.eps,
        by.centred,
        units,
        number.elem(),
    );
}

/// Writes the gradients of `x`, and of gamma and beta `[width]`, from that of `y`. Those of gamma and beta
/// are sums in a fixed order; RMSNorm does not write beta's.
pub fn backward(
    client: &Client,
    by: NormedRows,
    [x, gamma, stats, dy]: [BufferArg; 4],
    [dx, dgamma, dbeta]: [BufferArg; 3],
) {
    let units = units_of_row(by.width);
    let (rows, width) = (by.rows as u32, by.width as u32);
    backward_rows_and_columns::launch(
        client,
        cubes_of_rows(by.rows + by.width.div_ceil(COLUMNS as usize)),
        CubeDim::new_1d(units),
        x,
        gamma,
        stats,
        dy,
        dx,
        dgamma,
        dbeta,
        rows,
        width,
        COLUMNS,
        by.centred,
    );
}

#[cube(launch)]
fn forward_rows<F: Float>(
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    y: &mut [F],
    stats: &mut [f32],
    rows: u32,
    width: u32,
    eps: f32,
    #[comptime] centred: bool,
    #[comptime] units: u32,
    #[define(F)] _number: ElemType,
) {
    let mut scratch = Shared::<[f32]>::new_slice(units as usize);
    // A cube too many does the last row once more.
    let row = min(CUBE_POS as u32, rows - 1);
    let first = (row * width) as usize;
    let mut mean = f32::new(0.0);
    if comptime!(centred) {
        let mut sum = f32::new(0.0);
        let mut i = UNIT_POS;
        while i < width {
            sum += x[first + i as usize];
            i += units;
        }
        mean = sum_of_units(sum, &mut scratch) / f32::cast_from(width);
    }
    let mut squares = f32::new(0.0);
    let mut i = UNIT_POS;
    while i < width {
        let value = x[first + i as usize] - mean;
        squares += value * value;
        i += units;
    }
    let variance = sum_of_units(squares, &mut scratch) / f32::cast_from(width);
    let scale = 1.0f32 / (variance + eps).sqrt();
    if UNIT_POS == 0 {
        stats[(row * 2) as usize] = mean;
        stats[(row * 2 + 1) as usize] = scale;
    }
    let mut i = UNIT_POS;
    while i < width {
        let at = i as usize;
        let normed = (x[first + at] - mean) * scale * gamma[at];
        if comptime!(centred) {
            y[first + at] = F::cast_from(normed + beta[at]);
        } else {
            y[first + at] = F::cast_from(normed);
        }
        i += units;
    }
}

/// The first `rows` cubes have a row each, the others some columns.
#[cube(launch)]
fn backward_rows_and_columns(
    x: &[f32],
    gamma: &[f32],
    stats: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
    rows: u32,
    width: u32,
    columns: u32,
    #[comptime] centred: bool,
) {
    let mut scratch = Shared::<[f32]>::new_slice(comptime!(UNITS as usize));
    let cube = CUBE_POS as u32;
    let of_row = cube < rows;
    let row = min(cube, rows - 1);
    let column = (cube - min(cube, rows)) * columns + UNIT_POS % columns;
    // Of a row the sums along it, of columns those down to their ends: of pulls times normed values, and of
    // pulls.
    let mut along = f32::new(0.0);
    let mut level = f32::new(0.0);
    let mut every = columns;
    if of_row {
        every -= columns - 1;
        let first = (row * width) as usize;
        let mean = stats[(row * 2) as usize];
        let scale = stats[(row * 2 + 1) as usize];
        let mut i = UNIT_POS;
        while i < width {
            let at = first + i as usize;
            let pull = dy[at] * gamma[i as usize];
            along += pull * (x[at] - mean) * scale;
            level += pull;
            i += CUBE_DIM;
        }
    } else if column < width {
        let mut i = UNIT_POS / columns;
        while i < rows {
            let at = (i * width + column) as usize;
            let normed = (x[at] - stats[(i * 2) as usize]) * stats[(i * 2 + 1) as usize];
            along += dy[at] * normed;
            level += dy[at];
            i += CUBE_DIM / columns;
        }
    }
    let along = sum_of_every(along, every, &mut scratch);
    let mut level_of_all = f32::new(0.0);
    if comptime!(centred) {
        level_of_all = sum_of_every(level, every, &mut scratch);
    }
    if of_row {
        let first = (row * width) as usize;
        let mean = stats[(row * 2) as usize];
        let scale = stats[(row * 2 + 1) as usize];
        let along = along / f32::cast_from(width);
        let level = level_of_all / f32::cast_from(width);
        let mut i = UNIT_POS;
        while i < width {
            let at = first + i as usize;
            let normed = (x[at] - mean) * scale;
            dx[at] = scale * (dy[at] * gamma[i as usize] - level - normed * along);
            i += CUBE_DIM;
        }
    } else if UNIT_POS < columns && column < width {
        dgamma[column as usize] = along;
        if comptime!(centred) {
            dbeta[column as usize] = level_of_all;
        }
    }
}
