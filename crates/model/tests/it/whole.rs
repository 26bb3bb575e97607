//! A whole model of transformers (scripts/reference/idefics3.py), and parts that are written alone.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use mm1_model::export::{ExportedDecoder, FloatType, write_decoder, write_encoder};
use mm1_model::import::{self, OriginKind, exported, lm};
use mm1_model::init::Init;
use mm1_model::lm::Lm;
use mm1_model::verify::Golden;
use mm1_model::weights::{self, Named};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Map, Value, json};

use crate::case::cpu;
use crate::import::{Copy, data};

fn opened(folder: &Path) -> exported::ExportedFolder {
    exported::open(folder).unwrap().unwrap()
}

/// Changes the tensors of a folder.
fn edit(folder: &Path, change: impl FnOnce(&mut Vec<Named>)) {
    let file = folder.join("model.safetensors");
    let mut tensors = weights::decode(&fs::read(&file).unwrap()).unwrap();
    change(&mut tensors);
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(.., values)| values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None, &file).unwrap();
}

fn set(folder: &Path, file: &str, pointer: &str, value: Value) {
    let path = folder.join(file);
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    *config.pointer_mut(pointer).unwrap() = value;
    fs::write(path, config.to_string()).unwrap();
}

#[test]
fn an_idefics3_computes_what_transformers_does() {
    let whole = opened(&data("idefics3"));
    let model = import::model(&whole, &Device::flex()).unwrap();
    let golden = Golden::open(&data("idefics3/golden.safetensors")).unwrap();
    let found = golden.compare_seen(&cpu(), &model, whole.ids().unwrap().image).unwrap();
    assert!(found.max_relative < 1e-5 && found.top1 == Some(1.0), "{found:?}");
    assert_eq!(found.positions, 15);
    // Every tensor is of one part.
    let [vision, connector, decoder] = [
        whole.vision().unwrap().account().clone(),
        whole.connector().unwrap().account,
        lm::open(&data("idefics3")).unwrap().account().clone(),
    ];
    let taken = [&vision, &connector, &decoder].map(|account| account.found - account.left.len());
    assert_eq!((taken, vision.found), ([37, 1, 21], 59));
}

#[test]
fn a_golden_file_with_torn_pictures_is_refused() {
    let whole = opened(&data("idefics3"));
    let model = import::model(&whole, &Device::flex()).unwrap();
    let copy = Copy::new("idefics3");
    let file = copy.folder().join("golden.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    // The ids come first behind the header: 5 7 3 3 3 3 2 18 …, of which 3 are those of pictures.
    let ids = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let (last, behind) = (ids + 8 * 5, ids + 8 * 6);
    assert_eq!((bytes[last], bytes[behind]), (3, 2));
    (bytes[last], bytes[behind]) = (2, 3);
    fs::write(&file, bytes).unwrap();
    let golden = Golden::open(&file).unwrap();
    let error = golden.compare_seen(&cpu(), &model, whole.ids().unwrap().image).unwrap_err();
    let expected = "`input_ids`: the 4 image tokens of a picture must stand side by side in one row";
    assert_eq!(error.to_string(), expected);
}

/// As SmolVLM has it: pictures of the table's size, and settings that only notes are.
#[test]
fn a_table_of_the_plain_side_is_the_same_encoder() {
    let copy = Copy::new("idefics3");
    edit(copy.folder(), |tensors| {
        let table =
            tensors.iter_mut().find(|(name, ..)| name.ends_with("position_embedding.weight")).unwrap();
        let own = (0..16).flat_map(|i| {
            let at = (i / 4 * 2 * 8 + i % 4 * 2) * 12;
            table.2[at..at + 12].to_vec()
        });
        (table.1, table.2) = (vec![16, 12], own.collect());
    });
    set(copy.folder(), "config.json", "/vision_config/image_size", json!(16));
    set(copy.folder(), "config.json", "/model_type", json!("smolvlm"));
    set(copy.folder(), "config.json", "/text_config/mlp_bias", json!(false));
    let [ours, theirs] = [copy.folder(), &data("idefics3")].map(|path| opened(path).vision().unwrap());
    assert_eq!((ours.config, ours.tensors), (theirs.config, theirs.tensors));
}

#[test]
fn a_connector_that_is_no_average_leaves_the_parts() {
    let copy = Copy::new("idefics3");
    edit(copy.folder(), |tensors| {
        let map = tensors.iter_mut().find(|(name, ..)| name.contains("modality_projection")).unwrap();
        map.2[3] += 1.0;
    });
    let error = format!("{:#}", opened(copy.folder()).connector().unwrap_err());
    assert!(error.contains("modality_projection.proj.weight`: values that stand for one"), "{error}");
    assert!(error.contains("by [model.vision] from and [model.lm] from"), "{error}");
    opened(copy.folder()).vision().unwrap();
    lm::open(copy.folder()).unwrap();
}

/// What is changed among tensors, given a name of one.
type Change = fn(&mut Vec<Named>, &str);

/// What reading all of a changed copy of the Idefics3 is refused with.
fn refusal(change: impl Fn(&Path)) -> String {
    let copy = Copy::new("idefics3");
    change(copy.folder());
    format!("{:#}", import::model(&opened(copy.folder()), &Device::flex()).unwrap_err())
}

#[test]
fn whole_models_with_wrong_tensors_are_refused_by_name() {
    let out = "model.vision_model.encoder.layers.1.self_attn.out_proj.weight";
    let cases: [(Change, &str); 4] = [
        (
            |tensors, out| tensors.retain(|(name, ..)| name != out),
            "`model.vision_model.encoder.layers.1.self_attn.out_proj.weight` [12, 12] is missing",
        ),
        (
            |tensors, _| tensors.push(("model.other.weight".to_owned(), vec![2], vec![0.0; 2])),
            "1 tensors have no place in the image encoder of its settings, such as `model.other.weight` [2]",
        ),
        (
            |tensors, out| tensors.iter_mut().find(|(name, ..)| name == out).unwrap().1 = vec![6, 24],
            "`model.vision_model.encoder.layers.1.self_attn.out_proj.weight` is [6, 24], but by its settings \
             [12, 12]",
        ),
        (
            |tensors, _| {
                let table = tensors.iter_mut().find(|(name, ..)| name.ends_with("position_embedding.weight"));
                table.unwrap().2[12] += 1.0;
            },
            "values that stand for one of ours differ",
        ),
    ];
    for (change, says) in cases {
        let error = refusal(|folder| edit(folder, |tensors| change(tensors, out)));
        assert!(error.contains(says), "{error}\nwithout\n{says}");
    }
}

#[test]
fn whole_models_with_wrong_settings_are_refused_by_name() {
    for (pointer, value, says) in [
        ("/scale_factor", json!(3), "scale_factor = 3: only what divides the 4x4 patches"),
        (
            "/vision_config/image_size",
            json!(40),
            "image_size = 40, but pictures are of 16 pixels by preprocessor_config.json",
        ),
        (
            "/vision_config/num_hidden_layers",
            json!(60_000),
            "layers = 60000 by its config.json, but there are",
        ),
        (
            "/vision_config/num_hidden_layers",
            json!(1_u64 << 40),
            "num_hidden_layers = 1099511627776: only up to 65536",
        ),
        (
            "/text_config/model_type",
            json!("gemma"),
            "model_type = \"gemma\": only language models of these can be imported",
        ),
        ("/scale_factor", json!("2"), "/config.json: scale_factor = \"2\": invalid type"),
        ("/tie_word_embeddings", json!("no"), "tie_word_embeddings = \"no\": invalid type"),
    ] {
        let error = refusal(|folder| set(folder, "config.json", pointer, value.clone()));
        assert!(error.contains(says), "{error}\nwithout\n{says}");
    }
}

/// An id that is none is not one that is left out: without an end, answers would not end.
#[test]
fn token_ids_that_are_none_are_refused_by_name() {
    let ids = |field: &str, value: Value| {
        let copy = Copy::new("idefics3");
        set(copy.folder(), "config.json", field, value);
        opened(copy.folder()).ids().map_err(|e| format!("{e:#}"))
    };
    assert_eq!(ids("/eos_token_id", json!([1, 2])).unwrap().ends, [1, 2]);
    assert!(ids("/eos_token_id", json!(null)).unwrap().ends.is_empty());
    for (field, value, says) in [
        ("/eos_token_id", json!("1"), "/config.json: eos_token_id = \"1\": invalid type"),
        ("/eos_token_id", json!([1, -2]), "/config.json: eos_token_id = [1,-2]: invalid value"),
        (
            "/image_token_id",
            json!(1_u64 << 40),
            "/config.json: image_token_id = 1099511627776: invalid value",
        ),
        ("/image_token_id", json!(null), "/config.json: image_token_id is missing"),
    ] {
        let error = ids(field, value).unwrap_err();
        assert!(error.contains(says), "{error}\nwithout\n{says}");
    }
}

/// Own sizes are as hostile as anybody's.
#[test]
fn settings_of_our_own_form_are_not_believed_either() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(data("idefics3/model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    let vision = json!({"image_size": 8, "patch": 4, "dim": 8, "layers": 1, "heads": 1, "ffn": 8});
    for (field, value, says) in [
        ("layers", json!(1 << 30), "layers = 1073741824: only up to 65536 can be imported"),
        ("layers", json!(9999), "layers = 9999 by its config.json, but there are"),
        ("heads", json!(3), "model.vision.heads = 3 must divide dim = 8"),
        ("colour", json!(1), "vision_config is not as this program writes it"),
    ] {
        let mut vision = vision.clone();
        vision[field] = value;
        let config = json!({"model_type": "mm1", "vision_config": vision}).to_string();
        fs::write(folder.path().join("config.json"), config).unwrap();
        let error = format!("{:#}", opened(folder.path()).vision().unwrap_err());
        assert!(error.contains(says), "{error}\nwithout\n{says}");
    }
}

#[test]
fn encoders_that_are_written_alone_come_back_with_every_bit() {
    for (name, kind) in [
        ("clip", "clip_vision_model"),
        ("siglip", "siglip_vision_model"),
        ("siglip-pair", "siglip_vision_model"),
        ("dinov2", "dinov2"),
        ("dinov2.onnx", "dinov2"),
        ("idefics3", "siglip_vision_model"),
    ] {
        let (found, folder) = (import::open(&data(name)).unwrap(), tempfile::tempdir().unwrap());
        write_encoder(folder.path(), (&found.config, &found.tensors), None).unwrap();
        let config: Value =
            serde_json::from_slice(&fs::read(folder.path().join("config.json")).unwrap()).unwrap();
        assert_eq!(config["model_type"], kind, "{name}");
        let again = import::open(folder.path()).unwrap();
        assert_eq!(again.config, found.config, "{name}");
        let bits = |tensors: &[Named]| -> Vec<(String, Vec<usize>, Vec<u32>)> {
            let bits = |(name, shape, values): &Named| {
                (name.clone(), shape.clone(), values.iter().map(|value| value.to_bits()).collect())
            };
            let mut all: Vec<_> = tensors.iter().map(bits).collect();
            all.sort();
            all
        };
        assert!(bits(&again.tensors) == bits(&found.tensors), "{name}: other bits");
    }
}

#[test]
fn decoders_that_are_written_alone_come_back_in_the_smallest_type_that_loses_nothing() {
    use FloatType::{BF16, F16, F32};
    for (name, numbers) in [
        ("lm/llama", F32),
        ("lm/mistral", BF16),
        ("lm/qwen2", F16),
        ("lm/qwen3", BF16),
        ("gguf/llama.gguf", F32),
        ("gguf/qwen2.gguf", F32),
        ("gguf/qwen3.gguf", F32),
        ("idefics3", F32),
    ] {
        let (found, folder) = (lm::open(&data(name)).unwrap(), tempfile::tempdir().unwrap());
        let (config, context) = (found.config.clone(), found.context);
        let lm = Lm::new(&Init::new(0, &Device::flex()), &config);
        let lm = found.fit(lm, &config).unwrap();
        let token_ids = Map::from_iter([("bos_token_id".to_owned(), json!(1))]);
        let exported = ExportedDecoder { lm: &lm, config: &config, context, token_ids: &token_ids };
        assert_eq!(write_decoder(folder.path(), &exported, None).unwrap(), numbers, "{name}");
        let again = lm::open(folder.path()).unwrap();
        assert_eq!((&again.config, again.context), (&config, context), "{name}");
        let count = weights::shapes(&lm).len();
        assert_eq!(again.equal_parameters(&lm, |value| value).unwrap(), count, "{name}");
        // A type that loses something, and says so.
        let small = tempfile::tempdir().unwrap();
        write_decoder(small.path(), &exported, Some(BF16)).unwrap();
        let again = lm::open(small.path()).unwrap();
        let equal = again.equal_parameters(&lm, |value| value).unwrap();
        assert_eq!(equal == count, numbers == BF16, "{name}: {equal} of {count}");
    }
}

#[test]
fn what_a_path_holds_is_told_before_it_is_read() {
    for (name, kind) in [
        ("lm/llama", OriginKind::Decoder),
        ("gguf/qwen2.gguf", OriginKind::Decoder),
        ("siglip-pair", OriginKind::Encoder),
        ("dinov2.onnx", OriginKind::Encoder),
        ("idefics3", OriginKind::Whole),
    ] {
        assert_eq!(OriginKind::of(&data(name)).unwrap(), kind, "{name}");
    }
    let folder = tempfile::tempdir().unwrap();
    let refused = |path: &Path| format!("{:#}", OriginKind::of(path).unwrap_err());
    assert!(refused(&folder.path().join("x")).contains("there is no such file or folder"));
    assert!(refused(folder.path()).contains("no config.json"));
    fs::write(folder.path().join("a.pt"), "x").unwrap();
    assert!(refused(&folder.path().join("a.pt")).contains("nor a .gguf or .onnx file"));
    for name in ["a.gguf", "a.onnx"] {
        fs::write(folder.path().join(name), "x").unwrap();
    }
    assert!(refused(folder.path()).contains("it has a .gguf and an .onnx file"));
    fs::write(folder.path().join("config.json"), r#"{"model_type": "bert"}"#).unwrap();
    let said = refused(folder.path());
    assert!(
        said.contains("model_type = \"bert\"; language models are llama") && said.contains("idefics3"),
        "{said}"
    );
}
