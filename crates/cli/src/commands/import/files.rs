//! The files beside the weights: which are taken over as they are, which are read, and which are left.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use mm1_data::regular_file;
use mm1_data::tokenizer::Tokenizer;
use mm1_model::export::write_json;
use mm1_model::import::lm;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::attribution::{ATTRIBUTION, weights_terms};
use crate::new_folder::write_text;
use crate::stored_tokenizer;
use crate::tokenizer_file::TokenizerFile;

/// Of a language model.
const OF_TEXT: [&str; 6] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
];

/// Of an image encoder.
const OF_PICTURES: [&str; 2] = ["preprocessor_config.json", "processor_config.json"];

/// Beginnings of the names of files for people.
const FOR_PEOPLE: [&str; 4] = ["README", "LICENSE", "LICENCE", "NOTICE"];

/// The largest file that is taken over.
const MAX_FILE: u64 = 256 << 20;

/// Files of a source by what became of them; together they are all.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct SourceFiles {
    /// Read, and written in another form.
    pub(super) read: BTreeSet<String>,
    /// Taken over as they are.
    pub(super) taken_over: BTreeSet<String>,
    /// Left out.
    pub(super) left: BTreeSet<String>,
}

impl SourceFiles {
    /// Takes over what a part of a model needs into the folder `to`.
    ///
    /// # Errors
    /// A file that can't be read or written.
    pub(super) fn take_over(source: &Path, to: &Path, parts: Parts) -> Result<Self> {
        let mut found = Self::default();
        if source.is_dir() {
            let entries = fs::read_dir(source).and_then(|entries| {
                entries.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<Vec<_>>>()
            });
            let entries = entries.with_context(|| format!("{}: can't be read", source.display()))?;
            let weights = weight_files(source)?;
            // What is beside a file that has all of it is not its.
            let parts = Parts { text: parts.text && source.join("config.json").exists(), ..parts };
            for name in entries.iter().map(|name| name.to_string_lossy().into_owned()) {
                // A folder such as LICENSES is not taken over.
                if parts.has(&name) && !source.join(&name).is_dir() {
                    copy(&source.join(&name), &to.join(&name))?;
                    found.taken_over.insert(name);
                } else if weights.contains(&name) {
                    found.read.insert(name);
                } else {
                    found.left.insert(name);
                }
            }
        } else {
            found.read.extend(source.file_name().map(|name| name.to_string_lossy().into_owned()));
            // Beside an ONNX file its settings lie in the same folder.
            let folder = source.parent().unwrap_or(Path::new("."));
            for name in OF_PICTURES.into_iter().filter(|name| parts.has(name)) {
                if folder.join(name).exists() {
                    copy(&folder.join(name), &to.join(name))?;
                    found.taken_over.insert(name.to_owned());
                }
            }
        }
        if let Some(terms) = weights_terms(source) {
            let name = source.file_name().unwrap_or(source.as_os_str()).to_string_lossy();
            let text = format!("model.safetensors: {name}, as `mm1 import` has read it\n  {terms}\n");
            write_text(to, ATTRIBUTION, &text)?;
        }
        Ok(found)
    }
}

/// Of what a model consists.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    pub(super) text: bool,
    pub(super) pictures: bool,
}

impl Parts {
    fn has(self, name: &str) -> bool {
        self.text && OF_TEXT.contains(&name)
            || self.pictures && OF_PICTURES.contains(&name)
            || FOR_PEOPLE.iter().any(|begins| name.starts_with(begins))
    }
}

/// Names of the files with settings and weights in a folder.
fn weight_files(folder: &Path) -> Result<BTreeSet<String>> {
    const WHOLE: &str = "model.safetensors";
    const INDEX: &str = "model.safetensors.index.json";
    let mut found = BTreeSet::from(["config.json".to_owned(), WHOLE.to_owned()]);
    if let Some(file) = lm_or_encoder_file(folder)? {
        return Ok(BTreeSet::from([file]));
    }
    if !folder.join(WHOLE).exists() && folder.join(INDEX).exists() {
        let index: Value = serde_json::from_slice(&regular_file::read(&folder.join(INDEX), MAX_FILE)?)?;
        let parts = index["weight_map"].as_object().into_iter().flatten();
        found.extend(parts.filter_map(|(_, part)| Some(part.as_str()?.to_owned())));
        found.insert(INDEX.to_owned());
    }
    Ok(found)
}

/// The one file of a folder that is no folder of Hugging Face.
fn lm_or_encoder_file(folder: &Path) -> Result<Option<String>> {
    if folder.join("config.json").exists() {
        return Ok(None);
    }
    let entries = fs::read_dir(folder).with_context(|| format!("{}: can't be read", folder.display()))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.into_iter().find(|name| {
        Path::new(name).extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf") || end == "onnx")
    }))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let bytes = regular_file::read(from, MAX_FILE).with_context(|| from.display().to_string())?;
    fs::write(to, bytes).with_context(|| format!("{} can't be written", to.display()))
}

/// Writes the tokenizer inside of a GGUF file, if `source` is one, into the folder `to`; one of a folder is
/// there already. Says whether there is a tokenizer, after it was read as a recipe reads it, from both sides.
///
/// # Errors
/// A tokenizer that can't be read, or is another one when it is read again.
pub(super) fn tokenizer(source: &Path, to: &Path) -> Result<bool> {
    let written = to.join("tokenizer.json");
    let original = match lm::gguf_file(source)? {
        Some(file) => {
            let stored = stored_tokenizer::of_file(&file)?;
            let json = stored.to_json().with_context(|| file.display().to_string())?;
            write_text(to, "tokenizer.json", &json)?;
            let mut settings: Value = serde_json::from_str(&stored.to_config_json())?;
            // Without it transformers takes the class of the model's family, which has rules of its own.
            settings["tokenizer_class"] = json!("PreTrainedTokenizerFast");
            write_json(to, "tokenizer_config.json", &settings)?;
            file
        }
        None => source.join("tokenizer.json"),
    };
    if !written.exists() {
        return Ok(false);
    }
    let read = |path: &Path| -> Result<Tokenizer> {
        let TokenizerFile { json, template } = TokenizerFile::read(path)?;
        Tokenizer::from_json(&json, template).with_context(|| path.display().to_string())
    };
    let same = read(&original)?.fingerprint() == read(&written)?.fingerprint();
    ensure!(same, "{}: its tokenizer is another one when it is read again", original.display());
    Ok(true)
}

/// The ids of tokens with a meaning, as a `config.json` has them.
///
/// # Errors
/// A file that can't be read.
pub(super) fn token_ids(source: &Path) -> Result<Map<String, Value>> {
    let names = ["bos_token_id", "eos_token_id", "pad_token_id"];
    if let Some(file) = lm::gguf_file(source)? {
        let ids = stored_tokenizer::of_file(&file)?.special_ids;
        let own = ["bos", "eos", "padding"].map(|name| ids.get(name).map(|id| json!(id)));
        let found = names.into_iter().zip(own).filter_map(|(name, id)| Some((name.to_owned(), id?)));
        return Ok(found.collect());
    }
    let path = source.join("config.json");
    let config: Value = serde_json::from_slice(&regular_file::read(&path, MAX_FILE)?)
        .with_context(|| path.display().to_string())?;
    let id = |name: &str| {
        let own = &config[name];
        if own.is_null() { config["text_config"][name].clone() } else { own.clone() }
    };
    let found = names.into_iter().map(|name| (name.to_owned(), id(name)));
    Ok(found.filter(|(_, id)| !id.is_null()).collect())
}
