//! The tensors that one parameter of a decoder is made of, and how.

use anyhow::Result;
use rayon::prelude::*;

use super::tensors::ForeignTensor;

/// Tensors that make up one of ours.
pub(super) enum TensorParts {
    /// One after another.
    Rows(Vec<ForeignTensor>),
    /// Maps `[out, in]`, turned to `[in, out]`, side by side.
    Columns(Vec<(ForeignTensor, RowOrder)>),
}

/// In which order the rows of a map are.
#[derive(Clone, Copy)]
pub(super) enum RowOrder {
    /// In ours.
    Own,
    /// In each head of this width, what RoPE turns together follows each other; ours are half a head apart.
    Pairs(usize),
}

impl RowOrder {
    /// The place of row `row` among ours.
    fn place(self, row: usize) -> usize {
        match self {
            Self::Own => row,
            Self::Pairs(width) => row / width * width + row % 2 * (width / 2) + row % width / 2,
        }
    }
}

impl TensorParts {
    /// All of them.
    pub(super) fn tensors(&self) -> Vec<&ForeignTensor> {
        match self {
            Self::Rows(parts) => parts.iter().collect(),
            Self::Columns(parts) => parts.iter().map(|(part, _)| part).collect(),
        }
    }

    /// The values of ours, of the shape `shape`; what the parts do not fill is their mean.
    pub(super) fn read(self, shape: &[usize]) -> Result<Vec<f32>> {
        let count = shape.iter().product();
        match self {
            Self::Rows(parts) => {
                let mut values = Vec::new();
                for part in parts {
                    let part = part.values.read()?;
                    if values.is_empty() { values = part } else { values.extend(part) }
                }
                if values.len() < count {
                    grow_rows(&mut values, count, shape[shape.len() - 1]);
                }
                Ok(values)
            }
            Self::Columns(parts) => {
                let (mut values, mut filled) = (vec![0.0; count], 0);
                for (part, order) in parts {
                    let outputs = part.shape[0];
                    let columns = move |row| filled + order.place(row);
                    turn(&part.values.read()?, (&mut values, shape[1]), columns);
                    filled += outputs;
                }
                grow_columns(&mut values, shape[1], filled);
                Ok(values)
            }
        }
    }
}

/// Appends rows of `width` values, all the mean of those that are there, until there are `count` values.
fn grow_rows(values: &mut Vec<f32>, count: usize, width: usize) {
    let rows = values.len() / width;
    let mut sums = vec![0.0f64; width];
    for row in values.chunks_exact(width) {
        sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    let mean: Vec<f32> = sums.into_iter().map(|sum| (sum / rows as f64) as f32).collect();
    while values.len() < count {
        values.extend_from_slice(&mean);
    }
}

/// Fills the columns of rows of `width` values from `filled` on with the mean of those before.
fn grow_columns(values: &mut [f32], width: usize, filled: usize) {
    if filled == width {
        return;
    }
    values.par_chunks_mut(width).for_each(|row| {
        let sum: f64 = row[..filled].iter().copied().map(f64::from).sum();
        row[filled..].fill((sum / filled as f64) as f32);
    });
}

/// Rows of a target that are written together: a cache line of each row of the source.
const BAND: usize = 16;

/// Writes a map `[out, in]` to columns of rows of `width` values `[in, width]`, each output to the one that
/// `place` gives.
fn turn(map: &[f32], (target, width): (&mut [f32], usize), place: impl Fn(usize) -> usize + Sync) {
    let inputs = target.len() / width;
    target.par_chunks_mut(BAND * width).enumerate().for_each(|(band, rows)| {
        for (output, row) in map.chunks_exact(inputs).enumerate() {
            let (row, column) = (&row[band * BAND..], place(output));
            rows.chunks_exact_mut(width).zip(row).for_each(|(target, &value)| target[column] = value);
        }
    });
}
