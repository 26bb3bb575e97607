//! Encoders with random weights as Hugging Face and PyTorch write them (scripts/reference/encoders.py).

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use mm1_model::import::{self, ImportedEncoder};
use mm1_model::init::Init;
use mm1_model::ops::{Layout, Sight};
use mm1_model::vision::Vision;
use mm1_model::vision::{VisionActivation, VisionConfig};
use mm1_model::weights;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use tempfile::TempDir;

use crate::case::{self, difference, values};

const MODELS: [(&str, &str); 5] = [
    ("clip", "clip"),
    ("siglip", "siglip"),
    ("siglip-pair", "siglip-pair"),
    ("dinov2", "dinov2"),
    ("dinov2.onnx", "dinov2-onnx"),
];

pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/import").join(name)
}

fn opened(name: &str) -> ImportedEncoder {
    import::open(&data(name)).unwrap()
}

fn made(imported: ImportedEncoder, config: &VisionConfig) -> Vision {
    let vision = Vision::new(&Init::new(0, &Device::flex()), config);
    weights::assign(vision, imported.fit(config).unwrap()).unwrap()
}

/// Pixels of the i-th kind, and what they become.
fn expected(name: &str, i: usize) -> (Tensor<4>, Vec<f32>) {
    let tensors = weights::decode(&fs::read(data(&format!("{name}.safetensors"))).unwrap()).unwrap();
    let find = |what: String| tensors.iter().find(|t| t.0 == what).unwrap().clone();
    let (_, shape, pixels) = find(format!("pixels.{i}"));
    (Tensor::from_data(TensorData::new(pixels, shape), &Device::flex()), find(format!("tokens.{i}")).2)
}

fn encoded(vision: &Vision, pixels: Tensor<4>) -> Tensor<3> {
    let x = vision.embed(&case::cpu(), pixels);
    let layout = Layout::full(x.dims()[0], x.dims()[1], Sight::All);
    vision.encode(&case::cpu(), x, &layout)
}

#[test]
fn features_are_those_of_where_the_weights_come_from() {
    for (file, name) in MODELS {
        let imported = opened(file);
        let config = imported.config.clone();
        let vision = made(imported, &config);
        // The size of the table, and a rectangle.
        for i in 0..2 {
            let (pixels, tokens) = expected(name, i);
            let apart = difference(&values(encoded(&vision, pixels)), &tokens);
            assert!(apart <= 1e-5, "{file} {i}: {apart:e}");
        }
    }
}

#[test]
fn shapes_are_those_of_the_settings() {
    let shape = |name: &str| opened(name).config;
    let clip = shape("clip");
    assert_eq!((clip.image_size, clip.patch, clip.dim, clip.layers), (20, 4, 16, 2));
    assert_eq!((clip.heads, clip.ffn, clip.norm_eps), (2, 24, 1e-5));
    assert_eq!((clip.class_token, clip.pre_norm, clip.activation), (true, true, VisionActivation::QuickGelu));
    let siglip = shape("siglip");
    assert_eq!((siglip.class_token, siglip.activation), (false, VisionActivation::GeluTanh));
    let dinov2 = shape("dinov2");
    assert_eq!((dinov2.ffn, dinov2.norm_eps, dinov2.class_token), (32, 1e-6, true));
    assert_eq!(shape("dinov2.onnx"), dinov2);
    assert_eq!((opened("siglip").mean, opened("siglip").std), ([0.5; 3], [0.5; 3]));
    assert_eq!(opened("dinov2").mean, [0.485, 0.456, 0.406]);
}

#[test]
fn another_size_has_interpolated_positions_and_fewer_blocks_the_first() {
    let own = opened("dinov2").config;
    let config = VisionConfig { image_size: 12, feature_block: Some(1), ..own.clone() };
    let small = made(opened("dinov2"), &config);
    assert_eq!((small.position.dims(), small.blocks.len()), ([9, 16], 1));
    // Positions interpolated once for all are those interpolated for each picture.
    let first = VisionConfig { feature_block: Some(1), ..own.clone() };
    let pixels: Tensor<4> = expected("dinov2", 0).0.narrow(1, 0, 12).narrow(2, 4, 12);
    let whole = encoded(&made(opened("dinov2"), &first), pixels.clone());
    assert_eq!(values(encoded(&small, pixels)), values(whole));

    // Without a last norm the features are what the blocks make; a norm that is not there can't be made.
    let bare = VisionConfig { last_norm: false, ..own.clone() };
    let (kept, whole) = (opened("dinov2").fit(&bare).unwrap(), opened("dinov2").fit(&own).unwrap());
    let left: Vec<_> = whole.iter().filter(|tensor| !kept.contains(tensor)).map(|(name, ..)| name).collect();
    assert_eq!(left, ["norm.gamma", "norm.beta"]);
    let mut without = opened("dinov2");
    without.config = bare;
    let error = without.fit(&own).unwrap_err().to_string();
    assert!(error.contains("model.vision.last_norm = true, but") && error.contains("set it to false"));

    for (config, says) in [
        (VisionConfig { dim: 32, ..own.clone() }, "model.vision.dim = 32, but FILE has 16"),
        (VisionConfig { layers: 1, ..own.clone() }, "model.vision.layers = 1, but FILE has 2"),
        (VisionConfig { pre_norm: true, ..own.clone() }, "model.vision.pre_norm = true, but FILE has false"),
        (
            VisionConfig { activation: VisionActivation::QuickGelu, ..own },
            "model.vision.activation = \"quick-gelu\", but FILE has \"gelu\"",
        ),
    ] {
        let error = opened("dinov2").fit(&config).unwrap_err().to_string();
        assert_eq!(error, says.replace("FILE", &data("dinov2").display().to_string()));
    }
}

/// A copy of a folder that can be changed.
pub(crate) struct Copy(TempDir);

impl Copy {
    pub(crate) fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for file in fs::read_dir(data(name)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
        Self(folder)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// Changes the text of a file.
    pub(crate) fn replace(self, file: &str, old: &str, new: &str) -> Self {
        let text = fs::read_to_string(self.path(file)).unwrap();
        assert!(text.contains(old), "{text}");
        fs::write(self.path(file), text.replace(old, new)).unwrap();
        self
    }

    /// Changes names, shapes and types of the tensors; those that `change` gives nothing for are left out.
    pub(crate) fn tensors(
        self,
        change: impl Fn(&str, &TensorView<'_>) -> Option<(String, Vec<usize>, Dtype)>,
    ) -> Self {
        let bytes = fs::read(self.path("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file.tensors();
        let changed = tensors.iter().filter_map(|(name, view)| {
            let (name, shape, dtype) = change(name, view)?;
            Some((name, TensorView::new(dtype, shape, view.data()).unwrap()))
        });
        safetensors::serialize_to_file(changed, None, &self.path("model.safetensors")).unwrap();
        self
    }

    /// Fails unless it is refused in one line that says this; FOLDER stands for its path.
    #[track_caller]
    fn refuse(self, says: &str) {
        let error = format!("{:#}", import::open(self.0.path()).unwrap_err());
        let says = says.replace("FOLDER", &self.0.path().display().to_string());
        assert!(error.contains(&says) && !error.contains('\n'), "{error}\nwithout\n{says}");
    }
}

#[test]
fn tensors_that_do_not_fit_are_refused() {
    let same =
        |name: &str, view: &TensorView<'_>| Some((name.to_owned(), view.shape().to_vec(), view.dtype()));
    let bias = "encoder.layer.1.mlp.fc2.bias";
    Copy::new("dinov2")
        .tensors(|name, view| same(name, view).filter(|_| name != bias))
        .refuse("FOLDER: `encoder.layer.1.mlp.fc2.bias` [16] is missing");
    Copy::new("dinov2")
        .tensors(|name, view| same(&name.replace("mask_token", "register_tokens"), view))
        .refuse(
            "FOLDER: 1 tensors have no place in the DINOv2 image encoder of its settings, \
             such as `embeddings.register_tokens` [1, 16]",
        );
    Copy::new("dinov2")
        .tensors(|name, view| {
            let shape = if name == bias { vec![2, 8] } else { view.shape().to_vec() };
            Some((name.to_owned(), shape, view.dtype()))
        })
        .refuse("FOLDER: `encoder.layer.1.mlp.fc2.bias` is [2, 8], but by its settings [16]");
    Copy::new("dinov2")
        .tensors(|name, view| {
            let dtype = if name == bias { Dtype::I16 } else { view.dtype() };
            Some((name.to_owned(), view.shape().to_vec(), dtype))
        })
        .refuse("`encoder.layer.1.mlp.fc2.bias` can't be read: it is I16; only F32, F16 and BF16 can be");
    Copy::new("dinov2")
        .tensors(|name, view| same(name, view).filter(|_| name != "embeddings.cls_token"))
        .refuse("FOLDER: there is no `embeddings.cls_token`");
}

#[test]
fn settings_that_do_not_fit_are_refused() {
    let config = |name: &str, old: &str, new: &str| Copy::new(name).replace("config.json", old, new);
    config("dinov2", "\"dinov2\"", "\"beit\"").refuse(
        "FOLDER/config.json: model_type = \"beit\"; \
         known are clip, clip_vision_model, siglip, siglip_vision_model, dinov2, \
         and of whole models idefics3, smolvlm, llava, mm1",
    );
    config("dinov2", "\"use_swiglu_ffn\": false", "\"use_swiglu_ffn\": true")
        .refuse("FOLDER/config.json: use_swiglu_ffn = true: only false can be imported");
    config("dinov2", "\"gelu\"", "\"relu\"").refuse(
        "FOLDER/config.json: hidden_act = \"relu\": only gelu, quick_gelu and gelu_pytorch_tanh can be",
    );
    config("siglip", "\"num_channels\": 3", "\"num_channels\": 1")
        .refuse("num_channels = 1: only 3 can be imported");
    config("siglip", "\"num_attention_heads\": 2", "\"num_attention_heads\": \"2\"")
        .refuse("FOLDER/config.json: num_attention_heads: invalid type: string \"2\", expected usize");
    config("siglip", "\"num_attention_heads\": 2", "\"num_attention_heads\": 3")
        .refuse("FOLDER: not a shape that an encoder can have: model.vision.heads = 3 must divide dim = 16");
    config("siglip", "\"image_size\": 20", "\"image_size\": 24")
        .refuse("`embeddings.position_embedding.weight` is [25, 16], but by its settings [36, 16]");
    config("siglip", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1").refuse(
        "FOLDER: 16 tensors have no place in the SigLIP image encoder of its settings, \
             such as `encoder.layers.1.",
    );
    config("siglip", "\"image_size\": 20", "\"image_size\": 4294967296")
        .refuse("image_size = 4294967296: only up to 65536 can be imported");
    config("clip", "\"vision_config\"", "\"vision\"").refuse("there are no settings of an image encoder");
    let folder = Copy::new("siglip");
    fs::write(folder.path("preprocessor_config.json"), r#"{"image_mean": [0.1, 0.2, 0.3]}"#).unwrap();
    let found = import::open(folder.0.path()).unwrap();
    assert_eq!((found.mean, found.std), ([0.1, 0.2, 0.3], [0.5; 3]));
}

#[test]
fn damaged_files_are_refused() {
    let cut = |name: &str, file: &str| {
        let folder = Copy::new(name);
        let bytes = fs::read(folder.path(file)).unwrap();
        fs::write(folder.path(file), &bytes[..bytes.len() - 7]).unwrap();
        folder
    };
    cut("siglip", "model.safetensors")
        .refuse("FOLDER/model.safetensors: not a whole safetensors file: 18681 bytes, needs 18688");
    cut("siglip", "config.json").refuse("FOLDER/config.json: not as expected");
    let (index, part) = ("model.safetensors.index.json", "model-00002-of-00002.safetensors");
    let folder = Copy::new("clip");
    fs::remove_file(folder.path(part)).unwrap();
    folder.refuse("FOLDER/model-00002-of-00002.safetensors: can't be read");
    Copy::new("clip")
        .replace(index, part, "../other.safetensors")
        .refuse("is not the name of a file beside it");
    Copy::new("clip")
        .replace(index, "visual_projection.weight", "visual_projection.bias")
        .refuse("but not there by the index");
    let error = import::open(Path::new("/nowhere.gguf")).unwrap_err().to_string();
    assert_eq!(error, "/nowhere.gguf: there is no such file or folder");
}

#[test]
fn a_folder_with_one_onnx_file_is_that_encoder() {
    let folder = tempfile::tempdir().unwrap();
    let refused = || import::open(folder.path()).unwrap_err().to_string();
    assert!(refused().contains("it has no config.json and no .onnx file"), "{}", refused());
    fs::copy(data("dinov2.onnx"), folder.path().join("model.onnx")).unwrap();
    fs::write(folder.path().join("LICENCE"), "").unwrap();
    let (found, named) = (import::open(folder.path()).unwrap(), opened("dinov2.onnx"));
    assert_eq!((found.config, found.tensors), (named.config, named.tensors));
    fs::copy(data("dinov2.onnx"), folder.path().join("other.onnx")).unwrap();
    assert!(refused().contains("2 .onnx files: name the one"), "{}", refused());
}

/// What stands in the place of weights where a download or a conversion went wrong is called by its name.
#[test]
fn what_is_no_safetensors_file_is_called_by_its_name() {
    let put = |file: &str, bytes: &[u8]| {
        let folder = Copy::new("siglip");
        fs::write(folder.path(file), bytes).unwrap();
        folder
    };
    let weights = "model.safetensors";
    let pickle = "FOLDER/model.safetensors: a PyTorch checkpoint (a pickle), which is not read";
    put(weights, b"PK\x03\x04\x00\x00archive/data.pkl").refuse(pickle);
    put(weights, b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.").refuse(pickle);
    put(weights, b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 346293852\n").refuse(
        "FOLDER/model.safetensors: a Git LFS pointer, not the file itself: fetch it with `git lfs pull`",
    );
    for page in ["\n<!DOCTYPE html>\n<html><body>404", "<html lang=\"en\">"] {
        put(weights, page.as_bytes()).refuse("FOLDER/model.safetensors: an HTML page");
        put("config.json", page.as_bytes()).refuse("FOLDER/config.json: an HTML page");
    }
    // A byte order mark is no part of a config.
    let config = fs::read(data("siglip").join("config.json")).unwrap();
    let marked = put("config.json", &[b"\xef\xbb\xbf", &config[..]].concat());
    assert_eq!(import::open(marked.folder()).unwrap().config, opened("siglip").config);
    // A folder with a checkpoint alone says how it is converted.
    let folder = put("pytorch_model.bin", b"PK\x03\x04");
    fs::remove_file(folder.path(weights)).unwrap();
    folder.refuse(
        "FOLDER: it has pytorch_model.bin, a PyTorch checkpoint (a pickle), and no model.safetensors",
    );
    // A file in the place of the folder.
    let folder = put("model.pt", b"PK\x03\x04");
    let error = format!("{:#}", import::open(&folder.path("model.pt")).unwrap_err());
    assert!(error.contains("model.pt: a PyTorch checkpoint"), "{error}");
}

/// What waits for ever, or never ends, where a file is expected.
#[cfg(unix)]
#[test]
fn weights_that_are_no_regular_file_are_refused() {
    for file in ["model.safetensors", "config.json"] {
        let folder = Copy::new("siglip");
        fs::remove_file(folder.path(file)).unwrap();
        std::os::unix::fs::symlink("/dev/zero", folder.path(file)).unwrap();
        folder.refuse(&format!("FOLDER/{file}: not a regular file"));
    }
}

#[test]
fn graphs_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("changed.onnx");
    let refuse = |bytes: &[u8], says: &str| {
        fs::write(&file, bytes).unwrap();
        let error = format!("{:#}", import::open(&file).unwrap_err());
        assert!(error.contains(says) && error.starts_with(&file.display().to_string()), "{error}");
        assert!(!error.contains('\n'), "{error}");
    };
    let bytes = fs::read(data("dinov2.onnx")).unwrap();
    // Names of the same length, so that no length in the file changes.
    let renamed = |old: &str, new: &str| {
        assert_eq!(old.len(), new.len());
        let mut bytes = bytes.clone();
        let places: Vec<usize> =
            (0..bytes.len() - old.len()).filter(|&i| &bytes[i..i + old.len()] == old.as_bytes()).collect();
        assert!(!places.is_empty(), "{old}");
        places.into_iter().for_each(|i| bytes[i..i + old.len()].copy_from_slice(new.as_bytes()));
        bytes
    };
    refuse(&bytes[..bytes.len() / 2], "not an ONNX file");
    refuse(b"", "there is no graph");
    refuse(&renamed("embeddings.cls_token", "embeddings.cls_tokes"), "there is no `embeddings.cls_token`");
    refuse(
        &renamed("/attention/key/MatMul", "/attention/koy/MatMul"),
        "`encoder.layer.0.attention.attention.key.weight` [16, 16] is missing",
    );
    refuse(
        &renamed("layer.1/mlp/fc1/MatMul", "layer.1/mlp/fc1/MotMul"),
        "`encoder.layer.1.mlp.fc1.weight` [32, 16] is missing",
    );
    refuse(
        &renamed("layer.1.layer_scale1.lambda1", "layer.1.layer_scale3.lambda1"),
        "`encoder.layer.1.layer_scale1.lambda1` [16] is missing",
    );
    refuse(&renamed("Erf", "Abs"), "0 error functions in 2 blocks: only GELU's exact form is known");
}
