//! Initial values.

use burn::tensor::{Device, Tensor, TensorData};
use mm1_model::connector::{AttentionPoolConfig, Connector, ConnectorConfig};
use mm1_model::{Mm1, weights};

use crate::case;

#[test]
fn values_depend_on_seed_and_path_alone() {
    let device = Device::flex();
    let case = case::read("average-pool");
    let new = |config, seed| weights::parameters(&Mm1::new(config, seed, &device).unwrap());
    let (first, again, other) = (new(&case.config, 1), new(&case.config, 1), new(&case.config, 2));
    assert!(first == again);
    // Another depth, head and connector add and remove parameters; those that stay have the same values.
    let mut larger = case.config.clone();
    larger.vision.layers += 1;
    larger.lm.tied = false;
    larger.connector = ConnectorConfig::AttentionPool(AttentionPoolConfig { tokens: 4, heads: 2 });
    let larger = new(&larger, 1);
    let matrices =
        first.iter().zip(&other).filter(|((_, shape, values), _)| shape.len() == 2 && values[0] != 0.0);
    let mut compared = 0;
    for (one, other) in matrices {
        assert_ne!(one.2, other.2, "{}: two seeds, the same values", one.0);
        if let Some(same) = larger.iter().find(|p| p.0 == one.0) {
            // The residual scale depends on the depth.
            let rescaled =
                one.0.starts_with("vision.blocks") && (one.0.ends_with("out") || one.0.ends_with("down"));
            assert!(rescaled || same.2 == one.2, "{} changed", one.0);
            compared += 1;
        }
    }
    assert!(compared >= 18, "{compared}");
}

/// The table of `init.rs`, written again.
fn written(path: &str, shape: &[usize]) -> f64 {
    let fan_in = |fan: usize| (fan as f64).sqrt().recip();
    match path.rsplit('.').next().unwrap() {
        "position" => 0.3,
        "class_token" | "queries" => 0.02,
        "embedding" => fan_in(shape[1]),
        // One layer in attention pooling, two in the transformers.
        "out" | "down" => fan_in(shape[0] * if path.starts_with("connector") { 2 } else { 4 }),
        _ => fan_in(shape[0]),
    }
}

#[test]
fn values_have_the_written_spread() {
    for name in case::NAMES {
        let mut config = case::read(name).config;
        config.lm.vocab = Some(4096);
        let mut firsts = Vec::new();
        for (path, shape, values) in weights::parameters(&Mm1::new(&config, 3, &Device::flex()).unwrap()) {
            if ["gamma", "beta", "bias", "gate"].iter().any(|end| path.ends_with(end)) {
                let expected = if path.ends_with("gamma") { 1.0 } else { 0.0 };
                assert!(values.iter().all(|&v| v == expected), "{path}");
                continue;
            }
            let std = written(&path, &shape);
            let count = values.len() as f64;
            let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
            let spread = (values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / count).sqrt();
            // A normal cut at two deviations has 0.8796 of its deviation. Five standard errors.
            let error = 5.0 / count.sqrt();
            assert!(mean.abs() < error * std, "{path}: mean {mean}");
            assert!((spread / (0.8796 * std) - 1.0).abs() < error, "{path}: {spread} for {std}");
            assert!(
                values.iter().all(|&v| f64::from(v.abs()) <= 2.0001 * std),
                "{path}: beyond two deviations"
            );
            firsts.push(f64::from(values[0]) / std);
        }
        // No two parameters are drawn alike.
        firsts.sort_by(f64::total_cmp);
        assert!(firsts.windows(2).all(|pair| pair[1] - pair[0] > 1e-6), "{name}: two parameters alike");
    }
}

/// Before a decoder of others image tokens begin as long as its embeddings.
#[test]
fn a_scaled_connector_makes_tokens_that_are_scaled() {
    let device = Device::flex();
    for name in ["average-pool", "attention-pool", "c-abstractor", "mlp"] {
        let model = Mm1::new(&case::read(name).config, 1, &device).unwrap();
        let side = model.config().vision.grid();
        let features: Vec<f32> =
            (0..side * side * model.config().vision.dim).map(|i| (i as f32 * 0.7).sin()).collect();
        let features = TensorData::new(features, [1, side * side, model.config().vision.dim]);
        let tokens = |connector: &Connector| -> Vec<f32> {
            let features = Tensor::from_data(features.clone(), &device);
            connector.forward(&case::cpu(), features, [side; 2]).into_data().iter::<f32>().collect()
        };
        let whole = tokens(&model.connector);
        let scaled = model.connector.clone().scaled(0.125);
        // A power of two: every product and sum is rounded alike.
        assert_eq!(tokens(&scaled), whole.iter().map(|x| x * 0.125).collect::<Vec<_>>(), "{name}");
        assert!(whole.iter().any(|x| x.abs() > 0.1), "{name}: {whole:?}");
    }
}
