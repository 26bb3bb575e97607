use burn::backend::Flex;
use burn::tensor::TensorData;
use mm1_model::group::ParameterGroup;
use mm1_train::{GroupScale, MomentFormat, OptimizerConfig, Trainer};
use serde_json::Value;

use crate::toy::{self, Coefficients, Toy, compute};

fn floats(v: &Value) -> Vec<f32> {
    v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

fn values(data: &TensorData) -> Vec<f32> {
    data.try_to_vec().unwrap()
}

fn micro_batch(table: Value) -> Coefficients {
    Coefficients { of: |c, name| floats(&c.table[name]), table, samples: vec!["a".into()] }
}

/// testdata/train/adamw.json by scripts/reference/optimizer.py
fn golden() -> Value {
    serde_json::from_str(include_str!("../../../../testdata/train/adamw.json")).unwrap()
}

fn trainer(golden: &Value, config: OptimizerConfig) -> Trainer<Toy> {
    Trainer::new(&compute(), Toy::new(|name| floats(&golden["start"][name])), config).unwrap()
}

#[test]
fn steps_are_pytorchs() {
    let golden = golden();
    for (moments, after) in [(MomentFormat::F32, "after"), (MomentFormat::EightBit, "after_8bit")] {
        let config = OptimizerConfig {
            moments,
            scale: GroupScale { vision: 0.5, connector: 2.0, lm: 1.0 },
            ..OptimizerConfig::default()
        };
        let mut trainer = trainer(&golden, config);
        for step in golden["steps"].as_array().unwrap() {
            let report =
                trainer.step(&[micro_batch(step["grads"].clone())], step["lr"].as_f64().unwrap()).unwrap();
            let norm = step["norm"].as_f64().unwrap();
            assert!((report.grad_norm / norm - 1.0).abs() < 1e-6, "norm {} is not {norm}", report.grad_norm);
            for (path, data) in trainer.snapshot(Value::Null).model {
                for (ours, theirs) in values(&data).iter().zip(floats(&step[after][&path])) {
                    assert!(
                        (ours - theirs).abs() < 2e-7 * theirs.abs().max(1.0),
                        "{after}, {path}: {ours} is not {theirs}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_frozen_part_has_no_update_and_no_moments() {
    let golden = golden();
    let config = OptimizerConfig { freeze: vec![ParameterGroup::Vision], ..OptimizerConfig::default() };
    let mut trainer = trainer(&golden, config);
    let before = trainer.snapshot(Value::Null);
    let grads = golden["steps"][0]["grads"].clone();
    let report = trainer.step(&[micro_batch(grads.clone())], 0.1).unwrap();
    let after = trainer.snapshot(Value::Null);
    for (path, data) in &after.model {
        assert_eq!(data == &before.model[path], path.starts_with("vision."), "{path}");
    }
    let moments: Vec<_> = after.optimizer.keys().map(String::as_str).collect();
    let expected =
        ["connector.matrix.m", "connector.matrix.v", "lm.bias.m", "lm.bias.v", "lm.matrix.m", "lm.matrix.v"];
    assert_eq!(moments, expected);
    let squares = |name: &str| floats(&grads[name]).iter().map(|g| f64::from(*g).powi(2)).sum::<f64>();
    let norm = (squares("connector.matrix") + squares("lm.matrix") + squares("lm.bias")).sqrt();
    assert!((report.grad_norm / norm - 1.0).abs() < 1e-6, "a frozen part counts in the norm");
}

#[test]
fn freezing_all_is_refused() {
    let config = OptimizerConfig { freeze: ParameterGroup::ALL.to_vec(), ..OptimizerConfig::default() };
    let error = Trainer::new(&compute(), toy::model(), config).unwrap_err().to_string();
    assert!(error.contains("nothing to train"), "{error}");
}

#[test]
fn weights_change_in_place() {
    let golden = golden();
    let mut trainer = trainer(&golden, OptimizerConfig::default());
    let address = |t: &Trainer<Toy>| {
        let values = t.model().lm.matrix.val().inner().try_into_primitive::<Flex>().unwrap();
        values.storage::<f32>().as_ptr()
    };
    let before = address(&trainer);
    trainer.step(&[micro_batch(golden["steps"][0]["grads"].clone())], 0.1).unwrap();
    assert_eq!(address(&trainer), before, "the weights were copied");
}
