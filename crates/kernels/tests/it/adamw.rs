use crate::check::{assert_near, assert_same_on_any_threads, numbers, wide};
use half::bf16;
use mm1_kernels::Stored;
use mm1_kernels::adamw::{AdamW, Moments, sum_of_squares};

const ADAM: AdamW =
    AdamW { lr: 1e-2, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, time: 1, grad_scale: 0.5 };

#[test]
fn steps_match_the_algorithm_in_f64() {
    for n in [1, 7, 16, 100] {
        let start = numbers(1, n);
        let (mut p, mut m, mut v) = (start.clone(), vec![0.0; n], vec![0.0; n]);
        let (mut wp, mut wm, mut wv) = (wide(&start), vec![0.0; n], vec![0.0; n]);
        for time in 1..=5 {
            let grad = numbers(u64::from(time) + 10, n);
            let moments = Moments { first: &mut m, second: &mut v };
            AdamW { time, ..ADAM }.step(&mut p, &grad, moments);
            for i in 0..n {
                let g = f64::from(grad[i]) * 0.5;
                wm[i] = 0.9 * wm[i] + 0.1 * g;
                wv[i] = 0.95 * wv[i] + 0.05 * g * g;
                let (mean, square) =
                    (wm[i] / (1.0 - 0.9f64.powi(time as i32)), wv[i] / (1.0 - 0.95f64.powi(time as i32)));
                wp[i] -= 1e-2 * 0.1 * wp[i] + 1e-2 * mean / (square.sqrt() + 1e-8);
            }
        }
        // A step is 1e-2 of the value, so this asks for 5 digits of the step itself.
        assert_near("param", &p, &wp, 3e-7);
        assert_near("first", &m, &wm, 1e-6);
        assert_near("second", &v, &wv, 1e-6);
    }
}

#[test]
fn moments_in_bf16_are_those_of_f32_rounded() {
    let n = 100;
    let mut p = numbers(1, n);
    let mut first: Vec<f32> = numbers(2, n);
    let mut second: Vec<f32> = numbers(3, n).iter().map(|v| v * v).collect();
    let round = |x: &[f32]| -> Vec<bf16> { x.iter().map(|&v| bf16::from_f32(v)).collect() };
    let widen = |x: &[bf16]| -> Vec<f32> { x.iter().map(|v| v.to_f32()).collect() };
    for time in 1..=5 {
        let grad = numbers(u64::from(time) + 10, n);
        let (mut m, mut v, mut q) = (round(&first), round(&second), p.clone());
        (first, second) = (widen(&m), widen(&v));
        let adam = AdamW { time, ..ADAM };
        adam.step(&mut p, &grad, Moments { first: &mut first, second: &mut second });
        adam.step(&mut q, &grad, Moments { first: &mut m, second: &mut v });
        assert_eq!(p, q, "a step rounds only what it keeps");
        assert_eq!((m, v), (round(&first), round(&second)));
    }
}

#[test]
fn moments_that_are_not_finite_stay_so_in_bf16() {
    let kept = [f32::NAN, -f32::NAN, f32::INFINITY, f32::MAX, f32::from_bits(0x7fbf_ffff)].map(bf16::stored);
    assert!(kept[0].is_nan() && kept[1].is_nan() && kept[4].is_nan(), "{kept:?}");
    assert_eq!(kept[2..4], [bf16::INFINITY; 2]);
}

#[test]
fn a_zero_gradient_only_decays() {
    let (mut p, mut m, mut v) = ([2.0, -3.0], [0.0_f32; 2], [0.0; 2]);
    ADAM.step(&mut p, &[0.0; 2], Moments { first: &mut m, second: &mut v });
    assert_eq!(p, [2.0 * (1.0 - 1e-3), -3.0 * (1.0 - 1e-3)]);
}

#[test]
fn sums_squares_in_f64() {
    assert_eq!(sum_of_squares(&[]), 0.0);
    assert_eq!(sum_of_squares(&[3.0, -4.0]), 25.0);
    let x = numbers(3, 100_001);
    let wanted: f64 = x.iter().map(|&v| f64::from(v).powi(2)).sum();
    assert!((sum_of_squares(&x) / wanted - 1.0).abs() < 1e-12);
    assert_same_on_any_threads(|| {
        let bits = sum_of_squares(&x).to_bits();
        vec![f32::from_bits(bits as u32), f32::from_bits((bits >> 32) as u32)]
    });
}
