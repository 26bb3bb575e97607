//! Layer-wise decay of the learning rate, seen in what a step does to each parameter.

use std::collections::BTreeMap;

use mm1_train::{GroupScale, LayerDecay, OptimizerConfig, Trainer};
use serde_json::{Value, from_value, json};

use crate::toy::{batch, compute, model};

/// BEiT's `LayerDecayValueAssigner` with `get_num_layer_for_vit`, on the names that a part's parameters have
/// here.
fn beit(name: &str, depth: i32, decay: f64) -> f64 {
    let first = name.split('.').next().unwrap();
    let layer = match first {
        "patch" | "patch_bias" | "position" | "embedding" => 0,
        "blocks" => name.split('.').nth(1).unwrap().parse::<i32>().unwrap() + 1,
        _ => depth + 1,
    };
    let values: Vec<f64> = (0..=depth + 1).map(|i| decay.powi(depth + 1 - i)).collect();
    values[usize::try_from(layer).unwrap()]
}

/// The largest change of each parameter in AdamW's first step, which moves every weight that has a gradient
/// by the rate.
fn changes(layer_decay: LayerDecay, lr: f64) -> BTreeMap<String, f64> {
    let config = OptimizerConfig {
        layer_decay,
        scale: GroupScale { vision: 0.3, ..GroupScale::default() },
        weight_decay: 0.0,
        clip_norm: 1e9,
        eps: 1e-20,
        ..OptimizerConfig::default()
    };
    let mut trainer = Trainer::new(&compute(), model(), config).unwrap();
    let before = trainer.snapshot(Value::Null).model;
    trainer.step(&[batch(1, 0..3)], lr).unwrap();
    let values = |data: &burn::tensor::TensorData| data.try_to_vec::<f32>().unwrap();
    let change = |(path, after): (String, burn::tensor::TensorData)| {
        let pairs = values(&before[&path]).into_iter().zip(values(&after));
        let largest = pairs.map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
        (path, largest)
    };
    trainer.snapshot(Value::Null).model.into_iter().map(change).collect()
}

#[test]
fn each_layer_moves_by_the_rate_that_beit_gives_it() {
    let lr = 0.01;
    let changed = changes(LayerDecay { vision: 0.5, lm: 0.9 }, lr);
    let mut seen = [0; 3];
    for (path, largest) in changed {
        let (part, name) = path.split_once('.').unwrap();
        let factor = match part {
            "vision" => 0.3 * beit(name, 2, 0.5),
            "lm" => beit(name, 2, 0.9),
            _ => 1.0,
        };
        assert!((largest / (lr * factor) - 1.0).abs() < 1e-3, "{path}: {largest} is not {lr} × {factor}");
        seen[["vision", "connector", "lm"].iter().position(|p| *p == part).unwrap()] += 1;
    }
    assert!(seen.iter().all(|parameters| *parameters > 5), "{seen:?}");
}

#[test]
fn the_first_layers_have_the_factors_of_beits_table() {
    let paths = [
        "vision.position",
        "vision.stem.0.weight",
        "vision.blocks.0.mlp.up",
        "vision.blocks.11.mlp.up",
        "vision.norm.gamma",
        "head",
        "connector.blocks.0.weight",
        "lm.embedding",
    ];
    let paths = paths.map(str::to_owned);
    let factors = LayerDecay { vision: 0.75, lm: 0.5 }.factors(&paths);
    // 0.75^13, 0.75^12 and 0.75, as Python prints them.
    for (path, factor) in paths.iter().zip([
        0.023757264018058777,
        0.023757264018058777,
        0.03167635202407837,
        0.75,
        1.0,
        1.0,
        1.0,
        0.5,
    ]) {
        assert!((factors[path] - factor).abs() < 1e-15, "{path}: {}", factors[path]);
    }
}

#[test]
fn without_a_decay_plans_are_written_as_before_and_wrong_ones_are_refused_by_name() {
    let written = serde_json::to_value(OptimizerConfig::default()).unwrap();
    assert!(written.get("layer_decay").is_none(), "{written}");
    for (table, reason) in [
        (json!({"vision": 0.0}), "optimizer.layer_decay.vision = 0 must be above 0"),
        (json!({"lm": 1.5}), "optimizer.layer_decay.lm = 1.5 must be above 0 and at most 1"),
    ] {
        let config: OptimizerConfig = from_value(json!({ "layer_decay": table })).unwrap();
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}
