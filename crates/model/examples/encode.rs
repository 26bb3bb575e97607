//! An imported image encoder's tokens, for bench/parity/encoders.
//!
//!     cargo run --release -p mm1-model --example encode -- \
//!         FOLDER_OR_ONNX PIXELS OUT [IMAGE_SIZE FEATURE_BLOCK]
//!
//! PIXELS and OUT are safetensors files with `pixels` `[n, h, w, 3]`, and with `tokens` `[n, t, d]` behind
//! the last norm, the class token first. With the last two arguments it is made for another `image_size` and
//! `feature_block`.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use burn::tensor::{Tensor, TensorData};
use mm1_model::device::DeviceKind;
use mm1_model::init::Init;
use mm1_model::ops::{Layout, Sight};
use mm1_model::vision::Vision;
use mm1_model::{Compute, import, weights};
use safetensors::tensor::{Dtype, TensorView};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    ensure!(
        arguments.len() == 3 || arguments.len() == 5,
        "usage: encode FOLDER_OR_ONNX PIXELS OUT [IMAGE_SIZE FEATURE_BLOCK]"
    );
    let imported = import::open(Path::new(&arguments[0]))?;
    let mut config = imported.config.clone();
    if let [image_size, feature_block] = &arguments[3..] {
        (config.image_size, config.feature_block) = (image_size.parse()?, Some(feature_block.parse()?));
        config.check()?;
    }
    let compute = Compute::new(DeviceKind::Cpu.open()?);
    let vision =
        weights::assign(Vision::new(&Init::new(0, compute.device()), &config), imported.fit(&config)?)?;

    let pixels = weights::decode(&std::fs::read(&arguments[1])?)?;
    let (_, shape, values) = pixels.into_iter().find(|t| t.0 == "pixels").context("there is no `pixels`")?;
    let x = vision.embed(&compute, Tensor::<4>::from_data(TensorData::new(values, shape), compute.device()));
    let layout = Layout::full(x.dims()[0], x.dims()[1], Sight::All);
    let tokens = vision.encode(&compute, x, &layout);
    let shape = tokens.dims().to_vec();
    let bytes: Vec<u8> = tokens.into_data().iter::<f32>().flat_map(f32::to_le_bytes).collect();
    let view = TensorView::new(Dtype::F32, shape, &bytes)?;
    Ok(safetensors::serialize_to_file([("tokens", view)], None, Path::new(&arguments[2]))?)
}
