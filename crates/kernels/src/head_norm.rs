//! RMSNorm of each query and key head by itself, before the rotation (Henry et al. 2020, "query-key
//! normalization"; in this form Qwen3's).

use crate::attention::Heads;
use crate::cpu::tiered;
use crate::number::Stored;
use crate::rows::add_pieces;
use rayon::prelude::*;

/// Rows in a piece: fixed, so that no sum depends on the number of threads.
const PIECE: usize = 64;

/// One norm for all query heads and one for all key heads; values pass.
#[derive(Clone, Copy, Debug)]
pub struct HeadNorm<'a> {
    /// Scale of the queries `[c]`.
    pub q: &'a [f32],
    /// Scale of the keys `[c]`.
    pub k: &'a [f32],
    /// How a row is cut.
    pub heads: Heads,
    /// Added to the mean square of a head.
    pub eps: f32,
}

/// Gradients of the two scales.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadNormGrad {
    /// Of the queries' `[c]`.
    pub q: Vec<f32>,
    /// Of the keys' `[c]`.
    pub k: Vec<f32>,
}

impl HeadNorm<'_> {
    /// Writes queries, keys and values `[n, (h + 2g) c]` to `y` of the same shape, with the heads of queries
    /// and keys normed.
    pub fn forward<T: Stored>(&self, qkv: &[T], y: &mut [T]) {
        let row = self.check(qkv.len(), y.len());
        (qkv.par_chunks(PIECE * row), y.par_chunks_mut(PIECE * row))
            .into_par_iter()
            .for_each(|(qkv, y)| forward_piece(self, qkv, y));
    }

    /// Writes the gradient of `qkv` to `dx`, from that of the output, `dy`, all `[n, (h + 2g) c]`.
    pub fn backward<T: Stored>(&self, qkv: &[T], dy: &[T], dx: &mut [T]) -> HeadNormGrad {
        let (row, c) = (self.check(qkv.len(), dx.len()), self.heads.width);
        assert_eq!(dy.len(), dx.len(), "the gradients differ in length");
        // A sum for each piece of rows, added in their order afterwards: no digit depends on the threads.
        let mut partial = vec![0.0; (qkv.len() / row).div_ceil(PIECE) * 2 * c];
        let pieces = (qkv.par_chunks(PIECE * row), dy.par_chunks(PIECE * row));
        (pieces.0, pieces.1, dx.par_chunks_mut(PIECE * row), partial.par_chunks_mut(2 * c))
            .into_par_iter()
            .for_each(|(qkv, dy, dx, partial)| backward_piece(self, (qkv, dy), dx, partial));
        let mut q = add_pieces(&partial, 2 * c);
        let k = q.split_off(c);
        HeadNormGrad { q, k }
    }

    /// Values of a row, after a check of the lengths.
    fn check(&self, values: usize, out: usize) -> usize {
        let (c, row) = (self.heads.width, self.heads.qkv_width());
        assert!(self.q.len() == c && self.k.len() == c, "the scales are not of {c} values");
        assert!(row > 0 && values.is_multiple_of(row), "{values} values are not rows of {row}");
        assert_eq!(values, out, "input and output differ in length");
        row
    }

    /// Where the values begin in a row.
    fn normed(&self) -> usize {
        (self.heads.heads + self.heads.kv_heads) * self.heads.width
    }
}

tiered! {
    fn forward_piece<T: Stored>(norm: &HeadNorm<'_>, qkv: &[T], y: &mut [T]) {
        let (c, row, normed) = (norm.heads.width, norm.heads.qkv_width(), norm.normed());
        for (qkv, y) in qkv.chunks_exact(row).zip(y.chunks_exact_mut(row)) {
            y[normed..].copy_from_slice(&qkv[normed..]);
            let heads = qkv[..normed].chunks_exact(c).zip(y[..normed].chunks_exact_mut(c));
            for (head, (x, y)) in heads.enumerate() {
                let scale = inverse_rms(x, norm.eps);
                let gamma = if head < norm.heads.heads { norm.q } else { norm.k };
                for ((y, x), g) in y.iter_mut().zip(x).zip(gamma) {
                    *y = T::stored(x.wide() * scale * g);
                }
            }
        }
    }
}

tiered! {
    fn backward_piece<T: Stored>(
        norm: &HeadNorm<'_>,
        (qkv, dy): (&[T], &[T]),
        dx: &mut [T],
        partial: &mut [f32],
    ) {
        let (c, row, normed) = (norm.heads.width, norm.heads.qkv_width(), norm.normed());
        for ((qkv, dy), dx) in qkv.chunks_exact(row).zip(dy.chunks_exact(row)).zip(dx.chunks_exact_mut(row)) {
            dx[normed..].copy_from_slice(&dy[normed..]);
            let heads = qkv[..normed].chunks_exact(c).zip(dy.chunks_exact(c)).zip(dx.chunks_exact_mut(c));
            for (head, ((x, dy), dx)) in heads.enumerate() {
                let scale = inverse_rms(x, norm.eps);
                let queries = head < norm.heads.heads;
                let gamma = if queries { norm.q } else { norm.k };
                let dgamma = &mut partial[if queries { 0..c } else { c..2 * c }];
                // dx = scale * (g - xh * mean(g * xh)), with g = dy * gamma and xh the normed head.
                let mut correlation = 0.0;
                for (((dg, x), dy), g) in dgamma.iter_mut().zip(x).zip(dy).zip(gamma) {
                    let (x, dy) = (x.wide() * scale, dy.wide());
                    *dg += dy * x;
                    correlation += f64::from(dy * g * x);
                }
                let correlation = (correlation / c as f64) as f32;
                for (((dx, x), dy), g) in dx.iter_mut().zip(x).zip(dy).zip(gamma) {
                    *dx = T::stored(scale * (dy.wide() * g - x.wide() * scale * correlation));
                }
            }
        }
    }
}

/// `1 / sqrt(mean(x²) + eps)`; heads are short, and their sum is in f64.
#[inline(always)]
fn inverse_rms<T: Stored>(x: &[T], eps: f32) -> f32 {
    let squares: f64 = x.iter().map(|x| f64::from(x.wide()).powi(2)).sum();
    (1.0 / (squares / x.len() as f64 + f64::from(eps)).sqrt()) as f32
}
