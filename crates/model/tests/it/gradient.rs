//! Gradients against differences of the loss, and with untouched initial values.

use burn::tensor::Device;
use mm1_model::{Mm1, weights};

use crate::case::{self, values};

/// Along a direction over all parameters at once, the loss changes as its gradient says.
#[test]
fn gradients_are_slopes_of_the_loss() {
    let device = Device::flex().autodiff();
    for name in case::NAMES {
        let case = case::read(name);
        let model = case.model(&device);
        let loss =
            |model: &Mm1| model.loss(&case::cpu(), &case.input(), &case.targets, case.weights()).unwrap();
        let gradients = weights::gradients(&model, &loss(&model).backward());
        let parameters = weights::parameters(&model);
        for group in ["vision", "connector", "lm"] {
            let norm = |x: &[f32]| x.iter().map(|v| f64::from(v * v)).sum::<f64>();
            let slope: f64 = gradients.iter().filter(|g| g.0.starts_with(group)).map(|g| norm(&g.2)).sum();
            // A step along the gradient that changes the loss by about 0.1 each way.
            let step = 0.1 / slope;
            let at = |sign: f64| {
                let moved =
                    parameters.iter().zip(&gradients).map(|((path, shape, values), (_, _, gradient))| {
                        let by = if path.starts_with(group) { (sign * step) as f32 } else { 0.0 };
                        (
                            path.clone(),
                            shape.clone(),
                            values.iter().zip(gradient).map(|(v, g)| v + by * g).collect(),
                        )
                    });
                f64::from(values(loss(&weights::assign(model.clone(), moved.collect()).unwrap()))[0])
            };
            let measured = (at(1.0) - at(-1.0)) / (2.0 * step);
            assert!((measured / slope - 1.0).abs() < 0.01, "{name} {group}: {measured} against {slope}");
        }
    }
}

#[test]
fn every_parameter_of_a_new_network_gets_a_gradient() {
    let device = Device::flex().autodiff();
    for name in case::NAMES {
        let case = case::read(name);
        // Behind a gate that is shut, as at first, nothing learns but the gate.
        let opened = |(path, shape, mut values): (String, Vec<usize>, Vec<f32>)| {
            if path.ends_with("gate") {
                values = vec![0.5];
            }
            (path, shape, values)
        };
        let new = Mm1::new(&case.config, 1, &device).unwrap();
        let model = weights::parameters(&new).into_iter().map(opened).collect();
        let model = weights::assign(new, model).unwrap();
        let loss = model.loss(&case::cpu(), &case.input(), &case.targets, case.weights()).unwrap();
        let found = weights::gradients(&model, &loss.backward());
        assert_eq!(found.len(), weights::shapes(&model).len(), "{name}");
        for (path, _, gradient) in found {
            assert!(gradient.iter().any(|&g| g != 0.0), "{name} {path}: no gradient");
        }
    }
}

#[test]
fn frozen_parameters_get_none() {
    let device = Device::flex().autodiff();
    let case = case::read("c-abstractor");
    let model = weights::freeze(case.model(&device), |path| path.starts_with("vision."));
    let gradients = |model: &Mm1| {
        let loss = model.loss(&case::cpu(), &case.input(), &case.targets, case.weights()).unwrap();
        weights::gradients(model, &loss.backward())
    };
    let found = gradients(&model);
    assert!(found.iter().all(|(path, ..)| !path.starts_with("vision.")));
    let others = weights::shapes(&model).into_iter().filter(|(path, _)| !path.starts_with("vision."));
    assert_eq!(found.len(), others.count());
    let all = gradients(&weights::freeze(model, |_| false));
    assert_eq!(all.len(), case.gradients().len());
}

/// A batch in which nothing is learned has a loss of 0, which has gradients.
#[test]
fn a_batch_without_learned_positions_has_zero_loss() {
    let case = case::read("average-pool");
    let model = case.model(&Device::flex().autodiff());
    let loss =
        model.loss(&case::cpu(), &case.input(), &case.targets, &vec![0.0; case.targets.len()]).unwrap();
    assert_eq!(values(loss.clone()), [0.0]);
    let found = weights::gradients(&model, &loss.backward());
    assert!(found.iter().all(|(_, _, gradient)| gradient.iter().all(|&g| g == 0.0)));
}

#[test]
fn a_batch_without_pictures_leaves_the_encoder_alone() {
    let case = case::read("c-abstractor");
    let model = case.model(&Device::flex().autodiff());
    let mut input = case.input();
    (input.pixels, input.image_slots) = (&[], &[]);
    let loss = model.loss(&case::cpu(), &input, &case.targets, case.weights()).unwrap();
    let found = weights::gradients(&model, &loss.backward());
    assert!(found.iter().all(|(path, ..)| path.starts_with("lm.")));
    assert_eq!(found.len(), weights::shapes(&model.lm).len());
}

/// Blocks that run again in the backward pass give the same bits, of what is trained and nothing else.
#[test]
fn checkpointing_changes_no_bit() {
    let case = case::read("c-abstractor");
    let frozen: [fn(&str) -> bool; 3] =
        [|_| false, |path| path.starts_with("vision."), |path| path.ends_with("gamma")];
    for frozen in frozen {
        let gradients = |checkpointing| {
            let compute = case::cpu().with_checkpointing(checkpointing);
            let model = weights::freeze(case.model(&compute.training_device()), frozen);
            let loss = model.loss(&compute, &case.input(), &case.targets, case.weights()).unwrap();
            let gradients = weights::gradients(&model, &loss.backward());
            gradients
                .into_iter()
                .map(|(path, _, g)| (path, g.into_iter().map(f32::to_bits).collect()))
                .collect::<Vec<(String, Vec<u32>)>>()
        };
        let saved = gradients(false);
        assert!(saved.len() > 20 && saved.iter().any(|(_, g)| g.iter().any(|&bits| bits != 0)));
        assert!(saved == gradients(true));
    }
}
