//! Channels scaled by gates, one for each picture and channel: the end of squeeze-and-excite (Hu et al.
//! 2018).

use crate::cpu::tiered;
use crate::number::Stored;
use rayon::prelude::*;

/// Writes `x * gates` to `y`, for `x` and `y` `[n, p, c]` and `gates` `[n, c]`.
pub fn forward(x: &[f32], gates: &[f32], c: usize, y: &mut [f32]) {
    let picture = check(x.len(), gates.len(), c);
    assert_eq!(x.len(), y.len(), "input and output differ in length");
    (x.par_chunks(picture), gates.par_chunks(c), y.par_chunks_mut(picture))
        .into_par_iter()
        .for_each(|(x, gates, y)| forward_picture(x, gates, y));
}

/// Turns the gradient of the output, `grad` `[n, p, c]`, into that of `x` in place, and gives that of the
/// gates.
pub fn backward<X: Stored>(x: &[X], gates: &[f32], c: usize, grad: &mut [f32]) -> Vec<f32> {
    let picture = check(x.len(), gates.len(), c);
    assert_eq!(x.len(), grad.len(), "input and gradient differ in length");
    let mut dgates = vec![0.0; gates.len()];
    (x.par_chunks(picture), gates.par_chunks(c), grad.par_chunks_mut(picture), dgates.par_chunks_mut(c))
        .into_par_iter()
        .for_each(|(x, gates, grad, dgates)| backward_picture(x, gates, grad, dgates));
    dgates
}

/// Values of one picture.
fn check(values: usize, gates: usize, c: usize) -> usize {
    assert!(c > 0 && gates.is_multiple_of(c), "{gates} gates are not rows of {c}");
    let pictures = (gates / c).max(1);
    assert!(
        values.is_multiple_of(pictures * c),
        "{values} values are not {pictures} pictures of {c} channels"
    );
    (values / pictures).max(1)
}

tiered! {
    fn forward_picture(x: &[f32], gates: &[f32], y: &mut [f32]) {
        for (x, y) in x.chunks_exact(gates.len()).zip(y.chunks_exact_mut(gates.len())) {
            for ((y, &x), &g) in y.iter_mut().zip(x).zip(gates) {
                *y = x * g;
            }
        }
    }
}

tiered! {
    fn backward_picture<X: Stored>(x: &[X], gates: &[f32], grad: &mut [f32], dgates: &mut [f32]) {
        for (x, grad) in x.chunks_exact(gates.len()).zip(grad.chunks_exact_mut(gates.len())) {
            for (((grad, dg), x), &g) in grad.iter_mut().zip(&mut *dgates).zip(x).zip(gates) {
                // In this order: the gate's gradient needs that of the output, which then becomes that of the
                // input.
                *dg += *grad * x.wide();
                *grad *= g;
            }
        }
    }
}
