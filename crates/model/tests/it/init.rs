//! Initial values.

use burn::tensor::Device;
use mm1_model::config::ConnectorConfig;
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
    larger.connector = ConnectorConfig::AttentionPool { tokens: 4, heads: 2 };
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

#[test]
fn values_have_the_written_spread() {
    let mut config = case::read("c-abstractor").config;
    config.lm.vocab = 4096;
    let model = Mm1::new(&config, 3, &Device::flex()).unwrap();
    let all = weights::parameters(&model);
    let of = |path: &str| &all.iter().find(|p| p.0 == path).unwrap().2;
    // A normal cut at two deviations has 0.8796 of its deviation.
    for (path, std) in [("lm.embedding", 0.02), ("lm.head", 0.02)] {
        let values = of(path);
        let count = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
        let spread = (values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / count).sqrt();
        assert!(mean.abs() < 0.01 * std, "{path}: mean {mean}");
        assert!((spread / (0.8796 * std) - 1.0).abs() < 0.01, "{path}: {spread}");
        assert!(values.iter().all(|v| v.abs() <= 2.0 * std as f32), "{path}: beyond two deviations");
    }
    let largest = |path| of(path).iter().fold(0f32, |m, v| m.max(v.abs()));
    assert!(largest("lm.blocks.0.attention.out") <= 0.02 && largest("lm.blocks.0.attention.qkv") > 0.03);
    assert!(of("lm.norm.gamma").iter().all(|&v| v == 1.0));
    assert!(of("connector.project_bias").iter().all(|&v| v == 0.0));
}
