//! Named tensors in safetensors files. Values of a checkpoint are f32, or what an optimizer keeps its moments
//! in.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use burn::tensor::{DType, TensorData};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors, View};

/// The types of a checkpoint's values, the engine's and the file's: f32, and the two bytes of moments in 8
/// bits.
const KINDS: [(DType, Dtype); 3] = [(DType::F32, Dtype::F32), (DType::I8, Dtype::I8), (DType::U8, Dtype::U8)];

struct Borrowed<'a>(&'a TensorData, Dtype);

impl View for Borrowed<'_> {
    fn dtype(&self) -> Dtype {
        self.1
    }
    fn shape(&self) -> &[usize] {
        self.0.shape().as_slice()
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.0.bytes())
    }
    fn data_len(&self) -> usize {
        self.0.bytes().len()
    }
}

pub(crate) fn write(path: &Path, tensors: &BTreeMap<String, TensorData>) -> Result<()> {
    let view = |(name, data)| {
        let kind = KINDS.iter().find(|(kind, _)| *kind == TensorData::dtype(data));
        let (_, kind) =
            kind.with_context(|| format!("{name} is {:?}; a checkpoint holds f32 and bytes", data.dtype()))?;
        Ok((name, Borrowed(data, *kind)))
    };
    let views = tensors.iter().map(view).collect::<Result<Vec<_>>>()?;
    safetensors::serialize_to_file(views, None, path).map_err(|e| match e {
        SafeTensorError::IoError(e) => anyhow!(e),
        e => anyhow!(e),
    })
}

pub(crate) fn read(path: &Path) -> Result<BTreeMap<String, TensorData>> {
    let bytes = fs::read(path).with_context(|| format!("can't read {}", path.display()))?;
    let file = SafeTensors::deserialize(&bytes)
        .with_context(|| format!("{} is not a whole safetensors file", path.display()))?;
    let tensor = |(name, view): (String, TensorView<'_>)| {
        let kind = KINDS.iter().find(|(_, kind)| *kind == view.dtype());
        let (kind, _) = kind.with_context(|| {
            format!("{}: {name} is {:?}; a checkpoint holds F32, I8 and U8", path.display(), view.dtype())
        })?;
        Ok((name, TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), *kind)))
    };
    file.tensors().into_iter().map(tensor).collect()
}
