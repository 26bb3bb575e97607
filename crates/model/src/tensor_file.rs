//! The tensors of a safetensors file, where they lie: each is read when its values are asked for, so that the
//! peak of loading is one tensor beside the model, and what nobody asks for costs nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::tensor::{Dtype, Metadata};

use crate::weight_file;

/// The longest header of a safetensors file, as its own reader has it.
const MOST_HEADER: u64 = 100_000_000;

/// Values that a thread reads at once: enough that opening the file again costs nothing.
const PIECE: usize = 1 << 20;

/// One tensor.
pub(crate) struct FileTensor {
    /// Its sides, the last of which lies side by side.
    pub(crate) shape: Vec<usize>,
    /// The type of its values.
    pub(crate) dtype: Dtype,
    file: Arc<PathBuf>,
    /// Where its bytes begin in the file.
    start: u64,
    /// How many they are: those of the shape and the type (checked by safetensors).
    bytes: usize,
}

/// The tensors of `file` by their names.
///
/// # Errors
/// With the file's name when it can't be read or is not whole.
pub(crate) fn open(file: &Path) -> Result<BTreeMap<String, FileTensor>> {
    let damaged = || format!("{}: not a whole safetensors file", file.display());
    let mut reader = weight_file::open(file)?;
    let all = reader.metadata().with_context(damaged)?.len();
    let mut size = [0; 8];
    reader.read_exact(&mut size).with_context(damaged)?;
    // Sizes are checked before memory is asked for: the header's length is whatever the file's first bytes
    // say.
    let header = u64::from_le_bytes(size);
    ensure!(header <= MOST_HEADER.min(all), "{}: its header is of {header} bytes", damaged());
    let mut text = vec![0; header as usize];
    reader.read_exact(&mut text).with_context(damaged)?;
    let metadata: Metadata = serde_json::from_slice(&text).with_context(damaged)?;
    let (first, needed) = (8 + header, metadata.data_len() as u64);
    // A shape may ask for nearly 2^64 bytes.
    let whole = first.saturating_add(needed);
    ensure!(whole == all, "{}: {all} bytes, needs {whole}", damaged());
    let file = Arc::new(file.to_owned());
    let names = metadata.offset_keys().into_iter();
    let tensors = names.filter_map(|name| {
        let info = metadata.info(&name)?;
        let (start, end) = info.data_offsets;
        let tensor = FileTensor {
            shape: info.shape.clone(),
            dtype: info.dtype,
            file: file.clone(),
            start: first + start as u64,
            bytes: end - start,
        };
        Some((name, tensor))
    });
    Ok(tensors.collect())
}

impl FileTensor {
    /// Refuses a type that [`Self::read`] does not know.
    ///
    /// # Errors
    /// A type other than f32, f16 and bf16.
    pub(crate) fn check_type(&self) -> Result<()> {
        match self.dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => Ok(()),
            other => bail!("it is {other:?}; only F32, F16 and BF16 can be"),
        }
    }

    /// Its values as f32, in row-major order, read on all threads.
    ///
    /// # Errors
    /// When the file can't be read any more; a type other than f32, f16 and bf16.
    pub(crate) fn read(&self) -> Result<Vec<f32>> {
        self.check_type()?;
        let mut values = vec![0.0; self.shape.iter().product()];
        let pieces = values.par_chunks_mut(PIECE).enumerate();
        pieces.try_for_each(|(i, values)| self.read_piece(i * PIECE, values))?;
        Ok(values)
    }

    /// Its values as integers, in row-major order.
    ///
    /// # Errors
    /// When the file can't be read any more; a type other than i64 and i32.
    pub(crate) fn integers(&self) -> Result<Vec<i64>> {
        let mut bytes = vec![0; self.bytes];
        self.at(0)?.read_exact(&mut bytes)?;
        Ok(match self.dtype {
            Dtype::I64 => bytes
                .chunks_exact(8)
                .map(|b| i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
                .collect(),
            Dtype::I32 => bytes
                .chunks_exact(4)
                .map(|b| i64::from(i32::from_le_bytes([b[0], b[1], b[2], b[3]])))
                .collect(),
            other => bail!("it is {other:?}; only I64 and I32 can be"),
        })
    }

    /// Its bytes as they lie in the file, piece after piece.
    ///
    /// # Errors
    /// When the file can't be read any more.
    pub(crate) fn bytes(&self, mut each: impl FnMut(&[u8])) -> Result<()> {
        let mut file = self.at(0)?;
        let (mut left, mut piece) = (self.bytes, vec![0; self.bytes.min(4 * PIECE)]);
        while left > 0 {
            let piece = &mut piece[..left.min(4 * PIECE)];
            file.read_exact(piece)?;
            each(piece);
            left -= piece.len();
        }
        Ok(())
    }

    /// The values from the one of number `first` on.
    fn read_piece(&self, first: usize, values: &mut [f32]) -> Result<()> {
        let size = if self.dtype == Dtype::F32 { 4 } else { 2 };
        let mut bytes = vec![0; size * values.len()];
        self.at(size * first)?.read_exact(&mut bytes)?;
        let halves = || bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
        match self.dtype {
            Dtype::F16 => fill(values, halves().map(|bits| f16::from_bits(bits).to_f32())),
            Dtype::BF16 => fill(values, halves().map(|bits| bf16::from_bits(bits).to_f32())),
            _ => fill(values, bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))),
        }
        Ok(())
    }

    /// The file, at the byte of number `first` of this tensor. Each reader has its own place in it.
    fn at(&self, first: usize) -> Result<File> {
        let mut file = File::open(&*self.file)?;
        file.seek(SeekFrom::Start(self.start + first as u64))?;
        Ok(file)
    }
}

fn fill(values: &mut [f32], with: impl Iterator<Item = f32>) {
    values.iter_mut().zip(with).for_each(|(value, with)| *value = with);
}
