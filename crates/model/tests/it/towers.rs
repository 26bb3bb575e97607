//! Whole CLIP and SigLIP models with random weights as Hugging Face writes them
//! (scripts/reference/encoders.py).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use mm1_model::import::{self, towers};
use mm1_model::towers::Towers;
use mm1_model::vision::VisionConfig;
use mm1_model::weights;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;

use crate::case::{self, difference, values};
use crate::import::{Copy, data};

const MODELS: [&str; 2] = ["clip", "siglip-pair"];

fn made(folder: &Path) -> Towers {
    let vision = import::open(folder).unwrap().config;
    towers::open(folder).unwrap().unwrap().fit(&vision, &Device::flex()).unwrap()
}

/// What the script recorded, by name.
fn recorded(name: &str) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let tensors = weights::decode(&fs::read(data(&format!("{name}.safetensors"))).unwrap()).unwrap();
    tensors.into_iter().map(|(name, shape, values)| (name, (shape, values))).collect()
}

fn ids(name: &str) -> Vec<Vec<u32>> {
    let cases: Vec<Value> =
        serde_json::from_slice(&fs::read(data(&format!("{name}.json"))).unwrap()).unwrap();
    let ids = |case: &Value| serde_json::from_value(case["ids"].clone()).unwrap();
    cases.iter().map(ids).collect()
}

#[test]
fn vectors_are_those_of_where_the_weights_come_from() {
    for name in MODELS {
        let (towers, recorded) = (made(&data(name)), recorded(name));
        // The size of the table, and a rectangle.
        for i in 0..2 {
            let (shape, pixels) = recorded[&format!("pixels.{i}")].clone();
            let pixels = Tensor::from_data(TensorData::new(pixels, shape), &Device::flex());
            let vectors = values(towers.embed_pictures(&case::cpu(), pixels));
            let apart = difference(&vectors, &recorded[&format!("images.{i}")].1);
            assert!(apart <= 1e-5, "{name} {i}: {apart:e}");
        }
        let (texts, expected) = (ids(name), &recorded["texts"].1);
        let apart = difference(&values(towers.embed_texts(&case::cpu(), &texts).unwrap()), expected);
        assert!(apart <= 1e-5, "{name}: {apart:e}");
        // Each by itself: shorter rows, and no text beside it.
        let alone: Vec<f32> =
            texts.chunks(1).flat_map(|one| values(towers.embed_texts(&case::cpu(), one).unwrap())).collect();
        assert!(difference(&alone, expected) <= 1e-5, "{name}");
    }
}

#[test]
fn the_wrong_end_token_of_old_files_is_the_largest() {
    let (texts, new) = (ids("clip"), made(&data("clip")));
    let folder = Copy::new("clip").replace("config.json", "\"eos_token_id\": 530", "\"eos_token_id\": 2");
    let of = |towers: &Towers| values(towers.embed_texts(&case::cpu(), &texts).unwrap());
    assert_eq!(of(&made(folder.folder())), of(&new));
    // By the id, a text ends at the first.
    let folder = Copy::new("clip").replace("config.json", "\"eos_token_id\": 530", "\"eos_token_id\": 320");
    assert_ne!(values(made(folder.folder()).embed_texts(&case::cpu(), &texts[..1]).unwrap()), of(&new)[..8]);
}

#[test]
fn another_size_is_made_of_the_same_towers() {
    for name in MODELS {
        let own = import::open(&data(name)).unwrap().config;
        let fit =
            |config: &VisionConfig| towers::open(&data(name)).unwrap().unwrap().fit(config, &Device::flex());
        let (shape, pixels) = recorded(name)["pixels.0"].clone();
        let pixels: Tensor<4> = Tensor::from_data(TensorData::new(pixels, shape), &Device::flex());
        let small = pixels.narrow(1, 0, 12).narrow(2, 4, 12);
        let made = fit(&VisionConfig { image_size: 12, ..own.clone() }).unwrap();
        let whole = fit(&own).unwrap();
        assert_eq!(made.vision.position.dims(), [9, 16]);
        let vectors = values(made.embed_pictures(&case::cpu(), small.clone()));
        assert_eq!(vectors, values(whole.embed_pictures(&case::cpu(), small)), "{name}");
        let bare = VisionConfig { last_norm: false, ..own.clone() };
        let error = fit(&bare).unwrap_err().to_string();
        assert!(error.starts_with("model.vision.last_norm = false: texts are compared"), "{error}");
        let error = fit(&VisionConfig { feature_block: Some(1), ..own }).unwrap_err().to_string();
        assert!(error.starts_with("model.vision.feature_block = 1: texts are compared"), "{error}");
    }
}

#[test]
fn folders_of_an_encoder_alone_have_no_towers() {
    for name in ["siglip", "dinov2", "dinov2.onnx", "nothing"] {
        assert!(towers::open(&data(name)).unwrap().is_none(), "{name}");
    }
    // A whole model's settings, with the encoder's tensors only.
    let folder = Copy::new("siglip-pair")
        .tensors(|name, view| same(name, view).filter(|_| name.starts_with("vision_model.")));
    assert!(towers::open(folder.folder()).unwrap().is_none());
    assert!(import::open(folder.folder()).is_ok());
}

#[test]
fn texts_that_the_tower_can_not_take_are_refused() {
    let (clip, siglip) = (made(&data("clip")), made(&data("siglip-pair")));
    for (towers, ids, says) in [
        (&clip, vec![], "a text without tokens"),
        (&clip, vec![530; 13], "a text of 13 tokens, where the tower has 12 positions"),
        (&siglip, vec![1; 13], "a text of 13 tokens, where the tower has 12 positions"),
        (&clip, vec![529, 531], "a text with the token 531, where the tower knows 531"),
        (&clip, vec![529, 4], "a text without the end token 530"),
    ] {
        let error = towers.embed_texts(&case::cpu(), &[ids]).unwrap_err().to_string();
        assert!(error.starts_with(says), "{error}");
    }
    assert_eq!(clip.embed_texts(&case::cpu(), &[]).unwrap_err().to_string(), "there are no texts");
}

fn same(name: &str, view: &TensorView<'_>) -> Option<(String, Vec<usize>, Dtype)> {
    Some((name.to_owned(), view.shape().to_vec(), view.dtype()))
}

/// Fails unless the towers are refused in one line that says this; FOLDER stands for the path.
#[track_caller]
fn refuse(folder: &Copy, says: &str) {
    let error = format!("{:#}", towers::open(folder.folder()).unwrap_err());
    let says = says.replace("FOLDER", &folder.folder().display().to_string());
    assert!(error.contains(&says) && !error.contains('\n'), "{error}\nwithout\n{says}");
}

#[test]
fn tensors_that_do_not_fit_are_refused() {
    let without = |gone: &'static str| {
        Copy::new("siglip-pair").tensors(|name, view| same(name, view).filter(|_| name != gone))
    };
    for (gone, shape) in [
        ("text_model.final_layer_norm.bias", "[12]"),
        ("text_model.encoder.layers.1.mlp.fc2.bias", "[12]"),
        ("text_model.head.weight", "[16, 12]"),
        ("vision_model.head.probe", "[16]"),
        ("vision_model.head.attention.in_proj_weight", "[48, 16]"),
    ] {
        refuse(&without(gone), &format!("FOLDER: `{gone}` {shape} is missing"));
    }
    let renamed = Copy::new("siglip-pair")
        .tensors(|name, view| same(&name.replace("logit_scale", "text_model.scale"), view));
    refuse(
        &renamed,
        "FOLDER: 1 tensors have no place in the SigLIP model of its settings, such as `text_model.scale` [1]",
    );
    let reshaped = Copy::new("siglip-pair").tensors(|name, view| {
        let shape = if name == "text_model.head.bias" { vec![2, 8] } else { view.shape().to_vec() };
        Some((name.to_owned(), shape, view.dtype()))
    });
    refuse(&reshaped, "FOLDER: `text_model.head.bias` is [2, 8], but by its settings [16]");
}

#[test]
fn settings_that_do_not_fit_are_refused() {
    let config = |name: &str, old: &str, new: &str, says: &str| {
        refuse(&Copy::new(name).replace("config.json", old, new), &format!("FOLDER{says}"));
    };
    config("clip", "\"text_config\"", "\"text\"", "/config.json: settings of the text tower: there are none");
    config(
        "clip",
        "\"vocab_size\": 531",
        "\"vocab_size\": 530",
        "/config.json: settings of the text tower: eos_token_id = 530 must be below vocab_size = 530",
    );
    config(
        "clip",
        "\"max_position_embeddings\": 12",
        "\"max_position_embeddings\": 13",
        ": `text_model.embeddings.position_embedding.weight` is [12, 8], but by its settings [13, 8]",
    );
    config(
        "clip",
        "\"projection_dim\": 8",
        "\"projection_dim\": 9",
        ": `visual_projection.weight` is [8, 16], but by its settings [9, 16]",
    );
    config(
        "siglip-pair",
        "\"projection_size\": 16",
        "\"projection_size\": 12",
        "/config.json: texts are mapped to 12 values, pictures to 16: they have no common space",
    );
    config(
        "siglip-pair",
        "\"pad_token_id\": 1",
        "\"pad_token_id\": 99",
        "/config.json: settings of the text tower: pad_token_id = 99 must be below vocab_size = 48",
    );
    config(
        "siglip-pair",
        "\"hidden_size\": 12",
        "\"hidden_size\": 13",
        "/config.json: settings of the text tower: num_attention_heads = 2 must divide hidden_size = 13",
    );
}
