//! Activations on rows: SwiGLU (Shazeer 2020), GELU with the exact error function and its two approximations
//! (Hendrycks and Gimpel 2016), SiLU.

use crate::cpu::tiered;
use crate::math::{normal, quick_gelu, sigmoid, tanh_gelu};
use crate::number::Stored;
use rayon::prelude::*;

/// Values in a piece, about.
const PIECE: usize = 8192;

/// What happens to a row before the next product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// The row is gate|up of width `2f`: `silu(gate) * up` of width `f` (Shazeer 2020).
    Swiglu,
    /// `x * Phi(x)`, Phi being the normal distribution's function: GELU with the exact error function.
    Gelu,
    /// `x * sigmoid(1.702 x)`: GELU's approximation in CLIP.
    QuickGelu,
    /// `x * (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`: GELU's approximation in SigLIP.
    GeluTanh,
    /// `x * sigmoid(x)`.
    Silu,
    /// `x` itself.
    Identity,
}

impl Activation {
    /// Input values for one output value.
    pub fn inputs(self) -> usize {
        if self == Self::Swiglu { 2 } else { 1 }
    }

    /// The width after the activation of an input of width `width`.
    pub fn width(self, width: usize) -> usize {
        width / self.inputs()
    }

    /// Writes the activation of `h` `[n, inputs * width]` to `a` `[n, width]`.
    pub fn forward<H: Stored, A: Stored>(self, h: &[H], width: usize, a: &mut [A]) {
        let rows = self.piece(h.len(), width, a.len());
        (h.par_chunks(rows * self.inputs() * width), a.par_chunks_mut(rows * width))
            .into_par_iter()
            .for_each(|(h, a)| forward_piece(self, h, width, a));
    }

    /// Writes the gradient of `h` to `dh` `[n, inputs * width]`. `grad` `[n, width]`, in the same precision,
    /// holds the gradient of the activation and then the activation itself, recomputed for the gradient of
    /// the product behind it.
    pub fn backward<H: Stored, G: Stored>(self, h: &[H], width: usize, grad: &mut [G], dh: &mut [G]) {
        let rows = self.piece(h.len(), width, grad.len());
        assert_eq!(h.len(), dh.len(), "input and gradient differ in length");
        let wide = rows * self.inputs() * width;
        (h.par_chunks(wide), grad.par_chunks_mut(rows * width), dh.par_chunks_mut(wide))
            .into_par_iter()
            .for_each(|(h, grad, dh)| backward_piece(self, h, width, (grad, dh)));
    }

    /// Rows in a piece, after a check of the lengths.
    fn piece(self, input: usize, width: usize, output: usize) -> usize {
        assert!(width > 0 && output.is_multiple_of(width), "{output} values are not rows of {width}");
        assert_eq!(input, self.inputs() * output, "{self:?}: input and output do not fit");
        PIECE.div_ceil(width)
    }
}

tiered! {
    fn forward_piece<H: Stored, A: Stored>(activation: Activation, h: &[H], width: usize, a: &mut [A]) {
        match activation {
            Activation::Swiglu => {
                for (h, a) in h.chunks_exact(2 * width).zip(a.chunks_exact_mut(width)) {
                    let (gate, up) = h.split_at(width);
                    for ((a, gate), up) in a.iter_mut().zip(gate).zip(up) {
                        let (gate, up) = (gate.wide(), up.wide());
                        *a = A::stored(gate * sigmoid(gate) * up);
                    }
                }
            }
            Activation::Gelu => {
                for (a, x) in a.iter_mut().zip(h) {
                    let x = x.wide();
                    *a = A::stored(x * normal(x).0);
                }
            }
            Activation::QuickGelu => {
                for (a, x) in a.iter_mut().zip(h) {
                    let x = x.wide();
                    *a = A::stored(x * quick_gelu(x).0);
                }
            }
            Activation::GeluTanh => {
                for (a, x) in a.iter_mut().zip(h) {
                    let x = x.wide();
                    *a = A::stored(x * tanh_gelu(x).0);
                }
            }
            Activation::Silu => {
                for (a, x) in a.iter_mut().zip(h) {
                    let x = x.wide();
                    *a = A::stored(x * sigmoid(x));
                }
            }
            Activation::Identity => {
                for (a, x) in a.iter_mut().zip(h) {
                    *a = A::stored(x.wide());
                }
            }
        }
    }
}

tiered! {
    fn backward_piece<H: Stored, G: Stored>(
        activation: Activation,
        h: &[H],
        width: usize,
        (grad, dh): (&mut [G], &mut [G]),
    ) {
        match activation {
            Activation::Swiglu => {
                let rows = h.chunks_exact(2 * width).zip(grad.chunks_exact_mut(width));
                for ((h, grad), dh) in rows.zip(dh.chunks_exact_mut(2 * width)) {
                    let ((gate, up), (dgate, dup)) = (h.split_at(width), dh.split_at_mut(width));
                    swiglu_row_backward(gate, up, grad, dgate, dup);
                }
            }
            Activation::Gelu => {
                for ((grad, x), dh) in grad.iter_mut().zip(h).zip(dh) {
                    let x = x.wide();
                    let (cdf, density) = normal(x);
                    *dh = G::stored(grad.wide() * (cdf + x * density));
                    *grad = G::stored(x * cdf);
                }
            }
            Activation::QuickGelu => {
                for ((grad, x), dh) in grad.iter_mut().zip(h).zip(dh) {
                    let x = x.wide();
                    let (gate, density) = quick_gelu(x);
                    *dh = G::stored(grad.wide() * (gate + x * density));
                    *grad = G::stored(x * gate);
                }
            }
            Activation::GeluTanh => {
                for ((grad, x), dh) in grad.iter_mut().zip(h).zip(dh) {
                    let x = x.wide();
                    let (gate, density) = tanh_gelu(x);
                    *dh = G::stored(grad.wide() * (gate + x * density));
                    *grad = G::stored(x * gate);
                }
            }
            Activation::Silu => {
                for ((grad, x), dh) in grad.iter_mut().zip(h).zip(dh) {
                    let x = x.wide();
                    let s = sigmoid(x);
                    let silu = x * s;
                    *dh = G::stored(grad.wide() * (s + silu * (1.0 - s)));
                    *grad = G::stored(silu);
                }
            }
            Activation::Identity => {
                for ((grad, x), dh) in grad.iter_mut().zip(h).zip(dh) {
                    *dh = *grad;
                    *grad = G::stored(x.wide());
                }
            }
        }
    }
}

/// A function of its own, so that the compiler knows that the slices do not overlap; with indices, because it
/// does not vectorise a zip of five.
#[inline(always)]
fn swiglu_row_backward<H: Stored, G: Stored>(
    gate: &[H],
    up: &[H],
    grad: &mut [G],
    dgate: &mut [G],
    dup: &mut [G],
) {
    let n = grad.len();
    let (gate, up, dgate, dup) = (&gate[..n], &up[..n], &mut dgate[..n], &mut dup[..n]);
    for i in 0..n {
        let (gate, up) = (gate[i].wide(), up[i].wide());
        let s = sigmoid(gate);
        let silu = gate * s;
        let dy = grad[i].wide();
        dgate[i] = G::stored(dy * up * (s + silu * (1.0 - s)));
        dup[i] = G::stored(dy * silu);
        grad[i] = G::stored(silu * up);
    }
}
