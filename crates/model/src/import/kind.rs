//! What a file or folder of others holds, before it is read.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{exported, families, files, lm_settings};

/// What a file or folder of others holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginKind {
    /// An image encoder, with a text tower or alone: [`super::open`].
    Encoder,
    /// A language model: [`super::lm::open`].
    Decoder,
    /// Encoder, connector and language model: [`exported::open`].
    Whole,
}

impl OriginKind {
    /// What `path` holds, by its `config.json` or its ending.
    ///
    /// # Errors
    /// One line with the file: what is not there, or nothing of these.
    pub fn of(path: &Path) -> Result<Self> {
        let shown = path.display();
        ensure!(path.exists(), "{shown}: there is no such file or folder");
        if !path.is_dir() {
            let ends = |end: &str| path.extension().is_some_and(|own| own.eq_ignore_ascii_case(end));
            ensure!(
                ends("gguf") || ends("onnx"),
                "{shown}: neither a folder of Hugging Face nor a .gguf or .onnx file"
            );
            return Ok(if ends("gguf") { Self::Decoder } else { Self::Encoder });
        }
        let config = path.join("config.json");
        if config.exists() { Self::of_config(&config) } else { Self::of_files(path) }
    }

    fn of_config(file: &Path) -> Result<Self> {
        let config: Value = files::json(file)?;
        let kind = &config["model_type"];
        let known = |names: &[&str]| names.iter().any(|name| kind == name);
        if known(&lm_settings::names()) {
            Ok(Self::Decoder)
        } else if known(&families::KINDS) {
            Ok(Self::Encoder)
        } else if known(&exported::names()) {
            Ok(Self::Whole)
        } else {
            bail!(
                "{}: model_type = {kind}; language models are {}; image encoders {}; whole models {}",
                file.display(),
                lm_settings::names().join(", "),
                families::KINDS.join(", "),
                exported::names().join(", ")
            )
        }
    }

    /// Of a folder without a `config.json`.
    fn of_files(path: &Path) -> Result<Self> {
        let entries = path
            .read_dir()
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>());
        let entries = entries.with_context(|| format!("{}: can't be read", path.display()))?;
        let has = |end: &str| {
            entries.iter().any(|path| path.extension().is_some_and(|own| own.eq_ignore_ascii_case(end)))
        };
        match (has("gguf"), has("onnx")) {
            (true, false) => Ok(Self::Decoder),
            (false, true) => Ok(Self::Encoder),
            (true, true) => bail!("{}: it has a .gguf and an .onnx file: name the one", path.display()),
            (false, false) => bail!(
                "{}: it has no config.json, as a folder of Hugging Face has, and no .gguf or .onnx file",
                path.display()
            ),
        }
    }
}
