//! The matrix product against its definition in f64, and its promises about bits.

use crate::check::{assert_near, assert_same_on_any_threads, floats, instruction_sets, numbers, rounded};
use half::bf16;
use mm1_kernels::cpu::with_isa;
use mm1_kernels::gemm::{Elements, ElementsMut, Matrix, MatrixMut, PackedB, Precision, gemm};

/// Rounded to bfloat16 where the precision says so, to nearest even.
fn input(precision: Precision, x: f32) -> f64 {
    match precision {
        Precision::F32 => f64::from(x),
        Precision::Bf16 => {
            let bits = x.to_bits() + 0x7fff + ((x.to_bits() >> 16) & 1);
            f64::from(f32::from_bits(bits & 0xffff_0000))
        }
    }
}

/// `[m, k] x [k, n]`, of elements given by functions.
fn reference(
    [m, n, k]: [usize; 3],
    a: impl Fn(usize, usize) -> f64,
    b: impl Fn(usize, usize) -> f64,
) -> Vec<f64> {
    (0..m * n).map(|at| (0..k).map(|p| a(at / n, p) * b(p, at % n)).sum()).collect()
}

/// Checks one shape with every arrangement of the operands in memory.
fn check_shape(precision: Precision, shape @ [m, n, k]: [usize; 3]) {
    let (a, b) = (numbers(1, m * k), numbers(2, k * n));
    let expected =
        reference(shape, |i, p| input(precision, a[i * k + p]), |p, j| input(precision, b[p * n + j]));
    let transpose = |x: &[f32], rows: usize, cols: usize| -> Vec<f32> {
        (0..rows * cols).map(|at| x[at % rows * cols + at / rows]).collect()
    };
    let (at, bt) = (transpose(&a, m, k), transpose(&b, k, n));
    // A wider matrix, whose columns 3.. are the operand, and one with two values for each.
    let wide: Vec<f32> = (0..k * (n + 5)).map(|i| if i % (n + 5) < 3 { f32::NAN } else { 0.0 }).collect();
    let wide: Vec<f32> = (0..wide.len())
        .map(|i| match i % (n + 5) {
            j @ 3.. if j < n + 3 => b[i / (n + 5) * n + j - 3],
            _ => wide[i],
        })
        .collect();
    let twice: Vec<f32> = a.iter().flat_map(|&x| [x, f32::NAN]).collect();
    let lefts = [
        Matrix::new(&a, m, k),
        Matrix::new(&at, k, m).transposed(),
        Matrix::strided(&twice, [m, k], [2 * k, 2]),
    ];
    let rights = [
        Matrix::new(&b, k, n),
        Matrix::new(&bt, n, k).transposed(),
        Matrix::new(&wide, k, n + 5).col_range(3..n + 3),
    ];
    for (i, left) in lefts.into_iter().enumerate() {
        for (j, right) in rights.into_iter().enumerate() {
            let mut c = vec![f32::NAN; m * n];
            gemm(precision, left, right, MatrixMut::new(&mut c, m, n), false);
            assert_near(&format!("{precision:?} {shape:?} forms {i} {j}"), &c, &expected, 2e-6);
        }
    }
    let packed = PackedB::new(precision, rights[0]);
    assert_eq!((packed.dims(), packed.precision()), ([k, n], precision));
    let mut c = vec![1.0; m * n];
    gemm(precision, lefts[0], &packed, MatrixMut::new(&mut c, m, n), true);
    let more: Vec<f64> = expected.iter().map(|x| x + 1.0).collect();
    assert_near(&format!("{precision:?} {shape:?} packed"), &c, &more, 2e-6);
}

#[test]
fn product_is_its_definition_on_every_instruction_set() {
    let sizes = [1, 2, 3, 5, 8, 13, 14, 15, 16, 17, 31, 33, 64];
    let shapes: Vec<[usize; 3]> =
        (0..60).map(|i| [sizes[i % 13], sizes[i * 5 % 13], sizes[(i * 7 + i / 13) % 13]]).collect();
    let long = [
        [7, 200, 40],
        [13, 300, 70],
        [3, 40, 1100],
        [15, 33, 1537],
        [130, 70, 600],
        [20, 20, 4100],
        [70, 300, 513],
        [2, 70_000, 3],
        [70_000, 2, 3],
    ];
    for isa in instruction_sets() {
        with_isa(isa, 2, || {
            for precision in [Precision::F32, Precision::Bf16] {
                shapes.iter().chain(&long).for_each(|&shape| check_shape(precision, shape));
            }
        });
    }
}

/// Halves in memory, of odd sizes, in every arrangement; with NaN, infinity and a denormal, which are rounded
/// before as in a product.
#[test]
fn halves_have_the_bits_of_floats_that_are_rounded() {
    for [m, n, k] in [[1, 1, 1], [3, 33, 2], [14, 32, 31], [29, 65, 33], [15, 17, 513], [30, 47, 1100]] {
        let halves = |seed, len| -> Vec<bf16> {
            let mut halves: Vec<bf16> = numbers(seed, len).into_iter().map(bf16::from_f32).collect();
            let special = [bf16::NAN, bf16::INFINITY, bf16::from_bits(1), bf16::NEG_INFINITY];
            halves.iter_mut().skip(len / 2).step_by(len / 3 + 1).zip(special).for_each(|(h, s)| *h = s);
            halves
        };
        let (a, b) = (halves(1, m * k), halves(2, k * n));
        let wide = |halves: &[bf16]| -> Vec<f32> { halves.iter().map(|h| h.to_f32()).collect() };
        let (wide_a, wide_b) = (wide(&a), wide(&b));
        let lefts =
            [Matrix::of(Elements::Halves(&a), m, k), Matrix::of(Elements::Halves(&a), k, m).transposed()];
        let rights =
            [Matrix::of(Elements::Halves(&b), k, n), Matrix::of(Elements::Halves(&b), n, k).transposed()];
        let wide_lefts = [Matrix::new(&wide_a, m, k), Matrix::new(&wide_a, k, m).transposed()];
        let wide_rights = [Matrix::new(&wide_b, k, n), Matrix::new(&wide_b, n, k).transposed()];
        for isa in instruction_sets() {
            for precision in [Precision::F32, Precision::Bf16] {
                with_isa(isa, 2, || {
                    for (i, j) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                        let expected = bits(precision, wide_lefts[i], wide_rights[j], m, n);
                        let what = format!("{isa:?} {precision:?} {m} {n} {k} {i} {j}");
                        assert_eq!(bits(precision, lefts[i], rights[j], m, n), expected, "{what}");
                        assert_eq!(bits(precision, wide_lefts[i], rights[j], m, n), expected, "{what} B");
                        // Some of the rows and columns: other places in memory.
                        let some = |a: Matrix<'_>, b: Matrix<'_>| {
                            bits(
                                precision,
                                a.row_range(m / 3..m),
                                b.col_range(n / 2..n),
                                m - m / 3,
                                n - n / 2,
                            )
                        };
                        assert_eq!(
                            some(lefts[i], rights[j]),
                            some(wide_lefts[i], wide_rights[j]),
                            "{what} some"
                        );
                    }
                });
            }
        }
    }
}

/// In every size of a tile and a block, from nothing and added to what is there, with NaN and infinity; where
/// the instruction rounds, denormals are zeros.
#[test]
fn a_product_in_halves_is_that_in_floats_rounded_once() {
    for [m, n, k] in
        [[1, 1, 1], [3, 33, 2], [14, 32, 31], [29, 65, 512], [200, 300, 70], [15, 17, 513], [9, 8, 5000]]
    {
        let (mut a, b, start) = (numbers(1, m * k), numbers(2, k * n), rounded(&numbers(3, m * n)));
        a[(m - 1) * k] = f32::NAN;
        a[m / 2 * k] = f32::INFINITY;
        a[..k].fill(if m > 3 { 1e-40 } else { 1.0 });
        for isa in instruction_sets() {
            for (precision, add) in
                [Precision::F32, Precision::Bf16].into_iter().flat_map(|p| [(p, false), (p, true)])
            {
                let (mut c, mut halves) = (floats(&start), start.clone());
                let (a, b) = (Matrix::new(&a, m, k), Matrix::new(&b, k, n));
                with_isa(isa, 2, || {
                    gemm(precision, a, b, MatrixMut::new(&mut c, m, n), add);
                    gemm(precision, a, b, MatrixMut::of(ElementsMut::Halves(&mut halves), m, n), add);
                });
                for (i, (&got, &whole)) in halves.iter().zip(&c).enumerate() {
                    let wanted = bf16::from_f32(whole);
                    let same = got.to_bits() == wanted.to_bits() || got.is_nan() && wanted.is_nan();
                    let zero = got == bf16::ZERO && whole.abs() < f32::MIN_POSITIVE;
                    assert!(
                        same || zero,
                        "{isa:?} {precision:?} {m} {n} {k} {add}: [{i}] = {got}, not {wanted}"
                    );
                }
            }
        }
    }
    let mut c = [bf16::ONE; 2];
    let none = (Matrix::new(&[], 1, 0), Matrix::new(&[], 0, 2));
    gemm(Precision::Bf16, none.0, none.1, MatrixMut::of(ElementsMut::Halves(&mut c), 1, 2), true);
    assert_eq!(c, [bf16::ONE; 2]);
    gemm(Precision::Bf16, none.0, none.1, MatrixMut::of(ElementsMut::Halves(&mut c), 1, 2), false);
    assert_eq!(c, [bf16::ZERO; 2]);
}

/// The bits of rows `0..m` and columns `0..n` of a product.
fn bits(precision: Precision, a: Matrix<'_>, b: Matrix<'_>, m: usize, n: usize) -> Vec<u32> {
    let mut c = vec![0.0; m * n];
    gemm(precision, a.row_range(0..m), b.col_range(0..n), MatrixMut::new(&mut c, m, n), false);
    c.into_iter().map(f32::to_bits).collect()
}

#[test]
fn a_row_has_the_same_bits_in_any_company() {
    let (m, n, k) = (300, 130, 2501);
    let (a, b) = (numbers(3, m * k), numbers(4, k * n));
    let bt: Vec<f32> = (0..k * n).map(|i| b[i % k * n + i / k]).collect();
    let (a, b, bt) = (Matrix::new(&a, m, k), Matrix::new(&b, k, n), Matrix::new(&bt, n, k).transposed());
    for isa in instruction_sets() {
        for precision in [Precision::F32, Precision::Bf16] {
            with_isa(isa, 3, || {
                let whole = bits(precision, a, b, m, n);
                for (rows, cols) in [(1, n), (2, 17), (6, n), (7, 100), (14, n), (15, n), (100, 1), (m, 33)] {
                    let expected: Vec<u32> =
                        whole.chunks(n).take(rows).flat_map(|row| &row[..cols]).copied().collect();
                    assert_eq!(
                        bits(precision, a, b, rows, cols),
                        expected,
                        "{isa:?} {precision:?} {rows} {cols}"
                    );
                    assert_eq!(
                        bits(precision, a, bt, rows, cols),
                        expected,
                        "{isa:?} {precision:?} transposed"
                    );
                    let packed = PackedB::new(precision, b.col_range(0..cols));
                    let mut c = vec![0.0; rows * cols];
                    gemm(precision, a.row_range(0..rows), &packed, MatrixMut::new(&mut c, rows, cols), false);
                    assert!(c.iter().map(|c| c.to_bits()).eq(expected), "{isa:?} {precision:?} packed");
                }
            });
        }
    }
}

/// Products about the smallest normal number, and a few that are none: another path for few rows must treat
/// them alike.
#[test]
fn a_row_of_tiny_numbers_has_the_same_bits_in_any_company() {
    let (m, n, k) = (20, 70, 100);
    let tiny = |seed, len, special: &[f32]| -> Vec<f32> {
        let scale = |i: usize| f32::from_bits(((50 + i * 7 % 28) as u32) << 23);
        let mut numbers: Vec<f32> =
            numbers(seed, len).iter().enumerate().map(|(i, x)| x * scale(i)).collect();
        numbers.iter_mut().skip(len / 2).step_by(len / 5).zip(special).for_each(|(x, &s)| *x = s);
        numbers
    };
    let a = tiny(1, m * k, &[f32::INFINITY, 1e-40, f32::NAN]);
    let b = tiny(2, k * n, &[f32::from_bits(1), f32::NEG_INFINITY, 1e-39, 0.0]);
    let (a, b) = (Matrix::new(&a, m, k), Matrix::new(&b, k, n));
    for isa in instruction_sets() {
        for precision in [Precision::F32, Precision::Bf16] {
            with_isa(isa, 2, || {
                let whole = bits(precision, a, b, m, n);
                for row in 0..m {
                    let one = bits(precision, a.row_range(row..row + 1), b, 1, n);
                    for (j, (&one, &whole)) in one.iter().zip(&whole[row * n..]).enumerate() {
                        let nan = f32::from_bits(one).is_nan() && f32::from_bits(whole).is_nan();
                        assert!(
                            one == whole || nan,
                            "{isa:?} {precision:?} [{row}, {j}]: {one:x}, not {whole:x}"
                        );
                    }
                }
            });
        }
    }
}

/// An operand of so many words is not packed at once.
#[test]
fn a_row_has_the_same_bits_where_k_is_long() {
    for (m, n) in [(600, 590), (590, 600)] {
        let k = 4100;
        let (a, b) = (numbers(3, m * k), numbers(4, k * n));
        let (a, b) = (Matrix::new(&a, m, k), Matrix::new(&b, k, n));
        for precision in [Precision::F32, Precision::Bf16] {
            let whole = bits(precision, a, b, m, n);
            assert!(whole[..2 * n] == bits(precision, a, b, 2, n), "{precision:?}: few rows");
            let packed = PackedB::new(precision, b);
            let mut c = vec![0.0; m * n];
            gemm(precision, a, &packed, MatrixMut::new(&mut c, m, n), false);
            assert!(c.iter().map(|c| c.to_bits()).eq(whole), "{precision:?}: packed before");
        }
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    for (m, n, k) in [(1, 700, 300), (400, 90, 700), (90, 400, 700), (60, 60, 9000)] {
        let (a, b) = (numbers(5, m * k), numbers(6, k * n));
        for precision in [Precision::F32, Precision::Bf16] {
            assert_same_on_any_threads(|| {
                let mut c = vec![0.5; m * n];
                gemm(
                    precision,
                    Matrix::new(&a, m, k),
                    Matrix::new(&b, k, n),
                    MatrixMut::new(&mut c, m, n),
                    true,
                );
                c
            });
        }
    }
}

#[test]
fn empty_products_are_zero_or_nothing() {
    let none = Matrix::new(&[], 3, 0);
    let mut c = [7.0; 8];
    gemm(Precision::F32, none, Matrix::new(&[], 0, 2), MatrixMut::strided(&mut c, [3, 2], 3), true);
    assert_eq!(c, [7.0; 8]);
    gemm(Precision::F32, none, Matrix::new(&[], 0, 2), MatrixMut::strided(&mut c, [3, 2], 3), false);
    assert_eq!(c, [0.0, 0.0, 7.0, 0.0, 0.0, 7.0, 0.0, 0.0]);
    let packed = PackedB::new(Precision::F32, Matrix::new(&[], 0, 2));
    gemm(Precision::F32, none, &packed, MatrixMut::new(&mut c[..6], 3, 2), false);
    assert_eq!(c, [0.0; 8]);
    gemm(
        Precision::Bf16,
        Matrix::new(&[], 0, 4),
        Matrix::new(&[1.0; 8], 4, 2),
        MatrixMut::new(&mut [], 0, 2),
        false,
    );
    gemm(
        Precision::Bf16,
        Matrix::new(&[1.0; 8], 2, 4),
        Matrix::new(&[], 4, 0),
        MatrixMut::new(&mut [], 2, 0),
        false,
    );
}

#[test]
fn nan_and_infinity_reach_their_row_and_column_only() {
    let (m, n, k) = (40, 50, 70);
    for isa in instruction_sets() {
        for precision in [Precision::F32, Precision::Bf16] {
            let (mut a, mut b) = (numbers(7, m * k), numbers(8, k * n));
            // A NaN whose rounding would carry into the exponent, and an infinity.
            a[17 * k + 69] = f32::from_bits(0x7fff_ffff);
            b[33] = f32::INFINITY;
            let mut c = vec![0.0; m * n];
            let mut one = vec![0.0; n];
            with_isa(isa, 2, || {
                gemm(
                    precision,
                    Matrix::new(&a, m, k),
                    Matrix::new(&b, k, n),
                    MatrixMut::new(&mut c, m, n),
                    false,
                );
                let row = Matrix::new(&a, m, k).row_range(17..18);
                gemm(precision, row, Matrix::new(&b, k, n), MatrixMut::new(&mut one, 1, n), false);
            });
            for (i, c) in c.iter().enumerate() {
                assert_eq!(c.is_nan(), i / n == 17, "{isa:?} {precision:?} element {i} is {c}");
                assert_eq!(
                    c.is_infinite(),
                    i / n != 17 && i % n == 33,
                    "{isa:?} {precision:?} element {i} is {c}"
                );
            }
            assert!(one.iter().all(|c| c.is_nan()));
        }
    }
}

#[test]
fn denormals_are_kept_in_f32_and_may_be_zero_in_bf16() {
    let tiny = 3e-40f32;
    let (a, b) = (vec![tiny; 3 * 20], vec![0.5; 20 * 40]);
    for isa in instruction_sets() {
        for precision in [Precision::F32, Precision::Bf16] {
            let mut c = vec![1.0; 3 * 40];
            with_isa(isa, 1, || {
                gemm(
                    precision,
                    Matrix::new(&a, 3, 20),
                    Matrix::new(&b, 20, 40),
                    MatrixMut::new(&mut c, 3, 40),
                    false,
                );
            });
            let expected = 20.0 * 0.5 * input(precision, tiny);
            for &c in &c {
                let near = (f64::from(c) - expected).abs() < 0.01 * expected;
                assert!(near || precision == Precision::Bf16 && c == 0.0, "{isa:?} {precision:?}: {c:e}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "[3, 4] x [5, 2] is not [3, 2]")]
fn shapes_must_fit() {
    gemm(
        Precision::F32,
        Matrix::new(&[0.0; 12], 3, 4),
        Matrix::new(&[0.0; 10], 5, 2),
        MatrixMut::new(&mut [0.0; 6], 3, 2),
        false,
    );
}
