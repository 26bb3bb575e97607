//! Ten losses of the same steps in PyTorch: testdata/model/*.safetensors by scripts/reference/golden.py, in
//! f64.

use std::path::Path;

use mm1_data::batch::{Batch, BatchExample};
use mm1_model::{Compute, Mm1, Mm1Config, weights};
use mm1_train::{OptimizerConfig, Trainer};
use safetensors::SafeTensors;

use crate::toy::compute;

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn integers(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as u32).collect()
}

fn check(name: &str) {
    check_on(&compute(), name);
}

fn check_on(compute: &Compute, name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../testdata/model/{name}.safetensors"));
    let bytes = std::fs::read(path).unwrap();
    let about = SafeTensors::read_metadata(&bytes).unwrap().1.metadata().clone().unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let data = |key: &str| file.tensor(key).unwrap().data().to_vec();
    let config: Mm1Config = serde_json::from_str(&about["config"]).unwrap();
    let spans: Vec<[usize; 3]> = serde_json::from_str(&about["spans"]).unwrap();
    let batch = Batch {
        rows: about["rows"].parse().unwrap(),
        length: about["length"].parse().unwrap(),
        ids: integers(&data("input/ids")),
        targets: integers(&data("input/targets")),
        weights: floats(&data("input/weights")),
        examples: spans
            .into_iter()
            .map(|[row, start, len]| BatchExample { row, start, len, ..BatchExample::default() })
            .collect(),
        pixels: floats(&data("input/pixels")),
        image_size: config.vision.image_size,
        image_slots: integers(&data("input/image_slots")).into_iter().map(|slot| slot as usize).collect(),
        ..Batch::default()
    };
    let given = file.tensors().into_iter().filter_map(|(path, view)| {
        Some((path.strip_prefix("weights/")?.to_string(), view.shape().to_vec(), floats(view.data())))
    });
    let model =
        weights::assign(Mm1::new(&config, 0, &compute.training_device()).unwrap(), given.collect()).unwrap();
    // The file's steps are not clipped.
    let config = OptimizerConfig { clip_norm: f64::INFINITY, ..OptimizerConfig::default() };
    let mut trainer = Trainer::new(compute, model, config).unwrap();
    for (step, expected) in floats(&data("losses")).into_iter().enumerate() {
        let loss = trainer.step(std::slice::from_ref(&batch), 0.003).unwrap().loss;
        let apart = (loss / f64::from(expected) - 1.0).abs();
        assert!(apart < 2e-5, "{name}, step {step}: {loss} and PyTorch's {expected} are {apart:e} apart");
    }
}

#[cfg(feature = "vulkan")]
#[test]
fn ten_losses_are_pytorchs_on_vulkan() {
    let Some(compute) = crate::toy::vulkan() else { return };
    for name in ["average-pool", "attention-pool", "c-abstractor"] {
        check_on(&compute, name);
    }
}

#[test]
fn ten_losses_are_pytorchs_with_average_pooling() {
    check("average-pool");
}

#[test]
fn ten_losses_are_pytorchs_with_attention_pooling() {
    check("attention-pool");
}

#[test]
fn ten_losses_are_pytorchs_with_the_c_abstractor() {
    check("c-abstractor");
}

#[test]
fn ten_losses_are_pytorchs_with_llavas_mlp() {
    check("mlp");
}

#[test]
fn ten_losses_are_pytorchs_with_flamingos_layers() {
    check("cross-attention");
}
