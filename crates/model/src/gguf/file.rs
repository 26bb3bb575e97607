//! A file and its tensors, each of which is read when its values are asked for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use rayon::prelude::*;

use super::dequantise::dequantise;
use super::header::HeaderReader;
use super::metadata::MetadataValue;
use super::tensor_type::TensorType;
use super::{ALIGNMENT, MAGIC};
use crate::weight_file;

/// Values that a thread reads at once: whole blocks, and enough that opening the file again costs nothing.
const PIECE: usize = 1 << 18;
/// The most sides of a tensor, as in ggml.
const MOST_SIDES: u32 = 4;
/// The least bytes of one of the metadata (a key, a type, a byte), and of a tensor without sides.
const LEAST_ENTRY: u64 = 13;
const LEAST_TENSOR: u64 = 24;

/// What a file holds.
#[derive(Debug)]
pub struct GgufFile {
    /// What it says of itself, by key.
    pub metadata: BTreeMap<String, MetadataValue>,
    /// Its tensors, by name.
    pub tensors: BTreeMap<String, GgufTensor>,
}

/// A tensor where it lies.
// Rejected: a memory map. It needs `unsafe`, and a file that is cut short meanwhile stops the program.
#[derive(Clone, Debug)]
pub struct GgufTensor {
    /// Its sides, the last of which lies side by side: the other way round than in the file.
    pub shape: Vec<usize>,
    /// How its numbers lie there.
    pub tensor_type: TensorType,
    file: Arc<PathBuf>,
    /// The byte of the file where it begins.
    start: u64,
}

/// A tensor as the header has it.
struct TensorEntry {
    name: String,
    shape: Vec<usize>,
    tensor_type: TensorType,
    /// Where it begins behind the header, and its bytes.
    offset: u64,
    bytes: u64,
}

impl GgufFile {
    /// Reads everything but the values of the tensors.
    ///
    /// # Errors
    /// One line with the file and what is wrong: no GGUF of version 2 or 3, a length beyond the file, a text
    /// that is not UTF-8, a name twice, a type that is not known, tensors that overlap or leave bytes out.
    pub fn open(path: &Path) -> Result<Self> {
        Self::read(path).with_context(|| format!("{}: not a GGUF file that can be read", path.display()))
    }

    fn read(path: &Path) -> Result<Self> {
        let file = weight_file::open(path)?;
        let len = file.metadata()?.len();
        let mut header = HeaderReader::new(file, len);
        ensure!(header.bytes(4).is_ok_and(|magic| magic == MAGIC), "it does not begin with \"GGUF\"");
        let version = header.u32()?;
        ensure!(!matches!(version.swap_bytes(), 1..=3), "its numbers are big-endian");
        ensure!(matches!(version, 2 | 3), "it is of version {version}; only 2 and 3 can be read");
        let tensors = header.count("tensors", LEAST_TENSOR)?;
        let entries = header.count("values of metadata", LEAST_ENTRY)?;
        let mut metadata = BTreeMap::new();
        for _ in 0..entries {
            let key = header.name()?;
            let value = header.value().with_context(|| format!("{key:?}"))?;
            if let Some((key, _)) = metadata.get_key_value(&key) {
                bail!("it has {key:?} twice");
            }
            metadata.insert(key, value);
        }
        let alignment = alignment(&metadata)?;
        let mut infos = Vec::new();
        for _ in 0..tensors {
            infos.push(tensor(&mut header)?);
        }
        let start = header.at().next_multiple_of(alignment);
        check_places(&mut infos, alignment, len.saturating_sub(start))?;
        let file = Arc::new(path.to_owned());
        let mut tensors = BTreeMap::new();
        for TensorEntry { name, shape, tensor_type, offset, .. } in infos {
            let tensor = GgufTensor { shape, tensor_type, file: file.clone(), start: start + offset };
            ensure!(!tensors.contains_key(&name), "it has the tensor `{name}` twice");
            tensors.insert(name, tensor);
        }
        Ok(Self { metadata, tensors })
    }
}

/// At multiples of what tensors begin.
fn alignment(metadata: &BTreeMap<String, MetadataValue>) -> Result<u64> {
    let Some(value) = metadata.get("general.alignment") else { return Ok(ALIGNMENT) };
    let alignment = value.size().context("general.alignment")?;
    ensure!(
        alignment.is_power_of_two() && alignment <= 1 << 20,
        "general.alignment = {alignment} is not a power of two up to 1048576"
    );
    Ok(alignment as u64)
}

/// The next tensor of the header.
fn tensor(header: &mut HeaderReader) -> Result<TensorEntry> {
    let name = header.name()?;
    let mut rest = || {
        let sides = header.u32()?;
        ensure!(sides <= MOST_SIDES, "it has {sides} sides; at most {MOST_SIDES} can be read");
        let mut shape = (0..sides).map(|_| header.u64()).collect::<Result<Vec<_>>>()?;
        shape.reverse();
        let tensor_type = TensorType::of_number(header.u32()?)?;
        let offset = header.u64()?;
        let count = shape.iter().try_fold(1u64, |count, &side| count.checked_mul(side).filter(|&n| n > 0));
        let count = count.with_context(|| format!("its sides {shape:?} can't be"))?;
        let row = shape.last().copied().unwrap_or(1);
        let block = tensor_type.block() as u64;
        ensure!(
            row.is_multiple_of(block),
            "its rows of {row} are not of whole blocks of {block}, as {} has them",
            tensor_type.name()
        );
        let bytes = (count / block).checked_mul(tensor_type.block_bytes() as u64);
        let bytes = bytes.with_context(|| format!("its sides {shape:?} can't be"))?;
        let shape = shape.into_iter().map(usize::try_from).collect::<Result<_, _>>()?;
        Ok((shape, tensor_type, offset, bytes))
    };
    let (shape, tensor_type, offset, bytes) = rest().with_context(|| format!("the tensor {name:?}"))?;
    Ok(TensorEntry { name, shape, tensor_type, offset, bytes })
}

/// Checks that tensors follow each other, with nothing between them but the alignment, to the file's end:
/// `len` bytes.
fn check_places(tensors: &mut [TensorEntry], alignment: u64, len: u64) -> Result<()> {
    tensors.sort_by_key(|tensor| tensor.offset);
    let mut end = 0u64;
    for TensorEntry { name, offset, bytes, .. } in &*tensors {
        let expected = end.next_multiple_of(alignment);
        ensure!(
            *offset == expected,
            "the tensor `{name}` begins {offset} bytes behind the header, not {expected}, where the one \
             before it ends"
        );
        // Of two tensors of one place, the second is refused here: each has at least a byte.
        end = offset.checked_add(*bytes).filter(|&end| end <= len).with_context(|| {
            format!("the tensor `{name}` needs {bytes} bytes from {offset} on, and {len} are there")
        })?;
    }
    let left = len - end.min(len);
    ensure!(left < alignment, "{left} bytes are left behind its last tensor");
    Ok(())
}

impl GgufTensor {
    /// Its values as f32, in row-major order, read on all threads.
    ///
    /// # Errors
    /// When the file can't be read any more.
    pub fn read(&self) -> Result<Vec<f32>> {
        let mut values = vec![0.0; self.shape.iter().product()];
        let pieces = values.par_chunks_mut(PIECE).enumerate();
        pieces.try_for_each(|(i, values)| {
            let (block, size) = (self.tensor_type.block(), self.tensor_type.block_bytes());
            let mut bytes = vec![0; values.len() / block * size];
            self.at((i * PIECE / block * size) as u64)?.read_exact(&mut bytes)?;
            dequantise(self.tensor_type, &bytes, values);
            anyhow::Ok(())
        })?;
        Ok(values)
    }

    /// Its bytes as they lie in the file, piece after piece.
    ///
    /// # Errors
    /// When the file can't be read any more.
    pub fn bytes(&self, mut each: impl FnMut(&[u8])) -> Result<()> {
        let blocks = self.shape.iter().product::<usize>() / self.tensor_type.block();
        let (mut left, mut piece) = (blocks * self.tensor_type.block_bytes(), vec![0; PIECE]);
        let mut file = self.at(0)?;
        while left > 0 {
            let piece = &mut piece[..left.min(PIECE)];
            file.read_exact(piece)?;
            each(piece);
            left -= piece.len();
        }
        Ok(())
    }

    /// The file, at a byte of this tensor. Each reader has its own place in it.
    fn at(&self, byte: u64) -> Result<File> {
        let mut file = File::open(&*self.file)?;
        file.seek(SeekFrom::Start(self.start + byte))?;
        Ok(file)
    }
}
