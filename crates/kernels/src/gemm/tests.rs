//! The kernel of tiles beside its definition: with a model of the tile registers wherever there is
//! AVX-512-BF16, and with the machine's own where it has them. What is skipped is said.

use super::amx::AmxTiles;
use super::amx::model::ModelTiles;
use super::kernel::{Kernel, of_tiles};
use super::operand::Operands;
use super::{Elements, ElementsMut, Matrix, MatrixMut, PackedB, Panels, Precision, Right, SumRows, plan};
use crate::cpu::{Isa, with_isa};
use half::bf16;
use std::io::Write;

static MODEL: Kernel = of_tiles::<ModelTiles>();
static MACHINE: Kernel = of_tiles::<AmxTiles>();

/// The kernels that can run here. Those that cannot are named on standard error, past the harness, which
/// keeps what a passing test prints to itself.
fn kernels() -> Vec<(&'static str, &'static Kernel)> {
    let best = Isa::detect();
    let all = [("the model", &MODEL, Isa::Avx512Bf16), ("the machine's tiles", &MACHINE, Isa::Amx)];
    let (here, lacking): (Vec<_>, Vec<_>) = all.into_iter().partition(|&(_, _, isa)| isa <= best);
    for (name, _, isa) in lacking {
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        // If nobody can read it, there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "{test}: skipped for {name}, without {}", isa.name());
    }
    here.into_iter().map(|(name, kernel, _)| (name, kernel)).collect()
}

/// Numbers in `-1 .. 1`, the same for the same seed.
fn numbers(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    };
    (0..len).map(next).collect()
}

fn rounded(numbers: &[f32]) -> Vec<bf16> {
    numbers.iter().map(|&x| bf16::from_f32(x)).collect()
}

fn widened(halves: &[bf16]) -> Vec<f32> {
    halves.iter().map(|x| x.to_f32()).collect()
}

/// `[rows, cols]` the other way round.
fn turned<T: Copy>(values: &[T], rows: usize, cols: usize) -> Vec<T> {
    (0..rows * cols).map(|at| values[at % rows * cols + at / rows]).collect()
}

fn multiply<'a>(
    kernel: &'static Kernel,
    a: Matrix<'a>,
    b: impl Into<Right<'a>>,
    c: MatrixMut<'_>,
    add: bool,
) {
    plan::product(Operands::by(kernel, Precision::Bf16, a, b.into()), c, add);
}

/// The bits of a product in floats.
fn bits<'a>(kernel: &'static Kernel, a: Matrix<'a>, b: impl Into<Right<'a>>, n: usize) -> Vec<u32> {
    let (m, mut c) = (a.rows(), vec![0.0; a.rows() * n]);
    multiply(kernel, a, b, MatrixMut::new(&mut c, m, n), false);
    c.into_iter().map(f32::to_bits).collect()
}

/// Operands in every arrangement: rows along k and side by side, with two values for each; in floats and in
/// bfloat16; B packed before.
#[test]
fn a_product_of_tiles_is_its_definition_in_every_arrangement() {
    let sizes = [1, 2, 15, 16, 17, 31, 32, 33, 48, 49, 65];
    let many =
        (0..33).map(|i| [sizes[i % 11], sizes[i * 5 % 11], sizes[(i * 7 + i / 11) % 11] + i / 16 * 96]);
    let long = [[7, 200, 512], [130, 70, 600], [20, 20, 4100], [70, 150, 1025], [300, 33, 64], [40, 600, 31]];
    let kernels = kernels();
    for [m, n, k] in many.chain(long) {
        let (a, b) = (rounded(&numbers(1, m * k)), rounded(&numbers(2, k * n)));
        let (a_wide, b_wide) = (widened(&a), widened(&b));
        let (a_turned, b_turned) = (turned(&a_wide, m, k), turned(&b_wide, k, n));
        let twice: Vec<f32> = a_wide.iter().flat_map(|&x| [x, f32::NAN]).collect();
        let lefts = [
            Matrix::new(&a_wide, m, k),
            Matrix::of(Elements::Halves(&a), m, k),
            Matrix::new(&a_turned, k, m).transposed(),
            Matrix::strided(&twice, [m, k], [2 * k, 2]),
        ];
        let rights = [
            Matrix::new(&b_wide, k, n),
            Matrix::of(Elements::Halves(&b), k, n),
            Matrix::new(&b_turned, n, k).transposed(),
        ];
        let term = |i: usize, j: usize, p: usize| f64::from(a_wide[i * k + p]) * f64::from(b_wide[p * n + j]);
        let expected: Vec<f64> = (0..m * n).map(|at| (0..k).map(|p| term(at / n, at % n, p)).sum()).collect();
        let largest = expected.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
        for &(name, kernel) in &kernels {
            let first = bits(kernel, lefts[0], rights[0], n);
            for (i, (&got, wanted)) in first.iter().zip(&expected).enumerate() {
                let error = (f64::from(f32::from_bits(got)) - wanted).abs();
                assert!(error <= 2e-6 * largest, "{name} [{m}, {n}, {k}]: element {i} is off by {error}");
            }
            for (i, left) in lefts.into_iter().enumerate() {
                for (j, right) in rights.into_iter().enumerate() {
                    let same = bits(kernel, left, right, n) == first;
                    assert!(same, "{name} [{m}, {n}, {k}]: arrangement {i} {j} has other bits");
                }
            }
            let packed = PackedB::by(kernel, Precision::Bf16, rights[0]);
            assert!(bits(kernel, lefts[0], &packed, n) == first, "{name} [{m}, {n}, {k}]: packed before");
        }
    }
}

/// The sum of a product's element in the order of tiles: steps of 32 terms, of which the even ones are added
/// from zero, and the odd ones; then both, and that to the sum of a block of 4,096 terms.
fn sum_of_tiles(k: usize, before: f32, a: impl Fn(usize) -> f32, b: impl Fn(usize) -> f32) -> f32 {
    let chain =
        |first: usize, end: usize| (first..end).step_by(2).fold(0.0_f32, |sum, p| a(p).mul_add(b(p), sum));
    let blocks = (0..k).step_by(4096).map(|start| {
        let end = (start + 4096).min(k);
        (start..end).step_by(32).fold(0.0, |sum, first| {
            let last = (first + 32).min(end);
            sum + (chain(first, last) + chain(first + 1, last))
        })
    });
    blocks.fold(before, |element, block| element + block)
}

#[test]
fn tiles_add_in_the_order_of_the_manual_on_any_threads() {
    let shapes = [
        [1, 1, 1],
        [1, 70, 4130],
        [2, 40, 31],
        [16, 16, 32],
        [17, 33, 65],
        [33, 70, 513],
        [300, 17, 511],
        [40, 31, 1030],
        [8, 300, 1100],
        [5, 9, 8200],
        [70, 65, 4130],
    ];
    let kernels = kernels();
    for [m, n, k] in shapes {
        let (a, b, c) = (rounded(&numbers(1, m * k)), rounded(&numbers(2, k * n)), numbers(3, m * n));
        let (a_wide, b_wide) = (widened(&a), widened(&b));
        let element = |at: usize| {
            sum_of_tiles(k, c[at], |p| a_wide[at / n * k + p], |p| b_wide[p * n + at % n]).to_bits()
        };
        let expected: Vec<u32> = (0..m * n).map(element).collect();
        for (&(name, kernel), threads) in kernels.iter().flat_map(|kernel| [(kernel, 1), (kernel, 3)]) {
            let mut c = c.clone();
            with_isa(Isa::detect(), threads, || {
                let a = Matrix::of(Elements::Halves(&a), m, k);
                multiply(kernel, a, Matrix::new(&b_wide, k, n), MatrixMut::new(&mut c, m, n), true);
            });
            let same = c.iter().map(|c| c.to_bits()).eq(expected.iter().copied());
            assert!(same, "{name} [{m}, {n}, {k}] on {threads} threads");
        }
    }
}

/// One row goes by vectors and has the bits of tiles, also about the smallest normal number and with numbers
/// that are none; and the model has those of the machine.
#[test]
fn a_row_of_tiles_has_the_same_bits_in_any_company() {
    let kernels = kernels();
    for (n, k) in [(70, 100), (33, 1100)] {
        let m = 40;
        let tiny = |seed, len, special: &[f32]| -> Vec<f32> {
            // Products of about 2^-150 to 2^-100.
            let scale = |i: usize| f32::from_bits(((50 + i * 7 % 28) as u32) << 23);
            let mut values: Vec<f32> =
                numbers(seed, len).iter().enumerate().map(|(i, x)| x * scale(i)).collect();
            values.iter_mut().skip(len / 2).step_by(len / 5).zip(special).for_each(|(x, &s)| *x = s);
            values
        };
        let a = tiny(1, m * k, &[f32::INFINITY, 1e-40, f32::NAN]);
        let b = tiny(2, k * n, &[f32::from_bits(1), f32::NEG_INFINITY, 1e-39, 0.0]);
        let (a, b) = (Matrix::new(&a, m, k), Matrix::new(&b, k, n));
        let same = |x: u32, y: u32| x == y || f32::from_bits(x).is_nan() && f32::from_bits(y).is_nan();
        let whole: Vec<_> = kernels.iter().map(|&(name, kernel)| (name, bits(kernel, a, b, n))).collect();
        for (&(name, kernel), (_, whole)) in kernels.iter().zip(&whole) {
            for row in 0..m {
                let one = bits(kernel, a.row_range(row..row + 1), b, n);
                for (j, (&one, &wanted)) in one.iter().zip(&whole[row * n..]).enumerate() {
                    assert!(same(one, wanted), "{name} [{row}, {j}] of {k}: {one:x}, not {wanted:x}");
                }
            }
        }
        for two in whole.windows(2) {
            let ((name, first), (other, second)) = (&two[0], &two[1]);
            let equal = first.iter().zip(second).all(|(&x, &y)| same(x, y));
            assert!(equal, "{name} and {other} have other bits");
        }
    }
}

/// In every size of a tile and in several blocks, from nothing and added to what is there; where there is
/// more of a row than the product has, it stays.
#[test]
fn a_product_of_tiles_in_halves_is_that_in_floats_rounded_once() {
    let kernels = kernels();
    for [m, n, k] in [[1, 1, 1], [3, 33, 2], [29, 65, 512], [100, 90, 70], [15, 17, 513], [9, 8, 5000]] {
        let (a, b, start) = (numbers(1, m * k), numbers(2, k * n), rounded(&numbers(3, m * n)));
        let (a, b) = (Matrix::new(&a, m, k), Matrix::new(&b, k, n));
        for (&(name, kernel), add) in kernels.iter().flat_map(|kernel| [(kernel, false), (kernel, true)]) {
            let (mut floats, mut halves) = (widened(&start), start.clone());
            multiply(kernel, a, b, MatrixMut::new(&mut floats, m, n), add);
            multiply(kernel, a, b, MatrixMut::of(ElementsMut::Halves(&mut halves), m, n), add);
            assert_eq!(halves, rounded(&floats), "{name} [{m}, {n}, {k}] {add}");
            let stride = n + 5;
            let mut wide = vec![7.0; m * stride];
            for (row, start) in wide.chunks_mut(stride).zip(start.chunks(n)) {
                row[..n].copy_from_slice(&widened(start));
            }
            multiply(kernel, a, b, MatrixMut::strided(&mut wide, [m, n], stride), add);
            for (row, floats) in wide.chunks(stride).zip(floats.chunks(n)) {
                assert_eq!(row[..n], *floats, "{name} [{m}, {n}, {k}] {add}");
                assert_eq!(row[n..], [7.0; 5], "{name} [{m}, {n}, {k}] {add}: beyond the columns");
            }
        }
    }
}

/// As attention multiplies: strips of rows, the first columns, and less of k than the right operand has.
#[test]
fn panels_of_tiles_multiply_some_rows_columns_and_terms() {
    for (name, kernel) in kernels() {
        for (k, b_k) in [(20, 20), (33, 90), (600, 700), (4100, 4200)] {
            let (m, n) = (70, 80);
            let (a, b) = (numbers(1, m * k), numbers(2, b_k * n));
            let right = Panels::right(kernel, Matrix::new(&b, b_k, n));
            let left = Panels::left(kernel, Matrix::new(&a, m, k));
            let whole = bits(kernel, Matrix::new(&a, m, k), Matrix::new(&b, b_k, n).row_range(0..k), n);
            for (rows, cols) in [(0..m, n), (32..33, 17), (32..64, 40), (64..70, n)] {
                let mut c = vec![0.0; rows.len() * n];
                let sums = SumRows { values: &mut c, cols, stride: n };
                left.multiply(rows.clone(), &right, sums, false);
                for (i, row) in rows.clone().enumerate() {
                    let got = c[i * n..][..cols].iter().map(|c| c.to_bits());
                    let same = got.eq(whole[row * n..][..cols].iter().copied());
                    assert!(same, "{name}: row {row} of {rows:?}, {cols} columns, {k} of {b_k} terms");
                }
            }
        }
    }
}

/// A side so long that it is packed some panels at a time, in either operand.
#[test]
fn a_very_long_side_has_the_sums_of_a_short_one() {
    let (long, k) = (270_000, 32);
    let (few, many) = (numbers(1, k), numbers(2, long * k));
    for (name, kernel) in kernels() {
        let row = bits(kernel, Matrix::new(&few, 1, k), Matrix::new(&many, k, long), long);
        let column = bits(kernel, Matrix::new(&many, k, long).transposed(), Matrix::new(&few, k, 1), 1);
        assert!(row == column, "{name}: a row is not the column of the product turned");
        for at in [0, 31, 32, 131_071, 262_143, 262_144, 262_200, 269_999] {
            let term =
                |p: usize| bf16::from_f32(few[p]).to_f64() * bf16::from_f32(many[p * long + at]).to_f64();
            let wanted: f64 = (0..k).map(term).sum();
            assert!((f64::from(f32::from_bits(row[at])) - wanted).abs() < 1e-5, "{name}: element {at}");
        }
    }
}
