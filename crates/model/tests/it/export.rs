//! Models in the forms of other programs.

use std::path::Path;

use mm1_model::config::Mm1Config;
use mm1_model::export::{
    ExportForm, ExportedIds, ExportedModel, FloatType, SHARD_BYTES, read_back, write_model,
};
use mm1_model::import::{self, exported};
use mm1_model::{Mm1, weights};
use serde_json::{Value, json};

use burn::tensor::Device;

fn model(connector: Value, vision: Value, lm: Value) -> Mm1 {
    let mut config = json!({
        "vision": {"image_size": 24, "patch": 4, "dim": 8, "layers": 2, "heads": 2, "ffn": 12},
        "connector": connector,
        "lm": {"vocab": 19, "dim": 12, "layers": 2, "heads": 2, "kv_heads": 1, "ffn": 20},
    });
    for (part, more) in [("vision", vision), ("lm", lm)] {
        for (field, value) in more.as_object().unwrap() {
            config[part][field] = value.clone();
        }
    }
    let config: Mm1Config = serde_json::from_value(config).unwrap();
    Mm1::new(&config, 5, &Device::flex()).unwrap()
}

fn stock(tokens: usize) -> Mm1 {
    let connector = json!({"kind": "average-pool", "tokens": tokens, "bias": false});
    model(connector, json!({"activation": "gelu-tanh", "feature_block": 1}), json!({"tied": false}))
}

/// Writes a model, and reads it back; gives what was read, and how many tensors have the bits that they
/// should.
fn there_and_back(model: &Mm1, form: ExportForm, numbers: FloatType, folder: &Path) -> (Mm1, usize, usize) {
    let ids = ExportedIds { image: 3, pad: 0, begin: None, ends: vec![1] };
    let numbers = Some(numbers);
    let exported = ExportedModel { model, form, numbers, shard_bytes: SHARD_BYTES, context: 64, ids: &ids };
    let numbers = write_model(folder, &exported).unwrap();
    let back = read_back(folder, &exported, numbers).unwrap();
    // What a recipe reads of it is the same, where the processor's settings say how large pictures are.
    let pictures = json!({"max_image_size": {"longest_edge": 24}}).to_string();
    std::fs::write(folder.join("preprocessor_config.json"), pictures).unwrap();
    let whole = exported::open(folder).unwrap().unwrap();
    let again = import::model(&whole, &Device::flex()).unwrap();
    assert_eq!(weights::parameters(&again), weights::parameters(&back.model));
    assert_eq!((whole.form, whole.ids().unwrap(), whole.context()), (form, ids, Some(64)));
    (back.model, back.equal, back.tensors)
}

#[test]
fn every_parameter_comes_back_with_every_bit() {
    let own = [
        model(
            json!({"kind": "average-pool", "tokens": 4}),
            json!({"stem": "conv", "class_token": true}),
            json!({}),
        ),
        model(
            json!({"kind": "attention-pool", "tokens": 3, "heads": 2}),
            json!({"pre_norm": true}),
            json!({"qkv_bias": true}),
        ),
        model(
            json!({"kind": "c-abstractor", "tokens": 4, "dim": 10, "depth": 2}),
            json!({}),
            json!({"qk_norm": true}),
        ),
    ];
    let own = own.iter().map(|model| (model, ExportForm::Own));
    // Dividing by a power of two and multiplying again loses no bit.
    let stocks = [36, 9].map(stock);
    for (model, form) in own.chain(stocks.iter().map(|model| (model, ExportForm::Idefics3))) {
        let folder = tempfile::tempdir().unwrap();
        let (back, equal, tensors) = there_and_back(model, form, FloatType::F32, folder.path());
        assert_eq!(equal, tensors);
        assert_eq!(weights::parameters(model), weights::parameters(&back), "{form:?}");
    }
}

#[test]
fn an_average_of_nine_patches_rounds_its_map_alone_and_by_one_bit() {
    let (stock, folder) = (stock(4), tempfile::tempdir().unwrap());
    let (back, equal, tensors) = there_and_back(&stock, ExportForm::Idefics3, FloatType::F32, folder.path());
    assert_eq!(equal, tensors);
    for ((path, _, ours), (_, _, theirs)) in
        weights::parameters(&stock).iter().zip(weights::parameters(&back))
    {
        let apart = ours.iter().zip(&theirs).map(|(a, b)| a.to_bits().abs_diff(b.to_bits())).max().unwrap();
        assert!(apart <= u32::from(path == "connector.project"), "{path}: {apart}");
    }
}

#[test]
fn halves_are_rounded_and_what_they_cannot_hold_is_refused_by_name() {
    let (stock, folder) = (stock(9), tempfile::tempdir().unwrap());
    let (back, equal, tensors) = there_and_back(&stock, ExportForm::Idefics3, FloatType::BF16, folder.path());
    assert_eq!(equal, tensors);
    let (ours, theirs) = (weights::parameters(&stock), weights::parameters(&back));
    let apart = |(ours, theirs): (&f32, &f32)| (ours - theirs).abs() <= ours.abs() / 256.0;
    assert!(ours.iter().zip(&theirs).all(|(a, b)| a.2.iter().zip(&b.2).all(apart)));
    assert_ne!(ours, theirs);

    let large = ours.into_iter().map(|(path, shape, values)| {
        let values = if path == "lm.norm.gamma" { vec![7e4; values.len()] } else { values };
        (path, shape, values)
    });
    let large = weights::assign(stock, large.collect()).unwrap();
    let ids = ExportedIds { image: 3, pad: 0, begin: None, ends: vec![1] };
    let (numbers, shard_bytes) = (Some(FloatType::F16), SHARD_BYTES);
    let form = ExportForm::Idefics3;
    let exported = ExportedModel { model: &large, form, numbers, shard_bytes, context: 64, ids: &ids };
    let error = format!("{:#}", write_model(folder.path(), &exported).unwrap_err());
    assert!(error.contains("model.text_model.norm.weight") && error.contains("70000"), "{error}");
}

#[test]
fn a_place_of_idefics3_is_found_by_any_rounding() {
    let (stock, folder) = (stock(9), tempfile::tempdir().unwrap());
    there_and_back(&stock, ExportForm::Idefics3, FloatType::F32, folder.path());
    let file = std::fs::read(folder.path().join("model.safetensors")).unwrap();
    let tensors = weights::decode(&file).unwrap();
    let table = |name: &str, tensors: &[weights::Named]| {
        tensors.iter().find(|(path, ..)| path.ends_with(name)).unwrap().2.clone()
    };
    let theirs = table("position_embedding.weight", &tensors);
    let ours = table("vision.position", &weights::parameters(&stock));
    let (grid, dim) = (6, 8);
    // Of transformers: the number of boundaries k / 12 that are not above i / 6, by three ways to round.
    for scale in [1.0 - 1e-6, 1.0, 1.0 + 1e-6] {
        let place = |i: usize| (1..2 * grid).filter(|&k| k as f64 / 12.0 <= i as f64 / 6.0 * scale).count();
        for (y, x) in (0..grid).flat_map(|y| (0..grid).map(move |x| (y, x))) {
            let (there, here) = (place(y) * 2 * grid + place(x), y * grid + x);
            assert_eq!(theirs[there * dim..][..dim], ours[here * dim..][..dim], "{scale}: {y}, {x}");
        }
    }
}

#[test]
fn a_model_in_three_files_has_an_index_of_them() {
    let (stock, folder) = (stock(9), tempfile::tempdir().unwrap());
    let ids = ExportedIds { image: 3, pad: 0, begin: None, ends: vec![1] };
    let form = ExportForm::Idefics3;
    let exported =
        ExportedModel { model: &stock, form, numbers: None, shard_bytes: 9000, context: 64, ids: &ids };
    assert_eq!(write_model(folder.path(), &exported).unwrap(), FloatType::F32);
    let mut files: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("model"))
        .collect();
    files.sort();
    let shard = |i| format!("model-0000{i}-of-00003.safetensors");
    let index = "model.safetensors.index.json".to_owned();
    assert_eq!(files, [shard(1), shard(2), shard(3), index.clone()]);

    // The layout that transformers expects: every tensor by its file, and the bytes of all.
    let index: Value = serde_json::from_slice(&std::fs::read(folder.path().join(index)).unwrap()).unwrap();
    let map = index["weight_map"].as_object().unwrap();
    let (mut bytes, mut count) = (0, 0);
    for file in &files[..3] {
        let tensors = weights::decode(&std::fs::read(folder.path().join(file)).unwrap()).unwrap();
        let own: usize = tensors.iter().map(|(_, _, values)| 4 * values.len()).sum();
        assert!(own <= 9000 || tensors.len() == 1, "{file}: {own}");
        assert!(tensors.iter().all(|(name, ..)| map[name] == **file), "{file}");
        (bytes, count) = (bytes + own, count + tensors.len());
    }
    assert_eq!((index["metadata"]["total_size"].as_u64(), map.len()), (Some(bytes as u64), count));
    let back = read_back(folder.path(), &exported, FloatType::F32).unwrap();
    assert_eq!(weights::parameters(&back.model), weights::parameters(&stock));
}
