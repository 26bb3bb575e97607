use crate::check::{
    assert_near, assert_same_on_any_threads, floats, gradient, inner, numbers, rounded, wide,
};
use half::bf16;
use mm1_kernels::attention::Heads;
use mm1_kernels::head_norm::HeadNorm;

const CASES: [(usize, Heads); 3] = [
    (1, Heads { heads: 1, kv_heads: 1, width: 2 }),
    (5, Heads { heads: 4, kv_heads: 2, width: 6 }),
    (67, Heads { heads: 3, kv_heads: 1, width: 18 }),
];

/// The norm in f64, by its formula.
fn reference(qkv: &[f64], q: &[f64], k: &[f64], heads: Heads) -> Vec<f64> {
    let (c, mut y) = (heads.width, Vec::new());
    for row in qkv.chunks_exact(heads.qkv_width()) {
        for (head, x) in row.chunks_exact(c).enumerate() {
            let mean = x.iter().map(|v| v * v).sum::<f64>() / c as f64;
            for (i, v) in x.iter().enumerate() {
                y.push(match head {
                    _ if head < heads.heads => v / (mean + 1e-3).sqrt() * q[i],
                    _ if head < heads.heads + heads.kv_heads => v / (mean + 1e-3).sqrt() * k[i],
                    _ => *v,
                });
            }
        }
    }
    y
}

#[test]
fn forward_and_gradients_match_the_formula() {
    for (n, heads) in CASES {
        let values = n * heads.qkv_width();
        let (x, q, k) = (numbers(1, values), numbers(2, heads.width), numbers(3, heads.width));
        let (probe, norm) = (numbers(4, values), HeadNorm { q: &q, k: &k, heads, eps: 1e-3 });
        let (wx, wq, wk) = (wide(&x), wide(&q), wide(&k));
        let mut y = vec![f32::NAN; values];
        norm.forward(&x, &mut y);
        assert_near("y", &y, &reference(&wx, &wq, &wk, heads), 1e-6);
        let mut dx = vec![f32::NAN; values];
        let grad = norm.backward(&x, &probe, &mut dx);
        if n < 10 {
            let by = |x: &[f64]| inner(&reference(x, &wq, &wk, heads), &probe);
            assert_near("dx", &dx, &gradient(&x, by), 1e-5);
        }
        let of_q = |q: &[f64]| inner(&reference(&wx, q, &wk, heads), &probe);
        let of_k = |k: &[f64]| inner(&reference(&wx, &wq, k, heads), &probe);
        assert_near("dq", &grad.q, &gradient(&q, of_q), 1e-5);
        assert_near("dk", &grad.k, &gradient(&k, of_k), 1e-5);
    }
}

#[test]
fn bfloat16_gives_the_rounded_results_of_the_rounded_rows() {
    let (n, heads) = CASES[2];
    let values = n * heads.qkv_width();
    let (q, k) = (numbers(2, heads.width), numbers(3, heads.width));
    let (x, probe) = (rounded(&numbers(1, values)), rounded(&numbers(4, values)));
    let norm = HeadNorm { q: &q, k: &k, heads, eps: 1e-3 };
    let (mut y, mut dx) = (vec![f32::NAN; values], vec![f32::NAN; values]);
    norm.forward(&floats(&x), &mut y);
    let grad = norm.backward(&floats(&x), &floats(&probe), &mut dx);
    let (mut half_y, mut half_dx) = (vec![bf16::NAN; values], vec![bf16::NAN; values]);
    norm.forward(&x, &mut half_y);
    assert_eq!(half_y, rounded(&y));
    assert_eq!(norm.backward(&x, &probe, &mut half_dx), grad);
    assert_eq!(half_dx, rounded(&dx));
}

#[test]
fn threads_change_no_bit() {
    let (n, heads) = (300, CASES[1].1);
    let values = n * heads.qkv_width();
    let (x, q, k) = (numbers(1, values), numbers(2, heads.width), numbers(3, heads.width));
    assert_same_on_any_threads(|| {
        let norm = HeadNorm { q: &q, k: &k, heads, eps: 1e-3 };
        let mut dx = vec![0.0; values];
        let grad = norm.backward(&x, &numbers(4, values), &mut dx);
        [dx, grad.q, grad.k].concat()
    });
}
