//! Writes a file: whole, or not at all.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::metadata::MetadataValue;
use super::quantise::quantise;
use super::tensor_type::TensorType;
use super::{ALIGNMENT, MAGIC};

/// Values that are made bytes of at once: whole blocks.
const PIECE: usize = 1 << 16;

/// A tensor that will be written.
#[derive(Clone, Debug)]
pub struct TensorSpec {
    /// Its name.
    pub name: String,
    /// Its sides, the last of which lies side by side.
    pub shape: Vec<usize>,
    /// How its numbers will lie in the file.
    pub tensor_type: TensorType,
}

/// Writes metadata and tensors in their order. `values` is handed a writer, which takes the values of one
/// tensor after another.
///
/// # Errors
/// One line with the file: it can't be written; rows that are not of whole blocks; values that the type can't
/// hold, or of another number than the shape says, both with the tensor's name; what `values` refuses. What
/// was begun is removed.
pub fn write(
    path: &Path,
    metadata: &[(String, MetadataValue)],
    tensors: &[TensorSpec],
    values: impl FnOnce(&mut TensorWriter<'_>) -> Result<()>,
) -> Result<()> {
    let shown = || format!("{} can't be written", path.display());
    let name = path.file_name().with_context(shown)?;
    let beside = path.with_file_name(format!(".{}.new", name.to_string_lossy()));
    let put = || {
        let mut file = BufWriter::new(File::create(&beside)?);
        file.write_all(&header(metadata, tensors)?)?;
        let mut writer = TensorWriter { file, tensors: tensors.iter() };
        values(&mut writer)?;
        if let Some(tensor) = writer.tensors.next() {
            anyhow::bail!("the tensor `{}` was given no values", tensor.name);
        }
        let file = writer.file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        // Before the rename: else the name may reach the disk and the bytes may not.
        file.sync_all()?;
        fs::rename(&beside, path)?;
        anyhow::Ok(())
    };
    // The first error is the one to report.
    put().inspect_err(|_| drop(fs::remove_file(&beside))).with_context(shown)
}

/// Takes values for the tensors of a file.
#[derive(Debug)]
pub struct TensorWriter<'a> {
    file: BufWriter<File>,
    tensors: std::slice::Iter<'a, TensorSpec>,
}

impl TensorWriter<'_> {
    /// Writes all values of the next tensor, in row-major order.
    ///
    /// # Errors
    /// See [`write()`].
    pub fn put(&mut self, values: &[f32]) -> Result<()> {
        let tensor = self.tensors.next().context("values for one tensor too many")?;
        let count: usize = tensor.shape.iter().product();
        ensure!(
            values.len() == count,
            "the tensor `{}` has {} values, needs {count}",
            tensor.name,
            values.len()
        );
        let mut bytes = Vec::new();
        for values in values.chunks(PIECE) {
            bytes.clear();
            let done = quantise(tensor.tensor_type, values, &mut bytes);
            done.with_context(|| format!("the tensor `{}`", tensor.name))?;
            self.file.write_all(&bytes)?;
        }
        let padding = tensor_bytes(tensor).next_multiple_of(ALIGNMENT) - tensor_bytes(tensor);
        self.file.write_all(&vec![0; padding as usize])?;
        Ok(())
    }
}

fn tensor_bytes(tensor: &TensorSpec) -> u64 {
    let blocks = tensor.shape.iter().product::<usize>() / tensor.tensor_type.block();
    (blocks * tensor.tensor_type.block_bytes()) as u64
}

/// Everything before the tensors.
fn header(metadata: &[(String, MetadataValue)], tensors: &[TensorSpec]) -> Result<Vec<u8>> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        put_text(key, &mut bytes);
        put_value(value, &mut bytes);
    }
    let mut offset = 0u64;
    for tensor in tensors {
        let TensorSpec { name, shape, tensor_type } = tensor;
        let row = shape.last().copied().unwrap_or(1);
        ensure!(
            row.is_multiple_of(tensor_type.block()),
            "the tensor `{name}` has rows of {row}, which are not of whole blocks of {}",
            tensor_type.block()
        );
        put_text(name, &mut bytes);
        bytes.extend((shape.len() as u32).to_le_bytes());
        shape.iter().rev().for_each(|&side| bytes.extend((side as u64).to_le_bytes()));
        bytes.extend(tensor_type.number().to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        offset += tensor_bytes(tensor).next_multiple_of(ALIGNMENT);
    }
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT as usize), 0);
    Ok(bytes)
}

fn put_text(text: &str, bytes: &mut Vec<u8>) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn put_value(value: &MetadataValue, bytes: &mut Vec<u8>) {
    value.type_numbers().into_iter().for_each(|number| bytes.extend(number.to_le_bytes()));
    let mut count = |count: usize| bytes.extend((count as u64).to_le_bytes());
    match value {
        MetadataValue::Number(number) => bytes.extend(&number.bytes),
        MetadataValue::Numbers(numbers) => {
            count(numbers.bytes.len() / numbers.number_type.size());
            bytes.extend(&numbers.bytes);
        }
        MetadataValue::Bool(value) => bytes.push(u8::from(*value)),
        MetadataValue::Bools(values) => {
            count(values.len());
            bytes.extend(values.iter().map(|&value| u8::from(value)));
        }
        MetadataValue::Text(text) => put_text(text, bytes),
        MetadataValue::Texts(texts) => {
            count(texts.len());
            texts.iter().for_each(|text| put_text(text, bytes));
        }
    }
}
