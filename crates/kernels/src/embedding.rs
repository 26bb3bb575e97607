//! Rows of a table: gathered, placed and summed back.

use rayon::prelude::*;

/// Rows in a piece.
const PIECE: usize = 64;

/// Writes row `ids[i]` of `table` `[v, d]` to row `i` of `out` `[n, d]`.
///
/// # Panics
/// If an id is outside of the table.
pub fn gather<T: Copy + Send + Sync>(table: &[T], d: usize, ids: &[u32], out: &mut [T]) {
    assert!(d > 0 && out.len() == ids.len() * d, "the output must be {} rows of {d}", ids.len());
    (out.par_chunks_mut(PIECE * d), ids.par_chunks(PIECE)).into_par_iter().for_each(|(out, ids)| {
        for (out, &id) in out.chunks_exact_mut(d).zip(ids) {
            out.copy_from_slice(&table[id as usize * d..][..d]);
        }
    });
}

/// Adds row `i` of `grad` `[n, d]` to row `ids[i]` of `table` `[v, d]`: what [`gather`] does to a gradient.
/// Each row of the table takes its terms in the order of `i`, whatever the threads.
///
/// # Panics
/// If an id is outside of the table.
pub fn scatter_add(grad: &[f32], d: usize, ids: &[u32], table: &mut [f32]) {
    assert!(d > 0 && grad.len() == ids.len() * d, "the gradient must be {} rows of {d}", ids.len());
    assert!(table.len().is_multiple_of(d), "the table is not rows of {d}");
    // Sorted by id first: threads then own rows of the table, and no row waits for a lock or is summed twice.
    let (starts, order) = by_id(ids, table.len() / d);
    table.par_chunks_mut(PIECE * d).enumerate().for_each(|(piece, rows)| {
        for (i, row) in rows.chunks_exact_mut(d).enumerate() {
            let id = piece * PIECE + i;
            for &position in &order[starts[id]..starts[id + 1]] {
                for (t, &g) in row.iter_mut().zip(&grad[position * d..][..d]) {
                    *t += g;
                }
            }
        }
    });
}

/// Where each of `rows` ids starts in the second list: the positions ordered by id, then by position.
fn by_id(ids: &[u32], rows: usize) -> (Vec<usize>, Vec<usize>) {
    let mut starts = vec![0; rows + 1];
    for &id in ids {
        assert!((id as usize) < rows, "id {id} is outside of a table of {rows} rows");
        starts[id as usize + 1] += 1;
    }
    for id in 0..rows {
        starts[id + 1] += starts[id];
    }
    let mut next = starts.clone();
    let mut order = vec![0; ids.len()];
    for (position, &id) in ids.iter().enumerate() {
        order[next[id as usize]] = position;
        next[id as usize] += 1;
    }
    (starts, order)
}

/// Blocks of rows among more rows: block `i` is the `rows` rows from row `starts[i]`.
#[derive(Clone, Copy, Debug)]
pub struct Blocks<'a> {
    /// First row of each block.
    pub starts: &'a [usize],
    /// Rows in a block.
    pub rows: usize,
    /// Width of a row.
    pub dim: usize,
}

impl Blocks<'_> {
    /// Writes `blocks` `[starts, rows, d]` to their rows of `out` `[n, d]`.
    ///
    /// # Panics
    /// If a block lies outside of the rows.
    pub fn place(&self, blocks: &[f32], out: &mut [f32]) {
        for (i, &start) in self.starts.iter().enumerate() {
            out[self.values(start)].copy_from_slice(&blocks[self.values(i * self.rows)]);
        }
    }

    /// The reverse of [`Self::place`]: collects the blocks' rows of `rows` `[n, d]` in `blocks` `[starts,
    /// rows, d]`.
    ///
    /// # Panics
    /// If a block lies outside of the rows.
    pub fn take(&self, rows: &[f32], blocks: &mut [f32]) {
        for (i, &start) in self.starts.iter().enumerate() {
            blocks[self.values(i * self.rows)].copy_from_slice(&rows[self.values(start)]);
        }
    }

    /// The values of the block that starts at a row.
    fn values(&self, row: usize) -> std::ops::Range<usize> {
        row * self.dim..(row + self.rows) * self.dim
    }
}
