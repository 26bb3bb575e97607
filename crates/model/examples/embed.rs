//! An imported CLIP's or SigLIP's vectors, for bench/parity/encoders.
//!
//!     cargo run --release -p mm1-model --example embed -- FOLDER PIXELS IDS OUT
//!
//! PIXELS is a safetensors file with `pixels` `[n, h, w, 3]`, IDS a JSON list of m texts' ids. OUT gets
//! `images` `[n, e]` and `texts` `[m, e]`, of length 1.

use std::path::Path;

use anyhow::{Context, Result, bail};
use burn::tensor::{Tensor, TensorData};
use mm1_model::device::DeviceKind;
use mm1_model::import::{self, towers};
use mm1_model::{Compute, weights};
use safetensors::tensor::{Dtype, TensorView};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, pixels, ids, out] = &arguments[..] else { bail!("usage: embed FOLDER PIXELS IDS OUT") };
    let (folder, compute) = (Path::new(folder), Compute::new(DeviceKind::Cpu.open()?));
    let vision = import::open(folder)?.config;
    let towers = towers::open(folder)?.context("there is no text tower")?.fit(&vision, compute.device())?;

    let pixels = weights::decode(&std::fs::read(pixels)?)?;
    let (_, shape, values) = pixels.into_iter().find(|t| t.0 == "pixels").context("there is no `pixels`")?;
    let images =
        towers.embed_pictures(&compute, Tensor::from_data(TensorData::new(values, shape), compute.device()));
    let ids: Vec<Vec<u32>> = serde_json::from_slice(&std::fs::read(ids)?)?;
    let texts = towers.embed_texts(&compute, &ids)?;

    let (images, texts) = (Flat::of(images), Flat::of(texts));
    let found = [("images", images.view()?), ("texts", texts.view()?)];
    Ok(safetensors::serialize_to_file(found, None, Path::new(out))?)
}

/// A matrix as a file has it.
struct Flat {
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Flat {
    fn of(x: Tensor<2>) -> Self {
        let shape = x.dims().to_vec();
        Self { shape, bytes: x.into_data().iter::<f32>().flat_map(f32::to_le_bytes).collect() }
    }

    fn view(&self) -> Result<TensorView<'_>> {
        Ok(TensorView::new(Dtype::F32, self.shape.clone(), &self.bytes)?)
    }
}
