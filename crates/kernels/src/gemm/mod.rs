//! Matrix product in f32 or bfloat16, with sums in f32.
//!
//! The sum of an element of the product depends on its row of A and its column of B alone: it is made of
//! blocks of 512 words along k (a term each, or two in bfloat16 where an instruction takes them in pairs;
//! 2,048 such pairs in tiles), each added in an order that the instruction set fixes, and the blocks are
//! added in their order. So a row comes out with the same bits whatever the number of rows, their neighbours,
//! the number of threads, and whether `b` was packed before.
//!
//! Products of bfloat16 use the instructions of AMX or AVX-512 for them where they are fast
//! ([`crate::cpu::Isa::fastest`]), and otherwise round the operands and multiply in f32. All round operands
//! to nearest even and add in f32. They differ in the order in which terms are added, and in denormals, which
//! the instructions for bfloat16 take for zeros.

#![expect(unsafe_code, reason = "microkernels take pointers; matrices are checked where they are made")]

#[cfg(target_arch = "x86_64")]
mod amx;
mod block;
mod kernel;
mod matrix;
mod operand;
mod pack;
mod panel;
mod plan;
mod q8_0;
mod tile;
mod vector;
#[cfg(target_arch = "x86_64")]
mod x86;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::number::{Elements, ElementsMut};
pub(crate) use block::Panels;
pub(crate) use kernel::Kernel;
pub(crate) use matrix::SumRows;
pub use matrix::{Matrix, MatrixMut};
use operand::Operands;
pub use operand::{PackedB, Right};
pub use q8_0::{Q8Block, Q8Matrix};

/// What the inputs of matrix products are rounded to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Not rounded.
    #[default]
    F32,
    /// bfloat16: faster, half the memory for activations.
    Bf16,
}

/// Words along k whose terms are added one after another before they are added to the element; AMX has blocks
/// of its own. Blocks of 256 to 384 words are slower; 576 and 768 take 1.00 to 1.04 of the time in f32, 1,024
/// terms in bfloat16 0.997. Blocks of equal length in place of a short rest gain nothing that stands out of
/// the noise.
const KC: usize = 512;

/// `c = a b`, or `c += a b` if `accumulate`: `[m, k] x [k, n] -> [m, n]`; `b` is a [`Matrix`] or packed
/// before. An element of `c` is rounded once, when its sum is whole, if `c` is in bfloat16.
///
/// # Panics
/// If the shapes do not fit, or `b` is packed in another precision.
pub fn gemm<'a>(
    precision: Precision,
    a: Matrix<'a>,
    b: impl Into<Right<'a>>,
    c: MatrixMut<'_>,
    accumulate: bool,
) {
    let operands = Operands::new(precision, a, b.into());
    let (a, b, m, n) = (operands.a, operands.b, c.rows(), c.cols());
    assert!(
        a.rows == m && b.rows == n && a.k == b.k,
        "[{}, {}] x [{}, {}] is not [{m}, {n}]",
        a.rows,
        a.k,
        b.k,
        b.rows
    );
    plan::product(operands, c, accumulate);
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests;
