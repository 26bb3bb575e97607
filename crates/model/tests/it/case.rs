//! The golden files of scripts/reference/golden.py.

use std::collections::BTreeMap;
use std::path::PathBuf;

use burn::tensor::{Device, Tensor, TensorData};
use mm1_model::ops::{Composed, Layout, Precision, Sight, Span};
use mm1_model::{Compute, Input, Mm1, Mm1Config, weights};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

pub(crate) const NAMES: [&str; 6] =
    ["average-pool", "attention-pool", "c-abstractor", "mlp", "decoder", "cross-attention"];

pub(crate) struct Case {
    pub(crate) config: Mm1Config,
    pub(crate) layout: Layout,
    pub(crate) rows: usize,
    pub(crate) length: usize,
    pub(crate) ids: Vec<u32>,
    pub(crate) targets: Vec<u32>,
    pub(crate) image_slots: Vec<usize>,
    floats: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

pub(crate) fn read(name: &str) -> Case {
    let file =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../../testdata/model/{name}.safetensors"));
    let bytes = std::fs::read(file).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let about = header.metadata().clone().unwrap();
    let spans: Vec<[usize; 3]> = serde_json::from_str(&about["spans"]).unwrap();
    let spans = spans.into_iter().map(|[row, start, len]| Span { row, start, len }).collect();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut floats = BTreeMap::new();
    for (path, view) in file.tensors().into_iter().filter(|(_, view)| view.dtype() == Dtype::F32) {
        let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        floats.insert(path, (view.shape().to_vec(), values.collect()));
    }
    let ids = |key: &str| -> Vec<u32> {
        let view = file.tensor(&format!("input/{key}")).unwrap();
        view.data().chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as u32).collect()
    };
    Case {
        config: serde_json::from_str(&about["config"]).unwrap(),
        layout: Layout { spans, sight: Sight::Causal },
        rows: about["rows"].parse().unwrap(),
        length: about["length"].parse().unwrap(),
        ids: ids("ids"),
        targets: ids("targets"),
        image_slots: ids("image_slots").into_iter().map(|slot| slot as usize).collect(),
        floats,
    }
}

/// The CPU, with the fused operations.
pub(crate) fn cpu() -> Compute {
    Compute::new(Device::flex())
}

/// The CPU, with the composed operations.
pub(crate) fn composed() -> Compute {
    cpu().with_ops(Composed::new(Precision::F32))
}

/// The GPU by Vulkan. `None` where there is none, which is said.
#[cfg(feature = "vulkan")]
pub(crate) fn vulkan() -> Option<Compute> {
    let device = mm1_model::device::DeviceKind::Vulkan.open();
    device.inspect_err(|why| eprintln!("skipped: {why}")).ok().map(Compute::new)
}

/// What the decoder makes of every position, after its last norm: `[rows, length, d]`.
pub(crate) fn hidden(compute: &Compute, model: &Mm1, input: &Input<'_>) -> Tensor<3> {
    model.hidden(compute, input).unwrap()
}

/// The logits of every position: `[rows, length, v]`.
pub(crate) fn logits(compute: &Compute, model: &Mm1, input: &Input<'_>) -> Tensor<3> {
    model.lm.logits(compute, hidden(compute, model, input))
}

impl Case {
    pub(crate) fn model(&self, device: &Device) -> Mm1 {
        let given = self.floats.iter().filter_map(|(name, (shape, values))| {
            Some((name.strip_prefix("weights/")?.to_owned(), shape.clone(), values.clone()))
        });
        weights::assign(Mm1::new(&self.config, 0, device).unwrap(), given.collect()).unwrap()
    }

    pub(crate) fn input(&self) -> Input<'_> {
        Input {
            rows: self.rows,
            length: self.length,
            ids: &self.ids,
            layout: &self.layout,
            pixels: self.values("input/pixels"),
            image_slots: &self.image_slots,
        }
    }

    pub(crate) fn weights(&self) -> &[f32] {
        self.values("input/weights")
    }

    pub(crate) fn values(&self, name: &str) -> &[f32] {
        &self.floats[name].1
    }

    pub(crate) fn pixels(&self, device: &Device) -> Tensor<4> {
        let (shape, values) = &self.floats["input/pixels"];
        Tensor::from_data(TensorData::new(values.clone(), shape.clone()), device)
    }

    /// Names and values of the gradients.
    pub(crate) fn gradients(&self) -> BTreeMap<&str, &[f32]> {
        self.floats
            .iter()
            .filter_map(|(name, (_, values))| Some((name.strip_prefix("gradients/")?, values.as_slice())))
            .collect()
    }

    /// 1 inside a span, 0 at padding: `[rows * length]`.
    pub(crate) fn inside(&self) -> Vec<f32> {
        let mut inside = vec![0.0; self.rows * self.length];
        for span in &self.layout.spans {
            inside[span.row * self.length + span.start..][..span.len].fill(1.0);
        }
        inside
    }
}

pub(crate) fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().iter::<f32>().collect()
}

/// The largest difference, relative to the largest expected value.
pub(crate) fn difference(got: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(got.len(), expected.len());
    let largest = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
    let apart = got.iter().zip(expected).map(|(a, b)| (a - b).abs());
    apart.fold(0f32, |m, x| if x > m || x.is_nan() { x } else { m }) / largest.max(f32::MIN_POSITIVE)
}
