//! `preprocessor_config.json` against transformers; the files come from scripts/reference/preprocess.py.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use mm1_data::document::{Image, Picture};
use mm1_data::image::{
    Fit, ImageConfig, ImageSpec, MAX_SIDE, ResizeFilter, Tiling, decode, normalise_into, prepare,
};
use serde_json::{Value, json};

use crate::testdata;

const NAMES: [&str; 8] = ["clip", "siglip", "dinov2", "bilinear", "lanczos", "nearest", "padded", "cropped"];
const PICTURES: [(&str, u32, u32); 5] =
    [("wide", 131, 40), ("tall", 37, 99), ("tiny", 7, 5), ("large", 640, 427), ("square", 32, 32)];

fn spec(name: &str) -> ImageSpec {
    ImageSpec::from_preprocessor(&testdata("preprocess").join(format!("{name}.json"))).unwrap()
}

/// The same picture as the script's.
pub(crate) fn source(width: u32, height: u32) -> Image {
    let pixel = |x: u32, y: u32| {
        let checks = if (x / 5 + y / 7) % 2 == 1 { 255 } else { x * y % 256 };
        [(x * 3 + y * 5) % 256, (x * 255 / width + y * 255 / height) / 2, checks]
    };
    let rgb = (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(x, y))).map(|v| v as u8);
    Arc::new(Picture { width, height, rgb: rgb.collect() }).into()
}

#[test]
fn pictures_are_those_of_transformers() {
    let (mut compared, mut bytes, mut off, mut by_more) = (0, 0, 0, 0);
    for (name, (shape, width, height)) in NAMES.iter().flat_map(|name| PICTURES.map(|p| (name, p))) {
        let Ok(golden) = fs::read(testdata("preprocess").join(format!("{name}-{shape}.png"))) else {
            continue;
        };
        let theirs = decode(&golden, MAX_SIDE).unwrap().rgb;
        let ours = prepare(&source(width, height), &spec(name)).unwrap();
        assert_eq!(ours.len(), theirs.len(), "{name} {shape}");
        let far = ours.iter().zip(&theirs).filter(|(a, b)| a.abs_diff(**b) > 1).count();
        assert!(far as f64 <= 0.001 * ours.len() as f64, "{name} {shape}: {far} bytes differ by more than 1");
        off += ours.iter().zip(&theirs).filter(|(a, b)| a != b).count();
        (compared, bytes, by_more) = (compared + 1, bytes + ours.len(), by_more + far);
    }
    println!("{off} of {bytes} bytes differ, {by_more} by more than 1");
    assert_eq!(compared, 31);
    assert!(off * 50 < bytes, "{off} of {bytes} bytes differ");
}

#[test]
fn values_are_those_of_transformers() {
    let file = fs::read(testdata("preprocess/values.json")).unwrap();
    let values: BTreeMap<String, Vec<f32>> = serde_json::from_slice(&file).unwrap();
    for (name, theirs) in values {
        let (spec, mut ours) = (spec(&name), Vec::new());
        normalise_into(&prepare(&source(32, 32), &spec).unwrap(), &spec, &mut ours);
        let row = &ours[16 * 32 * 3..17 * 32 * 3];
        assert_eq!(row.len(), theirs.len());
        // One level of a channel.
        let far = |(i, (a, b)): (usize, (&f32, &f32))| (a - b).abs() > 1.01 / 255.0 / spec.config.std[i % 3];
        assert_eq!(row.iter().zip(&theirs).enumerate().filter(|&pair| far(pair)).count(), 0, "{name}");
        if ["clip", "siglip", "cropped"].contains(&name.as_str()) {
            let exact = row.iter().zip(&theirs).all(|(a, b)| (a - b).abs() < 2e-5);
            assert!(exact, "{name}: nothing is resized, so only the formula is asked");
        }
    }
}

#[test]
fn what_the_files_say_is_read() {
    let clip = spec("clip");
    assert_eq!(
        (clip.size, clip.config.mode, clip.config.filter),
        (32, Fit::ShortestEdge(32), ResizeFilter::Bicubic)
    );
    assert_eq!(
        (clip.config.mean, clip.config.std[0]),
        ([0.481_454_66, 0.457_827_5, 0.408_210_73], 0.268_629_54)
    );
    assert_eq!(spec("siglip"), ImageConfig { mode: Fit::Sides, ..ImageConfig::default() }.of_size(32));
    assert_eq!(
        (spec("dinov2").config.mode, spec("lanczos").config.filter),
        (Fit::ShortestEdge(37), ResizeFilter::Lanczos)
    );
    let cropped = spec("cropped");
    assert_eq!(
        (cropped.config.mode, cropped.config.mean, cropped.config.std),
        (Fit::Middle, [0.0; 3], [1.0; 3])
    );
    let written: ImageConfig =
        serde_json::from_value(json!({"mode": {"shortest-edge": 9}, "filter": "lanczos"})).unwrap();
    assert_eq!(
        written,
        ImageConfig { mode: Fit::ShortestEdge(9), filter: ResizeFilter::Lanczos, ..ImageConfig::default() }
    );
}

/// CLIP's settings with some fields changed; null takes one out.
fn changed(changes: &[(&str, Value)], folder: &Path) -> anyhow::Result<ImageSpec> {
    let text = fs::read(testdata("preprocess/clip.json")).unwrap();
    let mut fields: Value = serde_json::from_slice(&text).unwrap();
    changes.iter().for_each(|(name, value)| fields[*name] = value.clone());
    let path = folder.join("preprocessor_config.json");
    fs::write(&path, fields.to_string()).unwrap();
    ImageSpec::from_preprocessor(&path)
}

#[test]
fn older_files_say_the_same_with_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let numbers = [("size", json!(32)), ("crop_size", json!(32)), ("do_rescale", Value::Null)];
    assert_eq!(changed(&numbers, folder.path()).unwrap(), spec("clip"));
    let same =
        [("size", json!({"height": 32, "width": 32})), ("do_pad", json!(false)), ("crop_pct", Value::Null)];
    assert_eq!(changed(&same, folder.path()).unwrap().config.mode, Fit::Sides);
}

/// What `mm1 export` writes beside a model, and an Idefics3 of others.
#[test]
fn settings_beside_an_exported_model_are_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let read = |settings: &Value| {
        let path = folder.path().join("preprocessor_config.json");
        fs::write(&path, settings.to_string()).unwrap();
        ImageSpec::from_preprocessor(&path).map_err(|e| format!("{e:#}"))
    };
    let config = ImageConfig { mode: Fit::Pad, mean: [0.1, 0.2, 0.3], ..ImageConfig::default() };
    let spec = config.clone().of_size(24);
    assert_eq!(read(&spec.own_settings()).unwrap(), spec);
    let stretched = ImageConfig { mode: Fit::Sides, filter: ResizeFilter::Lanczos, ..config }.of_size(24);
    assert_eq!(read(&stretched.idefics3_settings()).unwrap(), stretched);
    // Tiles, which SmolVLM cuts too, are the whole model's matter.
    let tiling: Tiling = serde_json::from_value(json!({"kind": "idefics3", "longest": 4})).unwrap();
    let mut tiled = stretched.clone();
    tiled.config.tiling = tiling.clone();
    let of_model = || Tiling::of_idefics3(folder.path()).map_err(|e| format!("{e:#}"));
    assert_eq!(of_model().unwrap(), Tiling::default());
    let mut tiles = tiled.idefics3_settings();
    assert_eq!((&tiles["size"], &tiles["do_resize"]), (&json!({"longest_edge": 96}), &json!(true)));
    tiles["image_processor_type"] = json!("SmolVLMImageProcessor");
    assert_eq!((read(&tiles).unwrap(), of_model().unwrap()), (stretched, tiling));
    for (field, value) in [("size", json!({"longest_edge": 97})), ("do_resize", json!(false))] {
        let mut other = tiles.clone();
        other[field] = value;
        read(&other).unwrap();
        assert!(of_model().unwrap_err().contains("resized to whole tiles"), "{field}");
    }
    tiles["max_image_size"] = json!({"shortest_edge": 24});
    assert!(read(&tiles).unwrap_err().contains("max_image_size = "));
    let mut own = spec.own_settings();
    own["size"] = Value::Null;
    assert!(read(&own).unwrap_err().contains("size is missing"));
}

#[test]
fn what_cannot_be_done_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    for (name, value, remedy) in [
        ("size", json!({"shortest_edge": 32, "longest_edge": 64}), "not understood"),
        ("size", json!({"height": 40, "width": 32}), "with a centre crop"),
        ("size", Value::Null, "size is missing"),
        ("crop_size", json!({"height": 40, "width": 32}), "a square"),
        ("crop_size", json!(0), "image.size = 0"),
        ("do_center_crop", json!(false), "without a centre crop"),
        ("resample", json!(5), "resample = 5"),
        ("resample", Value::Null, "resample is missing"),
        ("do_rescale", json!(false), "do_rescale = false"),
        ("rescale_factor", json!(0.5), "rescale_factor = 0.5"),
        ("image_mean", Value::Null, "image_mean is missing"),
        ("image_std", json!([0.5, 0.5]), "image_std = [0.5,0.5] is not understood"),
        ("image_std", json!([0.5, 0.5, 0.0]), "image.std"),
        ("do_normalize", json!("yes"), "do_normalize = \"yes\""),
        ("crop_pct", json!(0.875), "crop_pct = 0.875 is not known"),
        ("do_flip_channel_order", json!(true), "do_flip_channel_order = true"),
    ] {
        let error = format!("{:#}", changed(&[(name, value)], folder.path()).unwrap_err());
        assert!(error.contains("preprocessor_config.json: ") && error.contains(remedy), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
    let unused = [("do_resize", json!(false)), ("resample", Value::Null), ("size", Value::Null)];
    assert_eq!(changed(&unused, folder.path()).unwrap().config.mode, Fit::Middle);
    let both = [("do_resize", json!(false)), ("do_center_crop", json!(false))];
    assert!(format!("{:#}", changed(&both, folder.path()).unwrap_err()).contains("their own sizes"));
    let error = ImageSpec::from_preprocessor(&folder.path().join("nowhere.json")).unwrap_err();
    assert!(format!("{error:#}").contains("nowhere.json: "), "{error:#}");
    let zero = ImageConfig { mode: Fit::ShortestEdge(0), ..ImageConfig::default() }.of_size(8);
    assert!(zero.check().unwrap_err().to_string().contains("shortest-edge = 0"));
}

#[test]
fn extreme_shapes_take_no_more_memory_than_what_is_seen() {
    for (width, height) in [(10_000, 1), (1, 10_000), (1, 1)] {
        let rgb = [7, 8, 9].repeat((width * height) as usize);
        let image = Arc::new(Picture { width, height, rgb }).into();
        let spec = ImageConfig { mode: Fit::ShortestEdge(4096), ..ImageConfig::default() }.of_size(16);
        assert_eq!(prepare(&image, &spec).unwrap(), [7, 8, 9].repeat(256));
        let middle =
            prepare(&image, &ImageConfig { mode: Fit::Middle, ..ImageConfig::default() }.of_size(16))
                .unwrap();
        assert_eq!(
            middle.chunks_exact(3).filter(|p| *p == [7, 8, 9]).count() as u32,
            width.min(16) * height.min(16)
        );
    }
}

#[test]
fn fault_62_the_settings_of_transformers_5_are_read_and_contradictions_refused() {
    let folder = tempfile::tempdir().unwrap();
    let of = |name: &str, text: Option<&str>| {
        let path = folder.path().join(name);
        match text {
            Some(text) => std::fs::write(path, text).unwrap(),
            None => drop(std::fs::remove_file(path)),
        }
        ImageSpec::of_encoder(folder.path()).map_err(|e| format!("{e:#}"))
    };
    let nested = testdata("faults/62-no-preprocessor-config/nested/processor_config.json");
    let nested = std::fs::read_to_string(nested).unwrap();
    assert_eq!(ImageSpec::of_encoder(folder.path()).unwrap(), None, "there is neither");
    let said = of("processor_config.json", Some(&nested)).unwrap().unwrap();
    assert_eq!((said.size, said.config.mean, said.config.std), (20, [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]));
    // The same twice is no contradiction.
    let fields: serde_json::Value = serde_json::from_str(&nested).unwrap();
    let own = fields["image_processor"].to_string();
    assert_eq!(of("preprocessor_config.json", Some(&own)).unwrap(), Some(said.clone()));
    let other = own.replace("0.1", "0.15");
    assert!(of("preprocessor_config.json", Some(&other)).unwrap_err().contains("in different ways"));
    of("preprocessor_config.json", None).unwrap();
    // A processor of text alone says nothing of pictures.
    assert_eq!(of("processor_config.json", Some("{\"processor_class\": \"X\"}")).unwrap(), None);
    for (text, words) in [
        ("{\"image_processor\": 3}", "image_processor is no JSON object"),
        ("{\"image_processor\": {\"size\": 20}}", "image_processor"),
        ("[]", "not a JSON object"),
    ] {
        let error = of("processor_config.json", Some(text)).unwrap_err();
        assert!(error.contains(words) && error.contains("processor_config.json"), "{error}");
    }
}
