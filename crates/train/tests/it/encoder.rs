use burn::tensor::{Tensor, TensorData};
use mm1_data::batch::Batch;
use mm1_model::Mm1;
use mm1_model::aim::{Aim, AimConfig};
use mm1_model::alignment::Alignment;
use mm1_model::clip::{Clip, Contrast, PackedCaptions};
use mm1_model::dino::{Centring, Dino, DinoConfig};
use mm1_model::ops::Precision;
use mm1_model::superclass::{SuperClass, inverse_document_frequency};
use mm1_model::vision::Vision;
use mm1_train::objective::probe::{Labelled, Probe};
use mm1_train::{Objective, OptimizerConfig, Trainer};
use serde_json::Value;

use crate::toy::{batch, compute, config, device, text_only};

pub(crate) fn vision() -> Vision {
    Mm1::encoder(&config(), 7, &device()).unwrap()
}

fn contrastive(contrast: Contrast) -> Trainer<Clip> {
    let clip = Clip::new(vision(), &config().lm, contrast, 7).unwrap();
    Trainer::new(&compute(), clip, OptimizerConfig::default()).unwrap()
}

fn trainer() -> Trainer<Clip> {
    contrastive(Contrast::Softmax)
}

pub(crate) fn small_dino(config: DinoConfig) -> Dino {
    let small = DinoConfig { prototypes: 12, hidden: 16, bottleneck: 8, momentum: 0.9, ..config };
    Dino::new(vision(), &small, 10, 7)
}

fn dino(config: DinoConfig) -> Trainer<Dino> {
    Trainer::new(&compute(), small_dino(config), OptimizerConfig::default()).unwrap()
}

/// Two large views and two small ones of each picture.
pub(crate) fn views(rows: std::ops::Range<usize>) -> Batch {
    let mut batch = pairs(rows);
    let large = batch.pixels.chunks(16 * 16 * 3);
    batch.pixels = large.flat_map(|p| [p.to_vec(), p.iter().rev().copied().collect()]).flatten().collect();
    batch.crop_size = 8;
    let small = batch.pixels.chunks(16 * 16 * 3).flat_map(|p| &p[..8 * 8 * 3]);
    batch.crops = small.copied().collect();
    batch
}

/// Losses of steps 0..4 without a stop, and with one after step 2 that is resumed.
fn resumed<M: Objective<Batch = Batch>>(
    new: impl Fn() -> Trainer<M>,
    batches: [Vec<Batch>; 4],
) -> [Vec<u64>; 2] {
    let run = |trainer: &mut Trainer<M>, steps: std::ops::Range<usize>| -> Vec<u64> {
        steps.map(|step| trainer.step(&batches[step], 1e-2).unwrap().loss.to_bits()).collect()
    };
    let whole = run(&mut new(), 0..4);
    let mut first = new();
    let mut losses = run(&mut first, 0..2);
    let mut second = new();
    second.restore(first.snapshot(Value::Null)).unwrap();
    losses.extend(run(&mut second, 2..4));
    [whole, losses]
}

#[test]
fn a_contrast_is_that_of_one_batch_however_it_is_cut() {
    for contrast in [Contrast::Softmax, Contrast::Sigmoid] {
        let (mut whole, mut parts) = (contrastive(contrast), contrastive(contrast));
        let a = whole.step(&[pairs(0..6)], 1e-3).unwrap();
        let b = parts.step(&[pairs(0..1), pairs(1..4), pairs(4..6)], 1e-3).unwrap();
        assert!((a.loss - b.loss).abs() < 1e-6 && (a.grad_norm / b.grad_norm - 1.0).abs() < 1e-5);
        // A mean of the parts' own contrasts would be far off.
        let mut alone = contrastive(contrast);
        let c = alone.step(&[pairs(1..4)], 1e-3).unwrap();
        assert!((a.loss - c.loss).abs() > 0.1, "{} and {}", a.loss, c.loss);
        let moments = parts.snapshot(Value::Null).optimizer;
        for (path, data) in
            whole.snapshot(Value::Null).optimizer.iter().filter(|(path, _)| path.ends_with(".m"))
        {
            let values = |data: &TensorData| data.try_to_vec::<f32>().unwrap();
            for (x, y) in values(data).into_iter().zip(values(&moments[path])) {
                assert!((x - y).abs() < 1e-6, "{path}: {x} and {y}");
            }
        }
    }
}

#[test]
fn the_factor_on_cosines_stays_in_its_range() {
    let mut trainer = trainer();
    for _ in 0..60 {
        trainer.step(&[pairs(0..4)], 0.5).ok();
    }
    let scale = trainer.model().log_scale.val().into_scalar::<f32>();
    assert!((0.0..=100f32.ln() + 1e-6).contains(&scale), "{scale}");
}

#[test]
fn the_student_learns_and_the_teacher_follows() {
    let mut trainer = dino(DinoConfig::default());
    let before = trainer.snapshot(Value::Null);
    assert!(before.optimizer.keys().all(|path| path.starts_with("student.")), "only the student has moments");
    let report = trainer.step(&[views(0..3), views(3..5)], 1e-2).unwrap();
    assert_eq!(report.weight, 5.0);
    assert!(report.figures.keys().copied().eq(["class_entropy", "rank", "view_entropy"]));
    let after = trainer.snapshot(Value::Null).model;
    let values = |data: &TensorData| data.try_to_vec::<f32>().unwrap();
    let momentum = trainer.model().momentum(1) as f32;
    assert!(momentum > 0.9 && momentum < 0.91, "{momentum}");
    for (path, data) in &before.model {
        let Some(own) = path.strip_prefix("student.").filter(|own| *own != "mask") else { continue };
        let (old, student, teacher) = (values(&before.model[own]), values(&after[path]), values(&after[own]));
        assert_ne!(values(data), student, "{path} has not learned");
        for ((old, student), teacher) in old.iter().zip(&student).zip(&teacher) {
            let expected = old * momentum + student * (1.0 - momentum);
            assert!((teacher - expected).abs() < 1e-6, "{own}: {teacher} is not {expected}");
        }
    }
    assert_ne!(after["centre"], before.model["centre"], "the centre has not moved");
}

#[test]
fn self_distillation_does_not_depend_on_how_a_step_is_cut() {
    for centring in [Centring::Centre, Centring::Sinkhorn] {
        let new = || dino(DinoConfig { centring, ibot: 1.0, ..DinoConfig::default() });
        let a = new().step(&[views(0..5)], 1e-3).unwrap();
        let b = new().step(&[views(0..2), views(2..5)], 1e-3).unwrap();
        assert!((a.loss - b.loss).abs() < 1e-5, "{} and {}", a.loss, b.loss);
        assert!((a.grad_norm / b.grad_norm - 1.0).abs() < 1e-4, "{} and {}", a.grad_norm, b.grad_norm);
    }
}

#[test]
fn every_objective_resumes_bit_for_bit() {
    let of = |make: fn(std::ops::Range<usize>) -> Batch| {
        [0, 1, 2, 3].map(|i| vec![make(i..i + 3), make(i + 3..i + 5)])
    };
    let [whole, parts] = resumed(trainer, of(pairs));
    assert_eq!(whole, parts);
    let v2 = DinoConfig { centring: Centring::Sinkhorn, ibot: 1.0, ..DinoConfig::default() };
    for config in [DinoConfig::default(), v2] {
        let [whole, parts] = resumed(|| dino(config.clone()), of(views));
        assert_eq!(whole, parts);
    }
    let aim = || {
        let aim = Aim::new(vision(), &AimConfig { head_layers: 1, head_ffn: 16 }, 4, 7);
        Trainer::new(&compute(), aim, OptimizerConfig::default()).unwrap()
    };
    let [whole, parts] = resumed(aim, of(pairs));
    assert_eq!(whole, parts);
    let align = || {
        let model = Alignment::new(crate::toy::model(), 3);
        Trainer::new(&compute(), model, OptimizerConfig::default()).unwrap()
    };
    let [whole, parts] = resumed(align, of(pairs));
    assert_eq!(whole, parts);
    let mut trainer = aim();
    let losses: Vec<f64> = (0..60).map(|_| trainer.step(&[pairs(0..4)], 3e-3).unwrap().loss).collect();
    assert!(losses[59] < 0.6 * losses[0], "from {} to {} on four pictures", losses[0], losses[59]);
}

#[test]
fn a_dead_teacher_stops_the_training() {
    let mut trainer = dino(DinoConfig::default());
    let mut blank = views(0..4);
    blank.pixels.fill(0.5);
    blank.crops.fill(0.5);
    let error = (0..40).find_map(|_| trainer.step(std::slice::from_ref(&blank), 1e-3).err()).unwrap();
    let error = format!("{error:#}");
    assert!(
        error.starts_with("step 20: the teacher has collapsed, all pictures look alike to it (view_entropy "),
        "{error}"
    );
    assert!(error.contains("sinkhorn"), "{error}");
}

#[test]
fn a_linear_probe_finds_what_is_linear() {
    let of = |rows: std::ops::Range<usize>| {
        let noise = |i: usize| ((i * 7919 + 13) % 101) as f32 / 101.0 - 0.5;
        let row = |i: usize| [noise(i), noise(i + 50) * 100.0 + 300.0, noise(i + 1000), 7.0];
        let features: Vec<[f32; 4]> = rows.map(row).collect();
        let labels =
            features.iter().map(|[a, b, ..]| usize::from(*a > 0.0) + 2 * usize::from(*b > 300.0)).collect();
        Labelled { tokens: 1, dim: 4, features: features.concat(), labels }
    };
    let (train, test) = (of(0..400), of(2000..2200));
    let probe = Probe::linear(&compute(), &train, 4).unwrap();
    let said = probe.classify(&compute(), &test);
    let right = said.iter().zip(&test.labels).filter(|(a, b)| a == b).count();
    assert!(right > 180, "{right} of 200");
    // It measures: the precision of what it measures is not its own.
    let rounded = compute().with_precision(Precision::Bf16);
    let other = Probe::linear(&rounded, &train, 4).unwrap();
    assert_eq!(other.weight.val().inner().into_data(), probe.weight.val().inner().into_data());
    assert_eq!(other.classify(&rounded, &test), said);
}

/// One of five patches is marked and has the sign of its picture's class; the others have stronger signs of
/// no meaning, which drown it in their mean.
#[test]
fn an_attentive_probe_finds_the_patch_that_tells() {
    const PATCHES: usize = 5;
    let draw = |i: usize, n: usize| (i * 7919 + 13) % 10_007 % n;
    let of = |pictures: std::ops::Range<usize>| {
        let labels: Vec<usize> = pictures.clone().map(|i| draw(i, 2)).collect();
        let patch = |(i, patch): (usize, usize)| {
            if patch == draw(i + 5000, PATCHES) {
                [4.0, [-1.0, 1.0][draw(i, 2)]]
            } else {
                [0.0, draw(PATCHES * i + patch, 101) as f32 / 12.5 - 4.0]
            }
        };
        let features = pictures.flat_map(|i| (0..PATCHES).map(move |p| (i, p))).map(patch);
        let features = features.flat_map(|[a, b]| [[a; 8], [b; 8]].concat()).collect();
        Labelled { tokens: PATCHES, dim: 16, features, labels }
    };
    let mean = |all: &Labelled| {
        let of = |picture: &[f32]| (0..16).map(|c| picture.iter().skip(c).step_by(16).sum::<f32>()).collect();
        let features = all.features.chunks_exact(PATCHES * 16).flat_map::<Vec<f32>, _>(of).collect();
        Labelled { tokens: 1, features, ..all.clone() }
    };
    let right = |probe: &Probe, test: &Labelled| {
        probe.classify(&compute(), test).iter().zip(&test.labels).filter(|(a, b)| a == b).count()
    };
    let (train, test) = (of(0..2000), of(4000..4300));
    let by_mean = right(&Probe::linear(&compute(), &mean(&train), 2).unwrap(), &mean(&test));
    let by_look = right(&Probe::attentive(&compute(), &train, 2).unwrap(), &test);
    assert!(by_look > 290 && by_mean < 240, "{by_look} and {by_mean} of 300");
}

/// Pictures with their captions, without the examples of text.
pub(crate) fn pairs(rows: std::ops::Range<usize>) -> mm1_data::batch::Batch {
    let mut batch = batch(1, rows);
    batch.examples.retain(|example| example.sample.starts_with("picture"));
    batch
}

#[test]
fn pictures_find_their_captions() {
    let mut trainer = trainer();
    let batches = [pairs(0..6)];
    let reports: Vec<_> = (0..60).map(|_| trainer.step(&batches, 3e-3).unwrap()).collect();
    assert_eq!((reports[0].weight, reports[0].images), (6.0, 6));
    assert!((reports[0].loss - 6f64.ln()).abs() < 1.0, "the first loss is {}", reports[0].loss);
    assert!(reports[59].loss < 0.3, "after 60 steps on six pairs the loss is {}", reports[59].loss);
}

#[test]
fn an_example_that_is_no_pair_is_refused() {
    let mut trainer = trainer();
    let error = format!("{:#}", trainer.step(&[text_only(batch(1, 0..2))], 1e-3).unwrap_err());
    assert_eq!(error, "step 0: text/1/0 has 0 pictures; this objective needs one");
    let mut blank = pairs(0..2);
    blank.examples.iter_mut().for_each(|example| example.caption.clear());
    let error = format!("{:#}", trainer.step(&[blank], 1e-3).unwrap_err());
    assert_eq!(error, "step 0: picture/1/0 has no caption that is learned; this objective needs one");
}

#[test]
fn captions_are_classified_and_what_every_caption_has_counts_little() {
    let captions = [vec![3, 5, 5], vec![3, 7], vec![3, 5]];
    let weights = inverse_document_frequency(&captions, 9);
    let expected = [4f32.ln(), (4.0f32 / 4.0).ln(), (4.0f32 / 3.0).ln(), 2f32.ln()].map(|w| w + 0.01);
    assert_eq!([weights[0], weights[3], weights[5], weights[7]], expected);

    let classifier = || SuperClass::new(vision(), vec![1.0; 50], 7);
    let mut trainer = Trainer::new(&compute(), classifier(), OptimizerConfig::default()).unwrap();
    let batches = [pairs(0..6)];
    let losses: Vec<_> = (0..80).map(|_| trainer.step(&batches, 3e-3).unwrap().loss).collect();
    assert!((losses[0] - 50f64.ln()).abs() < 1.0, "the first loss is {}", losses[0]);
    // The floor is the entropy of each caption's own tokens: 1 to 6 of them.
    assert!(losses[79] < 1.4, "after 80 steps on six captions the loss is {}", losses[79]);
}

/// The loss and the classifier's gradient, from the encoder's features by the paper's formula in f64.
#[test]
fn the_classifiers_loss_and_gradient_are_the_papers() {
    let (vocab, lens, ids) = (50, [2, 3], [4u32, 9, 9, 30, 4]);
    let weight = |id: u32| 0.5 + f64::from(id) / 50.0;
    let weights = (0..vocab as u32).map(|id| weight(id) as f32).collect();
    let model = SuperClass::new(vision(), weights, 7);
    let values = (0..2 * 16 * 16 * 3).map(|i| (i as f32 * 0.37).sin()).collect::<Vec<_>>();
    let pixels = Tensor::<4>::from_data(TensorData::new(values, [2, 16, 16, 3]), &device());
    let numbers = |t: Tensor<2>| -> Vec<f64> {
        t.into_data().try_into_vec::<f32>().unwrap().into_iter().map(f64::from).collect()
    };
    let features = numbers(model.vision.forward(&compute(), pixels.clone()).mean_dim(1).squeeze_dim::<2>(1));
    let head = numbers(model.head.val());
    let d = head.len() / vocab;
    let (mut expected, mut slopes, mut start) = (0.0, vec![0.0; head.len()], 0);
    for (i, len) in lens.into_iter().enumerate() {
        let f = &features[i * d..][..d];
        let logits: Vec<f64> = (0..vocab).map(|v| (0..d).map(|j| f[j] * head[j * vocab + v]).sum()).collect();
        let log_sum = logits.iter().map(|l| l.exp()).sum::<f64>().ln();
        let caption = &ids[start..start + len];
        let total: f64 = caption.iter().map(|&id| weight(id)).sum();
        for &id in caption {
            let share = weight(id) / total;
            expected += share * (log_sum - logits[id as usize]);
            for (v, logit) in logits.iter().enumerate() {
                let slope = (logit - log_sum).exp() - f64::from(u8::from(v == id as usize));
                (0..d).for_each(|j| slopes[j * vocab + v] += share * slope * f[j]);
            }
        }
        start += len;
    }
    let loss = model.loss(&compute(), pixels, PackedCaptions { ids: &ids, lens: &lens });
    let value: f32 = loss.clone().into_scalar();
    assert!((f64::from(value) / expected - 1.0).abs() < 1e-6, "{value} is not {expected}");
    let grads = loss.backward();
    let found = numbers(model.head.val().grad(&grads).unwrap());
    let scale = slopes.iter().fold(0.0, |m: f64, s| m.max(s.abs()));
    for (found, slope) in found.iter().zip(&slopes) {
        assert!((found - slope).abs() < 1e-5 * scale, "{found} is not {slope}");
    }
}
