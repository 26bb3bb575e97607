//! [`ModelArgs`]: which model answers.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::arguments::{DeviceArgs, Weights};
use crate::output::tell;
use crate::served_towers::ServedTowers;
use crate::trained::Trained;

/// A model that answers.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// Run folder of the model.
    #[arg(long, value_name = "DIR", required_unless_present = "model")]
    run: Option<PathBuf>,
    /// Instead of a run a model of others with a chat template: a language model in a Hugging Face folder or
    /// a GGUF file, which sees no pictures, or a folder of `mm1 export --format hf`.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["run", "stage"])]
    model: Option<PathBuf>,
    /// The model as this stage of the run has left it. Default: the last that has a checkpoint.
    #[arg(long)]
    stage: Option<String>,
    /// Side of the images in pixels, whole patches. Default: that of the training.
    #[arg(long, value_name = "PIXELS")]
    image_size: Option<usize>,
    /// How the language model's weights are kept: in the precision of the run, or in 8 bits, which is faster
    /// and less exact.
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    weights: Weights,
    #[command(flatten)]
    device: DeviceArgs,
}

impl ModelArgs {
    /// Reads the model; that it was not tuned is said on standard error.
    ///
    /// # Errors
    /// As [`Trained::of_stage`] and [`Trained::of_origin`].
    pub(crate) fn load(&self) -> Result<Trained> {
        let model = match (&self.model, &self.run) {
            (Some(origin), _) => Trained::of_origin(origin, self.device, self.image_size, self.weights)?,
            (None, run) => {
                let run = run.as_deref().context("--run or --model is needed")?;
                Trained::of_stage(run, self.stage.as_deref(), self.device, self.image_size, self.weights)?
            }
        };
        if !model.tuned {
            tell(format_args!("mm1: warning: not tuned yet; this is the model of stage {}", model.stage));
        }
        Ok(model)
    }

    /// The towers of the run, and the stage that they are of; `None` of a run or a model without.
    ///
    /// # Errors
    /// As [`ServedTowers::of_run`].
    pub(crate) fn towers(&self) -> Result<Option<(ServedTowers, String)>> {
        self.run.as_deref().map_or(Ok(None), |run| ServedTowers::of_run(run, self.device))
    }

    /// The name of the folder or file.
    pub(crate) fn name(&self) -> Option<String> {
        let path = self.model.as_ref().or(self.run.as_ref())?;
        Some(path.canonicalize().ok()?.file_name()?.display().to_string())
    }
}
