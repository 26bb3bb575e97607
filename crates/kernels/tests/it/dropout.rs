use crate::check::{assert_same_on_any_threads, floats, numbers, rounded};
use mm1_kernels::dropout::Dropout;

fn dropped(dropout: Dropout, n: usize) -> Vec<f32> {
    let mut x = vec![1.0f32; n];
    dropout.apply(&mut x);
    x
}

#[test]
fn a_share_is_dropped_and_the_rest_is_as_it_was() {
    for (rate, draw) in [(0.05, [1, 2, 3]), (0.5, [7, 0, 0]), (0.9, [0, 0, 1])] {
        let (x, mut y) = (numbers(1, 200_000), numbers(1, 200_000));
        let dropout = Dropout::new(rate, &draw);
        dropout.apply(&mut y);
        let gone = y.iter().filter(|&&y| y == 0.0).count() as f64 / y.len() as f64;
        assert!((gone - rate).abs() < 0.005, "{gone} of {rate}");
        assert!(x.iter().zip(&y).all(|(x, y)| y == x || *y == 0.0));
        assert!((dropout.factor() * (1.0 - rate) - 1.0).abs() < 1e-12);
        let mut halves = rounded(&x);
        dropout.apply(&mut halves);
        assert!(floats(&halves).iter().zip(&y).all(|(half, y)| (*half == 0.0) == (*y == 0.0)));
    }
    assert_eq!(dropped(Dropout::new(0.0, &[1]), 1000), vec![1.0; 1000]);
}

/// Neighbours, and the same places of two draws, are dropped independently of each other.
#[test]
fn another_draw_drops_others() {
    let n = 200_000;
    let of = |draw: &[u64]| dropped(Dropout::new(0.5, draw), n);
    let one = of(&[5, 0, 0]);
    assert_eq!(one, of(&[5, 0, 0]));
    for other in [of(&[5, 0, 1]), of(&[5, 1, 0]), of(&[6, 0, 0]), one[1..].to_vec(), one[24..].to_vec()] {
        let same = one.iter().zip(&other).filter(|(one, other)| one == other).count() as f64 / n as f64;
        assert!((same - 0.5).abs() < 0.005, "{same} of the values are as in another draw");
    }
}

#[test]
fn threads_change_no_bit() {
    assert_same_on_any_threads(|| dropped(Dropout::new(0.3, &[1, 2]), 100_003));
}
