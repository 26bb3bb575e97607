//! Floats to what a file holds: F32, F16, BF16 and Q8_0.

use anyhow::{Result, bail, ensure};
use half::{bf16, f16};
use mm1_kernels::gemm::Q8Block;

use super::tensor_type::TensorType;

/// Appends `values`, whole blocks of them, as `kind` has them.
///
/// # Errors
/// One line for a type that is not written, and for a value that the type can't hold.
pub(super) fn quantise(kind: TensorType, values: &[f32], bytes: &mut Vec<u8>) -> Result<()> {
    match kind {
        TensorType::F32 => values.iter().for_each(|value| bytes.extend(value.to_le_bytes())),
        TensorType::BF16 => {
            values.iter().for_each(|&value| bytes.extend(bf16::from_f32(value).to_le_bytes()))
        }
        TensorType::F16 => {
            for &value in values {
                bytes.extend(half(kind, value)?.to_le_bytes());
            }
        }
        TensorType::Q8_0 => {
            for values in values.as_chunks().0 {
                q8_0(values, bytes)?;
            }
        }
        _ => bail!("{} can be read, not written: take F32, F16, BF16 or Q8_0", kind.name()),
    }
    Ok(())
}

/// As f16; what is finite stays finite.
fn half(kind: TensorType, value: f32) -> Result<f16> {
    let half = f16::from_f32(value);
    ensure!(
        half.is_finite() || !value.is_finite(),
        "a value of {value:e} is beyond {}: take BF16 or F32",
        kind.name()
    );
    Ok(half)
}

fn q8_0(values: &[f32; 32], bytes: &mut Vec<u8>) -> Result<()> {
    ensure!(values.iter().all(|value| value.is_finite()), "a value is no number: take F32");
    let Q8Block { scale, values } = Q8Block::new(values);
    ensure!(scale.is_finite(), "a scale is beyond {}: take BF16 or F32", TensorType::Q8_0.name());
    bytes.extend(scale.to_le_bytes());
    bytes.extend(values.map(i8::cast_unsigned));
    Ok(())
}
