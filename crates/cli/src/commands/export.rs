//! `mm1 export`: a model of ours in the form of other programs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};
use mm1_data::chat;
use mm1_data::document::Special;
use mm1_data::gguf_tokenizer::GgufTokenizer;
use mm1_data::text_file;
use mm1_data::tokenizer::Tokenizer;
use mm1_model::compute::on_pool;
use mm1_model::gguf::{GgufLanguageModel, StoredTokenizer, TensorType, write_language_model};
use serde_json::json;

use crate::arguments::DeviceArgs;
use crate::error::input;
use crate::output::print_json;
use crate::recipe::Stage;
use crate::trained::RunModel;

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Run folder of the model.
    run: PathBuf,
    /// The form.
    #[arg(long)]
    format: ExportFormat,
    /// File that is written. One that is there is not replaced.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The model as this stage of the run has left it. Default: the last that has a checkpoint.
    #[arg(long)]
    stage: Option<String>,
    /// How matrices are stored; vectors are f32.
    #[arg(long = "type", value_name = "TYPE", default_value = "f16")]
    numbers: StoredAs,
    /// The longest text that readers of the file should give it. Default: the longest row of its training.
    #[arg(long, value_name = "TOKENS")]
    context: Option<usize>,
    /// Print one JSON document as the last line of standard output.
    #[arg(long)]
    json: bool,
}

/// Forms of other programs.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ExportFormat {
    /// The language model with its tokenizer and chat template, for llama.cpp and programs over it. Image
    /// encoder and connector are left out.
    Gguf,
}

/// How a number is stored.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum StoredAs {
    /// Four bytes.
    F32,
    /// Two bytes, IEEE.
    F16,
    /// Two bytes with the exponent of f32.
    Bf16,
    /// A byte, in blocks of 32 with a scale.
    #[value(name = "q8_0")]
    Q8_0,
}

impl StoredAs {
    fn tensor_type(self) -> TensorType {
        match self {
            Self::F32 => TensorType::F32,
            Self::F16 => TensorType::F16,
            Self::Bf16 => TensorType::BF16,
            Self::Q8_0 => TensorType::Q8_0,
        }
    }
}

/// Writes the file.
///
/// # Errors
/// A folder without a trained model; a model or tokenizer that the form has no words for; a file that is
/// there already or can't be written.
pub(crate) fn export(args: &ExportArgs) -> Result<()> {
    let ExportFormat::Gguf = args.format;
    input(check_out(args))?;
    let device = DeviceArgs::default();
    let found = RunModel::read(&args.run, args.stage.as_deref(), device)?;
    let tokenizer = input(stored(args, &found))?;
    let lengths = found.recipe.stage.iter().filter_map(|stage| Some(stage.training()?.length));
    let model = GgufLanguageModel {
        lm: &found.model.lm,
        config: &found.recipe.model.lm,
        tokenizer: &tokenizer,
        name: &found.recipe.name,
        context: args.context.or(lengths.max()).context("no stage of the run trains")?,
        matrices: args.numbers.tensor_type(),
    };
    input(on_pool(|| write_language_model(&args.out, &model)))?;
    let bytes = std::fs::metadata(&args.out)?.len();
    if args.json {
        print_json(&json!({
            "file": args.out, "bytes": bytes, "stage": found.stage.name(), "context": model.context,
            "left_out": ["vision", "connector"],
        }))?;
    } else {
        println!(
            "{}: the language model of stage {}, {bytes} bytes; image encoder and connector are left out",
            args.out.display(),
            found.stage.name()
        );
    }
    Ok(())
}

fn check_out(args: &ExportArgs) -> Result<()> {
    ensure!(!args.out.exists(), "--out {}: it is there already", args.out.display());
    Ok(())
}

/// The tokenizer as the file has it, with what ends an answer, and how conversations are written.
fn stored(args: &ExportArgs, found: &RunModel) -> Result<StoredTokenizer> {
    let tokenizer: &Tokenizer = &found.tokenizer;
    let json = text_file::read(&args.run.join("tokenizer.json"))?;
    let mut ids = BTreeMap::from([
        ("eos".to_owned(), tokenizer.turn_end()),
        ("eot".to_owned(), tokenizer.turn_end()),
        ("padding".to_owned(), tokenizer.id(Special::Pad)),
    ]);
    ids.extend(tokenizer.begin().map(|id| ("bos".to_owned(), id)));
    let mut stored = GgufTokenizer::of_json(&json, ids).context("tokenizer.json")?;
    stored.switches.insert("add_bos_token".to_owned(), tokenizer.begin().is_some());
    stored.chat_template = match tokenizer.chat_template() {
        Some(template) => Some(template.source().to_owned()),
        None => matches!(found.stage, Stage::Sft(_)).then(|| chat::TEMPLATE.to_owned()),
    };
    Ok(for_file(stored))
}

/// As a GGUF file is written.
fn for_file(tokenizer: GgufTokenizer) -> StoredTokenizer {
    let GgufTokenizer { model, pre, tokens, token_types, scores, .. } = tokenizer;
    let GgufTokenizer { merges, special_ids, switches, chat_template, .. } = tokenizer;
    let chat_templates = BTreeMap::new();
    StoredTokenizer {
        model,
        pre,
        tokens,
        token_types,
        scores,
        merges,
        special_ids,
        switches,
        chat_template,
        chat_templates,
    }
}
