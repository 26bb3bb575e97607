use burn::tensor::{Tensor, TensorData};
use mm1_model::Mm1;
use mm1_model::clip::{Captions, Clip};
use mm1_model::superclass::{SuperClass, inverse_document_frequency};
use mm1_train::{OptimizerConfig, Trainer};

use crate::toy::{batch, config, device, text_only};

fn trainer() -> Trainer<Clip> {
    let vision = Mm1::new(&config(), 7, &device()).unwrap().vision;
    Trainer::new(Clip::new(vision, &config().lm, 7).unwrap(), OptimizerConfig::default()).unwrap()
}

/// Pictures with their captions, without the examples of text.
fn pairs(rows: std::ops::Range<usize>) -> mm1_data::batch::Batch {
    let mut batch = batch(1, rows);
    batch.spans.retain(|s| s.start == 0);
    batch.samples.retain(|s| s.starts_with("picture"));
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
    assert_eq!(error, "step 0: text/1/0 has 0 pictures; an encoder needs one with a caption");
    let mut blank = pairs(0..2);
    blank.weights.fill(0.0);
    let error = format!("{:#}", trainer.step(&[blank], 1e-3).unwrap_err());
    assert_eq!(error, "step 0: picture/1/0 has no caption that is learned; an encoder needs one");
}

#[test]
fn captions_are_classified_and_what_every_caption_has_counts_little() {
    let captions = [vec![3, 5, 5], vec![3, 7], vec![3, 5]];
    let weights = inverse_document_frequency(&captions, 9);
    let expected = [4f32.ln(), (4.0f32 / 4.0).ln(), (4.0f32 / 3.0).ln(), 2f32.ln()].map(|w| w + 0.01);
    assert_eq!([weights[0], weights[3], weights[5], weights[7]], expected);

    let classifier = || SuperClass::new(Mm1::new(&config(), 7, &device()).unwrap().vision, vec![1.0; 50], 7);
    let mut trainer = Trainer::new(classifier(), OptimizerConfig::default()).unwrap();
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
    let model = SuperClass::new(Mm1::new(&config(), 7, &device()).unwrap().vision, weights, 7);
    let values = (0..2 * 16 * 16 * 3).map(|i| (i as f32 * 0.37).sin()).collect::<Vec<_>>();
    let pixels = Tensor::<4>::from_data(TensorData::new(values, [2, 16, 16, 3]), &device());
    let numbers = |t: Tensor<2>| -> Vec<f64> {
        t.into_data().try_into_vec::<f32>().unwrap().into_iter().map(f64::from).collect()
    };
    let features = numbers(model.vision.forward(pixels.clone()).mean_dim(1).squeeze_dim::<2>(1));
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
    let loss = model.loss(pixels, Captions { ids: &ids, lens: &lens });
    let value: f32 = loss.clone().into_scalar();
    assert!((f64::from(value) / expected - 1.0).abs() < 1e-6, "{value} is not {expected}");
    let grads = loss.backward();
    let found = numbers(model.head.val().grad(&grads).unwrap());
    let scale = slopes.iter().fold(0.0, |m: f64, s| m.max(s.abs()));
    for (found, slope) in found.iter().zip(&slopes) {
        assert!((found - slope).abs() < 1e-5 * scale, "{found} is not {slope}");
    }
}
