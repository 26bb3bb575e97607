//! Language models with random weights as Hugging Face writes them (scripts/reference/llms.py).

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use mm1_model::import::lm::{self, ImportedLm};
use mm1_model::init::Init;
use mm1_model::lm::{Lm, LmConfig};
use mm1_model::rope::RopeScaling;
use mm1_model::verify::Golden;
use mm1_model::weights;
use safetensors::tensor::{Dtype, TensorView};

use crate::case::{self, values};
use crate::import::{Copy, data};

const FAMILIES: [&str; 4] = ["llama", "mistral", "qwen2", "qwen3"];

fn opened(name: &str) -> ImportedLm {
    lm::open(&data(&format!("lm/{name}"))).unwrap()
}

fn made(imported: ImportedLm, config: &LmConfig) -> Lm {
    imported.fit(Lm::new(&Init::new(0, &Device::flex()), config), config).unwrap()
}

fn golden(name: &str) -> Golden {
    Golden::open(&data(&format!("lm/{name}/golden.safetensors"))).unwrap()
}

#[test]
fn logits_are_those_of_where_the_weights_come_from() {
    for name in FAMILIES {
        let imported = opened(name);
        let config = imported.config.clone();
        let lm = made(imported, &config);
        for compute in [case::cpu(), case::composed()] {
            let found = golden(name).compare(&compute, &lm).unwrap();
            assert!(found.max_relative <= 1e-5 && found.top1 == Some(1.0), "{name}: {found:?}");
            assert_eq!(found.positions, if name == "llama" { 12 } else { 18 });
        }
    }
}

/// A comparison that sees nothing would pass everything.
#[test]
fn another_model_is_far_from_the_golden_file() {
    let imported = opened("qwen3");
    let config = LmConfig { norm_eps: 1e-2, ..imported.config.clone() };
    let error = imported.fit(Lm::new(&Init::new(0, &Device::flex()), &config), &config).unwrap_err();
    let from = data("lm/qwen3").display().to_string();
    assert_eq!(error.to_string(), format!("model.lm.norm_eps = 0.01, but {from} has 1e-6"));
    let random = Lm::new(&Init::new(0, &Device::flex()), &config);
    let found = golden("qwen3").compare(&case::cpu(), &random).unwrap();
    assert!(found.max_relative > 0.1 && found.max_absolute > 0.1 && found.top1 < Some(0.5), "{found:?}");
}

#[test]
fn shapes_are_those_of_the_settings() {
    let llama = opened("llama").config;
    assert_eq!((llama.vocab, llama.dim, llama.layers, llama.ffn), (Some(67), 24, 2, 20));
    assert_eq!((llama.heads, llama.kv_heads, llama.head_width, llama.tied), (6, 2, None, false));
    let scaling = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_length: 128,
    };
    assert_eq!((llama.rope_base, llama.rope_scaling, llama.norm_eps), (500_000.0, scaling, 1e-6));
    let mistral = opened("mistral").config;
    assert_eq!((mistral.head_width, mistral.qkv_bias, mistral.qk_norm), (Some(10), false, false));
    assert_eq!((opened("qwen2").config.qkv_bias, opened("qwen2").config.tied), (true, true));
    assert_eq!((opened("qwen3").config.qk_norm, opened("qwen3").config.head_width), (true, Some(8)));
}

#[test]
fn a_larger_vocabulary_has_the_mean_in_its_new_rows() {
    for name in ["llama", "qwen2"] {
        let own = opened(name).config;
        let rows = own.vocab();
        let larger = LmConfig { vocab: Some(rows + 3), ..own.clone() };
        let (small, large) = (made(opened(name), &own), made(opened(name), &larger));
        let (old, new) = (values(small.embedding.val()), values(large.embedding.val()));
        assert_eq!(new[..old.len()], old);
        let mean = |column: usize| old.chunks(own.dim).map(|row| row[column]).sum::<f32>() / rows as f32;
        for row in new[old.len()..].chunks(own.dim) {
            assert!(row.iter().enumerate().all(|(i, value)| (value - mean(i)).abs() < 1e-6));
        }
        if !own.tied {
            let heads = [&small, &large]
                .map(|lm| weights::parameters(lm).into_iter().find(|(path, ..)| path == "head").unwrap().2);
            for (old, new) in heads[0].chunks(rows).zip(heads[1].chunks(rows + 3)) {
                assert_eq!(new[..rows], *old);
                let mean = old.iter().sum::<f32>() / rows as f32;
                assert!(new[rows..].iter().all(|value| (value - mean).abs() < 1e-6));
            }
        }
        let smaller = LmConfig { vocab: Some(rows - 1), ..own };
        let lm = Lm::new(&Init::new(0, &Device::flex()), &smaller);
        let error = opened(name).fit(lm, &smaller).unwrap_err().to_string();
        assert!(error.contains(&format!("model.lm.vocab = {}, but ", rows - 1)), "{error}");
    }
}

#[test]
fn the_same_weights_are_told_from_others() {
    let identity = |path: &Path| {
        let mut bytes = Vec::new();
        lm::open(path).unwrap().identify(|piece| bytes.extend_from_slice(piece)).unwrap();
        bytes
    };
    let own = data("lm/llama");
    assert_eq!(identity(&own), identity(Copy::new("lm/llama").folder()));
    let copy = Copy::new("lm/llama");
    let part = copy.folder().join("model-00002-of-00004.safetensors");
    let mut changed = fs::read(&part).unwrap();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(part, changed).unwrap();
    assert_ne!(identity(&own), identity(copy.folder()));
}

/// Fails unless the language model in the folder is refused in one line that says this.
#[track_caller]
fn refuse(copy: &Copy, says: &str) {
    let error = match lm::open(copy.folder()) {
        Ok(_) => panic!("it was imported"),
        Err(error) => format!("{error:#}"),
    };
    let says = says.replace("FOLDER", &copy.folder().display().to_string());
    assert!(error.contains(&says) && !error.contains('\n'), "{error}\nwithout\n{says}");
}

#[test]
fn settings_that_are_unknown_or_not_ours_are_refused_by_name() {
    let set = |name: &str, old: &str, new: &str, says: &str| {
        refuse(&Copy::new(&format!("lm/{name}")).replace("config.json", old, new), says);
    };
    let kinds = "FOLDER/config.json: model_type = \"gemma2\": only language models of these can be imported: \
                 llama, mistral, qwen2, qwen3";
    set("llama", "\"llama\"", "\"gemma2\"", kinds);
    let cap = "final_logit_softcapping = 30.0: this setting is not known, so the model can't be imported";
    set("llama", "\"use_cache\"", "\"final_logit_softcapping\": 30.0, \"use_cache\"", cap);
    let quantised = "\"quantization_config\": {\"bits\": 4}, \"use_cache\"";
    set("qwen3", "\"use_cache\"", quantised, "quantization_config = {\"bits\":4}: this setting is not known");
    set("llama", "\"silu\"", "\"gelu\"", "hidden_act = \"gelu\": only \"silu\" can be imported");
    let bias = "attention_bias = true: only false can be imported";
    set("llama", "\"attention_bias\": false", "\"attention_bias\": true", bias);
    let window = "sliding_window: a window of attention can't be imported, only null";
    set("mistral", "\"sliding_window\": null", "\"sliding_window\": 4096", window);
    let switch = "use_sliding_window = true: only false can be imported";
    set("qwen2", "\"use_sliding_window\": false", "\"use_sliding_window\": true", switch);
    set("qwen2", "\"full_attention\"", "\"sliding_attention\"", "layer_types = [");
    let yarn = "rope_parameters: rope_type = \"yarn\": only default, linear and llama3 can be imported";
    set("qwen2", "\"rope_type\": \"default\"", "\"rope_type\": \"yarn\"", yarn);
    set("llama", "\"factor\": 8.0,", "\"factor\": 8.0, \"beta\": 1,", "unknown field `beta`");
    set("llama", "\"factor\": 8.0", "\"factor\": 0.5", "model.lm.rope_scaling.factor = 0.5");
    set("llama", "\"rope_theta\": 500000.0", "\"rope_theta\": -1", "model.lm.rope_base = -1 must be above 0");
    set("llama", "\"hidden_size\": 24,", "", "hidden_size is missing");
    set("llama", "\"vocab_size\": 67", "\"vocab_size\": 1e30", "vocab_size = 1e+30");
    set("llama", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 99999999999", "only 1 to 16777216");
    set("llama", "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 4", "must divide heads = 6");
}

#[test]
fn tensors_that_do_not_fit_are_refused_with_both_shapes() {
    let (bias, head) = ("model.layers.1.self_attn.k_proj.bias", "model.embed_tokens.weight");
    let same =
        |name: &str, view: &TensorView<'_>| Some((name.to_owned(), view.shape().to_vec(), view.dtype()));
    let qwen2 = || Copy::new("lm/qwen2");
    let missing = qwen2().tensors(|name, view| same(name, view).filter(|_| name != bias));
    refuse(&missing, "FOLDER: `model.layers.1.self_attn.k_proj.bias` [12] is missing");
    let fewer = qwen2().replace("config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1");
    let extra = "FOLDER: 12 tensors have no place in the language model of its settings, such as \
                 `model.layers.1.input_layernorm.weight` [24]";
    refuse(&fewer, extra);
    let other = qwen2().tensors(|name, view| {
        let shape = if name == head { vec![24, 53] } else { view.shape().to_vec() };
        Some((name.to_owned(), shape, view.dtype()))
    });
    refuse(&other, "`model.embed_tokens.weight` is [24, 53], but by its settings [53, 24]");
    let integers = qwen2().tensors(|name, view| {
        let dtype = if name == bias { Dtype::I16 } else { view.dtype() };
        Some((name.to_owned(), view.shape().to_vec(), dtype))
    });
    refuse(&integers, "k_proj.bias` can't be read: it is I16; only F32, F16 and BF16 can be");
}

/// Names that a header gives, with where they lie, and so many bytes behind it.
fn hostile(header: &str, bytes: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.resize(file.len() + bytes, 0);
    file
}

#[test]
fn hostile_files_are_refused_in_one_line() {
    let whole = "not a whole safetensors file";
    let entry = |name: &str, shape: &str, from: u64, to: u64| {
        format!("\"{name}\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[{from},{to}]}}")
    };
    let beyond = format!("{{{}}}", entry("a", "[4]", 0, 16));
    let overlap = format!("{{{},{}}}", entry("a", "[2]", 0, 8), entry("b", "[2]", 4, 12));
    let product = format!("{{{}}}", entry("a", "[4294967296,4294967296,4294967296]", 0, 8));
    let backwards = format!("{{{}}}", entry("a", "[2]", 8, 0));
    // With what is before it the end is beyond 2^64.
    let endless = format!("{{{}}}", entry("a", "[4611686018427387903]", 0, u64::MAX - 3));
    for file in [
        Vec::new(),
        u64::MAX.to_le_bytes().to_vec(),
        99_999_999u64.to_le_bytes().to_vec(),
        hostile(&beyond, 8),
        hostile(&overlap, 12),
        hostile(&product, 8),
        hostile(&backwards, 8),
        hostile(&endless, 0),
        hostile("{\"a\":\u{1}}", 0),
    ] {
        let copy = Copy::new("lm/qwen3");
        fs::write(copy.folder().join("model.safetensors"), file).unwrap();
        refuse(&copy, whole);
    }
}

/// What a tensor of a file becomes: its name, shape and type, or nothing.
type Change<'a> = dyn Fn(&str, &TensorView<'_>) -> Option<(String, Vec<usize>, Dtype)> + 'a;

#[test]
fn golden_files_that_can_t_be_compared_are_refused() {
    let refuse = |change: &Change<'_>, says: &str| {
        let copy = Copy::new("lm/llama");
        let file = copy.folder().join("model.safetensors");
        fs::rename(copy.folder().join("golden.safetensors"), &file).unwrap();
        let copy = copy.tensors(change);
        let lm = made(opened("llama"), &opened("llama").config);
        let compared = Golden::open(&file).and_then(|golden| golden.compare(&case::cpu(), &lm));
        let error = format!("{:#}", compared.unwrap_err());
        assert!(error.contains(says) && !error.contains('\n'), "{error}\nwithout\n{says}");
        drop(copy);
    };
    let same = |name: &str, view: &TensorView<'_>| (name.to_owned(), view.shape().to_vec(), view.dtype());
    refuse(&|name, view| Some(same(name, view)).filter(|_| name != "input_ids"), "`input_ids` is missing");
    let texts = |name: &str| name == "input_ids" || name == "attention_mask";
    refuse(&|name, view| Some(same(name, view)).filter(|_| texts(name)), "neither `logits` nor `hidden`");
    let mask_as = |new: &'static str| {
        move |name: &str, view: &TensorView<'_>| {
            let (old, shape, dtype) = same(name, view);
            Some((old.replace("attention_mask", new), shape, dtype))
        }
    };
    refuse(&mask_as("position_ids"), "`position_ids` can't be compared: only input_ids, attention_mask, ");
    refuse(&mask_as("pixel_values"), "`pixel_values` is [2, 9], needs [n, 3, s, s]");
    let flat = |name: &str, view: &TensorView<'_>| {
        let (old, mut shape, dtype) = same(name, view);
        if name == "logits" {
            shape = vec![18, 1, 67];
        }
        Some((old, shape, dtype))
    };
    refuse(&flat, "`logits` is [18, 1, 67], needs [2, 9, …]");
    let swapped = |name: &str, view: &TensorView<'_>| {
        let (old, shape, dtype) = same(name, view);
        let name = match &*old {
            "input_ids" => "attention_mask",
            "attention_mask" => "input_ids",
            _ => &old,
        };
        Some((name.to_owned(), shape, dtype))
    };
    refuse(&swapped, "`attention_mask` ");
}
