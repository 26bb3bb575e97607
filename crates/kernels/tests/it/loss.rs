use crate::check::{assert_near, assert_same_on_any_threads, gradient, numbers, wide};
use mm1_kernels::gemm::Precision;
use mm1_kernels::loss::{CrossEntropy, LossGrads, OutputHead};

/// The loss by its definition, the weight `[d, v]` or `[v, d]`.
fn reference(x: &[f64], weight: &[f64], case: &CrossEntropy<'_>) -> f64 {
    let OutputHead { dim, vocab, tied, .. } = case.head;
    let rows = x.chunks_exact(dim).zip(case.targets).zip(case.weights);
    rows.map(|((x, &target), &row_weight)| {
        let at = |i: usize, token: usize| weight[if tied { token * dim + i } else { i * vocab + token }];
        let logit = |token| (0..dim).map(|i| x[i] * at(i, token)).sum::<f64>();
        let total = (0..vocab).map(|token| logit(token).exp()).sum::<f64>();
        f64::from(row_weight) * (total.ln() - logit(target as usize))
    })
    .sum()
}

fn targets(n: usize, vocab: usize) -> Vec<u32> {
    (0..n).map(|i| (i * 7 % vocab) as u32).collect()
}

#[test]
fn loss_and_gradients_match_the_definition() {
    for (n, dim, vocab) in [(1, 1, 2), (5, 7, 33), (9, 16, 40)] {
        for tied in [false, true] {
            let (x, weight) = (numbers(1, n * dim), numbers(2, dim * vocab));
            let weights: Vec<f32> = numbers(3, n).iter().map(|w| w + 1.5).collect();
            let targets = targets(n, vocab);
            let head = OutputHead { weight: &weight, dim, vocab, tied };
            let case = CrossEntropy { head, targets: &targets, weights: &weights, precision: Precision::F32 };
            let (mut dx, mut dw) = (vec![f32::NAN; x.len()], vec![f32::NAN; weight.len()]);
            let loss = case.loss(&x, LossGrads { x: Some(&mut dx), head: Some(&mut dw) });
            let (wx, ww) = (wide(&x), wide(&weight));
            assert_near("loss", &[loss as f32], &[reference(&wx, &ww, &case)], 1e-6);
            assert_near("dx", &dx, &gradient(&x, |x| reference(x, &ww, &case)), 1e-5);
            assert_near("dw", &dw, &gradient(&weight, |w| reference(&wx, w, &case)), 1e-5);
            assert_eq!(loss, case.loss(&x, LossGrads::default()));
        }
    }
}

#[test]
fn chunks_add_up() {
    let (n, dim, vocab) = (1100, 8, 17);
    let (x, weight, targets, weights) =
        (numbers(1, n * dim), numbers(2, dim * vocab), targets(n, vocab), vec![0.5; n]);
    let head = OutputHead { weight: &weight, dim, vocab, tied: false };
    let case = CrossEntropy { head, targets: &targets, weights: &weights, precision: Precision::F32 };
    let loss = case.loss(&x, LossGrads::default());
    assert_near("loss", &[loss as f32], &[reference(&wide(&x), &wide(&weight), &case)], 1e-6);
    assert_same_on_any_threads(|| {
        let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; weight.len()]);
        let loss = case.loss(&x, LossGrads { x: Some(&mut dx), head: Some(&mut dw) }).to_bits();
        [dx, dw, vec![f32::from_bits(loss as u32), f32::from_bits((loss >> 32) as u32)]].concat()
    });
}

#[test]
fn huge_logits_give_a_finite_loss() {
    let head = OutputHead { weight: &[300.0, -300.0], dim: 1, vocab: 2, tied: false };
    let case = CrossEntropy { head, targets: &[1], weights: &[1.0], precision: Precision::F32 };
    let mut dx = [0.0];
    assert_eq!(case.loss(&[1.0], LossGrads { x: Some(&mut dx), head: None }), 600.0);
    assert_eq!(dx, [600.0]);
}

#[test]
#[should_panic(expected = "outside of the vocabulary of 2")]
fn refuses_a_target_outside_of_the_vocabulary() {
    let head = OutputHead { weight: &[0.0, 0.0], dim: 1, vocab: 2, tied: false };
    CrossEntropy { head, targets: &[2], weights: &[1.0], precision: Precision::F32 }
        .loss(&[1.0], LossGrads::default());
}
