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

/// One matrix whose gradient is known.
#[cfg(feature = "vulkan")]
#[derive(burn::module::Module, Debug)]
struct Single {
    lm: crate::toy::Matrix,
}

#[cfg(feature = "vulkan")]
impl mm1_train::Objective for Single {
    type Batch = Coefficients;

    fn weight(_: &Coefficients) -> f64 {
        1.0
    }

    fn backward(
        &self,
        compute: &mm1_model::Compute,
        step: &mm1_train::Step<'_, Coefficients>,
    ) -> anyhow::Result<mm1_train::StepResult> {
        mm1_train::StepResult::of_sums(compute, self, step, |batch| {
            let matrix = self.lm.matrix.val();
            let factors = burn::tensor::TensorData::new((batch.of)(batch, ""), matrix.dims());
            let factors = burn::tensor::Tensor::<2>::from_data(factors, &matrix.device());
            Ok((matrix * factors).sum())
        })
    }
}

/// The kernels of GPUs beside the CPU's, at lengths around those of a cube, of a piece of a sum and of a
/// launch.
#[cfg(feature = "vulkan")]
#[test]
fn steps_and_norms_of_any_length_are_those_of_the_cpu_on_vulkan() {
    use burn::module::Param;
    use burn::tensor::{Tensor, TensorData};

    let Some(vulkan) = crate::toy::vulkan() else { return };
    for count in [1, 3, 255, 256, 257, 16_383, 16_385, 100_003, 9_000_001] {
        let on = |compute: &mm1_model::Compute| {
            let values: Vec<f32> = (0..count).map(|i| (i as f32 * 0.37).sin()).collect();
            let values = Tensor::from_data(TensorData::new(values, [count, 1]), &compute.training_device());
            let model = Single { lm: crate::toy::Matrix { matrix: Param::from_tensor(values) } };
            Trainer::new(compute, model, OptimizerConfig::default()).unwrap()
        };
        let (mut here, mut there) = (on(&compute()), on(&vulkan));
        let mut before = None;
        for step in 0..3 {
            let batch = Coefficients {
                of: |batch, _| {
                    let (count, step) =
                        (batch.table["count"].as_u64().unwrap(), batch.table["step"].as_u64().unwrap());
                    (0..count).map(|i| ((i * 7 + step) as f32 * 1.3).cos()).collect()
                },
                table: serde_json::json!({ "count": count, "step": step }),
                samples: Vec::new(),
            };
            let [ours, theirs] = [here.step(std::slice::from_ref(&batch), 1e-2), there.step(&[batch], 1e-2)]
                .map(Result::unwrap);
            let apart = (ours.grad_norm / theirs.grad_norm - 1.0).abs();
            assert!(apart < 1e-6, "{count}, step {step}: norms are {apart:e} apart");
            // Somebody keeps the model of the first step: the second must not write over it.
            if step == 0 {
                let model = there.model().clone();
                before = Some((model.lm.matrix.val().to_data(), model));
            }
        }
        let (then, model) = before.unwrap();
        assert_eq!(model.lm.matrix.val().to_data(), then, "{count}: a copy was written");
        let (ours, theirs) = (here.snapshot(Value::Null), there.snapshot(Value::Null));
        let all = |of: &mm1_train::Snapshot| {
            of.model
                .iter()
                .chain(&of.optimizer)
                .map(|(path, data)| (path.clone(), data.clone()))
                .collect::<Vec<_>>()
        };
        for ((path, ours), (_, theirs)) in all(&ours).into_iter().zip(all(&theirs)) {
            let pairs = ours.iter::<f32>().zip(theirs.iter::<f32>());
            let apart = pairs.map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            assert!(apart < 2e-6, "{count}, {path}: {apart:e} apart");
        }
    }
}

/// A step whose gradient is not finite, and those that were taken after it before anybody asked.
#[cfg(feature = "vulkan")]
#[test]
fn nothing_follows_a_gradient_that_is_not_finite_on_vulkan() {
    use burn::module::Param;
    use burn::tensor::{Tensor, TensorData};

    let Some(vulkan) = crate::toy::vulkan() else { return };
    let new = || {
        let values = Tensor::from_data(TensorData::new(vec![1f32; 300], [300, 1]), &vulkan.training_device());
        let model = Single { lm: crate::toy::Matrix { matrix: Param::from_tensor(values) } };
        Trainer::new(&vulkan, model, OptimizerConfig::default()).unwrap()
    };
    let of = |last: Option<f32>| Coefficients {
        of: |batch, _| {
            let last = batch.table["last"].as_f64().map_or(f32::NAN, |last| last as f32);
            (0..300).map(|i| if i == 299 { last } else { (i as f32).cos() }).collect()
        },
        table: serde_json::json!({ "last": last }),
        samples: vec!["a sample".to_owned()],
    };
    let (mut plain, mut broken) = (new(), new());
    for _ in 0..2 {
        plain.step(&[of(Some(0.5))], 1e-2).unwrap();
    }
    for last in [Some(0.5), Some(0.5), None, Some(0.5)] {
        broken.take_step(&[of(last)], 1e-2).unwrap();
    }
    let error = format!("{:#}", broken.reports().unwrap_err());
    assert!(error.starts_with("step 2") && error.contains("a sample"), "{error}");
    assert_eq!(broken.steps_done(), 2);
    // Nothing has changed since, and it goes on from there.
    for _ in 0..2 {
        let (ours, theirs) = (broken.snapshot(Value::Null), plain.snapshot(Value::Null));
        assert_eq!((&ours.model, &ours.optimizer), (&theirs.model, &theirs.optimizer));
        let [ours, theirs] = [&mut broken, &mut plain].map(|t| t.step(&[of(Some(0.25))], 1e-2).unwrap());
        assert_eq!(ours, theirs);
    }
}
