//! Products with weights in 8 bits, against their definition, and their promises about bits.

use crate::check::{assert_near, instruction_sets, numbers};
use half::f16;
use mm1_kernels::cpu::with_isa;
use mm1_kernels::gemm::{Matrix, MatrixMut, Q8Block, Q8Matrix};

/// Values along k that share a scale.
const BLOCK: usize = 32;

/// The values that a row of weights stands for in blocks of Q8_0; what lacks in its last block is zeros.
fn weights(row: &[f32]) -> Vec<f32> {
    let block = |values: &[f32]| {
        let mut whole = [0.0; BLOCK];
        whole[..values.len()].copy_from_slice(values);
        let Q8Block { scale, values } = Q8Block::new(&whole);
        values.map(|byte| scale.to_f32() * f32::from(byte))
    };
    let mut values: Vec<f32> = row.chunks(BLOCK).flat_map(block).collect();
    values.truncate(row.len());
    values
}

/// The same of a row that is multiplied with them: its scale stays in f32, halves go to the even byte.
fn inputs(row: &[f32]) -> Vec<f32> {
    let block = |values: &[f32]| {
        let scale = values.iter().fold(0.0f32, |most, x| most.max(x.abs())) / 127.0;
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        values.iter().map(|x| scale * (x * inverse).round_ties_even()).collect::<Vec<_>>()
    };
    row.chunks(BLOCK).flat_map(block).collect()
}

/// `[m, k] x [k, n]` of rounded operands in f64; `b` is `[n, k]`.
fn reference([m, n, k]: [usize; 3], a: &[f32], b: &[f32]) -> Vec<f64> {
    let rows = |x: &[f32], of: fn(&[f32]) -> Vec<f32>| x.chunks(k).flat_map(of).collect::<Vec<_>>();
    let (a, b) = (rows(a, inputs), rows(b, weights));
    let product = |(x, y): (&f32, &f32)| f64::from(*x) * f64::from(*y);
    (0..m * n).map(|at| a[at / n * k..][..k].iter().zip(&b[at % n * k..][..k]).map(product).sum()).collect()
}

/// `[m, n, k]`: of one block, of less and more, of rows and columns that fill no tile.
const SHAPES: [[usize; 3]; 6] =
    [[1, 1, 1], [1, 33, 32], [4, 32, 64], [3, 40, 95], [9, 100, 576], [130, 64, 33]];

#[test]
fn a_product_in_8_bits_is_that_of_the_rounded_operands_on_every_instruction_set() {
    for shape @ [m, n, k] in SHAPES {
        let (a, b) = (numbers(1, m * k), numbers(2, n * k));
        let expected = reference(shape, &a, &b);
        let mut bits: Option<Vec<u32>> = None;
        for isa in instruction_sets() {
            let mut c = vec![f32::NAN; m * n];
            with_isa(isa, 2, || {
                let b = Q8Matrix::new(Matrix::new(&b, n, k).transposed());
                assert_eq!(b.dims(), [k, n]);
                b.multiply(Matrix::new(&a, m, k), MatrixMut::new(&mut c, m, n), false);
            });
            assert_near(&format!("{isa:?} {shape:?}"), &c, &expected, 2e-6);
            let found: Vec<u32> = c.iter().map(|c| c.to_bits()).collect();
            assert_eq!(*bits.get_or_insert_with(|| found.clone()), found, "{isa:?} {shape:?}: other bits");
        }
    }
}

#[test]
fn a_row_in_8_bits_does_not_depend_on_its_neighbours_or_threads() {
    let [m, n, k] = [13, 200, 608];
    let (a, b) = (numbers(3, m * k), numbers(4, n * k));
    let b = Q8Matrix::new(Matrix::new(&b, k, n));
    let product = |rows: &[f32], threads| {
        let m = rows.len() / k;
        let mut c = vec![1.0; m * n];
        for isa in instruction_sets() {
            c.fill(1.0);
            with_isa(isa, threads, || {
                b.multiply(Matrix::new(rows, m, k), MatrixMut::new(&mut c, m, n), true);
            });
        }
        c
    };
    let all = product(&a, 1);
    assert_eq!(all, product(&a, 3));
    for (i, row) in a.chunks(k).enumerate() {
        assert_eq!(product(row, 2), all[i * n..][..n], "row {i}");
    }
}

/// The blocks that the Python package `gguf` 0.19 makes of these values (`gguf.quants.quantize`): halves that
/// go away from zero, a scale that f16 rounds, zeros.
#[test]
fn blocks_are_those_of_gguf_to_the_byte() {
    let values: [[f32; BLOCK]; 4] = [
        std::array::from_fn(|i| {
            let halves = [127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5, -126.5, -127.0];
            halves.get(i).copied().unwrap_or((i as f32 - 10.0) * 0.25 - 2.0)
        }),
        std::array::from_fn(|i| ((7 * i % 32).pow(2) as f64 * 0.0371 - 11.3) as f32),
        [0.0; BLOCK],
        std::array::from_fn(|i| ((i as f64 - 16.0) * 1e-8) as f32),
    ];
    let expected: [(u16, [i8; BLOCK]); 4] = [
        (
            0x3c00,
            [
                127, 1, 2, 3, -1, -2, -3, 127, -127, -127, -2, -2, -2, -1, -1, -1, -1, 0, 0, 0, 1, 1, 1, 1,
                2, 2, 2, 2, 3, 3, 3, 3,
            ],
        ),
        (
            0x3223,
            [
                -59, -49, -21, 26, 93, -57, -40, -3, 53, 127, -52, -26, 18, 82, -58, -43, -9, 43, 115, -54,
                -31, 11, 72, -59, -47, -15, 35, 104, -56, -36, 4, 62,
            ],
        ),
        (
            0x0000,
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
        (
            0x0000,
            [
                -127, -119, -111, -103, -95, -87, -79, -71, -63, -56, -48, -40, -32, -24, -16, -8, 0, 8, 16,
                24, 32, 40, 48, 56, 63, 71, 79, 87, 95, 103, 111, 119,
            ],
        ),
    ];
    for (values, (scale, bytes)) in values.iter().zip(expected) {
        assert_eq!(Q8Block::new(values), Q8Block { scale: f16::from_bits(scale), values: bytes });
    }
}

#[test]
fn a_matrix_has_the_blocks_of_its_columns_which_do_not_change_when_rounded_again() {
    let (n, k) = (40, 95);
    let b = numbers(5, n * k);
    let again: Vec<f32> = b.chunks(k).flat_map(weights).collect();
    let [b_blocks, again_blocks] = [&b, &again].map(|b| Q8Matrix::new(Matrix::new(b, n, k).transposed()));
    for (j, row) in b.chunks(k).enumerate() {
        let column: Vec<Q8Block> = b_blocks.column(j).collect();
        let mut padded = row.to_vec();
        padded.resize(k.next_multiple_of(BLOCK), 0.0);
        let expected: Vec<Q8Block> = padded.as_chunks().0.iter().map(Q8Block::new).collect();
        assert_eq!(column, expected, "column {j}");
        assert_eq!(again_blocks.column(j).collect::<Vec<_>>(), expected, "column {j}, again");
    }
}

#[test]
fn what_is_no_number_stays_so_in_8_bits() {
    let (a, b) = (numbers(6, 2 * 64), numbers(7, 64 * 3));
    for wrong in [f32::NAN, f32::INFINITY] {
        let mut a = a.clone();
        a[70] = wrong;
        let mut c = vec![0.0; 6];
        Q8Matrix::new(Matrix::new(&b, 64, 3)).multiply(
            Matrix::new(&a, 2, 64),
            MatrixMut::new(&mut c, 2, 3),
            false,
        );
        assert!(c[..3].iter().all(|c| c.is_finite()) && c[3..].iter().all(|c| !c.is_finite()), "{c:?}");
    }
}
