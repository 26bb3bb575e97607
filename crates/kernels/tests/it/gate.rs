use crate::check::{
    assert_near, assert_same_on_any_threads, floats, gradient, inner, numbers, rounded, wide,
};
use mm1_kernels::gate;

fn reference(x: &[f64], gates: &[f64], c: usize) -> Vec<f64> {
    let picture = x.len() / (gates.len() / c);
    x.iter().enumerate().map(|(i, v)| v * gates[i / picture * c + i % c]).collect()
}

#[test]
fn gates_and_their_gradients_match_the_definition() {
    for (n, p, c) in [(1, 1, 1), (3, 4, 7), (2, 5, 33)] {
        let (x, gates, probe) = (numbers(1, n * p * c), numbers(2, n * c), numbers(3, n * p * c));
        let (wx, wg) = (wide(&x), wide(&gates));
        let mut y = vec![f32::NAN; x.len()];
        gate::forward(&x, &gates, c, &mut y);
        assert_near("y", &y, &reference(&wx, &wg, c), 1e-6);
        let mut dx = probe.clone();
        let dgates = gate::backward(&x, &gates, c, &mut dx);
        let (halves, mut dx_again) = (rounded(&x), probe.clone());
        let of_halves = gate::backward(&halves, &gates, c, &mut dx_again);
        assert_eq!(
            (&of_halves, &dx_again),
            (&gate::backward(&floats(&halves), &gates, c, &mut probe.clone()), &dx)
        );
        assert_near("dx", &dx, &gradient(&x, |x| inner(&reference(x, &wg, c), &probe)), 1e-6);
        assert_near("dgates", &dgates, &gradient(&gates, |g| inner(&reference(&wx, g, c), &probe)), 1e-6);
    }
}

#[test]
fn threads_change_no_bit() {
    let (x, gates) = (numbers(1, 40 * 9 * 11), numbers(2, 40 * 11));
    assert_same_on_any_threads(|| {
        let mut grad = numbers(3, x.len());
        let mut dgates = gate::backward(&x, &gates, 11, &mut grad);
        dgates.extend(grad);
        dgates
    });
}
