//! Image tokens near the embeddings of captions.

use burn::tensor::{Tensor, TensorData};
use mm1_model::Mm1;
use mm1_model::alignment::Alignment;
use mm1_model::clip::PackedCaptions;
use mm1_model::superclass::inverse_document_frequency;
use mm1_train::{OptimizerConfig, Trainer};
use serde_json::json;

use crate::toy::{batch, compute, config, device, model, text_only};

const DIM: usize = 16;
const IMAGE_TOKENS: usize = 4;
/// What the frequencies of tokens are counted in.
const COUNTED: [&[u32]; 4] = [&[4, 9], &[4, 30, 31], &[4, 9, 12], &[]];

fn counted() -> Vec<Vec<u32>> {
    COUNTED.map(<[u32]>::to_vec).to_vec()
}

fn numbers<const D: usize>(t: Tensor<D>) -> Vec<f64> {
    t.into_data().iter::<f32>().map(f64::from).collect()
}

/// The loss of image tokens `[n, k, d]` by its definition, in f64.
fn expected(tokens: &[f64], table: &[f64], captions: &[&[u32]]) -> f64 {
    let weights = inverse_document_frequency(&counted(), table.len() / DIM);
    let mean = |caption: &[u32]| -> Vec<f64> {
        let total: f64 = caption.iter().map(|&id| f64::from(weights[id as usize])).sum();
        let row = |id: u32, j: usize| f64::from(weights[id as usize]) / total * table[id as usize * DIM + j];
        (0..DIM).map(|j| caption.iter().map(|&id| row(id, j)).sum()).collect()
    };
    let counted: Vec<_> = COUNTED.into_iter().filter(|caption| !caption.is_empty()).map(mean).collect();
    let centre: Vec<f64> =
        (0..DIM).map(|j| counted.iter().map(|m| m[j]).sum::<f64>() / counted.len() as f64).collect();
    let spread = table.iter().map(|x| x * x).sum::<f64>() / table.len() as f64;
    let unit = |v: &[f64]| -> Vec<f64> {
        let v: Vec<f64> = v.iter().zip(&centre).map(|(x, c)| x - c).collect();
        let length = v.iter().map(|x| x * x).sum::<f64>().sqrt();
        v.into_iter().map(|x| x / length).collect()
    };
    let texts: Vec<Vec<f64>> = captions.iter().map(|caption| mean(caption)).collect();
    let pictures: Vec<&[f64]> = tokens.chunks(IMAGE_TOKENS * DIM).collect();
    let mut distance = 0.0;
    for (picture, text) in pictures.iter().zip(&texts) {
        let squares = picture.iter().enumerate().map(|(i, x)| (x - text[i % DIM]).powi(2));
        distance += squares.sum::<f64>() / (IMAGE_TOKENS * DIM) as f64 / spread;
    }
    let means = pictures.iter().map(|picture| -> Vec<f64> {
        (0..DIM).map(|j| picture.iter().skip(j).step_by(DIM).sum::<f64>() / IMAGE_TOKENS as f64).collect()
    });
    let pictures: Vec<_> = means.map(|mean| unit(&mean)).collect();
    let texts: Vec<_> = texts.iter().map(|text| unit(text)).collect();
    let cosine = |i: usize, j: usize| -> f64 { (0..DIM).map(|d| pictures[i][d] * texts[j][d]).sum() };
    let n = captions.len();
    let loss = |i: usize, of: &dyn Fn(usize) -> f64| -> f64 {
        let own: Vec<usize> = (0..n).filter(|&other| captions[other] == captions[i]).collect();
        let logits = own.iter().map(|&other| of(other) / 0.07).sum::<f64>() / own.len() as f64;
        (0..n).map(|other| (of(other) / 0.07).exp()).sum::<f64>().ln() - logits
    };
    let contrast: f64 =
        (0..n).map(|i| loss(i, &|j| cosine(i, j)) + loss(i, &|j| cosine(j, i))).sum::<f64>() / 2.0;
    contrast + distance / 10.0
}

/// The bias behind an average pool moves all image tokens: its gradient is that of the definition.
#[test]
fn the_loss_and_its_gradient_are_those_of_the_definition() {
    let mut config = config();
    config.connector =
        serde_json::from_value(json!({ "kind": "average-pool", "tokens": IMAGE_TOKENS })).unwrap();
    let model = Alignment::new(Mm1::new(&config, 7, &device()).unwrap(), &counted());
    // Two have the same text.
    let captions: [&[u32]; 4] = [&[4, 9, 9], &[30], &[12, 4], &[30]];
    let values = (0..4 * 16 * 16 * 3).map(|i| (i as f32 * 0.37).sin()).collect::<Vec<_>>();
    let pixels = || Tensor::<4>::from_data(TensorData::new(values.clone(), [4, 16, 16, 3]), &device());
    let table = numbers(model.lm.embedding.val());
    let features = model.vision.forward(&compute(), pixels());
    let tokens = numbers(model.connector.forward(&compute(), features, [4, 4]));

    let (ids, lens) = (captions.concat(), captions.map(<[u32]>::len));
    let parts = model.loss(&compute(), pixels(), PackedCaptions { ids: &ids, lens: &lens });
    let loss = parts.contrast + parts.distance;
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

#[test]
fn a_connector_learns_which_captions_belong_to_which_pictures() {
    let mut pairs = batch(1, 0..6);
    pairs.examples.retain(|example| example.sample.starts_with("picture"));
    let captions: Vec<_> = pairs.examples.iter().map(|example| example.caption.clone()).collect();
    let optimizer: OptimizerConfig = serde_json::from_value(json!({ "freeze": ["vision", "lm"] })).unwrap();
    let mut trainer = Trainer::new(&compute(), Alignment::new(model(), &captions), optimizer).unwrap();
    let embeddings = numbers(model().lm.embedding.val());
    let losses: Vec<_> = (0..150).map(|_| trainer.step(&[pairs.clone()], 3e-3).unwrap().loss).collect();
    // Of six pairs a guess is ln 6; the distance can't end at 0, as one connector serves all pictures.
    assert!(losses[149] < 0.5 * losses[0] && losses[149] < 6f64.ln(), "{} to {}", losses[0], losses[149]);
    assert_eq!(numbers(trainer.model().lm.embedding.val()), embeddings, "the decoder stays as it is");
    let error = format!("{:#}", trainer.step(&[text_only(batch(1, 0..2))], 1e-3).unwrap_err());
    assert!(error.contains("has 0 pictures; this objective needs one"), "{error}");
}
