use anyhow::Result;
use burn::module::Module;
use mm1_data::batch::Batch;
use mm1_model::adapter::{AdapterConfig, AdapterPart, AdapterTarget};
use mm1_model::group::ParameterGroup;
use mm1_model::{Compute, Mm1};
use mm1_train::{
    Loss, MicroBatch, MomentFormat, Objective, OptimizerConfig, Snapshot, Step, StepResult, Trainer,
    checkpoint,
};
use serde_json::{Value, json};

use crate::toy::{Toy, batch, compute, model, text_only};

fn trainer() -> Trainer<Mm1> {
    Trainer::new(&compute(), model(), OptimizerConfig::default()).unwrap()
}

/// Losses of `steps`, with a learning rate and batches that depend on the step alone.
fn run(trainer: &mut Trainer<Mm1>, steps: std::ops::Range<usize>) -> Vec<u64> {
    let losses = steps.map(|step| {
        let batches = [batch(step, 0..3), text_only(batch(step, 3..5))];
        trainer.step(&batches, 1e-2 / (1.0 + step as f64)).unwrap().loss.to_bits()
    });
    losses.collect()
}

fn snapshot(trainer: &Trainer<Mm1>) -> Snapshot {
    trainer.snapshot(json!({ "cursor": 5 }))
}

#[test]
fn a_step_does_not_depend_on_how_it_is_cut() {
    let whole = [batch(1, 0..8)];
    let parts: Vec<Batch> = (0..4).map(|i| batch(1, 2 * i..2 * i + 2)).collect();
    let weights: Vec<f64> = parts.iter().map(Batch::weight).collect();
    assert!(weights[0] < weights[3], "a mean of means would pass with equal weights: {weights:?}");
    let (mut a, mut b) = (trainer(), trainer());
    let (ra, rb) = (a.step(&whole, 1e-3).unwrap(), b.step(&parts, 1e-3).unwrap());
    assert!((ra.loss - rb.loss).abs() < 1e-6, "{} and {}", ra.loss, rb.loss);
    assert!((ra.grad_norm - rb.grad_norm).abs() < 1e-6);
    assert_eq!((ra.weight, ra.tokens, ra.images), (rb.weight, rb.tokens, rb.images));
    assert_eq!((ra.tokens, ra.images), (8 * 22, 8));
    // After one step the first moment is the clipped gradient times 0.1.
    let clip = 1.0 / ra.grad_norm.max(1.0) as f32;
    let moments = b.snapshot(Value::Null).optimizer;
    for (path, data) in a.snapshot(Value::Null).optimizer.iter().filter(|(path, _)| path.ends_with(".m")) {
        let pairs =
            data.try_to_vec::<f32>().unwrap().into_iter().zip(moments[path].try_to_vec::<f32>().unwrap());
        for (x, y) in pairs {
            assert!((x - y).abs() / (0.1 * clip) < 1e-6, "{path}: gradients {x} and {y} (times 0.1)");
        }
    }
}

#[test]
fn training_learns() {
    let mut trainer = trainer();
    let batches = [batch(3, 0..4)];
    let losses: Vec<f64> = (0..60).map(|_| trainer.step(&batches, 1e-2).unwrap().loss).collect();
    assert!((losses[0] - 50f64.ln()).abs() < 1.0, "the first loss is {}", losses[0]);
    assert!(losses[59] < 0.5 * losses[0], "from {} to {} in 60 steps on one batch", losses[0], losses[59]);
}

#[test]
fn every_parameter_is_trained() {
    let mut trainer = trainer();
    let before = snapshot(&trainer);
    trainer.step(&[batch(0, 0..2)], 1e-3).unwrap();
    for (path, data) in snapshot(&trainer).model {
        assert_ne!(data, before.model[&path], "{path} has not changed");
        assert!(before.optimizer.contains_key(&format!("{path}.m")), "{path} has no moments");
    }
}

#[test]
fn a_step_without_pictures_works() {
    let mut trainer = trainer();
    let report = trainer.step(&[text_only(batch(0, 0..2))], 1e-3).unwrap();
    assert_eq!((report.images, report.tokens, report.weight), (0, 16, 12.0));
    for (path, data) in snapshot(&trainer).optimizer {
        let zero = data.try_to_vec::<f32>().unwrap().iter().all(|&m| m == 0.0);
        assert_eq!(zero, !path.starts_with("lm."), "{path}");
    }
}

#[test]
fn a_step_with_nothing_to_learn_is_refused() {
    let mut trainer = trainer();
    let before = snapshot(&trainer);
    let mut empty = batch(0, 0..2);
    empty.weights.fill(0.0);
    let error = format!("{:#}", trainer.step(&[empty], 1e-3).unwrap_err());
    assert_eq!(error, "step 0: nothing to learn: every position of 1 micro-batches has weight 0");
    assert_eq!(snapshot(&trainer), before);
}

#[test]
fn a_loss_that_is_not_finite_stops_before_the_update() {
    let mut trainer = trainer();
    run(&mut trainer, 0..1);
    let before = snapshot(&trainer);
    let mut bad = batch(0, 4..5);
    bad.pixels[7] = f32::NAN;
    let error = format!("{:#}", trainer.step(&[batch(0, 0..2), bad], 1e-3).unwrap_err());
    assert_eq!(error, "step 1: the loss is NaN on samples picture/0/4, text/0/4");
    assert_eq!(snapshot(&trainer), before);
}

#[derive(Module, Debug)]
struct Rooted {
    toy: Toy,
}

impl Objective for Rooted {
    type Batch = Root;

    fn weight(_: &Root) -> f64 {
        1.0
    }

    /// The root of 0 is finite, its slope is not.
    fn backward(&self, compute: &Compute, step: &Step<'_, Root>) -> Result<StepResult> {
        StepResult::of_sums(compute, self, step, |_| {
            Ok((self.toy.lm.bias.val() * 0.0).sqrt().sum() + self.toy.vision.matrix.val().sum())
        })
    }
}

struct Root(Vec<String>);

impl MicroBatch for Root {
    fn tokens(&self) -> usize {
        0
    }
    fn images(&self) -> usize {
        0
    }
    fn samples(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// Values of a toy's parameter.
fn count_of(name: &str) -> usize {
    match name {
        "lm.bias" => 5,
        "lm.matrix" => 20,
        _ => 12,
    }
}

#[test]
fn a_gradient_that_is_not_finite_stops_before_the_update() {
    let toy = Toy::new(|name| vec![1.0; count_of(name)]);
    let mut trainer = Trainer::new(&compute(), Rooted { toy }, OptimizerConfig::default()).unwrap();
    let before = trainer.snapshot(Value::Null);
    let error = trainer.step(&[Root(vec!["x".into()]), Root(vec!["y".into()])], 1.0).unwrap_err();
    assert_eq!(format!("{error:#}"), "step 0, samples x, y: the gradient of toy.lm.bias is not finite");
    assert_eq!(trainer.snapshot(Value::Null), before);
}

#[test]
fn a_resumed_run_is_the_unbroken_run_bit_for_bit() {
    for moments in [MomentFormat::F32, MomentFormat::EightBit] {
        resumes(OptimizerConfig { moments, ..OptimizerConfig::default() });
    }
}

fn resumes(config: OptimizerConfig) {
    resumes_with(config, |model| model);
}

fn resumes_with(config: OptimizerConfig, change: fn(Mm1) -> Mm1) {
    let model = || change(model());
    let mut unbroken = Trainer::new(&compute(), model(), config.clone()).unwrap();
    let losses = run(&mut unbroken, 0..6);
    let mut first = Trainer::new(&compute(), model(), config.clone()).unwrap();
    assert_eq!(run(&mut first, 0..3), losses[..3]);
    let dir = tempfile::tempdir().unwrap();
    checkpoint::save(dir.path(), &snapshot(&first), 1).unwrap();
    drop(first);
    let found = checkpoint::latest(dir.path()).unwrap().unwrap();
    let loaded = found.load().unwrap();
    assert_eq!((found.step, &loaded.state), (3, &json!({ "cursor": 5 })));
    // Another seed: nothing of the fresh model may survive.
    let fresh = Mm1::new(&crate::toy::config(), 99, &crate::toy::device()).unwrap();
    let mut second = Trainer::new(&compute(), change(fresh), config).unwrap();
    second.restore(loaded).unwrap();
    assert_eq!(second.steps_done(), 3);
    assert_eq!(run(&mut second, 3..6), losses[3..]);
    assert_eq!(snapshot(&second), snapshot(&unbroken));
}

/// With low-rank adapters in place of the weights of encoder and decoder, and dropout.
pub(crate) fn adapted(model: Mm1) -> Mm1 {
    let targets = vec![AdapterTarget::K, AdapterTarget::Out, AdapterTarget::Up, AdapterTarget::Down];
    let parts = vec![AdapterPart::Vision, AdapterPart::Lm];
    let config = AdapterConfig { rank: 2, dropout: 0.25, targets, parts, ..AdapterConfig::default() };
    mm1_model::adapted::with_adapters(model, &config, 11)
}

#[test]
fn a_resumed_run_with_adapters_is_the_unbroken_run_bit_for_bit() {
    resumes_with(OptimizerConfig::default(), adapted);
}

#[test]
fn a_step_changes_adapters_and_leaves_the_weights_beside_them() {
    let mut trainer = Trainer::new(&compute(), adapted(model()), OptimizerConfig::default()).unwrap();
    let before = snapshot(&trainer);
    // The second step: with `lora_b` at 0 the first leaves `lora_a` where it is, but for weight decay.
    run(&mut trainer, 0..2);
    let after = snapshot(&trainer);
    for (path, values) in &after.model {
        let trained = path.starts_with("connector.") || path.contains(".adapter.");
        assert_eq!(values != &before.model[path], trained, "{path}");
        assert_eq!(after.optimizer.contains_key(&format!("{path}.m")), trained, "{path}");
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let changes: [fn(Mm1) -> Mm1; 2] = [|model| model, adapted];
    for change in changes {
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut trainer =
                    Trainer::new(&compute(), change(model()), OptimizerConfig::default()).unwrap();
                (run(&mut trainer, 0..3), snapshot(&trainer))
            })
        };
        let one = on(1);
        for threads in [2, 3, 5] {
            assert!(on(threads) == one, "{threads} threads and one differ");
        }
    }
}

#[test]
fn a_checkpoint_of_another_model_is_refused() {
    let mut trainer = trainer();
    let before = snapshot(&trainer);
    let restore = |t: &mut Trainer<Mm1>, change: &dyn Fn(&mut Snapshot)| {
        let mut other = before.clone();
        change(&mut other);
        t.restore(other).unwrap_err().to_string()
    };
    let error = restore(&mut trainer, &|s| drop(s.model.remove("lm.norm.gamma")));
    assert_eq!(error, "the checkpoint lacks lm.norm.gamma");
    let error = restore(&mut trainer, &|s| {
        let bias = s.model["lm.norm.gamma"].clone();
        s.model.insert("lm.embedding".into(), bias);
    });
    assert_eq!(error, "lm.embedding is [16] in the checkpoint and [50, 16] in this model");
    let error = restore(&mut trainer, &|s| {
        let moment = s.optimizer["lm.embedding.m"].clone();
        s.optimizer.insert("lm.extra.m".into(), moment);
    });
    assert_eq!(error, "the checkpoint's lm.extra.m has no place in this model and its optimizer");
    assert_eq!(snapshot(&trainer), before);
    let frozen = OptimizerConfig { freeze: vec![ParameterGroup::Vision], ..Default::default() };
    let error =
        Trainer::new(&compute(), model(), frozen).unwrap().restore(before.clone()).unwrap_err().to_string();
    assert!(error.starts_with("the checkpoint's vision."), "{error}");
    let bytes = OptimizerConfig { moments: MomentFormat::EightBit, ..Default::default() };
    let error = Trainer::new(&compute(), model(), bytes).unwrap().restore(before).unwrap_err().to_string();
    assert!(error.ends_with(".m is F32 in the checkpoint and I8 in this run"), "{error}");
}

/// Trains the first layer only, with the mean of the third's squares as an auxiliary loss.
#[derive(Module, Debug)]
struct Balanced {
    toy: Toy,
    balance: bool,
}

impl Objective for Balanced {
    type Batch = Root;

    fn weight(_: &Root) -> f64 {
        1.0
    }

    fn backward(&self, compute: &Compute, step: &Step<'_, Root>) -> Result<StepResult> {
        StepResult::of_sums(compute, self, step, |_| {
            let (main, balance) = (self.toy.vision.matrix.val().sum(), self.toy.lm.bias.val().square().sum());
            if self.balance {
                return Ok(Loss { main, auxiliary: vec![("balance", balance)] });
            }
            Ok(Loss::from(main + balance))
        })
    }
}

#[test]
fn an_auxiliary_loss_is_in_the_loss_with_its_gradient_and_reported_by_name() {
    let trainer = |balance| {
        let toy = Toy::new(|name| vec![0.5; count_of(name)]);
        Trainer::new(&compute(), Balanced { toy, balance }, OptimizerConfig::default()).unwrap()
    };
    let batches = || [Root(vec!["x".into()]), Root(vec!["y".into()])];
    let (mut named, mut plain) = (trainer(true), trainer(false));
    let report = named.step(&batches(), 0.1).unwrap();
    let wanted = plain.step(&batches(), 0.1).unwrap();
    assert_eq!((report.loss, report.grad_norm), (wanted.loss, wanted.grad_norm));
    assert_eq!(named.snapshot(Value::Null), plain.snapshot(Value::Null));
    assert_eq!(report.auxiliary_losses["balance"], 5.0 * 0.25, "the mean over both micro-batches");
    assert_eq!(serde_json::to_value(&report).unwrap()["balance"], 1.25, "a line of metrics.jsonl has it");
    assert!(wanted.auxiliary_losses.is_empty());
}

/// They stay on the device as the loss does, and gradients of micro-batches are added there.
#[cfg(feature = "vulkan")]
#[test]
fn auxiliary_losses_are_read_with_the_reports_on_vulkan() {
    let Some(vulkan) = crate::toy::vulkan() else { return };
    let on = |compute: &Compute| {
        let toy = Toy::on(&compute.training_device(), |name| vec![0.5; count_of(name)]);
        Trainer::new(compute, Balanced { toy, balance: true }, OptimizerConfig::default()).unwrap()
    };
    let batches = || ["x", "y", "z"].map(|sample| Root(vec![sample.into()]));
    let (mut here, mut waiting, mut ahead) = (on(&compute()), on(&vulkan), on(&vulkan));
    let mut each = Vec::new();
    for step in 0..3 {
        let (ours, theirs) = (here.step(&batches(), 0.1).unwrap(), waiting.step(&batches(), 0.1).unwrap());
        let figures = |r: &mm1_train::StepReport| [r.loss, r.grad_norm, r.auxiliary_losses["balance"]];
        for (ours, theirs) in figures(&ours).into_iter().zip(figures(&theirs)) {
            assert!((ours / theirs - 1.0).abs() < 1e-6, "step {step}: {ours} and {theirs}");
        }
        each.push(theirs);
    }
    assert_ne!(each[0].auxiliary_losses, each[2].auxiliary_losses, "nothing was trained");
    for _ in 0..3 {
        ahead.take_step(&batches(), 0.1).unwrap();
    }
    assert_eq!(ahead.reports().unwrap(), each);
    assert_eq!(ahead.snapshot(Value::Null), waiting.snapshot(Value::Null));
}

/// Ten steps with products that read 16 bits.
#[cfg(feature = "vulkan")]
#[test]
fn products_of_16_bits_learn_as_those_of_f32_on_vulkan() {
    let Some(vulkan) = crate::toy::vulkan() else { return };
    let on = |compute: &Compute| {
        let model = Mm1::new(&crate::toy::config(), 7, &compute.training_device()).unwrap();
        Trainer::new(compute, model, OptimizerConfig::default()).unwrap()
    };
    let (mut exact, mut rounded) = (on(&vulkan), on(&vulkan.with_ops(mm1_model::ops::Gpu::in_f16())));
    let mut differ = false;
    for step in 0..10 {
        let batches = [batch(step, 0..3), text_only(batch(step, 3..5))];
        let (a, b) = (exact.step(&batches, 1e-3).unwrap().loss, rounded.step(&batches, 1e-3).unwrap().loss);
        assert!((a / b - 1.0).abs() < 2e-3, "step {step}: {a} and {b}");
        differ |= a != b;
    }
    assert!(differ, "nothing was rounded");
}

/// Twenty steps of the same batches, and the weights they lead to. From the second step on each checkpoint of
/// one is a start of the other.
#[cfg(feature = "vulkan")]
#[test]
fn twenty_steps_are_those_of_the_cpu_on_vulkan() {
    let Some(vulkan) = crate::toy::vulkan() else { return };
    let on = |compute: &Compute| {
        let model = Mm1::new(&crate::toy::config(), 7, &compute.training_device()).unwrap();
        Trainer::new(compute, model, OptimizerConfig::default()).unwrap()
    };
    let (mut here, mut there) = (on(&compute()), on(&vulkan));
    for step in 0..20 {
        let batches = [batch(step, 0..3), text_only(batch(step, 3..5))];
        let lr = 1e-3 / (1.0 + step as f64);
        let (ours, theirs) = (here.step(&batches, lr).unwrap(), there.step(&batches, lr).unwrap());
        let apart = (ours.loss / theirs.loss - 1.0).abs();
        assert!(apart < 2e-5, "step {step}: {} and {} are {apart:e} apart", ours.loss, theirs.loss);
        let apart = (ours.grad_norm / theirs.grad_norm - 1.0).abs();
        assert!(apart < 1e-4, "step {step}: norms are {apart:e} apart");
    }
    // Moved to the CPU, it goes on as there.
    let taken = there.snapshot(Value::Null);
    here.restore(taken).unwrap();
    let batches = [batch(20, 0..3)];
    let (ours, theirs) = (here.step(&batches, 1e-4).unwrap(), there.step(&batches, 1e-4).unwrap());
    assert!((ours.loss / theirs.loss - 1.0).abs() < 2e-6, "{} and {}", ours.loss, theirs.loss);
}

#[cfg(feature = "vulkan")]
#[test]
fn a_checkpoint_gives_the_same_digits_on_vulkan() {
    let Some(vulkan) = crate::toy::vulkan() else { return };
    let new = || {
        let model = Mm1::new(&crate::toy::config(), 7, &vulkan.training_device()).unwrap();
        Trainer::new(&vulkan, model, OptimizerConfig::default()).unwrap()
    };
    let mut whole = new();
    let losses = run(&mut whole, 0..6);
    let mut first = new();
    assert_eq!(run(&mut first, 0..3), losses[..3]);
    let mut second = new();
    second.restore(snapshot(&first)).unwrap();
    assert_eq!(run(&mut second, 3..6), losses[3..]);
}

#[cfg(feature = "vulkan")]
#[test]
fn steps_that_nobody_waits_for_have_the_same_digits_on_vulkan() {
    let Some(vulkan) = crate::toy::vulkan() else { return };
    let new = || {
        let model = Mm1::new(&crate::toy::config(), 7, &vulkan.training_device()).unwrap();
        Trainer::new(&vulkan, model, OptimizerConfig::default()).unwrap()
    };
    let (mut waiting, mut ahead) = (new(), new());
    let batches = |step| [batch(step, 0..3), text_only(batch(step, 3..5))];
    let each: Vec<_> = (0..5).map(|step| waiting.step(&batches(step), 1e-2).unwrap()).collect();
    for step in 0..5 {
        ahead.take_step(&batches(step), 1e-2).unwrap();
    }
    assert_eq!(ahead.reports().unwrap(), each);
    assert_eq!(ahead.reports().unwrap(), []);
    assert_eq!(snapshot(&ahead).model, snapshot(&waiting).model);
}
