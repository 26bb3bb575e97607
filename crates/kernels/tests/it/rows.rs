use crate::check::{assert_near, assert_same_on_any_threads, floats, numbers, rounded};
use half::bf16;
use mm1_kernels::rows::{add, add_bias, column_sums, copy, fill_rows, narrow, scale, widen};

#[test]
fn sums_columns() {
    for (n, width) in [(1, 1), (200, 37), (65, 10)] {
        let y = numbers(1, n * width);
        let mut wanted = vec![0.0; width];
        for row in y.chunks_exact(width) {
            for (w, &v) in wanted.iter_mut().zip(row) {
                *w += f64::from(v);
            }
        }
        assert_near("sums", &column_sums(&y, width), &wanted, 1e-6);
        let halves = rounded(&y);
        assert_eq!(column_sums(&halves, width), column_sums(&floats(&halves), width));
    }
}

#[test]
fn adds_scales_and_fills() {
    let mut y = vec![1.0, 2.0, 3.0, 4.0];
    add_bias(&mut y, &[10.0, 20.0]);
    assert_eq!(y, [11.0, 22.0, 13.0, 24.0]);
    add(&mut y, &[1.0, 1.0, 1.0, 1.0]);
    scale(&mut y, 2.0);
    assert_eq!(y, [24.0, 46.0, 28.0, 50.0]);
    fill_rows(&mut y, &[7.0, 8.0]);
    assert_eq!(y, [7.0, 8.0, 7.0, 8.0]);
    let mut halves = [bf16::NAN; 4];
    fill_rows(&mut halves, &[7.0, 8.0 + 1.0 / 256.0]);
    assert_eq!(floats(&halves), y);
    let mut z = vec![0.0; 4];
    copy(&mut z, &y);
    assert_eq!(z, y);
}

#[test]
fn rounds_to_bfloat16_as_half_does() {
    let mut x = numbers(3, 40_000);
    x.extend([
        0.0,
        -0.0,
        1e-40,
        f32::MAX,
        f32::INFINITY,
        f32::NEG_INFINITY,
        1.0 + 1.0 / 256.0,
        1.0 + 3.0 / 256.0,
    ]);
    let (mut y, mut back) = (vec![bf16::ONE; x.len()], vec![0.0; x.len()]);
    narrow(&mut y, &x);
    widen(&mut back, &y);
    let rounded: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(x)).collect();
    assert!(y.iter().map(|y| y.to_bits()).eq(rounded.iter().map(|r| r.to_bits())));
    assert!(back.iter().eq(rounded.iter().map(|r| r.to_f32()).collect::<Vec<_>>().iter()));
    narrow(&mut y[..1], &[f32::NAN]);
    assert!(y[0].is_nan());
}

#[test]
fn threads_change_no_bit() {
    let y = numbers(2, 1000 * 13);
    assert_same_on_any_threads(|| column_sums(&y, 13));
}
