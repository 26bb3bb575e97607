//! RMSNorm (Zhang and Sennrich 2019) and LayerNorm (Ba et al. 2016) over the last axis.
//!
//! Rows are taken in pieces of a fixed size and sums in a fixed order: no result depends on the number of
//! threads.

use crate::cpu::tiered;
use crate::number::Stored;
use crate::rows::{add_pieces, dot, sum};
use rayon::prelude::*;

/// Rows in a piece.
const PIECE: usize = 64;

/// One norm: `y = (x - mean) * rstd * gamma + beta` with `rstd = 1 / sqrt(mean((x - mean)²) + eps)`.
///
/// With `beta` it is LayerNorm; without it is RMSNorm, whose mean counts as 0.
#[derive(Clone, Copy, Debug)]
pub struct RowNorm<'a> {
    /// Scale `[d]`.
    pub gamma: &'a [f32],
    /// Shift `[d]`, for LayerNorm only.
    pub beta: Option<&'a [f32]>,
    /// Added to the variance.
    pub eps: f32,
}

/// What the backward pass needs to know of one row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowStats {
    /// The row's mean; 0 for RMSNorm.
    pub mean: f32,
    /// The inverse of its deviation.
    pub rstd: f32,
}

/// Gradients of a norm's parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct NormGrad {
    /// Of the scale `[d]`.
    pub gamma: Vec<f32>,
    /// Of the shift `[d]`; zeros for RMSNorm.
    pub beta: Vec<f32>,
}

impl RowNorm<'_> {
    /// Writes the norm of `x` `[n, d]` to `y` `[n, d]` and gives the rows' statistics `[n]`.
    pub fn forward<Y: Stored>(&self, x: &[f32], y: &mut [Y]) -> Vec<RowStats> {
        let d = self.dim(x, y.len());
        let mut stats = vec![RowStats::default(); x.len() / d];
        (stats.par_chunks_mut(PIECE), x.par_chunks(PIECE * d), y.par_chunks_mut(PIECE * d))
            .into_par_iter()
            .for_each(|(stats, x, y)| {
                stats_piece(self, x, stats);
                apply_piece(self, x, stats, y);
            });
        stats
    }

    /// Writes the norm of `x` `[n, d]` to `y` `[n, d]` again, from the statistics that [`Self::forward`]
    /// gave.
    pub fn apply<X: Stored, Y: Stored>(&self, x: &[X], stats: &[RowStats], y: &mut [Y]) {
        let d = self.dim(x, y.len());
        assert_eq!(stats.len() * d, x.len(), "one statistic for each row");
        (stats.par_chunks(PIECE), x.par_chunks(PIECE * d), y.par_chunks_mut(PIECE * d))
            .into_par_iter()
            .for_each(|(stats, x, y)| apply_piece(self, x, stats, y));
    }

    /// Rows `x` `[n, d]` less their means, which then count as 0: what [`Self::apply`] and [`Self::backward`]
    /// take as well, and what may be rounded, since a mean far from 0 would cost digits.
    pub fn centre<X: Stored>(&self, x: &[f32], stats: &mut [RowStats], centred: &mut [X]) {
        let d = self.dim(x, centred.len());
        assert_eq!(stats.len() * d, x.len(), "one statistic for each row");
        (stats.par_chunks_mut(PIECE), x.par_chunks(PIECE * d), centred.par_chunks_mut(PIECE * d))
            .into_par_iter()
            .for_each(|(stats, x, centred)| centre_piece(x, stats, centred));
    }

    /// Turns the gradient of the output, `grad` `[n, d]`, into the gradient of `x` in place, and gives the
    /// parameters' gradients.
    pub fn backward<X: Stored>(&self, x: &[X], stats: &[RowStats], grad: &mut [f32]) -> NormGrad {
        let d = self.dim(x, grad.len());
        assert_eq!(stats.len() * d, x.len(), "one statistic for each row");
        // A sum for each piece of rows, added in their order afterwards: no digit depends on the threads.
        let mut partial = vec![0.0; stats.len().div_ceil(PIECE) * 2 * d];
        let pieces = (stats.par_chunks(PIECE), x.par_chunks(PIECE * d));
        (pieces.0, pieces.1, grad.par_chunks_mut(PIECE * d), partial.par_chunks_mut(2 * d))
            .into_par_iter()
            .for_each(|(stats, x, grad, partial)| backward_piece(self, x, stats, grad, partial));
        let mut gamma = add_pieces(&partial, 2 * d);
        let beta = gamma.split_off(d);
        NormGrad { gamma, beta }
    }

    /// The width, after a check of the lengths.
    fn dim<X>(&self, x: &[X], out: usize) -> usize {
        let d = self.gamma.len();
        assert!(d > 0 && x.len().is_multiple_of(d), "{} values are not rows of {d}", x.len());
        assert_eq!(x.len(), out, "input and output differ in length");
        assert!(self.beta.is_none_or(|b| b.len() == d), "gamma and beta differ in length");
        d
    }
}

tiered! {
    fn stats_piece(norm: &RowNorm<'_>, x: &[f32], stats: &mut [RowStats]) {
        let d = norm.gamma.len();
        for (row, stats) in x.chunks_exact(d).zip(stats) {
            let mean = if norm.beta.is_some() { sum(row, |v| v) / d as f32 } else { 0.0 };
            // Two passes: the mean of squares less the square of the mean loses digits where the mean is far
            // from 0.
            let variance = sum(row, |v| (v - mean) * (v - mean)) / d as f32;
            *stats = RowStats { mean, rstd: 1.0 / (variance + norm.eps).sqrt() };
        }
    }
}

tiered! {
    fn apply_piece<X: Stored, Y: Stored>(norm: &RowNorm<'_>, x: &[X], stats: &[RowStats], y: &mut [Y]) {
        let d = norm.gamma.len();
        for ((x, s), y) in x.chunks_exact(d).zip(stats).zip(y.chunks_exact_mut(d)) {
            match norm.beta {
                Some(beta) => {
                    for (((y, &x), &g), &b) in y.iter_mut().zip(x).zip(norm.gamma).zip(beta) {
                        *y = Y::stored((x.wide() - s.mean) * s.rstd * g + b);
                    }
                }
                None => {
                    for ((y, &x), &g) in y.iter_mut().zip(x).zip(norm.gamma) {
                        *y = Y::stored(x.wide() * s.rstd * g);
                    }
                }
            }
        }
    }
}

tiered! {
    fn centre_piece<X: Stored>(x: &[f32], stats: &mut [RowStats], centred: &mut [X]) {
        let d = x.len() / stats.len();
        for ((x, s), centred) in x.chunks_exact(d).zip(stats).zip(centred.chunks_exact_mut(d)) {
            let mean = std::mem::take(&mut s.mean);
            for (centred, &x) in centred.iter_mut().zip(x) {
                *centred = X::stored(x - mean);
            }
        }
    }
}

tiered! {
    fn backward_piece<X: Stored>(
        norm: &RowNorm<'_>,
        x: &[X],
        stats: &[RowStats],
        grad: &mut [f32],
        partial: &mut [f32],
    ) {
        let d = norm.gamma.len();
        let (dgamma, dbeta) = partial.split_at_mut(d);
        let layer = norm.beta.is_some();
        for ((x, s), dy) in x.chunks_exact(d).zip(stats).zip(grad.chunks_exact_mut(d)) {
            for (((dg, db), &x), &dy) in dgamma.iter_mut().zip(&mut *dbeta).zip(x).zip(&*dy) {
                *dg += dy * (x.wide() - s.mean) * s.rstd;
                *db += if layer { dy } else { 0.0 };
            }
            // dx = rstd * (g - mean(g) - xh * mean(g * xh)), with g = dy * gamma and xh the normalised row.
            for (dy, &g) in dy.iter_mut().zip(norm.gamma) {
                *dy *= g;
            }
            let shift = if layer { sum(dy, |v| v) / d as f32 } else { 0.0 };
            let correlation = dot(dy, x, |dy, x| dy * (x.wide() - s.mean)) * s.rstd * s.rstd / d as f32;
            for (dy, &x) in dy.iter_mut().zip(x) {
                *dy = s.rstd * (*dy - shift - (x.wide() - s.mean) * correlation);
            }
        }
    }
}
