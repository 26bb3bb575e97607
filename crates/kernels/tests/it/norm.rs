use crate::check::{assert_near, assert_same_on_any_threads, gradient, inner, numbers, rounded, wide};
use half::bf16;
use mm1_kernels::norm::RowNorm;

/// The norm in f64, by its formula.
fn reference(x: &[f64], gamma: &[f64], beta: Option<&[f64]>) -> Vec<f64> {
    let d = gamma.len();
    let mut y = Vec::new();
    for row in x.chunks_exact(d) {
        let mean = if beta.is_some() { row.iter().sum::<f64>() / d as f64 } else { 0.0 };
        let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / d as f64;
        for (i, v) in row.iter().enumerate() {
            y.push((v - mean) / (variance + 1e-5).sqrt() * gamma[i] + beta.map_or(0.0, |b| b[i]));
        }
    }
    y
}

#[test]
fn forward_and_gradients_match_the_formula() {
    for (n, d) in [(1, 1), (3, 7), (5, 16), (2, 33), (67, 5), (3, 100)] {
        for layer in [false, true] {
            let (x, gamma, shift) = (numbers(1, n * d), numbers(2, d), numbers(3, d));
            let (probe, beta) = (numbers(4, n * d), layer.then_some(&shift[..]));
            let norm = RowNorm { gamma: &gamma, beta, eps: 1e-5 };
            let wide_beta = beta.map(wide);

            let mut y = vec![0.0; n * d];
            let stats = norm.forward(&x, &mut y);
            let wanted = reference(&wide(&x), &wide(&gamma), wide_beta.as_deref());
            assert_near("y", &y, &wanted, 1e-6);
            let mut again = vec![0.0; n * d];
            norm.apply(&x, &stats, &mut again);
            assert_eq!(y, again);
            let mut halves = vec![bf16::ONE; n * d];
            assert_eq!(norm.forward(&x, &mut halves), stats);
            assert_eq!(halves, rounded(&y));
            halves.fill(bf16::ONE);
            norm.apply(&x, &stats, &mut halves);
            assert_eq!(halves, rounded(&y));

            let mut dx = probe.clone();
            let grad = norm.backward(&x, &stats, &mut dx);
            let by = |x: &[f64], g: &[f64], b: Option<&[f64]>| inner(&reference(x, g, b), &probe);
            let (wx, wg) = (wide(&x), wide(&gamma));
            if d > 1 {
                assert_near("dx", &dx, &gradient(&x, |x| by(x, &wg, wide_beta.as_deref())), 1e-5);
            }
            assert_near("dgamma", &grad.gamma, &gradient(&gamma, |g| by(&wx, g, wide_beta.as_deref())), 1e-5);
            match beta {
                Some(beta) => {
                    assert_near("dbeta", &grad.beta, &gradient(beta, |b| by(&wx, &wg, Some(b))), 1e-5)
                }
                None => assert!(grad.beta.iter().all(|&v| v == 0.0)),
            }
        }
    }
}

/// Rows whose mean is far from 0 keep their digits in bfloat16, less their means.
#[test]
fn centred_rows_give_the_same_norm_and_gradients() {
    let (n, d) = (70, 33);
    let x: Vec<f32> = numbers(1, n * d).into_iter().map(|x| x + 30.0).collect();
    let (gamma, shift, probe) = (numbers(2, d), numbers(3, d), numbers(4, n * d));
    for beta in [None, Some(&shift[..])] {
        let norm = RowNorm { gamma: &gamma, beta, eps: 1e-5 };
        let (mut y, mut dx) = (vec![0.0; n * d], probe.clone());
        let stats = norm.forward(&x, &mut y);
        let grad = norm.backward(&x, &stats, &mut dx);
        let (mut centred, mut of_centred) = (vec![bf16::NAN; n * d], stats.clone());
        norm.centre(&x, &mut of_centred, &mut centred);
        let exact: Vec<f32> =
            x.chunks(d).zip(&stats).flat_map(|(x, s)| x.iter().map(|x| x - s.mean)).collect();
        assert_eq!(centred, rounded(&exact));
        assert!(of_centred.iter().zip(&stats).all(|(c, s)| c.mean == 0.0 && c.rstd == s.rstd));
        let (mut again, mut dx_again) = (vec![0.0; n * d], probe.clone());
        norm.apply(&centred, &of_centred, &mut again);
        let grad_again = norm.backward(&centred, &of_centred, &mut dx_again);
        assert_near("y", &again, &wide(&y), 4e-3);
        assert_near("dx", &dx_again, &wide(&dx), 4e-3);
        assert_near("dgamma", &grad_again.gamma, &wide(&grad.gamma), 4e-3);
        assert_eq!(grad_again.beta, grad.beta);
    }
}

#[test]
fn threads_change_no_bit() {
    let (n, d) = (300, 37);
    let (x, gamma, beta) = (numbers(5, n * d), numbers(6, d), numbers(7, d));
    assert_same_on_any_threads(|| {
        let norm = RowNorm { gamma: &gamma, beta: Some(&beta), eps: 1e-5 };
        let mut y = vec![0.0; n * d];
        let stats = norm.forward(&x, &mut y);
        let grad = norm.backward(&x, &stats, &mut y);
        [y, grad.gamma, grad.beta].concat()
    });
}

#[test]
#[should_panic(expected = "are not rows of")]
fn refuses_half_a_row() {
    RowNorm { gamma: &[1.0, 1.0], beta: None, eps: 1e-5 }.forward(&[0.0; 3], &mut [0.0; 3]);
}
