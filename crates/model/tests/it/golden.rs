//! Every block's output, the logits, the loss and every gradient against PyTorch
//! (scripts/reference/golden.py).

use burn::tensor::{Tensor, TensorData};
use mm1_model::ops::{Layout, Sight};
use mm1_model::{Compute, weights};

use crate::case::{self, Case, difference, values};

const CLOSE: f32 = 1e-5;

/// With products of numbers that have 10 bits behind the point: PyTorch's own gradients are up to 2.9e-2
/// apart (docs/guide/gpu.md).
#[cfg(any(feature = "cuda", feature = "vulkan"))]
const FAR: f32 = 5e-2;

/// Every case with the fused operations, and with the composed ones.
fn runs() -> impl Iterator<Item = (Compute, &'static str)> {
    [case::cpu(), case::composed()]
        .into_iter()
        .flat_map(|compute| case::NAMES.map(|name| (compute.clone(), name)))
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
    for (compute, name) in runs() {
        let (case, device) = (case::read(name), compute.training_device());
        let model = case.model(&device);
        let mut x = model.vision.embed(&compute, case.pixels(&device));
        check(&case, "output/stem", values(x.clone()), None);
        let layout = Layout::full(case.image_slots.len(), x.dims()[1], Sight::All);
        for (i, block) in model.vision.blocks.iter().enumerate() {
            x = block.forward(&compute, x, &layout, None);
            check(&case, &format!("output/vision.blocks.{i}"), values(x.clone()), None);
        }
        let grid = [case.config.vision.grid(); 2];
        let features = model.vision.forward(&compute, case.pixels(&device));
        check(&case, "output/vision", values(features.clone()), None);
        check(&case, "output/connector", values(model.connector.forward(&compute, features, grid)), None);

        let inside = case.inside();
        let lm = &case.config.lm;
        let mut rope = lm.rope_scaling.table(lm.rope_base, lm.attention_heads().width);
        rope.reach(case.layout.longest());
        let embeds = case.values("output/embeds").to_vec();
        let mut x: Tensor<3> =
            Tensor::from_data(TensorData::new(embeds, [case.rows, case.length, lm.dim]), &device);
        for (i, block) in model.lm.blocks.iter().enumerate() {
            // Before such a block there is more, and what it reads is known from the whole alone.
            if !case.config.connector.fills_the_sequence() {
                break;
            }
            x = block.forward(&compute, x, &case.layout, Some(&rope));
            check(&case, &format!("output/lm.blocks.{i}"), values(x.clone()), Some(&inside));
        }
        let hidden = case::hidden(&compute, &model, &case.input());
        check(&case, "output/hidden", values(hidden.clone()), Some(&inside));
        check(&case, "output/logits", values(model.lm.logits(&compute, hidden)), Some(&inside));
    }
}

#[test]
fn loss_and_every_gradient_are_pytorchs() {
    for (compute, name) in runs() {
        for (path, apart) in loss_and_gradients(&compute, name) {
            assert!(apart <= CLOSE, "{name} {path}: {apart:e}");
        }
    }
}

/// The engine multiplies matrices in TF32 there, whose numbers have 10 bits behind the point.
#[cfg(feature = "cuda")]
#[test]
fn loss_and_every_gradient_are_pytorchs_on_a_gpu() {
    let compute = Compute::new(mm1_model::device::DeviceKind::Cuda.open().unwrap());
    let furthest = case::NAMES.map(|name| {
        let apart =
            loss_and_gradients(&compute, name).into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        println!("{name}: furthest apart is {} by {:e}", apart.0, apart.1);
        apart.1
    });
    assert!(furthest.iter().all(|&apart| apart <= FAR));
}

#[cfg(feature = "vulkan")]
#[test]
fn loss_and_every_gradient_are_pytorchs_on_vulkan() {
    let Some(compute) = case::vulkan() else { return };
    let composed = compute.with_ops(mm1_model::ops::Composed::new(mm1_model::ops::Precision::F32));
    for (compute, ops) in [(compute, "kernels of ours"), (composed, "the engine's operations")] {
        for name in case::NAMES {
            let all = loss_and_gradients(&compute, name);
            let (path, apart) = all.iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
            println!("{ops}, {name}: furthest apart is {path} by {apart:e}");
            assert!(*apart <= CLOSE, "{ops}, {name} {path}: {apart:e}");
        }
    }
}

/// Its numbers have as many bits behind the point as TF32's. (bfloat16 needs a GPU that has it.)
#[cfg(feature = "vulkan")]
#[test]
fn loss_and_every_gradient_stay_near_pytorchs_in_f16_on_vulkan() {
    let Some(compute) = case::vulkan() else { return };
    let compute = compute.with_ops(mm1_model::ops::Gpu::in_f16());
    for name in case::NAMES {
        let all = loss_and_gradients(&compute, name);
        let (path, apart) = all.iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        println!("products of f16, {name}: furthest apart is {path} by {apart:e}");
        assert!(*apart <= FAR, "{name} {path}: {apart:e}");
        assert!(*apart > CLOSE, "{name}: nothing was rounded");
    }
}

/// How far the loss and each gradient are from PyTorch's.
fn loss_and_gradients(compute: &Compute, name: &str) -> Vec<(String, f32)> {
    let case = case::read(name);
    let model = case.model(&compute.training_device());
    let loss = model.loss(compute, &case.input(), &case.targets, case.weights()).unwrap();
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
