//! Low-rank adapters: beside peft (scripts/reference/lora.py), merged, with dropout, and their first values.

use std::collections::BTreeMap;
use std::path::PathBuf;

use burn::tensor::{Device, Tensor};
use mm1_model::adapter::{AdapterConfig, AdapterPart, AdapterTarget};
use mm1_model::ops::Precision;
use mm1_model::weights::Named;
use mm1_model::{Compute, Layout, Mm1, Mm1Config, Sight, Span, adapted, weights};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use crate::case::{self, Case, difference, values};

const ALL: [AdapterTarget; 7] = [
    AdapterTarget::Q,
    AdapterTarget::K,
    AdapterTarget::V,
    AdapterTarget::Out,
    AdapterTarget::Gate,
    AdapterTarget::Up,
    AdapterTarget::Down,
];

fn everywhere(dropout: f64) -> AdapterConfig {
    let parts = vec![AdapterPart::Vision, AdapterPart::Lm];
    AdapterConfig { rank: 3, dropout, targets: ALL.to_vec(), parts, ..AdapterConfig::default() }
}

fn is_adapter(path: &str) -> bool {
    path.contains(".adapter.")
}

/// `model` with adapters everywhere of which no value is 0.
fn trained(model: Mm1, config: &AdapterConfig) -> Mm1 {
    let model = adapted::with_adapters(model, config, 5);
    let number = |i: usize| ((i * 7919 + 13) % 2003) as f32 / 1001.5 - 1.0;
    let of = |(path, shape, mut values): Named| {
        if path.ends_with("lora_b") {
            values.iter_mut().enumerate().for_each(|(i, value)| *value = 0.1 * number(i + path.len()));
        }
        (path, shape, values)
    };
    let given = weights::parameters(&model).into_iter().map(of).collect();
    weights::assign(model, given).unwrap()
}

/// What only adapters' parts train.
fn frozen(model: Mm1) -> Mm1 {
    let own: Vec<String> = weights::shapes(&model)
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| adapted::trains(&model, path))
        .collect();
    weights::freeze(model, |path| !own.iter().any(|own| own == path))
}

fn loss(compute: &Compute, case: &Case, model: &Mm1) -> Tensor<1> {
    model.loss(compute, &case.input(), &case.targets, case.weights()).unwrap()
}

/// The file of scripts/reference/lora.py.
struct Peft {
    bytes: Vec<u8>,
    about: BTreeMap<String, Value>,
}

impl Peft {
    fn read() -> Self {
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/model/lora.safetensors");
        let bytes = std::fs::read(file).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let about = header.metadata().clone().unwrap().into_iter();
        let about = about.map(|(key, value)| (key, serde_json::from_str(&value).unwrap())).collect();
        Self { bytes, about }
    }

    fn size(&self, name: &str) -> usize {
        self.about[name].as_u64().unwrap() as usize
    }

    fn config(&self) -> AdapterConfig {
        serde_json::from_value(self.about["adapter"].clone()).unwrap()
    }

    /// The tensors under `part/`, by the rest of their names.
    fn floats(&self, part: &str) -> BTreeMap<String, Vec<f32>> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let of = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
            let name = name.strip_prefix(part)?.to_owned();
            let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
            (view.dtype() == Dtype::F32).then(|| (name, values.collect()))
        };
        file.tensors().into_iter().filter_map(of).collect()
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = file.tensor(name).unwrap();
        view.data().chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as u32).collect()
    }

    /// The decoder with its adapters, beside a small encoder that is not asked.
    fn model(&self, device: &Device) -> Mm1 {
        let config: Mm1Config = serde_json::from_value(json!({
            "vision": { "image_size": 4, "patch": 2, "dim": 4, "layers": 1, "heads": 1, "ffn": 4 },
            "connector": { "kind": "average-pool", "tokens": 1 },
            "lm": self.about["lm"],
        }))
        .unwrap();
        let model = adapted::with_adapters(Mm1::new(&config, 0, device).unwrap(), &self.config(), 0);
        let mut given = self.floats("weights/");
        let own = weights::parameters(&model).into_iter();
        let own = own.map(|(path, shape, values)| {
            let values = given.remove(&path).unwrap_or(values);
            (path, shape, values)
        });
        let own = own.collect();
        assert!(given.is_empty(), "{:?}", given.keys());
        weights::assign(model, own).unwrap()
    }
}

#[test]
fn loss_and_gradients_of_adapters_are_pefts() {
    let peft = Peft::read();
    let [rows, length] = ["rows", "length"].map(|name| peft.size(name));
    let spans = (0..rows).map(|row| Span { row, start: 0, len: length }).collect();
    let layout = Layout { spans, sight: Sight::Causal };
    let (ids, targets) = (peft.ids("input/ids"), peft.ids("input/targets"));
    let floats = peft.floats("");
    for compute in [case::cpu(), case::composed()] {
        let model = frozen(peft.model(&compute.training_device()));
        let embedded = |model: &Mm1| model.lm.embed(&compute, &ids, rows, length);
        let of = (targets.as_slice(), floats["input/weights"].as_slice());
        let loss = model.lm.loss(&compute, embedded(&model), &layout, of);
        let apart = difference(&values(loss.clone()), &floats["loss"]);
        assert!(apart < 1e-5, "the loss is {apart:e} off");
        let (found, expected) = (weights::gradients(&model, &loss.backward()), peft.floats("gradients/"));
        assert_eq!(found.len(), 2 * 7 * 2);
        assert_eq!(found.len(), expected.len(), "what is frozen has no gradient");
        for (path, _, gradient) in found {
            let apart = difference(&gradient, &expected[&path]);
            assert!(apart < 1e-5, "{path} is {apart:e} off");
        }
        for model in [adapted::merged(model.clone()), model] {
            let hidden = model.lm.forward(&compute, embedded(&model), &layout);
            let apart = difference(&values(model.lm.logits(&compute, hidden)), &floats["output/logits"]);
            assert!(apart < 1e-5, "logits are {apart:e} off");
        }
    }
}

#[test]
fn merged_adapters_give_the_logits_of_those_beside() {
    for name in case::NAMES {
        for compute in [case::cpu(), case::composed()] {
            let case = case::read(name);
            let plain = case.model(&compute.training_device());
            let logits = |model: &Mm1| values(case::logits(&compute, model, &case.input()));
            let model = trained(plain.clone(), &everywhere(0.1));
            let (beside, merged) = (logits(&model), adapted::merged(model));
            assert_eq!(weights::shapes(&merged), weights::shapes(&plain));
            let inside = case.inside();
            let inside = |logits: Vec<f32>| {
                let width = logits.len() / inside.len();
                logits.iter().enumerate().map(|(i, x)| x * inside[i / width]).collect::<Vec<_>>()
            };
            let (beside, merged) = (inside(beside), inside(logits(&merged)));
            let apart = difference(&merged, &beside);
            assert!(apart < 1e-5, "{name}: {apart:e}");
            assert!(difference(&inside(logits(&plain)), &beside) > 0.05, "{name}: they add nothing");
        }
    }
}

#[test]
fn new_adapters_are_drawn_as_in_peft_and_change_no_bit() {
    let (case, compute) = (case::read("c-abstractor"), case::cpu());
    let plain = case.model(compute.device());
    let model = adapted::with_adapters(plain.clone(), &everywhere(0.0), 1);
    let logits = |model: &Mm1| values(case::logits(&compute, model, &case.input()));
    assert!(logits(&plain) == logits(&model));
    let other = weights::parameters(&adapted::with_adapters(plain.clone(), &everywhere(0.0), 2));
    let mut seen = 0;
    for ((path, shape, values), (_, _, other)) in weights::parameters(&model).into_iter().zip(other) {
        if path.ends_with("lora_b") {
            assert!(values.iter().all(|&value| value == 0.0), "{path}");
        } else if path.ends_with("lora_a") {
            // PyTorch's `kaiming_uniform_(a=sqrt(5))` is uniform up to 1 / sqrt(inputs).
            let bound = (shape[0] as f32).sqrt().recip();
            assert!(values.iter().all(|value| value.abs() <= bound), "{path}");
            let mean = values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32;
            assert!((mean * 3.0 / bound.powi(2) - 1.0).abs() < 0.5, "{path}: {mean} for {bound}");
            assert_ne!(values, other, "{path} is the same for another seed");
            seen += 1;
        }
    }
    let (vision, lm) = (case.config.vision.blocks(), case.config.lm.layers);
    assert_eq!(seen, 6 * vision + 7 * lm, "the encoder has no gate");
    let count = |part| adapted::parameters(&model, part);
    let shapes = weights::shapes(&model).into_iter().filter(|(path, _)| is_adapter(path));
    let all: usize = shapes.map(|(_, shape)| shape.iter().product::<usize>()).sum();
    assert_eq!(count(AdapterPart::Vision) + count(AdapterPart::Lm), all);
}

/// The part without adapters is trained whole, the others by their adapters.
#[test]
fn only_adapters_of_their_part_are_trained() {
    let (case, compute) = (case::read("attention-pool"), case::cpu());
    let config = AdapterConfig { targets: ALL.to_vec(), ..AdapterConfig::default() };
    let model = frozen(trained(case.model(&compute.training_device()), &config));
    let found = weights::gradients(&model, &loss(&compute, &case, &model).backward());
    for (path, ..) in &found {
        assert!(!path.starts_with("lm.") || is_adapter(path), "{path}");
    }
    let expected = weights::shapes(&model).into_iter();
    let expected = expected.filter(|(path, _)| !path.starts_with("lm.") || is_adapter(path)).count();
    assert_eq!(found.len(), expected);
}

/// Along a direction over all adapters at once the loss changes as its gradient says, dropout and all.
#[test]
fn gradients_with_dropout_are_slopes_of_the_loss() {
    let (case, compute) = (case::read("c-abstractor"), case::cpu().in_micro_batch(3, 1));
    let model = frozen(trained(case.model(&compute.training_device()), &everywhere(0.3)));
    let gradients = weights::gradients(&model, &loss(&compute, &case, &model).backward());
    let gradients: BTreeMap<String, Vec<f32>> =
        gradients.into_iter().map(|(path, _, gradient)| (path, gradient)).collect();
    for part in ["vision", "lm"] {
        let own = |path: &str| path.starts_with(part) && is_adapter(path);
        let squares = gradients.iter().filter(|(path, _)| own(path)).flat_map(|(_, gradient)| gradient);
        let slope: f64 = squares.map(|g| f64::from(g * g)).sum();
        let step = 0.05 / slope;
        let at = |sign: f64| {
            let moved = weights::parameters(&model).into_iter().map(|(path, shape, mut values)| {
                if own(&path) {
                    let by = gradients[&path].iter();
                    values.iter_mut().zip(by).for_each(|(value, g)| *value += (sign * step) as f32 * g);
                }
                (path, shape, values)
            });
            let moved = weights::assign(model.clone(), moved.collect()).unwrap();
            f64::from(values(loss(&compute, &case, &moved))[0])
        };
        let measured = (at(1.0) - at(-1.0)) / (2.0 * step);
        assert!((measured / slope - 1.0).abs() < 0.01, "{part}: {measured} against {slope}");
    }
}

/// Gradients' bits by path.
fn gradient_bits(compute: &Compute, case: &Case, dropout: f64) -> Vec<(String, Vec<u32>)> {
    let model = frozen(trained(case.model(&compute.training_device()), &everywhere(dropout)));
    let gradients = weights::gradients(&model, &loss(compute, case, &model).backward());
    gradients.into_iter().map(|(path, _, g)| (path, g.into_iter().map(f32::to_bits).collect())).collect()
}

/// What runs again in the backward pass drops the same.
#[test]
fn checkpointing_changes_no_bit_of_adapters() {
    let case = case::read("c-abstractor");
    for precision in [Precision::F32, Precision::Bf16] {
        let compute = case::cpu().with_precision(precision).in_micro_batch(2, 0);
        let saved = gradient_bits(&compute, &case, 0.2);
        assert!(saved.iter().filter(|(path, _)| is_adapter(path)).count() > 20);
        assert!(saved == gradient_bits(&compute.with_checkpointing(true), &case, 0.2), "{precision:?}");
    }
}

#[test]
fn dropout_is_of_training_alone_and_drawn_by_step_and_micro_batch() {
    let (case, compute) = (case::read("average-pool"), case::cpu());
    let model = trained(case.model(compute.device()), &everywhere(0.5));
    let of = |compute: &Compute| values(loss(compute, &case, &model))[0];
    let plain = trained(case.model(compute.device()), &everywhere(0.0));
    assert_eq!(of(&compute), values(loss(&compute, &case, &plain))[0]);
    let one = of(&compute.in_micro_batch(1, 0));
    assert_eq!(one, of(&compute.in_micro_batch(1, 0)));
    for other in [compute.clone(), compute.in_micro_batch(2, 0), compute.in_micro_batch(1, 1)] {
        assert_ne!(one, of(&other));
    }
    // The composed operations drop the same.
    let composed = case::composed().in_micro_batch(1, 0);
    assert!((of(&composed) / one - 1.0).abs() < 1e-5);
}

#[test]
fn mixed_precision_is_near() {
    let case = case::read("c-abstractor");
    let exact = case::cpu().in_micro_batch(0, 0);
    let rounded = exact.with_precision(Precision::Bf16);
    let of = |compute: &Compute| gradient_bits(compute, &case, 0.1);
    for ((path, exact), (_, rounded)) in of(&exact).into_iter().zip(of(&rounded)) {
        let floats = |bits: Vec<u32>| bits.into_iter().map(f32::from_bits).collect::<Vec<_>>();
        let apart = difference(&floats(rounded), &floats(exact));
        assert!(apart < 0.1, "{path}: {apart}");
    }
}

#[test]
fn wrong_settings_are_refused() {
    let all = everywhere(0.0);
    let vision = |targets| AdapterConfig { parts: vec![AdapterPart::Vision], targets, ..all.clone() };
    for (config, says) in [
        (AdapterConfig { rank: 0, ..all.clone() }, "adapter.rank must be at least 1"),
        (AdapterConfig { alpha: 0.0, ..all.clone() }, "adapter.alpha = 0 must be above 0"),
        (AdapterConfig { dropout: 1.0, ..all.clone() }, "adapter.dropout = 1 must be at least 0 and below 1"),
        (AdapterConfig { targets: vec![], ..all.clone() }, "adapter.targets names no map"),
        (AdapterConfig { parts: vec![], ..all.clone() }, "adapter.parts names no part"),
        (vision(vec![AdapterTarget::Gate]), "the image encoder has no \"gate\""),
        (vision(vec![AdapterTarget::Q, AdapterTarget::Q]), "adapter.targets has \"q\" twice"),
    ] {
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    assert!(all.check().is_ok());
}

/// A base and, beside it, peft's files say what the merged weights are: W + alpha / rank * B A.
#[test]
fn adapters_kept_beside_in_pefts_format_are_those_that_are_merged() {
    let case = case::read("average-pool");
    let config = AdapterConfig { alpha: 6.0, ..everywhere(0.0) };
    let model = trained(Mm1::new(&case.config, 3, &Device::flex()).unwrap(), &config);
    let folder = tempfile::tempdir().unwrap();
    mm1_model::peft::save(&model.lm, &config, "base", folder.path()).unwrap();
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    let settings: Value = serde_json::from_slice(&read("adapter_config.json")).unwrap();
    assert_eq!((&settings["r"], &settings["lora_alpha"]), (&json!(3), &json!(6.0)));
    assert_eq!(settings["base_model_name_or_path"], "base");

    let named = |tensors: Vec<Named>| -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
        tensors.into_iter().map(|(name, shape, values)| (name, (shape, values))).collect()
    };
    let files = named(weights::decode(&read("adapter_model.safetensors")).unwrap());
    assert_eq!(files.len(), 2 * 7 * case.config.lm.layers);
    let factor = |map: &str, which: &str| {
        &files[&format!("base_model.model.model.layers.0.{map}.lora_{which}.weight")]
    };
    let (before, after) =
        (named(weights::parameters(&model)), named(weights::parameters(&adapted::merged(model))));
    // Queries are the first columns of their map, `up` the second half of its.
    let (attention, mlp) = ("lm.blocks.0.attention.qkv", "lm.blocks.0.mlp.up");
    for (map, path, first) in [("self_attn.q_proj", attention, 0), ("mlp.up_proj", mlp, case.config.lm.ffn)] {
        let ((a_shape, a), (b_shape, b), (shape, merged)) =
            (factor(map, "A"), factor(map, "B"), &after[path]);
        let (rank, inputs, columns) = (a_shape[0], a_shape[1], shape[1]);
        assert_eq!((rank, b_shape[1]), (3, 3), "{map}");
        for (input, output) in
            (0..inputs).flat_map(|input| (0..b_shape[0]).map(move |output| (input, output)))
        {
            let sum: f32 = (0..rank).map(|r| b[output * rank + r] * a[r * inputs + input]).sum();
            let at = input * columns + first + output;
            let expected = before[path].1[at] + 6.0 / 3.0 * sum;
            assert!((merged[at] - expected).abs() <= 1e-6, "{map}: {} {expected}", merged[at]);
        }
    }
}
