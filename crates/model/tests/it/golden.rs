//! Every block's output, the logits, the loss and every gradient against PyTorch (scripts/reference/golden.py).

use burn::tensor::{Device, Tensor, TensorData};
use mm1_model::ops::{Layout, Rope, Sight};
use mm1_model::weights;

use crate::case::{self, Case, difference, values};

const CLOSE: f32 = 1e-5;

/// Every case where the fused operations are taken, and where the composed ones are: the engine's own checkpointing knows no
/// operation but its own.
fn runs() -> impl Iterator<Item = (Device, &'static str)> {
    let fused = Device::flex().autodiff();
    [fused.clone(), fused.gradient_checkpointing()]
        .into_iter()
        .flat_map(|device| case::NAMES.map(|name| (device.clone(), name)))
}

fn check(case: &Case, name: &str, got: Vec<f32>, inside: Option<&[f32]>) {
    let got = match inside {
        None => got,
        Some(inside) => {
            let width = got.len() / inside.len();
            got.iter().enumerate().map(|(i, x)| x * inside[i / width]).collect()
        }
    };
    let apart = difference(&got, case.values(name));
    assert!(apart <= CLOSE, "{name}: {apart:e}");
}

#[test]
fn every_part_computes_what_pytorch_does() {
    for (device, name) in runs() {
        let case = case::read(name);
        let model = case.model(&device);
        let mut x = model.vision.embed(case.pixels(&device));
        check(&case, "output/stem", values(x.clone()), None);
        let layout = Layout::full(case.image_slots.len(), x.dims()[1], Sight::All);
        for (i, block) in model.vision.blocks.iter().enumerate() {
            x = block.forward(x, &layout, None);
            check(&case, &format!("output/vision.blocks.{i}"), values(x.clone()), None);
        }
        let grid = [case.config.vision.grid(); 2];
        let features = model.vision.forward(case.pixels(&device));
        check(&case, "output/vision", values(features.clone()), None);
        check(&case, "output/connector", values(model.connector.forward(features, grid)), None);

        let inside = case.inside();
        let lm = &case.config.lm;
        let rope = Rope::new(lm.rope_base, lm.dim / lm.heads, case.layout.longest());
        let embeds = case.values("output/embeds").to_vec();
        let mut x: Tensor<3> =
            Tensor::from_data(TensorData::new(embeds, [case.rows, case.length, lm.dim]), &device);
        for (i, block) in model.lm.blocks.iter().enumerate() {
            x = block.forward(x, &case.layout, Some(&rope));
            check(&case, &format!("output/lm.blocks.{i}"), values(x.clone()), Some(&inside));
        }
        let hidden = model.hidden(&case.input()).unwrap();
        check(&case, "output/hidden", values(hidden.clone()), Some(&inside));
        check(&case, "output/logits", values(model.logits(hidden)), Some(&inside));
    }
}

#[test]
fn loss_and_every_gradient_are_pytorchs() {
    for (device, name) in runs() {
        for (path, apart) in loss_and_gradients(&device, name) {
            assert!(apart <= CLOSE, "{name} {path}: {apart:e}");
        }
    }
}

/// The engine multiplies matrices in TF32 there, whose numbers have 10 bits behind the point.
#[cfg(feature = "cuda")]
#[test]
fn loss_and_every_gradient_are_pytorchs_on_a_gpu() {
    let device = mm1_model::device::DeviceKind::Cuda.open().unwrap().autodiff();
    let furthest = case::NAMES.map(|name| {
        let apart = loss_and_gradients(&device, name).into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        println!("{name}: furthest apart is {} by {:e}", apart.0, apart.1);
        apart.1
    });
    assert!(furthest.iter().all(|&apart| apart <= 5e-2));
}

/// How far the loss and each gradient are from PyTorch's.
fn loss_and_gradients(device: &Device, name: &str) -> Vec<(String, f32)> {
    let case = case::read(name);
    let model = case.model(device);
    let loss = model.loss(&case.input(), &case.targets, case.weights()).unwrap();
    let mut differences = vec![("loss".to_owned(), difference(&values(loss.clone()), case.values("loss")))];
    let found = weights::gradients(&model, &loss.backward());
    let expected = case.gradients();
    assert_eq!(found.len(), expected.len(), "{name}");
    for (path, _, gradient) in found {
        assert!(gradient.iter().any(|&g| g != 0.0), "{name} {path}: no gradient");
        differences.push((path.clone(), difference(&gradient, expected[path.as_str()])));
    }
    differences
}
