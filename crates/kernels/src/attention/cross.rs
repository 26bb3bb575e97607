//! Attention of a few queries to all patches of a picture, as attention pooling needs it.

use super::head::{self, BackwardPanels, ForwardPanels, HeadGradients, HeadOutput, Queries};
use super::rope::StridedRows;
use super::softmax::{self, VisibleKeys};
use super::{Heads, rope};
use crate::buffer::{RowsMut, Scratch, Shared};
use crate::cpu;
use crate::gemm::{Kernel, Matrix, Precision};

/// Each picture's queries `[t, h c]` attend to its own keys and values `[p, 2 h c]`; no rotation, no mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cross {
    /// Heads.
    pub heads: usize,
    /// Width of a head: `c`.
    pub width: usize,
    /// Queries of a picture: `t`.
    pub queries: usize,
    /// Keys of a picture: `p`.
    pub keys: usize,
    /// Precision of the products' inputs.
    pub precision: Precision,
}

/// What the backward pass needs of the forward pass.
#[derive(Clone, Copy, Debug)]
pub struct CrossSaved<'a> {
    /// Queries `[n, t, h c]`.
    pub q: &'a [f32],
    /// Keys, then values: `[n, p, 2 h c]`.
    pub kv: &'a [f32],
    /// The output `[n, t, h c]`.
    pub out: &'a [f32],
    /// What [`Cross::forward`] gave: `[n, h, t]`.
    pub lse: &'a [f32],
}

/// What one task computes: a head of a picture.
#[derive(Clone, Copy)]
struct CrossTask {
    picture: usize,
    head: usize,
}

/// What the backward pass reads and where it writes.
#[derive(Clone, Copy)]
struct CrossGradients<'a> {
    /// Of the output `[n, t, h c]`.
    d_out: &'a [f32],
    /// Of the queries `[n, t, h c]`.
    d_q: Shared<'a, f32>,
    /// Of keys and values `[n, p, 2 h c]`.
    d_kv: Shared<'a, f32>,
}

impl Cross {
    /// Reads queries `q` `[n, t, h c]` and keys and values `kv` `[n, p, 2 h c]`, and writes `out` `[n, t, h
    /// c]`. Gives the logarithms of the softmax's sums `[n, h, t]`.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn forward(&self, q: &[f32], kv: &[f32], out: &mut [f32]) -> Vec<f32> {
        let n = self.check(q.len(), kv.len(), out.len());
        let (t, c, d) = (self.queries, self.width, self.heads * self.width);
        let kernel = Kernel::of(self.precision);
        let mut lse = vec![0.0; n * self.heads * t];
        let out = Shared::new(out);
        cpu::chunks(&mut lse, t, |task, lse| {
            let (picture, head) = (task / self.heads, task % self.heads);
            let mut rotated = Scratch::new(t * c);
            let rotated = rotated.floats();
            let rows = StridedRows { values: &q[picture * t * d + head * c..], stride: d };
            // Without a table it only gathers the head's columns and scales them.
            rope::rotate(rows, rotated, c, &[], self.as_heads().scale());
            let panels = ForwardPanels::new(
                kernel,
                self.side(kv, picture, head),
                self.side(kv, picture, self.heads + head),
            );
            // SAFETY: this head of this picture is this task's alone.
            let mut out = unsafe { RowsMut::new(out, picture * t * d + head * c, d, c) };
            let q = Matrix::new(rotated, t, c);
            head::attend(kernel, q, &panels, VisibleKeys::All(self.keys), HeadOutput { out: &mut out, lse });
        });
        lse
    }

    /// Writes the gradients of queries and of keys and values to `d_q` and `d_kv`, from that of the output,
    /// `d_out`.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn backward(&self, saved: CrossSaved<'_>, d_out: &[f32], d_q: &mut [f32], d_kv: &mut [f32]) {
        let n = self.check(saved.q.len(), saved.kv.len(), saved.out.len());
        assert!(saved.lse.len() == n * self.heads * self.queries, "one logarithm for each head and query");
        assert!(d_out.len() == saved.out.len() && d_q.len() == saved.q.len() && d_kv.len() == saved.kv.len());
        let kernel = Kernel::of(self.precision);
        let gradients = CrossGradients { d_out, d_q: Shared::new(d_q), d_kv: Shared::new(d_kv) };
        cpu::rows(n * self.heads, 1, |task| {
            let task = CrossTask { picture: task.start / self.heads, head: task.start % self.heads };
            self.backward_task(kernel, task, saved, gradients);
        });
    }

    fn backward_task(
        &self,
        kernel: &'static Kernel,
        CrossTask { picture, head }: CrossTask,
        saved: CrossSaved<'_>,
        CrossGradients { d_out, d_q, d_kv }: CrossGradients<'_>,
    ) {
        let (t, p, c, d) = (self.queries, self.keys, self.width, self.heads * self.width);
        let scale = self.as_heads().scale();
        let mut scratch: [Scratch; 4] = std::array::from_fn(|_| Scratch::new(t.max(p) * c));
        let [rotated, q, k, v] = scratch.each_mut().map(|scratch| scratch.floats());
        let rotated = &mut rotated[..t * c];
        let mut gradients = HeadGradients { q: &mut q[..t * c], k: &mut k[..p * c], v: &mut v[..p * c] };
        gradients.k.fill(0.0);
        gradients.v.fill(0.0);
        let rows = picture * t * d + head * c..(picture + 1) * t * d;
        let queries = StridedRows { values: &saved.q[rows.clone()], stride: d };
        rope::rotate(queries, rotated, c, &[], scale);
        let mut delta = Scratch::new(t);
        softmax::row_products((&d_out[rows.clone()], &saved.out[rows.clone()]), d, c, delta.floats());
        let panels = BackwardPanels::new(
            kernel,
            self.side(saved.kv, picture, head),
            self.side(saved.kv, picture, self.heads + head),
        );
        let queries = Queries {
            q: Matrix::new(rotated, t, c),
            d_out: Matrix::strided(&d_out[rows], [t, c], [d, 1]),
            lse: &saved.lse[(picture * self.heads + head) * t..][..t],
            delta: delta.floats(),
        };
        head::differentiate(kernel, &queries, &panels, VisibleKeys::All(p), &mut gradients);
        // SAFETY: this head of this picture is this task's alone.
        let target = |shared, rows, width, start| unsafe {
            RowsMut::new(shared, picture * rows * width + start, width, c)
        };
        rope::rotate_back(gradients.q, &mut target(d_q, t, d, head * c), c, &[], scale);
        rope::rotate_back(gradients.k, &mut target(d_kv, p, 2 * d, head * c), c, &[], 1.0);
        rope::rotate_back(gradients.v, &mut target(d_kv, p, 2 * d, d + head * c), c, &[], 1.0);
    }

    /// Keys (`head`) or values (`heads + head`) of one head of a picture `[p, c]`.
    fn side<'a>(&self, kv: &'a [f32], picture: usize, head: usize) -> Matrix<'a> {
        let stride = 2 * self.heads * self.width;
        let rows = &kv[picture * self.keys * stride + head * self.width..];
        Matrix::strided(rows, [self.keys, self.width], [stride, 1])
    }

    fn as_heads(&self) -> Heads {
        Heads { heads: self.heads, kv_heads: self.heads, width: self.width }
    }

    /// The number of pictures, after a check of the lengths.
    fn check(&self, q: usize, kv: usize, out: usize) -> usize {
        self.as_heads().check(None);
        assert!(self.queries > 0 && self.keys > 0, "{self:?}: nothing to attend");
        let d = self.heads * self.width;
        let n = q / (self.queries * d);
        assert_eq!(q, n * self.queries * d, "{self:?}: queries are not whole pictures");
        assert_eq!(kv, n * self.keys * 2 * d, "{self:?}: keys are of another number of pictures");
        assert_eq!(out, q, "{self:?}: queries and output differ in length");
        n
    }
}
