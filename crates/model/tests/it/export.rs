//! Models in the forms of other programs.

use std::collections::BTreeMap;
use std::path::Path;

use mm1_model::config::Mm1Config;
use mm1_model::export::{
    ExportForm, ExportedIds, ExportedModel, FloatType, SHARD_BYTES, read_back, write_model,
};
use mm1_model::import::{self, exported};
use mm1_model::{Mm1, weights};
use serde_json::{Value, json};

use burn::tensor::{Device, Int, Tensor};
use safetensors::tensor::{Dtype, TensorView};

use crate::case;

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

/// Mean and deviation of the pixels are taken from each form's settings, and what is no three numbers is
/// refused.
#[test]
fn pixels_are_prepared_as_the_settings_of_each_form_say() {
    let connector = json!({"kind": "mlp"});
    let models = [
        (stock(9), ExportForm::Idefics3),
        (llava(json!({}), json!({"tied": false})), ExportForm::Llava),
        (model(connector, json!({}), json!({})), ExportForm::Own),
    ];
    for (model, form) in models {
        let folder = tempfile::tempdir().unwrap();
        there_and_back(&model, form, FloatType::F32, folder.path());
        let read = |more: Value| {
            let mut settings = json!({"max_image_size": {"longest_edge": 24}});
            settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            std::fs::write(folder.path().join("preprocessor_config.json"), settings.to_string()).unwrap();
            let found = exported::open(folder.path()).unwrap().unwrap().vision();
            found.map(|found| (found.mean, found.std)).map_err(|e| format!("{e:#}"))
        };
        let pixels = |mean: Value| match form {
            ExportForm::Own => json!({"image": {"mean": mean, "std": null}}),
            ExportForm::Idefics3 | ExportForm::Llava => json!({"image_mean": mean, "image_std": null}),
        };
        assert_eq!(read(json!({})), Ok(([0.5; 3], [0.5; 3])), "{form:?}");
        assert_eq!(read(pixels(json!([0.1, 0.2, 0.3]))), Ok(([0.1, 0.2, 0.3], [0.5; 3])), "{form:?}");
        for wrong in [json!([0.1, 0.2]), json!("0.5"), json!([0.1, 0.2, "0.3"])] {
            let error = read(pixels(wrong)).unwrap_err();
            assert!(error.contains("preprocessor_config.json: not as expected: "), "{form:?}: {error}");
        }
        if form != ExportForm::Own {
            let mut plain = pixels(json!([0.1, 0.2, 0.3]));
            plain["do_normalize"] = json!(false);
            assert_eq!(read(plain), Ok(([0.0; 3], [1.0; 3])), "{form:?}");
        }
    }
}

/// A LLaVA whose encoder is a SigLIP, unless `vision` says otherwise.
fn llava(vision: Value, lm: Value) -> Mm1 {
    let mut own = json!({"last_norm": false, "activation": "gelu-tanh", "feature_block": 1});
    for (field, value) in vision.as_object().unwrap() {
        own[field] = value.clone();
    }
    model(json!({"kind": "mlp"}), own, lm)
}

fn llavas() -> [Mm1; 3] {
    let clip = json!({"class_token": true, "pre_norm": true, "activation": "quick-gelu"});
    let dinov2 = json!({"class_token": true, "activation": "gelu", "ffn": 13});
    [
        llava(json!({}), json!({"tied": false})),
        llava(clip, json!({"qkv_bias": true})),
        llava(dinov2, json!({"qk_norm": true})),
    ]
}

/// Every tensor of a folder, by its name.
fn stored(folder: &Path) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let file = std::fs::read(folder.join("model.safetensors")).unwrap();
    let tensors = weights::decode(&file).unwrap().into_iter();
    tensors.map(|(name, shape, values)| (name, (shape, values))).collect()
}

fn store(folder: &Path, tensors: &BTreeMap<String, (Vec<usize>, Vec<f32>)>) {
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let bytes: Vec<_> = tensors.values().map(|(_, values)| bytes(values)).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, (shape, _)), bytes)| {
        (name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
}

fn edit_config(folder: &Path, change: impl FnOnce(&mut Value)) {
    let file = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    change(&mut config);
    std::fs::write(&file, config.to_string()).unwrap();
}

/// What stands beside ours in the file of a LLaVA changes nothing: its logits are the model's bits.
#[test]
fn what_llava_has_beside_ours_changes_no_bit() {
    for (model, prefix) in llavas().iter().zip(["vision_model.", "vision_model.", ""]) {
        let folder = tempfile::tempdir().unwrap();
        there_and_back(model, ExportForm::Llava, FloatType::F32, folder.path());
        let (tensors, vision) = (stored(folder.path()), &model.config().vision);
        let of_tower = |name: &str| &tensors[&format!("model.vision_tower.{prefix}{name}")];
        let norm = if prefix.is_empty() { "layernorm" } else { "post_layernorm" };
        assert_eq!(of_tower(&format!("{norm}.weight")).1, [1.0; 8]);
        assert_eq!(of_tower(&format!("{norm}.bias")).1, [0.0; 8]);
        if prefix.is_empty() {
            assert_eq!(of_tower("encoder.layer.0.layer_scale2.lambda1").1, [1.0; 8]);
            let (shape, table) = of_tower("embeddings.position_embeddings");
            assert_eq!(shape[..], [1, 37, 8]);
            assert!(table[..8].iter().all(|value| value.to_bits() == (-0.0f32).to_bits()));
        }
        let config = std::fs::read(folder.path().join("config.json")).unwrap();
        let config: Value = serde_json::from_slice(&config).unwrap();
        let strategy = if vision.class_token { "default" } else { "full" };
        assert_eq!(config["vision_feature_select_strategy"], strategy);
        assert_eq!(
            (&config["vision_feature_layer"], &config["image_seq_length"]),
            (&(-1).into(), &36.into())
        );
        assert_eq!(config["vision_config"]["num_hidden_layers"], 1);
    }
}

/// The patches of a CLIP have no bias: positions take it over.
#[test]
fn a_bias_of_patches_moves_into_the_positions_of_a_clip() {
    let [_, clip, _] = llavas();
    let parameters = weights::parameters(&clip).into_iter().map(|(path, shape, values)| {
        let values =
            if path == "vision.patch_bias" { (0..8).map(|i| i as f32 / 8.0).collect() } else { values };
        (path, shape, values)
    });
    let clip = weights::assign(clip, parameters.collect()).unwrap();
    let prepared = ExportForm::Llava.prepared(&clip).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (back, equal, tensors) = there_and_back(&prepared, ExportForm::Llava, FloatType::F32, folder.path());
    assert_eq!(equal, tensors);
    assert_eq!(weights::parameters(&prepared), weights::parameters(&back));
    let pixels = Tensor::<1, Int>::arange(0..24 * 24 * 3, &Device::flex()).float().sin();
    let pixels = pixels.reshape([1, 24, 24, 3]);
    let tokens = |model: &Mm1| case::values(model.image_tokens(&case::cpu(), pixels.clone()));
    assert!(case::difference(&tokens(&back), &tokens(&clip)) < 1e-6);
    assert_ne!(weights::parameters(&clip), weights::parameters(&back));
    // An encoder of another form keeps its bias.
    let [siglip, ..] = llavas();
    assert_eq!(
        weights::parameters(&ExportForm::Llava.prepared(&siglip).unwrap()),
        weights::parameters(&siglip)
    );
}

/// LLaVA-1.5 takes what goes into the last block, and is stored with the names of old.
#[test]
fn a_llava_of_others_is_read_up_to_its_features() {
    let [_, clip, _] = llavas();
    let whole = llava(
        json!({"class_token": true, "pre_norm": true, "activation": "quick-gelu", "feature_block": 2}),
        json!({"qkv_bias": true}),
    );
    let folder = tempfile::tempdir().unwrap();
    there_and_back(&whole, ExportForm::Llava, FloatType::F32, folder.path());
    let old = |name: String| {
        for (now, before) in [
            ("model.language_model.", "language_model.model."),
            ("model.vision_tower.", "vision_tower."),
            ("model.multi_modal_projector.", "multi_modal_projector."),
            ("lm_head.", "language_model.lm_head."),
        ] {
            if let Some(rest) = name.strip_prefix(now) {
                return format!("{before}{rest}");
            }
        }
        name
    };
    let tensors = stored(folder.path()).into_iter().map(|(name, tensor)| (old(name), tensor));
    store(folder.path(), &tensors.collect());
    edit_config(folder.path(), |config| config["vision_feature_layer"] = (-2).into());
    let found = exported::open(folder.path()).unwrap().unwrap();
    let read = import::model(&found, &Device::flex()).unwrap();
    assert_eq!((read.config().vision.layers, read.config().vision.last_norm), (1, false));
    // The first block of both has the same initial values; behind it stands one block and a norm.
    assert_eq!(weights::parameters(&read.vision), weights::parameters(&clip.vision));
    let account = found.vision().unwrap().account().clone();
    let behind = |name: &&String| name.contains(".encoder.layers.1.") || name.contains(".post_layernorm.");
    assert_eq!(account.left.iter().filter(behind).count(), 16 + 2);
    for (field, value, says) in [
        ("vision_feature_layer", json!(0), "only the output of one of the 2 blocks"),
        ("vision_feature_layer", json!([-2, -1]), "only the output of one of the 2 blocks"),
        ("vision_feature_select_strategy", json!("full"), "only default can be imported"),
        ("projector_hidden_act", json!("relu"), "projector_hidden_act = relu"),
        ("multimodal_projector_bias", json!(false), "multimodal_projector_bias = false"),
    ] {
        let kept = std::fs::read(folder.path().join("config.json")).unwrap();
        edit_config(folder.path(), |config| config[field] = value);
        let error = exported::open(folder.path()).unwrap().unwrap().vision().unwrap_err();
        assert!(format!("{error:#}").contains(says), "{error:#}");
        std::fs::write(folder.path().join("config.json"), kept).unwrap();
    }
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
        model(json!({"kind": "mlp"}), json!({"last_norm": false, "class_token": true}), json!({})),
    ];
    let own = own.iter().map(|model| (model, ExportForm::Own));
    // Dividing by a power of two and multiplying again loses no bit.
    let (stocks, llavas) = ([36, 9].map(stock), llavas());
    let stocks = stocks.iter().map(|model| (model, ExportForm::Idefics3));
    let llavas = llavas.iter().map(|model| (model, ExportForm::Llava));
    for (model, form) in own.chain(stocks).chain(llavas) {
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
