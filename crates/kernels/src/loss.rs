//! Cross-entropy of a linear output head: the logits exist for a few rows at a time only, and the gradients
//! are made in the same pass.

use crate::buffer::Scratch;
use crate::cpu::tiered;
use crate::gemm::{Matrix, MatrixMut, Precision, gemm};
use crate::math::exp;
use crate::rows::sum;
use rayon::prelude::*;

/// Rows whose logits exist at a time: fixed, so that no sum depends on the number of threads. The head packed
/// once for all chunks takes 1.002 of a decoder's time and 9 MB more, so each chunk packs it again.
const CHUNK: usize = 512;
/// Logits in a piece of a chunk, about.
const PIECE: usize = 8192;

/// An output head.
#[derive(Clone, Copy, Debug)]
pub struct OutputHead<'a> {
    /// `[d, v]`, or `[v, d]` where it is the embedding table.
    pub weight: &'a [f32],
    /// Width.
    pub dim: usize,
    /// Size of the vocabulary.
    pub vocab: usize,
    /// Whether the weight is `[v, d]`.
    pub tied: bool,
}

impl<'a> OutputHead<'a> {
    /// The weight as `[d, v]`.
    pub fn matrix(&self) -> Matrix<'a> {
        if self.tied {
            Matrix::new(self.weight, self.vocab, self.dim).transposed()
        } else {
            Matrix::new(self.weight, self.dim, self.vocab)
        }
    }
}

/// What is to be learned: `sum of weight * -log softmax(x head)[target]`.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy<'a> {
    /// The output head.
    pub head: OutputHead<'a>,
    /// The wanted token of each row `[n]`, below the vocabulary's size.
    pub targets: &'a [u32],
    /// The weight of each row `[n]`.
    pub weights: &'a [f32],
    /// Of the products; softmax and loss are f32, and the sum f64.
    pub precision: Precision,
}

/// Where the gradients go that are wanted.
#[derive(Debug, Default)]
pub struct LossGrads<'a> {
    /// Of the rows `[n, d]`.
    pub x: Option<&'a mut [f32]>,
    /// Of the head's weight, in its layout.
    pub head: Option<&'a mut [f32]>,
}

impl CrossEntropy<'_> {
    /// The loss of the rows `x` `[n, d]`; writes the gradients that are wanted.
    ///
    /// # Panics
    /// If a target is outside of the vocabulary.
    pub fn loss(&self, x: &[f32], mut grads: LossGrads<'_>) -> f64 {
        let (n, d, v) = (self.targets.len(), self.head.dim, self.head.vocab);
        assert_eq!(n, self.weights.len(), "one weight for each target");
        assert!(
            self.targets.iter().all(|&t| (t as usize) < v),
            "a target is outside of the vocabulary of {v}"
        );
        if let (0, Some(head)) = (n, &mut grads.head) {
            head.fill(0.0);
        }
        let x = Matrix::new(x, n, d);
        let mut logits = Scratch::new(CHUNK.min(n) * v);
        let mut losses = vec![0.0; n];
        for start in (0..n).step_by(CHUNK) {
            let rows = start..n.min(start + CHUNK);
            let logits = &mut logits.floats()[..rows.len() * v];
            let chunk = x.row_range(rows.clone());
            gemm(self.precision, chunk, self.head.matrix(), MatrixMut::new(logits, rows.len(), v), false);
            let wanted = (&self.targets[rows.clone()], &self.weights[rows.clone()]);
            softmax(logits, v, wanted, &mut losses[rows.clone()]);
            let d_logits = Matrix::new(logits, rows.len(), v);
            let LossGrads { x: dx, head: dw } = &mut grads;
            let to_rows = || {
                if let Some(dx) = dx {
                    let dx = MatrixMut::new(&mut dx[rows.start * d..rows.end * d], rows.len(), d);
                    gemm(self.precision, d_logits, self.head.matrix().transposed(), dx, false);
                }
            };
            let add = start > 0;
            let to_head = || match dw {
                None => {}
                Some(dw) if self.head.tied => {
                    gemm(self.precision, d_logits.transposed(), chunk, MatrixMut::new(dw, v, d), add);
                }
                Some(dw) => gemm(self.precision, chunk.transposed(), d_logits, MatrixMut::new(dw, d, v), add),
            };
            // A thread that one product leaves idle works on the other.
            rayon::join(to_rows, to_head);
        }
        losses.iter().sum()
    }
}

/// Turns logits `[n, v]` into their gradients and writes the rows' losses `[n]`.
fn softmax(logits: &mut [f32], v: usize, (targets, weights): (&[u32], &[f32]), losses: &mut [f64]) {
    let rows = PIECE.div_ceil(v);
    let wanted = (targets.par_chunks(rows), weights.par_chunks(rows));
    (logits.par_chunks_mut(rows * v), wanted.0, wanted.1, losses.par_chunks_mut(rows))
        .into_par_iter()
        .for_each(|(logits, targets, weights, losses)| softmax_piece(logits, v, (targets, weights), losses));
}

tiered! {
    fn softmax_piece(logits: &mut [f32], v: usize, (targets, weights): (&[u32], &[f32]), losses: &mut [f64]) {
        let rows = logits.chunks_exact_mut(v).zip(targets).zip(weights).zip(losses);
        for (((row, &target), &weight), loss) in rows {
            // The largest logit is taken off, so that no exponential overflows; the loss does not change.
            let highest = max(row);
            let at_target = row[target as usize] - highest;
            for value in &mut *row {
                *value = exp(*value - highest);
            }
            let total = sum(row, |e| e);
            // From here on the row is its own gradient: weight (softmax - one-hot).
            for value in &mut *row {
                *value *= weight / total;
            }
            row[target as usize] -= weight;
            *loss = f64::from(weight) * (f64::from(total).ln() - f64::from(at_target));
        }
    }
}

/// The largest value of a row.
#[inline(always)]
fn max(row: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; 32];
    let (chunks, rest) = row.as_chunks::<32>();
    for chunk in chunks {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, v);
        }
    }
    lanes.into_iter().chain(rest.iter().copied()).fold(f32::NEG_INFINITY, larger)
}
