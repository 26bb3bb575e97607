//! The objectives of the image encoder against open_clip and the published equations in PyTorch
//! (scripts/reference/objectives.py).

use std::collections::BTreeMap;
use std::path::PathBuf;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use mm1_model::Mm1Config;
use mm1_model::aim::{Aim, AimConfig};
use mm1_model::clip::{Clip, Contrast};
use mm1_model::dino::{Dino, DinoConfig, Masks, Targets, ViewBatch, moved_centre};
use mm1_model::init::Init;
use mm1_model::lm::LmConfig;
use mm1_model::vision::{Vision, VisionConfig};
use mm1_model::weights;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde_json::json;

use crate::case::{self, difference, values};

const CLOSE: f32 = 1e-5;

/// One golden file.
struct Golden {
    about: BTreeMap<String, String>,
    floats: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    integers: BTreeMap<String, Vec<u32>>,
}

fn device() -> Device {
    Device::flex().autodiff()
}

fn read(name: &str) -> Golden {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/model/objectives");
    let bytes = std::fs::read(folder.join(format!("{name}.safetensors"))).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let about = header.metadata().clone().unwrap_or_default().into_iter().collect();
    let (mut floats, mut integers) = (BTreeMap::new(), BTreeMap::new());
    for (path, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
        if view.dtype() == Dtype::F32 {
            let values = view.data().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
            floats.insert(path, (view.shape().to_vec(), values));
        } else {
            let values = view.data().as_chunks().0.iter().map(|&b| i64::from_le_bytes(b) as u32).collect();
            integers.insert(path, values);
        }
    }
    Golden { about, floats, integers }
}

impl Golden {
    fn tensor<const D: usize>(&self, name: &str) -> Tensor<D> {
        let (shape, values) = &self.floats[name];
        Tensor::from_data(TensorData::new(values.clone(), shape.clone()), &device())
    }

    fn filled<M: Module>(&self, module: M) -> M {
        let given = self.floats.iter().filter_map(|(name, (shape, values))| {
            Some((name.strip_prefix("weights/")?.to_owned(), shape.clone(), values.clone()))
        });
        weights::assign(module, given.collect()).unwrap()
    }

    fn vision(&self) -> Vision {
        let config: VisionConfig = serde_json::from_str(&self.about["vision"]).unwrap();
        Vision::new(&Init::new(0, &device()), &config)
    }

    fn close(&self, name: &str, got: &[f32]) {
        let apart = difference(got, &self.floats[name].1);
        assert!(apart <= CLOSE, "{name}: {apart:e}");
    }

    /// Every gradient of `module` is there, and no other.
    fn check_gradients<M: Module>(&self, module: &M, loss: Tensor<1>) {
        self.close("loss", &values(loss.clone()));
        let found = weights::gradients(module, &loss.backward());
        let expected = self.floats.keys().filter(|name| name.starts_with("gradients/")).count();
        assert_eq!(found.len(), expected);
        for (path, _, got) in found {
            self.close(&format!("gradients/{path}"), &got);
        }
    }
}

/// A contrastive model whose encoder does not matter.
fn clip(golden: &Golden, contrast: Contrast) -> Clip {
    let config: Mm1Config = serde_json::from_value(json!({
        "vision": { "image_size": 4, "patch": 4, "dim": 8, "layers": 1, "heads": 1, "ffn": 8 },
        "connector": { "kind": "average-pool", "tokens": 1 },
        "lm": { "vocab": 9, "dim": 8, "layers": 1, "heads": 1, "kv_heads": 1, "ffn": 8 },
    }))
    .unwrap();
    let text: &LmConfig = &config.lm;
    let mut clip =
        Clip::new(Vision::new(&Init::new(0, &device()), &config.vision), text, contrast, 0).unwrap();
    let set =
        |old: Param<Tensor<1>>, name: &str| old.map(|_| golden.tensor::<1>(name).reshape([1]).require_grad());
    clip.log_scale = set(clip.log_scale, "input/log_scale");
    clip.bias = clip.bias.map(|bias| set(bias, "input/bias"));
    clip
}

#[test]
fn contrasts_are_those_of_open_clip() {
    for (name, contrast) in [("clip", Contrast::Softmax), ("siglip", Contrast::Sigmoid)] {
        let golden = read(name);
        let clip = clip(&golden, contrast);
        let [pictures, texts] =
            ["pictures", "texts"].map(|side| golden.tensor::<2>(&format!("input/{side}")).require_grad());
        let loss = clip.contrast(pictures.clone(), texts.clone());
        golden.close("loss", &values(loss.clone()));
        let grads = loss.backward();
        golden.close("gradients/pictures", &values(pictures.grad(&grads).unwrap()));
        golden.close("gradients/texts", &values(texts.grad(&grads).unwrap()));
        golden.close("gradients/log_scale", &values(clip.log_scale.val().grad(&grads).unwrap()));
        if let Some(bias) = &clip.bias {
            golden.close("gradients/bias", &values(bias.val().grad(&grads).unwrap()));
        }
    }
}

#[test]
fn self_distillation_is_that_of_the_equations() {
    for name in ["dino-centre", "dino-v2"] {
        let golden = read(name);
        let config: DinoConfig = serde_json::from_str(&golden.about["config"]).unwrap();
        let dino = golden.filled(Dino::new(golden.vision(), &config, 10, 0));
        let dino = weights::freeze(dino, |path| !path.starts_with("student."));
        let taught = dino.teach(&case::cpu(), golden.tensor("input/large"));
        golden.close("output/logits", &values(taught.logits.clone()));
        golden.close("output/centre", &values(moved_centre(dino.centre.val(), taught.logits.clone())));
        let targets = dino.targets(taught.logits.clone(), dino.centre.val(), 3);
        golden.close("output/targets", &values(targets.clone()));
        let masks = Masks {
            indices: golden.integers["input/masks"].clone(),
            weights: golden.floats["input/mask_weights"].1.clone(),
        };
        let patch_targets = (!masks.indices.is_empty()).then(|| {
            let targets =
                dino.targets(dino.teach_patches(&case::cpu(), &taught, &masks), dino.patch_centre.val(), 3);
            golden.close("output/patch_targets", &values(targets.clone()));
            targets
        });
        let small = Some(golden.tensor("input/small"));
        let views = ViewBatch { pictures: 3, large: golden.tensor("input/large"), small };
        golden.check_gradients(
            &dino,
            dino.loss(&case::cpu(), views, Targets { views: targets, patches: patch_targets }, &masks),
        );
    }
}

#[test]
fn autoregression_is_that_of_the_equations() {
    let golden = read("aim");
    let config: AimConfig = serde_json::from_str(&golden.about["config"]).unwrap();
    let aim = golden.filled(Aim::new(golden.vision(), &config, 4, 0));
    let prefixes: Vec<usize> = golden.integers["input/prefixes"].iter().map(|&p| p as usize).collect();
    golden.check_gradients(&aim, aim.loss(&case::cpu(), golden.tensor("input/pixels"), &prefixes));
}

#[test]
fn masks_are_drawn_for_the_step_however_it_is_cut() {
    let golden = read("dino-v2");
    let config: DinoConfig = serde_json::from_str(&golden.about["config"]).unwrap();
    let dino = Dino::new(golden.vision(), &config, 10, 5);
    let whole = dino.masks(7, 0, (40, 2));
    let mut parts = dino.masks(7, 0, (30, 2));
    let rest = dino.masks(7, 30, (10, 2));
    parts.indices.extend(rest.indices.iter().map(|i| i + 30 * 2 * 16));
    parts.weights.extend(rest.weights);
    assert_eq!(whole, parts);
    assert_ne!(whole, dino.masks(8, 0, (40, 2)));
    // Half of 80 views lose 10% to 50% of 16 patches.
    let views: std::collections::BTreeSet<u32> = whole.indices.iter().map(|i| i / 16).collect();
    assert!((25..55).contains(&views.len()), "{} views have masks", views.len());
    let sum: f32 = whole.weights.iter().sum();
    assert!((sum - views.len() as f32).abs() < 1e-3, "the weights of a view sum to 1: {sum}");
}
