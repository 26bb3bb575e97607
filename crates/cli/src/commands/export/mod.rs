//! `mm1 export`: a model of ours in the form of other programs.

mod card;
mod gguf;
mod hugging_face;
mod proof;

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};

use crate::arguments::{DeviceArgs, ThreadsArgs};
use crate::error::input;
use crate::new_folder;
use crate::recipe::Stage;
use crate::trained::RunModel;

/// The folder of adapters that are kept beside the weights.
const ADAPTER: &str = "adapter";

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Run folder of the model.
    run: PathBuf,
    /// The form.
    #[arg(long)]
    format: ExportFormat,
    /// File, or with `--format hf` folder, that is written. One that is there is not replaced.
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// The model as this stage of the run has left it. Default: the last that has a checkpoint.
    #[arg(long)]
    stage: Option<String>,
    /// How matrices are stored; vectors of GGUF are f32. Default: f32, and in GGUF f16.
    #[arg(long = "type", value_name = "TYPE")]
    numbers: Option<StoredAs>,
    /// The longest text that readers should give the model. Default: the longest row of its training.
    #[arg(long, value_name = "TOKENS")]
    context: Option<usize>,
    /// Where the adapters (LoRA) of the stage go; in GGUF they are always in the weights.
    #[arg(long, value_name = "WHERE", default_value = "merged")]
    adapters: AdapterPlace,
    #[command(flatten)]
    threads: ThreadsArgs,
    /// Print one JSON document as the last line of standard output.
    #[arg(long)]
    json: bool,
}

/// Forms of other programs.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ExportFormat {
    /// A folder for transformers: weights in safetensors, tokenizer, processor, and a model card. A run whose
    /// recipe has `export = "idefics3"` or `"llava"` becomes an Idefics3 or a LLaVA, which needs no code; any
    /// other has a modelling file beside it, for `trust_remote_code=True`.
    Hf,
    /// The language model with its tokenizer and chat template, for llama.cpp and programs over it. Of a run
    /// whose recipe has `export = "idefics3"` or `"llava"`, image encoder and connector are written beside
    /// it, as mmproj-FILE, where llama.cpp computes the same; else they are left out, and it says why.
    Gguf,
}

/// Where adapters go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AdapterPlace {
    /// Into the weights.
    Merged,
    /// Into the folder `adapter` of the export, in the format of peft. The weights beside it are those
    /// without.
    Beside,
}

/// How a number is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StoredAs {
    /// Four bytes.
    F32,
    /// Two bytes, IEEE.
    F16,
    /// Two bytes with the exponent of f32.
    Bf16,
    /// A byte, in blocks of 32 with a scale; in GGUF alone.
    #[value(name = "q8_0")]
    Q8_0,
}

/// Writes the files.
///
/// # Errors
/// A folder without a trained model; a model or tokenizer that the form has no words for; a file that is
/// there already or can't be written; files that say something else than the model.
pub(crate) fn export(args: &ExportArgs) -> Result<()> {
    args.threads.start_pool()?;
    input(check_out(args))?;
    let found = RunModel::read(&args.run, args.stage.as_deref(), DeviceArgs::cpu())?;
    if args.adapters == AdapterPlace::Beside {
        input(check_beside(args, &found.stage))?;
    }
    let lengths = found.recipe.stage.iter().filter_map(|stage| Some(stage.training()?.length));
    let context = args.context.or(lengths.max()).context("no stage of the run trains")?;
    match args.format {
        ExportFormat::Hf => hugging_face::export(args, &found, context),
        ExportFormat::Gguf => gguf::export(args, &found, context),
    }
}

/// Refuses what has no adapters to be kept beside.
fn check_beside(args: &ExportArgs, stage: &Stage) -> Result<()> {
    ensure!(
        matches!(args.format, ExportFormat::Hf),
        "--adapters beside: a GGUF file has adapters in its weights: leave it out, or take --format hf"
    );
    ensure!(
        stage.training().is_some_and(|stage| stage.adapter.is_some()),
        "--adapters beside: stage {} has no adapters: leave it out",
        stage.name()
    );
    Ok(())
}

fn check_out(args: &ExportArgs) -> Result<()> {
    new_folder::check(&args.out)?;
    ensure!(args.context != Some(0), "--context 0: give at least 1 token");
    Ok(())
}
