//! `mm1 verify`: a model beside what another program makes of the same token ids and pictures.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use burn::tensor::Device;
use clap::Args;
use mm1_data::document::Special;
use mm1_model::Compute;
use mm1_model::compute::on_pool;
use mm1_model::device::DeviceName;
use mm1_model::import::{self, exported, lm};
use mm1_model::init::Init;
use mm1_model::lm::Lm;
use mm1_model::verify::{Agreement, Golden};
use serde_json::json;

use crate::arguments::{DeviceArgs, ThreadsArgs};
use crate::error::input;
use crate::output::print_json;
use crate::recipe::Recipe;
use crate::stage::model;
use crate::trained::RunModel;

#[derive(Debug, Args)]
pub(crate) struct VerifyModelArgs {
    /// A Hugging Face folder or a GGUF file of Llama, Mistral, Qwen2 or Qwen3, a folder of `mm1 export`, or a
    /// run folder.
    model: PathBuf,
    /// Safetensors file: input_ids [b, t], and logits [b, t, v] or hidden [b, t, d] (behind the last norm);
    /// attention_mask [b, t] where there is padding; pixel_values [n, 3, s, s] for a model with its encoder.
    #[arg(long, value_name = "FILE")]
    golden: PathBuf,
    /// The largest difference that passes, relative to the largest value of its position.
    #[arg(long, value_name = "D", default_value_t = 1e-4)]
    tolerance: f32,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    threads: ThreadsArgs,
    /// Print one JSON document as the last line.
    #[arg(long)]
    json: bool,
}

/// Compares the model with the golden file, in f32, and prints how far they are apart.
///
/// # Errors
/// A model or a file that can't be read or compared; a difference above the tolerance.
pub(crate) fn verify(args: &VerifyModelArgs) -> Result<()> {
    args.threads.start_pool()?;
    let compute = Compute::new(input(args.device.or(DeviceName::default()).open())?);
    let golden = input(Golden::open(&args.golden))?;
    let compare = || match golden.has_pictures() {
        true => compare_seen(args, &golden, &compute),
        false => golden.compare(&compute, &read(&args.model, compute.device())?),
    };
    let found = input(on_pool(compare))?;
    let Agreement { positions, max_absolute, max_relative, top1 } = found;
    let passed = max_relative <= args.tolerance;
    if args.json {
        let mut document = serde_json::to_value(found)?;
        document["tolerance"] = json!(args.tolerance);
        document["passed"] = json!(passed);
        print_json(&document)?;
    } else {
        println!("positions           {positions}");
        println!(
            "largest difference  {max_absolute:.2e}, {max_relative:.2e} of the position's largest value"
        );
        if let Some(share) = top1 {
            println!("same top token      {:.2}%", 100.0 * share);
        }
    }
    ensure!(
        passed,
        "{} differs from {} by {max_relative:.2e}, more than --tolerance {:e}",
        args.model.display(),
        args.golden.display(),
        args.tolerance
    );
    Ok(())
}

/// Compares a whole model with a file that has pictures.
fn compare_seen(args: &VerifyModelArgs, golden: &Golden, compute: &Compute) -> Result<Agreement> {
    let path = &args.model;
    if path.join("plan.toml").exists() {
        let RunModel { model, tokenizer, .. } = RunModel::read(path, None, args.device)?;
        return golden.compare_seen(compute, &model, tokenizer.id(Special::Image));
    }
    let whole = exported::open(path)?.with_context(|| {
        format!(
            "{}: it has no image encoder, but --golden has pixel_values: give a run folder, or one of `mm1 \
             export --format hf`",
            path.display()
        )
    })?;
    golden.compare_seen(compute, &import::model(&whole, compute.device())?, whole.ids()?.image)
}

/// The language model at `path`.
fn read(path: &Path, device: &Device) -> Result<Lm> {
    if path.join("plan.toml").exists() {
        let recipe = Recipe::of_run(path)?;
        let line = recipe.stage.last().map_or_else(Vec::new, |last| recipe.line(last.name()));
        return Ok(model::after(&line, &recipe, path, device)?.lm);
    }
    let imported = lm::open(path)?;
    let config = imported.config.clone();
    imported.fit(Lm::new(&Init::new(0, device), &config), &config)
}
