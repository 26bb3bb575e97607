use crate::check::{assert_near, assert_same_on_any_threads, instruction_sets, numbers, wide};
use mm1_kernels::adamw::{AdamWStep, BLOCK, ByteMoments, MomentsMut, sum_of_squares};
use mm1_kernels::cpu::{Isa, with_isa};

const ADAM: AdamWStep =
    AdamWStep { lr: 1e-2, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, time: 1, grad_scale: 0.5 };

#[test]
fn steps_match_the_algorithm_in_f64() {
    for n in [1, 7, 16, 100] {
        let start = numbers(1, n);
        let (mut p, mut m, mut v) = (start.clone(), vec![0.0; n], vec![0.0; n]);
        let (mut wp, mut wm, mut wv) = (wide(&start), vec![0.0; n], vec![0.0; n]);
        for time in 1..=5 {
            let grad = numbers(u64::from(time) + 10, n);
            let moments = MomentsMut { first: &mut m, second: &mut v };
            AdamWStep { time, ..ADAM }.step(&mut p, &grad, moments);
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

/// The moments that the bytes stand for.
fn values(moments: &ByteMoments) -> [Vec<f64>; 2] {
    let scale = |i: usize| moments.scales[i / BLOCK].map(f64::from);
    let first = |(i, &c): (usize, &i8)| f64::from(c).signum() * (f64::from(c) / 127.0).powi(2) * scale(i)[0];
    let second = |(i, &c): (usize, &u8)| ((f64::from(c) / 255.0).powi(2) * scale(i)[1]).powi(2);
    [
        moments.first.iter().enumerate().map(first).collect(),
        moments.second.iter().enumerate().map(second).collect(),
    ]
}

fn narrow(x: &[f64]) -> Vec<f32> {
    x.iter().map(|&v| v as f32).collect()
}

#[test]
fn moments_in_bytes_step_as_what_they_stand_for() {
    for n in [1, 100, BLOCK, 2 * BLOCK + 1, 20_000] {
        let (mut p, mut moments) = (numbers(1, n), ByteMoments::zeros(n));
        for time in 1..=5 {
            let adam = AdamWStep { time, ..ADAM };
            let grad: Vec<f32> = numbers(u64::from(time), n).iter().map(|g| g * g * g).collect();
            let (mut wanted, [m, v]) = (p.clone(), values(&moments));
            let (mut m, mut v) = (narrow(&m), narrow(&v));
            adam.step(&mut wanted, &grad, MomentsMut { first: &mut m, second: &mut v });
            adam.step_bytes(&mut p, &grad, &mut moments);
            assert_near("param", &p, &wide(&wanted), 3e-7);
            let kept = values(&moments);
            for i in 0..n {
                let [most_m, most_v] = moments.scales[i / BLOCK].map(f64::from);
                // Rounding moves a value to one of the two codes around it.
                let root = |x: f64| x.signum() * (x.abs() / most_m).sqrt() * 127.0;
                let fourth = |x: f64| (x.sqrt() / most_v).sqrt() * 255.0;
                let apart =
                    [root(kept[0][i]) - root(f64::from(m[i])), fourth(kept[1][i]) - fourth(f64::from(v[i]))];
                assert!(apart.iter().all(|a| a.abs() < 1.001), "{i} of {n}: {apart:?} codes apart");
            }
            for (block, scales) in moments.scales.iter().enumerate() {
                let of = |x: &[f32]| {
                    x[block * BLOCK..].iter().take(BLOCK).fold(0.0_f32, |most, x| most.max(x.abs()))
                };
                assert_near("scales", scales, &wide(&[of(&m), of(&v).sqrt()]), 1e-6);
            }
        }
    }
}

#[test]
fn bytes_keep_the_moments_on_average() {
    let (n, rounds) = (BLOCK, 4000);
    let grad = numbers(7, n);
    let (mut sums, mut squares) = ([vec![0.0; n], vec![0.0; n]], [vec![0.0; n], vec![0.0; n]]);
    for time in 1..=rounds {
        let mut moments = ByteMoments::zeros(n);
        AdamWStep { time, grad_scale: 1.0, ..ADAM }.step_bytes(&mut vec![0.0; n], &grad, &mut moments);
        for (k, kept) in values(&moments).iter().enumerate() {
            for i in 0..n {
                sums[k][i] += kept[i];
                squares[k][i] += kept[i] * kept[i];
            }
        }
    }
    let rounds = f64::from(rounds);
    for i in 0..n {
        let g = f64::from(grad[i]);
        for (k, wanted) in [0.1 * g, 0.05 * g * g].into_iter().enumerate() {
            let mean = sums[k][i] / rounds;
            let deviation = ((squares[k][i] / rounds - mean * mean).max(0.0) / rounds).sqrt();
            // Of 512 means, one in 30 sets would have one further off than four of its deviations.
            assert!(
                (mean - wanted).abs() < 4.5 * deviation + 1e-6 * wanted.abs(),
                "{k}, {i}: {mean}, not {wanted}, within {deviation}"
            );
        }
    }
}

#[test]
fn bytes_are_not_stale() {
    // A step takes a thousandth of the second moment, where two codes are at least a sixtieth of it apart.
    let adam = AdamWStep { beta2: 0.999, grad_scale: 1.0, ..ADAM };
    let (n, mut moments) = (BLOCK, ByteMoments::zeros(BLOCK));
    adam.step_bytes(&mut vec![0.0; n], &numbers(8, n), &mut moments);
    let [_, before] = values(&moments);
    for time in 2..=1001 {
        AdamWStep { time, ..adam }.step_bytes(&mut vec![0.0; n], &vec![0.0; n], &mut moments);
    }
    let [_, after] = values(&moments);
    let sum = |x: &[f64]| x.iter().sum::<f64>();
    let left = sum(&after) / sum(&before);
    assert!((left / 0.999_f64.powi(1000) - 1.0).abs() < 0.02, "{left} is left");
}

#[test]
fn a_value_beside_a_large_one_does_not_run_away_in_bytes() {
    for ratio in [1e-3_f32, 1e-5, 1e-7] {
        let grad: Vec<f32> = (0..BLOCK).map(|i| if i == 0 { 1.0 } else { ratio }).collect();
        let (mut p, mut q) = (vec![0.0; BLOCK], vec![0.0; BLOCK]);
        let (mut bytes, mut m, mut v) =
            (ByteMoments::zeros(BLOCK), vec![0.0_f32; BLOCK], vec![0.0_f32; BLOCK]);
        let [mut furthest, mut furthest_in_f32] = [0.0_f32; 2];
        for time in 1..=100 {
            let adam = AdamWStep { time, weight_decay: 0.0, grad_scale: 1.0, ..ADAM };
            let now = if time == 1 { grad.clone() } else { vec![0.0; BLOCK] };
            adam.step_bytes(&mut p, &now, &mut bytes);
            adam.step(&mut q, &now, MomentsMut { first: &mut m, second: &mut v });
            let far = |x: &[f32]| x.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
            furthest = furthest.max(far(&p[1..]));
            furthest_in_f32 = furthest_in_f32.max(far(&q[1..]));
        }
        // The least codes stand for 1/127² and, under a root, 1/255² of the largest.
        assert!(furthest < 4.1 * furthest_in_f32, "{ratio}: {furthest}, in f32 {furthest_in_f32}");
        assert!(bytes.second.iter().all(|&c| c > 0), "{ratio}: a second moment became 0");
    }
}

#[test]
fn bytes_of_what_is_not_finite_stand_for_nothing_finite() {
    for bad in [f32::NAN, f32::INFINITY] {
        let mut grad = vec![1e-3; 2 * BLOCK];
        grad[BLOCK + 3] = bad;
        let mut moments = ByteMoments::zeros(2 * BLOCK);
        ADAM.step_bytes(&mut vec![0.0; 2 * BLOCK], &grad, &mut moments);
        let kept = values(&moments);
        assert!(kept.iter().all(|kept| kept[..BLOCK].iter().all(|x| x.is_finite())));
        assert!(
            kept.iter().all(|kept| kept[BLOCK..].iter().all(|x| !x.is_finite())),
            "{bad}: {:?}",
            &kept[0][BLOCK..]
        );
    }
}

#[test]
fn bytes_are_the_same_on_any_threads_and_instructions() {
    let n = 40_000;
    let run = || {
        let (mut p, mut moments) = (numbers(1, n), ByteMoments::zeros(n));
        for time in 1..=3 {
            AdamWStep { time, ..ADAM }.step_bytes(&mut p, &numbers(u64::from(time), n), &mut moments);
        }
        (p, moments)
    };
    let wanted = with_isa(Isa::Plain, 1, run);
    for (isa, threads) in instruction_sets().zip([3, 1, 2, 7, 4]) {
        assert!(with_isa(isa, threads, run) == wanted, "{isa:?} on {threads} threads");
    }
}

#[test]
fn a_zero_gradient_only_decays() {
    let (mut p, mut m, mut v) = ([2.0, -3.0], [0.0_f32; 2], [0.0; 2]);
    ADAM.step(&mut p, &[0.0; 2], MomentsMut { first: &mut m, second: &mut v });
    let decayed = [2.0 * (1.0 - 1e-3), -3.0 * (1.0 - 1e-3)];
    assert_eq!(p, decayed);
    let (mut p, mut moments) = ([2.0, -3.0], ByteMoments::zeros(2));
    ADAM.step_bytes(&mut p, &[0.0; 2], &mut moments);
    assert_eq!((p, moments), (decayed, ByteMoments::zeros(2)));
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
