//! `mm1 import`: models of others as folders that recipes read.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use mm1_model::gguf::TensorType;
use serde_json::Value;

use crate::gguf::gguf_file;
use crate::{mm1, stderr, succeeds};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/import").join(name)
}

fn import(source: &Path, out: &Path, more: &[&str]) -> Output {
    mm1(&["import", source.to_str().unwrap(), "--out", out.to_str().unwrap()]).args(more).output().unwrap()
}

fn document(done: &Output) -> Value {
    succeeds(done);
    serde_json::from_str(String::from_utf8_lossy(&done.stdout).lines().last().unwrap()).unwrap()
}

fn verified(model: &Path, golden: &str) -> Value {
    let golden = data(golden);
    let done = mm1(&["verify", model.to_str().unwrap(), "--golden", golden.to_str().unwrap(), "--json"])
        .output()
        .unwrap();
    document(&done)
}

#[test]
fn an_imported_folder_has_the_same_logits_and_says_what_became_of_everything() {
    let dir = tempfile::tempdir().unwrap();
    for (name, numbers) in [("llama", "float32"), ("mistral", "bfloat16"), ("qwen2", "float16")] {
        let (source, out) = (data("lm").join(name), dir.path().join(name));
        let said = document(&import(&source, &out, &["--json"]));
        assert_eq!((&said["type"], &said["what"]), (&numbers.into(), &"language model".into()), "{said}");
        let tensors = &said["source_tensors"];
        let left = tensors["left"].as_array().unwrap().len() as u64;
        assert_eq!(tensors["taken"].as_u64().unwrap() + left, tensors["found"].as_u64().unwrap());
        let files = said["source_files"].as_object().unwrap();
        let named: usize = files.values().map(|names| names.as_array().unwrap().len()).sum();
        assert_eq!(named, fs::read_dir(&source).unwrap().count(), "{said}");
        assert!(files["left"].as_array().unwrap().contains(&"golden.safetensors".into()), "{said}");
        let golden = format!("lm/{name}/golden.safetensors");
        assert_eq!(verified(&out, &golden), verified(&source, &golden), "{name}");

        // Out of that again: the same file.
        let again = dir.path().join(format!("{name}-again"));
        succeeds(&import(&out, &again, &[]));
        let bytes = |folder: &Path| fs::read(folder.join("model.safetensors")).unwrap();
        assert!(bytes(&out) == bytes(&again), "{name}");
    }
    let shown = import(&data("lm/llama"), &dir.path().join("shown"), &["--type", "bf16"]);
    let text = String::from_utf8_lossy(&shown.stdout);
    for part in ["language model (llama)", "none left out", "in bfloat16, by --type", "[model.lm]\nfrom = "] {
        assert!(text.contains(part), "{text}");
    }
    assert!(text.contains("lacking  no tokenizer.json"), "{text}");
}

#[test]
fn files_for_people_are_taken_over_and_folders_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let (source, out) = (dir.path().join("source"), dir.path().join("out"));
    fs::create_dir_all(source.join("LICENSES")).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(data("lm/mistral").join(name), source.join(name)).unwrap();
    }
    fs::write(source.join("README.md"), "words").unwrap();
    let said = document(&import(&source, &out, &["--json"]));
    let files = &said["source_files"];
    assert_eq!((&files["taken_over"][0], &files["left"][0]), (&"README.md".into(), &"LICENSES".into()));
    assert_eq!(fs::read_to_string(out.join("README.md")).unwrap(), "words");
}

#[test]
fn a_gguf_file_becomes_a_folder_that_talks_with_the_same_words() {
    let dir = tempfile::tempdir().unwrap();
    let file = gguf_file(dir.path(), TensorType::F16);
    let out = dir.path().join("out");
    let said = document(&import(&file, &out, &["--json"]));
    assert_eq!((&said["type"], &said["family"]), (&"float32".into(), &"qwen3".into()), "{said}");
    assert_eq!(said["lacks"], Value::Array(Vec::new()), "{said}");
    let answer = |model: &Path| {
        let talk = ["chat", "--model", model.to_str().unwrap(), "--max-tokens", "9", "--json", "a"];
        document(&mm1(&talk).output().unwrap())["answer"].clone()
    };
    assert_eq!(answer(&file), answer(&out));
    // What its terms are goes with it.
    fs::write(dir.path().join("ATTRIBUTION"), "out/model.gguf: words\n  CC0; nobody\n").unwrap();
    let second = dir.path().join("second");
    assert_eq!(document(&import(&out, &second, &["--json"]))["terms"], "CC0; nobody");
    let third = dir.path().join("third");
    assert_eq!(document(&import(&second, &third, &["--json"]))["terms"], "CC0; nobody");
}

#[test]
fn an_image_encoder_says_what_is_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("siglip");
    let done = import(&data("siglip-pair"), &out, &[]);
    succeeds(&done);
    let text = String::from_utf8_lossy(&done.stdout);
    for part in ["image encoder (siglip_vision_model)", "logit_bias 1, logit_scale 1, text_model"] {
        assert!(text.contains(part), "{text}");
    }
    let said = document(&import(&data("dinov2.onnx"), &dir.path().join("dino"), &["--json"]));
    assert_eq!((&said["family"], &said["section"]), (&"dinov2".into(), &"model.vision".into()), "{said}");
    assert!(said["lacks"][0].as_str().unwrap().contains("image.mode"), "{said}");
}

#[test]
fn a_whole_model_is_written_whole_or_by_parts() {
    let dir = tempfile::tempdir().unwrap();
    let (source, out) = (data("idefics3"), dir.path().join("whole"));
    let said = document(&import(&source, &out, &["--json"]));
    let tensors = &said["source_tensors"];
    assert_eq!((&said["section"], &tensors["left"]), (&"model".into(), &Value::Array(Vec::new())), "{said}");
    let golden = "idefics3/golden.safetensors";
    assert_eq!(verified(&out, golden), verified(&source, golden));
    assert!(verified(&source, golden)["max_relative"].as_f64().unwrap() < 1e-5);
    for (part, family, left) in [("lm", "llama", 38), ("vision", "siglip_vision_model", 22)] {
        let said = document(&import(&source, &dir.path().join(part), &["--part", part, "--json"]));
        assert_eq!(said["family"], family, "{said}");
        assert_eq!(said["source_tensors"]["left"].as_array().unwrap().len(), left, "{said}");
    }
}

#[test]
fn what_can_t_be_imported_is_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let (run, out) = (dir.path().join("run"), dir.path().join("out"));
    fs::create_dir(&run).unwrap();
    fs::write(run.join("plan.toml"), "").unwrap();
    let cases: [(&Path, &[&str], &str); 6] = [
        (&dir.path().join("nothing"), &[], "there is no such file or folder"),
        (&run, &[], "a run folder, not a model of others"),
        (dir.path(), &[], "it has no config.json"),
        (&data("lm/llama"), &["--part", "vision"], "is a language model, which has no image encoder"),
        (&data("siglip"), &["--part", "lm"], "is an image encoder, which has no language model"),
        (&data("lm"), &[], "it has no config.json"),
    ];
    for (source, more, says) in cases {
        let done = import(source, &out, more);
        let line = stderr(&done);
        assert!(done.status.code() == Some(2) && line.trim().lines().count() == 1, "{line}");
        assert!(line.contains(says), "{line}\nwithout\n{says}");
        assert!(!out.exists());
    }
    fs::create_dir(&out).unwrap();
    let done = import(&data("lm/llama"), &out, &[]);
    assert!(done.status.code() == Some(2) && stderr(&done).contains("it is there already"));
}
