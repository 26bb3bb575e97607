//! `mm1 import`: a model of others in the form that recipes and transformers read.

mod files;
mod parts;
mod report;

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use clap::{Args, ValueEnum};
use mm1_model::export::FloatType;
use mm1_model::import::OriginKind;

use crate::arguments::ThreadsArgs;
use crate::error::input;
use crate::new_folder;

#[derive(Debug, Args)]
pub(crate) struct ImportModelArgs {
    /// The model: a folder of Hugging Face with a language model, an image encoder or a whole Idefics3 or
    /// SmolVLM; a .gguf file; an .onnx file of a DINOv2.
    source: PathBuf,
    /// Folder that is written. One that is there is not replaced.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Of a whole model this part alone.
    #[arg(long)]
    part: Option<WantedPart>,
    /// How numbers are stored. Default: the smallest type that loses nothing. Blocks of GGUF become the
    /// numbers that they stand for.
    #[arg(long = "type", value_name = "TYPE")]
    numbers: Option<StoredFloat>,
    #[command(flatten)]
    threads: ThreadsArgs,
    /// Print one JSON document as the last line of standard output.
    #[arg(long)]
    json: bool,
}

/// A part that can be taken out of a whole model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WantedPart {
    /// The language model.
    Lm,
    /// The image encoder.
    Vision,
}

/// How a number is stored in safetensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StoredFloat {
    /// Four bytes.
    F32,
    /// Two bytes, IEEE.
    F16,
    /// Two bytes with the exponent of f32.
    Bf16,
}

impl StoredFloat {
    fn of_file(self) -> FloatType {
        match self {
            Self::F32 => FloatType::F32,
            Self::F16 => FloatType::F16,
            Self::Bf16 => FloatType::BF16,
        }
    }
}

/// Reads the model, writes the folder, reads that again and compares. Only then it gets its name.
///
/// # Errors
/// What can't be imported; a part that is not there; a value that the type can't hold; a folder that is there
/// already or can't be written; files that say something else than the model.
pub(crate) fn import(args: &ImportModelArgs) -> Result<()> {
    args.threads.start_pool()?;
    input(new_folder::check(&args.out))?;
    let kind = input(wanted(args))?;
    let numbers = args.numbers.map(StoredFloat::of_file);
    let found = new_folder::write(&args.out, |folder| match kind {
        OriginKind::Decoder => parts::decoder(&args.source, folder, numbers),
        OriginKind::Encoder => parts::encoder(&args.source, folder, numbers),
        OriginKind::Whole => parts::whole(&args.source, folder, numbers),
    })?;
    report::tell(args, &found)
}

/// What of the source is imported.
fn wanted(args: &ImportModelArgs) -> Result<OriginKind> {
    let source = args.source.display();
    ensure!(
        !args.source.join("plan.toml").exists(),
        "{source}: a run folder, not a model of others: recipes take its encoder by [model.vision] from, and \
         `mm1 export` writes its model for other programs"
    );
    let kind = OriginKind::of(&args.source)?;
    match (kind, args.part) {
        (kind, None) => Ok(kind),
        (OriginKind::Whole | OriginKind::Decoder, Some(WantedPart::Lm)) => Ok(OriginKind::Decoder),
        (OriginKind::Whole | OriginKind::Encoder, Some(WantedPart::Vision)) => Ok(OriginKind::Encoder),
        (OriginKind::Encoder, Some(WantedPart::Lm)) => {
            bail!("--part lm: {source} is an image encoder, which has no language model")
        }
        (OriginKind::Decoder, Some(WantedPart::Vision)) => {
            bail!("--part vision: {source} is a language model, which has no image encoder")
        }
    }
}
