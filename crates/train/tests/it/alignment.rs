//! Image tokens near the embeddings of captions.

use burn::tensor::{Tensor, TensorData};
use mm1_model::Mm1;
use mm1_model::alignment::Alignment;
use mm1_model::clip::PackedCaptions;
use mm1_train::{OptimizerConfig, Trainer};
use serde_json::json;

use crate::toy::{batch, compute, config, device, model, text_only};

const DIM: usize = 16;
const IMAGE_TOKENS: usize = 4;
/// What ends a caption.
const END: u32 = 3;
fn numbers<const D: usize>(t: Tensor<D>) -> Vec<f64> {
    t.into_data().iter::<f32>().map(f64::from).collect()
}

/// The loss of image tokens `[n, k, d]` by its definition, in f64.
fn expected(tokens: &[f64], table: &[f64], captions: &[&[u32]]) -> f64 {
    let spread = table.iter().map(|x| x * x).sum::<f64>() / table.len() as f64;
    let factor = 32.0 / (DIM as f64 * spread);
    let mut loss = 0.0;
    for (picture, caption) in tokens.chunks(IMAGE_TOKENS * DIM).zip(captions) {
        let words: Vec<usize> = caption.iter().filter(|&&id| id != END).map(|&id| id as usize).collect();
        let count = words.len().min(IMAGE_TOKENS) as f64;
        for (token, word) in picture.chunks(DIM).zip(words) {
            let logit = |row: &[f64]| factor * row.iter().zip(token).map(|(e, z)| e * z).sum::<f64>();
            let sum: f64 = table.chunks(DIM).map(|row| logit(row).exp()).sum();
            let own = &table[word * DIM..][..DIM];
            let squares: f64 = own.iter().zip(token).map(|(e, z)| (e - z).powi(2)).sum();
            loss += (sum.ln() - logit(own) + squares / (DIM as f64 * spread)) / count;
        }
    }
    loss
}

/// The bias behind an average pool moves all image tokens: its gradient is that of the definition.
#[test]
fn the_loss_and_its_gradient_are_those_of_the_definition() {
    let mut config = config();
    config.connector =
        serde_json::from_value(json!({ "kind": "average-pool", "tokens": IMAGE_TOKENS })).unwrap();
    let model = Alignment::new(Mm1::new(&config, 7, &device()).unwrap(), END);
    // Of no token to more than there are image tokens.
    let captions: [&[u32]; 4] = [&[4, 9, 9, END], &[30, END], &[12, 4, 5, 31, 6, END], &[END]];
    let values = (0..4 * 16 * 16 * 3).map(|i| (i as f32 * 0.37).sin()).collect::<Vec<_>>();
    let pixels = || Tensor::<4>::from_data(TensorData::new(values.clone(), [4, 16, 16, 3]), &device());
    let table = numbers(model.lm.embedding.val());
    let features = model.vision.forward(&compute(), pixels());
    let tokens = numbers(model.connector.forward(&compute(), features, [4, 4]));

    let (ids, lens) = (captions.concat(), captions.map(<[u32]>::len));
    let parts = model.loss(&compute(), pixels(), PackedCaptions { ids: &ids, lens: &lens });
    let loss = parts.words + parts.distance;
    let value = f64::from(loss.clone().into_scalar::<f32>());
    let of = |tokens: &[f64]| expected(tokens, &table, &captions);
    assert!((value / of(&tokens) - 1.0).abs() < 1e-5, "{value} is not {}", of(&tokens));

    let mm1_model::connector::Connector::AveragePool(pool) = &model.connector else { panic!("a pool") };
    let grads = loss.backward();
    let found = numbers(pool.project_bias.as_ref().unwrap().val().grad(&grads).unwrap());
    let slopes: Vec<f64> = (0..DIM)
        .map(|j| {
            let moved = |by: f64| -> Vec<f64> {
                tokens.iter().enumerate().map(|(i, x)| if i % DIM == j { x + by } else { *x }).collect()
            };
            (of(&moved(1e-6)) - of(&moved(-1e-6))) / 2e-6
        })
        .collect();
    let scale = slopes.iter().fold(0.0, |m: f64, s| m.max(s.abs()));
    for (found, slope) in found.iter().zip(&slopes) {
        assert!((found - slope).abs() < 1e-4 * scale, "{found} is not {slope}");
    }
}

/// LLaVA's connector gives 4 x 4 patches of these pictures.
#[test]
fn one_row_of_patches_is_to_say_the_caption() {
    let mut config = config();
    config.connector = serde_json::from_value(json!({ "kind": "mlp" })).unwrap();
    let model = Alignment::new(Mm1::new(&config, 7, &device()).unwrap(), END);
    let values = (0..2 * 16 * 16 * 3).map(|i| (i as f32 * 0.37).sin()).collect::<Vec<_>>();
    let pixels = || Tensor::<4>::from_data(TensorData::new(values.clone(), [2, 16, 16, 3]), &device());
    let features = model.vision.forward(&compute(), pixels());
    let tokens = numbers(model.connector.forward(&compute(), features, [4, 4]));
    assert_eq!(tokens.len(), 2 * 16 * DIM);
    // The sum of a caption's ids chooses the row: 26 is 2 of four, and 61 is 1.
    let captions: [&[u32]; 2] = [&[5, 9, 9, END], &[12, 4, 5, 31, 6, END]];
    let row = |picture: usize, row: usize| &tokens[(picture * 4 + row) * 4 * DIM..][..4 * DIM];
    let rows = [row(0, 2), row(1, 1)].concat();
    let (ids, lens) = (captions.concat(), captions.map(<[u32]>::len));
    let parts = model.loss(&compute(), pixels(), PackedCaptions { ids: &ids, lens: &lens });
    let value = f64::from((parts.words + parts.distance).into_scalar::<f32>());
    let expected = expected(&rows, &numbers(model.lm.embedding.val()), &captions);
    assert!((value / expected - 1.0).abs() < 1e-5, "{value} is not {expected}");
}

#[test]
fn a_connector_learns_which_captions_belong_to_which_pictures() {
    let mut pairs = batch(1, 0..6);
    pairs.examples.retain(|example| example.sample.starts_with("picture"));
    let optimizer: OptimizerConfig = serde_json::from_value(json!({ "freeze": ["vision", "lm"] })).unwrap();
    let mut trainer = Trainer::new(&compute(), Alignment::new(model(), END), optimizer).unwrap();
    let embeddings = numbers(model().lm.embedding.val());
    let losses: Vec<_> = (0..150).map(|_| trainer.step(&[pairs.clone()], 3e-3).unwrap().loss).collect();
    assert!(losses[149] < 0.5 * losses[0], "{} to {}", losses[0], losses[149]);
    assert_eq!(numbers(trainer.model().lm.embedding.val()), embeddings, "the decoder stays as it is");
    let error = format!("{:#}", trainer.step(&[text_only(batch(1, 0..2))], 1e-3).unwrap_err());
    assert!(error.contains("has 0 pictures; this objective needs one"), "{error}");
}
