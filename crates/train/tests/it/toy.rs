//! A module whose gradients are known, and a small MM1 with batches for it.

use anyhow::Result;
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use mm1_data::batch::{Batch, BatchExample};
use mm1_model::{Compute, Mm1, Mm1Config};
use mm1_train::{MicroBatch, Objective, Step, StepResult};
use serde_json::json;

pub(crate) fn compute() -> Compute {
    Compute::new(Device::flex())
}

/// The GPU by Vulkan. `None` where there is none, which is said.
#[cfg(feature = "vulkan")]
pub(crate) fn vulkan() -> Option<Compute> {
    let device = mm1_model::device::DeviceKind::Vulkan.open();
    device.inspect_err(|why| eprintln!("skipped: {why}")).ok().map(Compute::new)
}

pub(crate) fn device() -> Device {
    compute().training_device()
}

#[derive(Module, Debug)]
pub(crate) struct Matrix {
    pub(crate) matrix: Param<Tensor<2>>,
}

#[derive(Module, Debug)]
pub(crate) struct Cube {
    pub(crate) matrix: Param<Tensor<3>>,
}

#[derive(Module, Debug)]
pub(crate) struct Linear {
    pub(crate) matrix: Param<Tensor<2>>,
    pub(crate) bias: Param<Tensor<1>>,
}

/// Parameters of every rank in the three groups.
#[derive(Module, Debug)]
pub(crate) struct Toy {
    pub(crate) vision: Matrix,
    pub(crate) connector: Cube,
    pub(crate) lm: Linear,
}

impl Toy {
    pub(crate) fn new(values: impl Fn(&str) -> Vec<f32>) -> Self {
        Self::on(&device(), values)
    }

    pub(crate) fn on(device: &Device, values: impl Fn(&str) -> Vec<f32>) -> Self {
        fn param<const D: usize>(device: &Device, values: Vec<f32>, shape: [usize; D]) -> Param<Tensor<D>> {
            Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), device))
        }
        Self {
            vision: Matrix { matrix: param(device, values("vision.matrix"), [3, 4]) },
            connector: Cube { matrix: param(device, values("connector.matrix"), [2, 3, 2]) },
            lm: Linear {
                matrix: param(device, values("lm.matrix"), [4, 5]),
                bias: param(device, values("lm.bias"), [5]),
            },
        }
    }
}

/// The loss is Σ parameter · coefficient, so that the coefficients are the gradients.
#[derive(Clone)]
pub(crate) struct Coefficients {
    pub(crate) of: fn(&Coefficients, &str) -> Vec<f32>,
    pub(crate) table: serde_json::Value,
    pub(crate) samples: Vec<String>,
}

impl Objective for Toy {
    type Batch = Coefficients;

    fn weight(_: &Coefficients) -> f64 {
        1.0
    }

    fn backward(&self, compute: &Compute, step: &Step<'_, Coefficients>) -> Result<StepResult> {
        fn product<const D: usize>(p: &Param<Tensor<D>>, c: Vec<f32>) -> Tensor<1> {
            let p = p.val();
            let c = Tensor::from_data(TensorData::new(c, p.dims()), &p.device());
            (p * c).sum()
        }
        StepResult::of_sums(compute, self, step, |batch| {
            let of = |name: &str| (batch.of)(batch, name);
            Ok(product(&self.vision.matrix, of("vision.matrix"))
                + product(&self.connector.matrix, of("connector.matrix"))
                + product(&self.lm.matrix, of("lm.matrix"))
                + product(&self.lm.bias, of("lm.bias")))
        })
    }
}

impl MicroBatch for Coefficients {
    fn tokens(&self) -> usize {
        0
    }
    fn images(&self) -> usize {
        0
    }
    fn samples(&self) -> impl Iterator<Item = &str> {
        self.samples.iter().map(String::as_str)
    }
}

pub(crate) fn config() -> Mm1Config {
    serde_json::from_value(json!({
        "vision": { "image_size": 16, "patch": 4, "dim": 16, "layers": 2, "heads": 2, "ffn": 32 },
        "connector": { "kind": "c-abstractor", "tokens": 4, "dim": 16, "depth": 1 },
        "lm": { "vocab": 50, "dim": 16, "layers": 2, "heads": 4, "kv_heads": 2, "ffn": 32 },
    }))
    .unwrap()
}

pub(crate) fn model() -> Mm1 {
    Mm1::new(&config(), 7, &device()).unwrap()
}

/// `rows` rows of two examples each: one with a picture and ten tokens, one with eight tokens of text; then
/// padding. Row `i` of all has the same content however the rows are cut into batches; rows differ in what
/// they learn.
pub(crate) fn batch(seed: usize, rows: std::ops::Range<usize>) -> Batch {
    let length = 24;
    let mut batch = Batch { rows: rows.len(), length, image_size: 16, ..Batch::default() };
    for (row, index) in rows.enumerate() {
        let hash = |i: usize| (seed * 7919 + index * 104_729 + i * 15_485_863 + 12_345) / 7;
        let ids: Vec<u32> = (0..length).map(|i| if i < 22 { 1 + (hash(i) % 49) as u32 } else { 0 }).collect();
        for i in 0..length {
            let learned = (5..13).contains(&i) && (i - 5) <= index || (15..21).contains(&i);
            batch.targets.push(if learned { ids[i + 1] } else { 0 });
            batch.weights.push(f32::from(u8::from(learned)));
        }
        batch.ids.extend(ids);
        let learned = |range: std::ops::Range<usize>| {
            let at = row * length;
            range.map(|i| at + i).filter(|&i| batch.weights[i] > 0.0).map(|i| batch.targets[i]).collect()
        };
        let slots = batch.image_slots.len()..batch.image_slots.len() + 1;
        let example =
            |sample: &str, range: std::ops::Range<usize>, slots: std::ops::Range<usize>| BatchExample {
                sample: format!("{sample}/{seed}/{index}"),
                row,
                start: range.start,
                len: range.len(),
                views: slots.clone().map(|_| 1).collect(),
                slots,
                caption: learned(range),
                truncated: false,
            };
        let examples = [example("picture", 0..14, slots), example("text", 14..22, 0..0)];
        batch.examples.extend(examples);
        batch.image_slots.push(row * length);
        batch.pixels.extend((0..16 * 16 * 3).map(|i| (hash(i * 31) % 1000) as f32 / 500.0 - 1.0));
    }
    batch
}

/// The same batch as text alone: pictures and their examples taken out.
pub(crate) fn text_only(mut batch: Batch) -> Batch {
    batch.pixels.clear();
    batch.image_slots.clear();
    batch.examples.retain(|example| example.sample.starts_with("text"));
    for (i, w) in batch.weights.iter_mut().enumerate() {
        if i % batch.length < 14 {
            *w = 0.0;
        }
    }
    batch
}
