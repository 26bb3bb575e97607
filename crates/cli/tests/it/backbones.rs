//! Language models of Hugging Face in a recipe and beside golden files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use crate::{TINY, losses, mm1, stderr, succeeds};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/import/lm").join(name)
}

fn verify(model: &Path, golden: &Path, more: &[&str]) -> Output {
    mm1(&["verify", model.to_str().unwrap(), "--golden", golden.to_str().unwrap()])
        .args(more)
        .output()
        .unwrap()
}

#[test]
fn verify_tells_how_far_a_model_is_from_a_golden_file() {
    for name in ["llama", "mistral", "qwen2", "qwen3"] {
        let folder = data(name);
        let golden = folder.join("golden.safetensors");
        let done = verify(&folder, &golden, &["--json"]);
        succeeds(&done);
        let found: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
        assert!(found["max_relative"].as_f64().unwrap() < 1e-5, "{name}: {found}");
        assert_eq!((&found["top1"], &found["passed"]), (&1.0.into(), &true.into()), "{name}");
        let strict = verify(&folder, &golden, &["--tolerance", "1e-12"]);
        assert_eq!(strict.status.code(), Some(1), "{name}");
        assert!(stderr(&strict).contains("more than --tolerance 1e-12"), "{}", stderr(&strict));
        assert!(String::from_utf8_lossy(&strict.stdout).contains("same top token      100.00%"));
    }
}

#[test]
fn verify_refuses_what_it_can_t_compare_in_one_line() {
    for (model, golden, says) in [
        ("llama", "mistral", "`logits` has 41 values a position, the model 67"),
        ("nothing", "llama", "lm/nothing: not a Hugging Face folder"),
        ("llama", "nothing", "lm/nothing/golden.safetensors: can't be read"),
    ] {
        let done = verify(&data(model), &data(golden).join("golden.safetensors"), &[]);
        let line = stderr(&done);
        assert!(done.status.code() == Some(2) && line.trim().lines().count() == 1, "{line}");
        assert!(line.contains(says), "{line}");
    }
}

/// A copy of a tiny model with a tokenizer of more ids than it has rows, and a recipe that begins with it.
pub(crate) fn recipe(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (model, run) = (folder.join(name), folder.join("tokenizer-run"));
    fs::create_dir(&model).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(data(name).join(file), model.join(file)).unwrap();
    }
    let steps = ["stage.encoder.steps=1", "stage.pretrain.steps=1", "stage.sft.steps=1"];
    let edits = steps.into_iter().flat_map(|edit| ["--set", edit]);
    succeeds(
        &mm1(&["run", TINY, "--out", run.to_str().unwrap()])
            .args(edits.collect::<Vec<_>>())
            .output()
            .unwrap(),
    );
    fs::copy(run.join("tokenizer.json"), model.join("tokenizer.json")).unwrap();
    let tiny = fs::read_to_string(TINY).unwrap();
    let own = "[tokenizer]\nkind = \"bpe\"\nvocab = 320\ndocuments = 40\n";
    let shape = "[model.lm]\ndim = 16\nlayers = 1\nheads = 2\nkv_heads = 1\nffn = 32\n";
    assert!(tiny.contains(own) && tiny.contains(shape));
    let text = tiny.replace(own, "").replace(shape, &format!("[model.lm]\nfrom = {model:?}\n"));
    let file = folder.join("recipe.toml");
    fs::write(&file, text).unwrap();
    (model, file)
}

#[test]
fn a_run_begins_with_an_imported_language_model_and_its_tokenizer() {
    let dir = tempfile::tempdir().unwrap();
    let (model, file) = recipe(dir.path(), "qwen3");
    let out = dir.path().join("run");
    let run = || mm1(&["run", file.to_str().unwrap(), "--out", out.to_str().unwrap()]).output().unwrap();
    let done = run();
    succeeds(&done);
    let plan: toml::Table = fs::read_to_string(out.join("plan.toml")).unwrap().parse().unwrap();
    let (lm, derived) = (&plan["settled"]["recipe"]["model"]["lm"], &plan["settled"]["derived"]);
    assert_eq!((lm["vocab"].as_integer(), lm["head_width"].as_integer()), (Some(320), Some(8)));
    assert_eq!((lm["qk_norm"].as_bool(), lm["from"].as_str()), (Some(true), model.to_str()));
    assert_eq!(derived["lm"].as_str().unwrap().len(), 16);
    let own = fs::read(model.join("tokenizer.json")).unwrap();
    assert!(own == fs::read(out.join("tokenizer.json")).unwrap(), "the tokenizer is not the model's");
    // The same command again does nothing anew, and the model answers.
    let before = losses(&out);
    succeeds(&run());
    assert_eq!(losses(&out), before);
    let chat = mm1(&["chat", "--run", out.to_str().unwrap(), "--max-tokens", "3", "what?"]).output().unwrap();
    succeeds(&chat);
    // Other weights under the same name are another run.
    let weights = model.join("model.safetensors");
    let mut changed = fs::read(&weights).unwrap();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(&weights, changed).unwrap();
    let refused = run();
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("derived.lm: "), "{}", stderr(&refused));
}

#[test]
fn recipes_that_do_not_fit_an_imported_language_model() {
    let dir = tempfile::tempdir().unwrap();
    let (model, file) = recipe(dir.path(), "qwen2");
    let from = model.display();
    for (edit, says) in [
        ("model.lm.dim=32", format!("model.lm.dim = 32, but {from} has 24: leave it out")),
        ("model.lm.qk_norm=true", format!("model.lm.qk_norm = true, but {from} has none")),
        ("model.lm.from=3", "model.lm.from is a integer, not a path".to_owned()),
        ("model.lm.from=/nowhere", "model.lm.from = \"/nowhere\": /nowhere: not a Hugging Face".to_owned()),
        (
            "tokenizer.kind=bpe",
            format!("the ids of model.lm.from = \"{from}\" are those of its own tokenizer"),
        ),
    ] {
        let done = mm1(&["plan", file.to_str().unwrap(), "--set", edit]).output().unwrap();
        let line = stderr(&done);
        assert!(done.status.code() == Some(2) && line.trim().lines().count() == 1, "{edit}: {line}");
        assert!(line.contains(&says), "{edit}: {line}\nwithout\n{says}");
    }
    fs::remove_file(model.join("tokenizer.json")).unwrap();
    let done = mm1(&["plan", file.to_str().unwrap()]).output().unwrap();
    assert_eq!(done.status.code(), Some(2));
    assert!(stderr(&done).contains("has no tokenizer.json: give it by [tokenizer]"), "{}", stderr(&done));
}

#[test]
fn a_language_model_of_others_is_talked_with_by_its_own_template() {
    let dir = tempfile::tempdir().unwrap();
    let (model, _) = recipe(dir.path(), "qwen2");
    let chat = |extra: &[&str]| {
        let common = ["chat", "--model", model.to_str().unwrap(), "--max-tokens", "5", "--json"];
        mm1(&[&common, extra].concat()).output().unwrap()
    };
    let refused = chat(&["hello"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("no chat template"), "{}", stderr(&refused));

    let template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}\
        {% if add_generation_prompt %}<|assistant|>{% endif %}";
    fs::write(model.join("chat_template.jinja"), template).unwrap();
    let answer = |done: &Output| {
        succeeds(done);
        let line = String::from_utf8_lossy(&done.stdout).lines().last().unwrap().to_owned();
        serde_json::from_str::<Value>(&line).unwrap()["answer"].as_str().unwrap().to_owned()
    };
    assert_eq!(answer(&chat(&["hello"])), answer(&chat(&["hello"])));
    let picture = chat(&["--image", "x.png", "hello"]);
    assert_eq!(picture.status.code(), Some(2), "{}", stderr(&picture));
    let size = chat(&["--image-size", "16", "hello"]);
    assert_eq!(size.status.code(), Some(2));
    assert!(stderr(&size).contains("sees nothing"), "{}", stderr(&size));
}

/// A run's model answers with the same words when it comes back from the file.
#[test]
fn an_exported_language_model_talks_as_the_run_does() {
    let dir = tempfile::tempdir().unwrap();
    let (_, _) = recipe(dir.path(), "qwen2");
    let (run, file) = (dir.path().join("tokenizer-run"), dir.path().join("model.gguf"));
    let (run, file) = (run.to_str().unwrap(), file.to_str().unwrap());
    let export =
        || mm1(&["export", run, "--format", "gguf", "--type", "f32", "--out", file]).output().unwrap();
    succeeds(&export());
    let again = export();
    assert!(again.status.code() == Some(2) && stderr(&again).contains("it is there already"));

    let answers = |from: [&str; 2]| {
        let mut talk = mm1(&["chat", from[0], from[1], "--max-tokens", "12", "--json"]);
        let done = talk.arg("what is it?").output().unwrap();
        succeeds(&done);
        let line = String::from_utf8_lossy(&done.stdout).lines().last().unwrap().to_owned();
        serde_json::from_str::<Value>(&line).unwrap()["answer"].clone()
    };
    let expected = answers(["--run", run]);
    assert_eq!(answers(["--model", file]), expected);
    assert_ne!(expected, "");
}
