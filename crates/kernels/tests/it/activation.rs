use crate::check::{assert_near, assert_same_on_any_threads, floats, numbers, rounded, wide};
use half::bf16;
use mm1_kernels::activation::Activation;

/// The error function in f64 by its series and, far out, its continued fraction.
fn erf(x: f64) -> f64 {
    if x.abs() < 3.0 {
        let (mut term, mut sum) = (x, x);
        for n in 1..80 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return sum * 2.0 / std::f64::consts::PI.sqrt();
    }
    let mut fraction = x.abs();
    for n in (1..60).rev() {
        fraction = x.abs() + f64::from(n) / 2.0 / fraction;
    }
    (1.0 - (-x * x).exp() / fraction / std::f64::consts::PI.sqrt()).copysign(x)
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The value and the derivative of an activation of one number.
fn scalar(activation: Activation, x: f64) -> (f64, f64) {
    match activation {
        Activation::Gelu => {
            let cdf = 0.5 * (1.0 + erf(x / 2f64.sqrt()));
            (x * cdf, cdf + x * (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt())
        }
        Activation::QuickGelu => {
            let s = sigmoid(1.702 * x);
            (x * s, s + x * 1.702 * s * (1.0 - s))
        }
        Activation::GeluTanh => {
            let root = (2.0 / std::f64::consts::PI).sqrt();
            let tanh = (root * (x + 0.044715 * x.powi(3))).tanh();
            let slope = root * (1.0 + 3.0 * 0.044715 * x * x) * (1.0 - tanh * tanh);
            (0.5 * x * (1.0 + tanh), 0.5 * (1.0 + tanh) + 0.5 * x * slope)
        }
        Activation::Identity => (x, 1.0),
        _ => (x * sigmoid(x), sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x)))),
    }
}

/// Values and gradients `[n, inputs * width]` of the sum of `probe * a`.
fn reference(activation: Activation, h: &[f64], width: usize, probe: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let (mut a, mut dh) = (Vec::new(), Vec::new());
    for (h, probe) in h.chunks_exact(activation.inputs() * width).zip(probe.chunks_exact(width)) {
        let up = |i: usize| if activation == Activation::Swiglu { h[width + i] } else { 1.0 };
        a.extend((0..width).map(|i| scalar(activation, h[i]).0 * up(i)));
        dh.extend((0..width).map(|i| scalar(activation, h[i]).1 * up(i) * probe[i]));
        if activation == Activation::Swiglu {
            dh.extend((0..width).map(|i| scalar(activation, h[i]).0 * probe[i]));
        }
    }
    (a, dh)
}

const ALL: [Activation; 6] = [
    Activation::Swiglu,
    Activation::Gelu,
    Activation::QuickGelu,
    Activation::GeluTanh,
    Activation::Silu,
    Activation::Identity,
];

#[test]
fn forward_and_gradient_match_the_formula() {
    for activation in ALL {
        for (n, width) in [(1, 1), (3, 7), (5, 16), (9, 1025)] {
            let h: Vec<f32> = numbers(1, n * width * activation.inputs()).iter().map(|v| v * 6.0).collect();
            let probe = numbers(2, n * width);
            let (wanted, gradient) = reference(activation, &wide(&h), width, &wide(&probe));

            let mut a = vec![0.0; n * width];
            activation.forward(&h, width, &mut a);
            assert_near("a", &a, &wanted, 1e-6);
            let (mut grad, mut dh) = (probe.clone(), vec![0.0; h.len()]);
            activation.backward(&h, width, &mut grad, &mut dh);
            // Twice as far: a gate's slope has the rounding of its argument, which goes to 10.
            assert_near("dh", &dh, &gradient, 2e-6);
            assert_near("a, again", &grad, &wanted, 1e-6);

            let mut halves = vec![bf16::ONE; n * width];
            activation.forward(&h, width, &mut halves);
            assert_eq!(halves, rounded(&a));
            let (kept, mut grad_halves) = (rounded(&h), rounded(&probe));
            activation.forward(&floats(&kept), width, &mut a);
            activation.forward(&kept, width, &mut halves);
            assert_eq!(halves, rounded(&a));
            let mut grad = floats(&grad_halves);
            activation.backward(&floats(&kept), width, &mut grad, &mut dh);
            let (mut again, mut dh_again) = (floats(&grad_halves), vec![0.0; h.len()]);
            activation.backward(&kept, width, &mut again, &mut dh_again);
            assert_eq!((&again, &dh_again), (&grad, &dh));
            let mut dh_halves = kept.clone();
            activation.backward(&kept, width, &mut grad_halves, &mut dh_halves);
            assert_eq!((dh_halves, grad_halves), (rounded(&dh), rounded(&grad)));
        }
    }
}

#[test]
fn gelus_are_exact_to_a_millionth_everywhere() {
    let x: Vec<f32> = (-12_000..=12_000).map(|i| i as f32 / 1000.0).collect();
    let mut a = vec![0.0; x.len()];
    for activation in [Activation::Gelu, Activation::QuickGelu, Activation::GeluTanh] {
        activation.forward(&x, 1, &mut a);
        for (x, a) in x.iter().zip(&a) {
            let wanted = scalar(activation, f64::from(*x)).0;
            // To 1e-6 of the value's size, and absolutely where it is small.
            assert!(
                (f64::from(*a) - wanted).abs() <= 1e-6 * wanted.abs().max(1.0),
                "{activation:?}({x}) = {a}, not {wanted}"
            );
        }
    }
}

#[test]
fn large_values_stay_finite() {
    for activation in ALL {
        let h = [1e30, -1e30, 100.0, -100.0, 0.0, -0.0, 1e-40, 3.0];
        let width = h.len() / activation.inputs();
        let mut grad = vec![1.0; width];
        let mut dh = vec![0.0; h.len()];
        activation.backward(&h, width, &mut grad, &mut dh);
        if activation != Activation::Swiglu {
            assert!(grad.iter().chain(&dh).all(|v| v.is_finite()), "{activation:?}: {grad:?} {dh:?}");
            assert_eq!(grad[0], 1e30);
            let below = if activation == Activation::Identity { 1.0 } else { 0.0 };
            assert_eq!(dh[..2], [1.0, below], "{activation:?}");
        }
    }
}

#[test]
fn threads_change_no_bit() {
    for activation in ALL {
        let h = numbers(3, 700 * 36);
        assert_same_on_any_threads(|| {
            let width = 36 / activation.inputs();
            let (mut grad, mut dh) = (numbers(4, 700 * width), vec![0.0; h.len()]);
            activation.backward(&h, width, &mut grad, &mut dh);
            [grad, dh].concat()
        });
    }
}
