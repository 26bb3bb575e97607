//! RMSNorm (Zhang and Sennrich 2019) and LayerNorm (Ba et al. 2016) of rows: `y = (x - mean) scale gamma +
//! beta`, where `scale` is `1 / sqrt(variance + eps)`; RMSNorm has a mean of 0 and no beta.

use cubecl::client::Client;
use cubecl::prelude::*;

use crate::rows::{CUBES, UNITS, cubes_of_rows, sum_of_units, units_of_row};

/// Rows whose part of a parameter's gradient is summed by one unit.
pub const CHUNK: usize = 64;

/// Rows that are normed.
#[derive(Clone, Copy, Debug)]
pub struct NormedRows {
    /// Number of rows.
    pub rows: usize,
    /// Values in a row.
    pub width: usize,
    /// LayerNorm, in place of RMSNorm.
    pub centred: bool,
}

/// Writes `y` and, for [`backward`], the mean and scale of each row to `stats` `[rows, 2]`. RMSNorm does not
/// read `beta`.
pub fn forward(
    client: &Client,
    by: NormedRows,
    eps: f32,
    [x, gamma, beta]: [BufferArg; 3],
    [y, stats]: [BufferArg; 2],
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
        eps,
        by.centred,
        units,
    );
}

/// Writes the gradient of `x`, from that of `y`.
pub fn backward(client: &Client, by: NormedRows, [x, gamma, stats, dy]: [BufferArg; 4], dx: BufferArg) {
    let units = units_of_row(by.width);
    let (rows, width) = (by.rows as u32, by.width as u32);
    backward_rows::launch(
        client,
        cubes_of_rows(by.rows),
        CubeDim::new_1d(units),
        x,
        gamma,
        stats,
        dy,
        dx,
        rows,
        width,
        by.centred,
        units,
    );
}

/// Writes the gradients of gamma and beta by each [`CHUNK`] of rows to `parts` `[2, chunks, width]`, in a
/// fixed order; of RMSNorm gamma's alone, `[1, chunks, width]`.
pub fn backward_parameters(
    client: &Client,
    by: NormedRows,
    [x, stats, dy]: [BufferArg; 3],
    parts: BufferArg,
) {
    let chunks = by.rows.div_ceil(CHUNK);
    assert!(chunks <= CUBES, "{} rows are more than a launch norms", by.rows);
    backward_columns::launch(
        client,
        CubeCount::Static((by.width as u32).div_ceil(UNITS), chunks as u32, 1),
        CubeDim::new_1d(UNITS),
        x,
        stats,
        dy,
        parts,
        by.rows as u32,
        by.width as u32,
        chunks as u32,
        by.centred,
    );
}

#[cube(launch)]
fn forward_rows(
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    y: &mut [f32],
    stats: &mut [f32],
    rows: u32,
    width: u32,
    eps: f32,
    #[comptime] centred: bool,
    #[comptime] units: u32,
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
            y[first + at] = normed + beta[at];
        } else {
            y[first + at] = normed;
        }
        i += units;
    }
}

#[cube(launch)]
fn backward_rows(
    x: &[f32],
    gamma: &[f32],
    stats: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    rows: u32,
    width: u32,
    #[comptime] centred: bool,
    #[comptime] units: u32,
) {
    let mut scratch = Shared::<[f32]>::new_slice(units as usize);
    let row = min(CUBE_POS as u32, rows - 1);
    let first = (row * width) as usize;
    let mean = stats[(row * 2) as usize];
    let scale = stats[(row * 2 + 1) as usize];
    let mut along = f32::new(0.0);
    let mut sum = f32::new(0.0);
    let mut i = UNIT_POS;
    while i < width {
        let at = i as usize;
        let pull = dy[first + at] * gamma[at];
        along += pull * (x[first + at] - mean) * scale;
        sum += pull;
        i += units;
    }
    let along = sum_of_units(along, &mut scratch) / f32::cast_from(width);
    let mut level = f32::new(0.0);
    if comptime!(centred) {
        level = sum_of_units(sum, &mut scratch) / f32::cast_from(width);
    }
    let mut i = UNIT_POS;
    while i < width {
        let at = i as usize;
        let normed = (x[first + at] - mean) * scale;
        dx[first + at] = scale * (dy[first + at] * gamma[at] - level - normed * along);
        i += units;
    }
}

#[cube(launch)]
fn backward_columns(
    x: &[f32],
    stats: &[f32],
    dy: &[f32],
    parts: &mut [f32],
    rows: u32,
    width: u32,
    chunks: u32,
    #[comptime] centred: bool,
) {
    let column = ABSOLUTE_POS_X;
    if column < width {
        let mut gamma = f32::new(0.0);
        let mut beta = f32::new(0.0);
        let mut row = CUBE_POS_Y * comptime!(CHUNK as u32);
        let mut end = row + comptime!(CHUNK as u32);
        if end > rows {
            end = rows;
        }
        while row < end {
            let at = (row * width + column) as usize;
            let normed = (x[at] - stats[(row * 2) as usize]) * stats[(row * 2 + 1) as usize];
            gamma += dy[at] * normed;
            beta += dy[at];
            row += 1;
        }
        parts[(CUBE_POS_Y * width + column) as usize] = gamma;
        if comptime!(centred) {
            parts[((chunks + CUBE_POS_Y) * width + column) as usize] = beta;
        }
    }
}
