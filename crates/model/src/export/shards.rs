//! Writes tensors into safetensors files of Hugging Face's layout: one, or parts with an index.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use half::{bf16, f16};
use rayon::prelude::*;
use serde_json::{Map, Value, json};

/// How a number lies in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatType {
    /// Four bytes.
    F32,
    /// Two bytes, IEEE.
    F16,
    /// Two bytes with the exponent of f32.
    BF16,
}

impl FloatType {
    /// Bytes of one.
    fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }

    /// Its name in a header, and in PyTorch.
    fn names(self) -> [&'static str; 2] {
        match self {
            Self::F32 => ["F32", "float32"],
            Self::F16 => ["F16", "float16"],
            Self::BF16 => ["BF16", "bfloat16"],
        }
    }

    /// Its name in PyTorch.
    pub fn torch_name(self) -> &'static str {
        self.names()[1]
    }

    /// The number that is read back.
    pub fn rounded(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::F16 => f16::from_f32(value).to_f32(),
            Self::BF16 => bf16::from_f32(value).to_f32(),
        }
    }

    fn bytes(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::F16 => values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect(),
            Self::BF16 => values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect(),
        }
    }
}

/// The most bytes of tensors in one file, as transformers cuts them.
pub const SHARD_BYTES: usize = 5_000_000_000;

/// Which of the smaller types hold all values that were seen, each to the bit.
#[derive(Clone, Copy, Debug)]
pub(super) struct LosslessTypes {
    bf16: bool,
    f16: bool,
}

impl Default for LosslessTypes {
    fn default() -> Self {
        Self { bf16: true, f16: true }
    }
}

impl LosslessTypes {
    pub(super) fn see(&mut self, values: &[f32]) {
        let exact = |numbers: FloatType| {
            values.par_iter().all(|value| numbers.rounded(*value).to_bits() == value.to_bits())
        };
        self.bf16 = self.bf16 && exact(FloatType::BF16);
        self.f16 = self.f16 && exact(FloatType::F16);
    }

    /// The smallest type that loses nothing.
    pub(super) fn smallest(self) -> FloatType {
        match self {
            Self { bf16: true, .. } => FloatType::BF16,
            Self { f16: true, .. } => FloatType::F16,
            _ => FloatType::F32,
        }
    }
}

/// A tensor that will be written: its name and its sides.
pub(super) type TensorPlan = (String, Vec<usize>);

/// Where tensors are written, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct TensorFolder<'a> {
    pub(super) folder: &'a Path,
    pub(super) numbers: FloatType,
    /// The most bytes of tensors in one file, unless one tensor has more.
    pub(super) shard_bytes: usize,
}

/// Tensors for the files of a folder, in their order.
pub(super) struct SafetensorsWriter<'a> {
    to: TensorFolder<'a>,
    /// What is left, by file.
    shards: std::vec::IntoIter<Vec<TensorPlan>>,
    names: std::vec::IntoIter<String>,
    /// The file that is written, and its tensors that are left.
    open: Option<(BufWriter<File>, std::vec::IntoIter<TensorPlan>)>,
}

impl<'a> SafetensorsWriter<'a> {
    /// Plans the files, and writes their index if they are several.
    ///
    /// # Errors
    /// An index that can't be written.
    pub(super) fn new(to: TensorFolder<'a>, tensors: Vec<TensorPlan>) -> Result<Self> {
        let bytes = |plan: &TensorPlan| plan.1.iter().product::<usize>() * to.numbers.size();
        let total: usize = tensors.iter().map(bytes).sum();
        let (mut shards, mut filled) = (vec![Vec::new()], 0);
        for tensor in tensors {
            if filled > 0 && filled + bytes(&tensor) > to.shard_bytes {
                shards.push(Vec::new());
                filled = 0;
            }
            filled += bytes(&tensor);
            shards.last_mut().context("there is one")?.push(tensor);
        }
        let count = shards.len();
        let name = |i: usize| match count {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{:05}-of-{count:05}.safetensors", i + 1),
        };
        let names: Vec<String> = (0..count).map(name).collect();
        if count > 1 {
            let pairs = shards.iter().zip(&names);
            let map: BTreeMap<&String, &String> =
                pairs.flat_map(|(shard, file)| shard.iter().map(move |(name, _)| (name, file))).collect();
            let index = json!({"metadata": {"total_size": total}, "weight_map": map});
            let path = to.folder.join("model.safetensors.index.json");
            fs::write(&path, serde_json::to_vec_pretty(&index)?)
                .with_context(|| format!("{} can't be written", path.display()))?;
        }
        Ok(Self { to, shards: shards.into_iter(), names: names.into_iter(), open: None })
    }

    /// Writes all values of the next tensor, in row-major order.
    ///
    /// # Errors
    /// A value that the type can't hold, with the tensor's name; a file that can't be written.
    pub(super) fn put(&mut self, values: &[f32]) -> Result<()> {
        if self.open.as_ref().is_none_or(|(_, left)| left.len() == 0) {
            self.finish()?;
            self.next_file()?;
        }
        let (file, left) = self.open.as_mut().context("values for one tensor too many")?;
        let (name, shape) = left.next().context("values for one tensor too many")?;
        let count: usize = shape.iter().product();
        ensure!(values.len() == count, "the tensor `{name}` has {} values, needs {count}", values.len());
        let numbers = self.to.numbers;
        let lost = values.iter().find(|value| value.is_finite() && numbers.rounded(**value).is_infinite());
        ensure!(
            lost.is_none(),
            "the tensor `{name}` has the value {}, which {} can't hold: take --type bf16 or f32",
            lost.copied().unwrap_or_default(),
            numbers.torch_name()
        );
        // A piece at a time: the bytes of a large embedding beside its values would be held twice.
        values.chunks(1 << 16).try_for_each(|values| file.write_all(&numbers.bytes(values)))?;
        Ok(())
    }

    /// Brings the file that is open to the disk.
    ///
    /// # Errors
    /// A file that can't be written; a tensor that was given no values.
    pub(super) fn finish(&mut self) -> Result<()> {
        let Some((file, mut left)) = self.open.take() else { return Ok(()) };
        if let Some((name, _)) = left.next() {
            anyhow::bail!("the tensor `{name}` was given no values");
        }
        file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
        Ok(())
    }

    fn next_file(&mut self) -> Result<()> {
        let (Some(shard), Some(name)) = (self.shards.next(), self.names.next()) else { return Ok(()) };
        let path = self.to.folder.join(name);
        let mut file = BufWriter::new(
            File::create(&path).with_context(|| format!("{} can't be written", path.display()))?,
        );
        file.write_all(&header(&shard, self.to.numbers)?)?;
        self.open = Some((file, shard.into_iter()));
        Ok(())
    }
}

/// The length of a header, and the header, filled with spaces to a multiple of eight.
fn header(shard: &[TensorPlan], numbers: FloatType) -> Result<Vec<u8>> {
    // Hugging Face's readers ask the header which program's layout it is.
    let mut entries = Map::from_iter([("__metadata__".to_owned(), json!({"format": "pt"}))]);
    let mut start = 0;
    for (name, shape) in shard {
        let end = start + shape.iter().product::<usize>() * numbers.size();
        let entry = json!({"dtype": numbers.names()[0], "shape": shape, "data_offsets": [start, end]});
        entries.insert(name.clone(), entry);
        start = end;
    }
    let mut text = serde_json::to_vec(&Value::Object(entries))?;
    text.resize(text.len().next_multiple_of(8), b' ');
    Ok([(text.len() as u64).to_le_bytes().to_vec(), text].concat())
}
