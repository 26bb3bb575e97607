//! Named tensors in safetensors files. Every value of a checkpoint is f32.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use burn::tensor::{DType, TensorData};
use mm1_model::weights;
use safetensors::{Dtype, SafeTensorError, View};

struct Borrowed<'a>(&'a TensorData);

impl View for Borrowed<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
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
    for (name, data) in tensors {
        ensure!(data.dtype() == DType::F32, "{name} is {:?}; a checkpoint holds f32", data.dtype());
    }
    let views = tensors.iter().map(|(name, data)| (name, Borrowed(data)));
    safetensors::serialize_to_file(views, None, path).map_err(|e| match e {
        SafeTensorError::IoError(e) => anyhow!(e),
        e => anyhow!(e),
    })
}

pub(crate) fn read(path: &Path) -> Result<BTreeMap<String, TensorData>> {
    let bytes = fs::read(path).with_context(|| format!("can't read {}", path.display()))?;
    let tensors = weights::decode(&bytes).with_context(|| path.display().to_string())?;
    Ok(tensors.into_iter().map(|(name, shape, values)| (name, TensorData::new(values, shape))).collect())
}
