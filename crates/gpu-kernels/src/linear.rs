//! What follows a product: a bias, and what it is added to.

use cubecl::client::Client;
use cubecl::prelude::*;

use crate::rows::cubes_of_values;

/// What is added to rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Added {
    /// A bias.
    Bias,
    /// Rows.
    Rows,
    /// Both.
    BiasAndRows,
}

/// Adds `bias` `[width]` and `rows` to `y`, given with the number of its values. The buffer of the two that
/// `added` does not name is not read.
pub fn add(
    client: &Client,
    added: Added,
    width: usize,
    (y, count): (BufferArg, usize),
    [bias, rows]: [BufferArg; 2],
) {
    let (cubes, units) = cubes_of_values(count);
    let (has_bias, has_rows) = (added != Added::Rows, added != Added::Bias);
    add_values::launch(client, cubes, units, y, bias, rows, width as u32, has_bias, has_rows);
}

#[cube(launch)]
fn add_values(
    y: &mut [f32],
    bias: &[f32],
    rows: &[f32],
    width: u32,
    #[comptime] has_bias: bool,
    #[comptime] has_rows: bool,
) {
    let stride = CUBE_DIM as usize * CUBE_COUNT;
    let width = width as usize;
    let mut i = ABSOLUTE_POS;
    while i < y.len() {
        let mut sum = y[i];
        if comptime!(has_bias) {
            sum += bias[i % width];
        }
        if comptime!(has_rows) {
            sum += rows[i];
        }
        y[i] = sum;
        i += stride;
    }
}
