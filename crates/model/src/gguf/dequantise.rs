//! From the bytes of a type to floats.

use half::{bf16, f16};

use super::tensor_type::TensorType;
use super::{blocks, k_blocks};

/// The numbers of whole blocks.
pub(super) fn dequantise(kind: TensorType, bytes: &[u8], values: &mut [f32]) {
    match kind {
        TensorType::F32 => each_float(bytes, values, f32::from_le_bytes),
        TensorType::F16 => each_float(bytes, values, |b| f16::from_le_bytes(b).to_f32()),
        TensorType::BF16 => each_float(bytes, values, |b| bf16::from_le_bytes(b).to_f32()),
        TensorType::Q4_0 => each_block(kind, bytes, values, blocks::q4_0),
        TensorType::Q4_1 => each_block(kind, bytes, values, blocks::q4_1),
        TensorType::Q5_0 => each_block(kind, bytes, values, blocks::q5_0),
        TensorType::Q5_1 => each_block(kind, bytes, values, blocks::q5_1),
        TensorType::Q8_0 => each_block(kind, bytes, values, blocks::q8_0),
        TensorType::Q2K => each_block(kind, bytes, values, k_blocks::q2),
        TensorType::Q3K => each_block(kind, bytes, values, k_blocks::q3),
        TensorType::Q4K => each_block(kind, bytes, values, k_blocks::q4),
        TensorType::Q5K => each_block(kind, bytes, values, k_blocks::q5),
        TensorType::Q6K => each_block(kind, bytes, values, k_blocks::q6),
        TensorType::Q8K => each_block(kind, bytes, values, k_blocks::q8),
    }
}

fn each_float<const N: usize>(bytes: &[u8], values: &mut [f32], float: impl Fn([u8; N]) -> f32) {
    values.iter_mut().zip(bytes.as_chunks().0).for_each(|(value, &bytes)| *value = float(bytes));
}

fn each_block(kind: TensorType, bytes: &[u8], values: &mut [f32], block: impl Fn(&[u8], &mut [f32])) {
    let numbers = values.chunks_exact_mut(kind.block());
    bytes.chunks_exact(kind.block_bytes()).zip(numbers).for_each(|(bytes, numbers)| block(bytes, numbers));
}
