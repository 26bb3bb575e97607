//! `mm1 plan --ranks N`: what a training on many devices would take, from sizes alone. No data is opened and
//! no weight is drawn, so that models of any size are planned at once.
//!
//! The ranks share the micro-batches of a step. Each holds all weights and gradients and its shard of the
//! moments (ZeRO stage 1, Rajbhandari et al. 2020). Gradients are exchanged after each micro-batch of
//! all ranks and weights after the step, as `mm1_train::exchange` does.

mod cost;
mod source;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use indicatif::{HumanBytes, HumanCount};
use mm1_model::Mm1;
use mm1_model::device::DeviceKind;
use mm1_model::group::ParameterCounts;
use serde::Serialize;

use self::cost::{StageBill, StageOnRanks};
use self::source::SourceSize;
use crate::error::{InputError, input};
use crate::estimate::duration;
use crate::network::{Exchange, Network};
use crate::recipe::check::check_stages;
use crate::recipe::{ObjectiveConfig, Recipe, Stage, TokenizerConfig, WrittenRecipe};

/// The machines of a training, `mm1 plan --ranks`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Many ranks")]
pub(crate) struct FleetArgs {
    /// Plan a training of N ranks, one device each, from sizes alone: memory of a rank, time, cost, data. No
    /// data is opened, no weights are made, nothing is measured.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub(crate) ranks: Option<u32>,
    /// Memory of a device, such as 80GB or 64GiB: the plan says whether a rank fits.
    #[arg(long, value_name = "SIZE", requires = "ranks", value_parser = bytes)]
    device_memory: Option<u64>,
    /// Price of a device for an hour, in any currency.
    #[arg(long, value_name = "PRICE", requires = "ranks", value_parser = positive)]
    price: Option<f64>,
    /// Seconds of forward and backward pass of one micro-batch on one device, as measured.
    #[arg(long, value_name = "SECONDS", requires = "ranks", conflicts_with = "tflops", value_parser = positive)]
    micro_batch_seconds: Option<f64>,
    /// Operations that a device does in training, in 10^12 a second: its peak times the utilisation that is
    /// reached. Instead of --micro-batch-seconds.
    #[arg(long, value_name = "TFLOPS", requires = "ranks", value_parser = positive)]
    tflops: Option<f64>,
    /// Measure latency and bandwidth between ranks, instead of --latency and --bandwidth: started by `mpirun`
    /// with two ranks or more, which need not be N.
    #[arg(long, requires = "ranks", conflicts_with_all = ["latency", "bandwidth"])]
    pub(crate) measure: bool,
    /// Latency of a message between ranks, in microseconds.
    #[arg(long, value_name = "MICROSECONDS", requires = "ranks", default_value_t = 10.0, value_parser = positive)]
    latency: f64,
    /// Bandwidth out of a rank, in GB (10^9 bytes) a second.
    #[arg(long, value_name = "GB/S", requires = "ranks", default_value_t = 25.0, value_parser = positive)]
    bandwidth: f64,
    /// Size of a source: NAME=DOCUMENTS:TOKENS:IMAGES, the number of its documents and how many text tokens
    /// and images one has on average, such as captioned=2e9:20:1. May be repeated. Sources without it count
    /// as full of images, the worst case.
    #[arg(long = "source", value_name = "SIZE", requires = "ranks")]
    sources: Vec<SourceSize>,
}

impl FleetArgs {
    /// As it is given.
    pub(crate) fn network(&self) -> Network {
        Network { latency: 1e-6 * self.latency, bandwidth: 1e9 * self.bandwidth }
    }
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "give a number above 0".to_owned())
}

/// `80GB`, `64GiB`, `500MB`: decimal or binary, as written.
fn bytes(text: &str) -> Result<u64, String> {
    let units = [
        ("GiB", 1_u64 << 30),
        ("MiB", 1 << 20),
        ("TB", 1_000_000_000_000),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
    ];
    let unit = units.into_iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, bytes)));
    let (number, unit) = unit.ok_or("write it with its unit, such as 80GB or 64GiB")?;
    Ok((positive(number.trim())? * unit as f64) as u64)
}

/// What a training takes.
#[derive(Debug, Serialize)]
pub(crate) struct FleetPlan {
    name: String,
    ranks: u32,
    parameters: ParameterCounts,
    image_tokens: usize,
    /// Bytes of a device.
    #[serde(skip_serializing_if = "Option::is_none")]
    device_memory: Option<u64>,
    network: Network,
    stages: BTreeMap<String, StageBill>,
    /// Stages that are not planned so.
    left_out: Vec<String>,
}

impl FleetPlan {
    /// Plans all stages of `written` that train a decoder.
    ///
    /// # Errors
    /// [`InputError`]: whatever is wrong with the recipe, micro-batches that can't be shared, the size of a
    /// source that there is not.
    pub(crate) fn of(written: WrittenRecipe, args: &FleetArgs, ranks: u32, network: Network) -> Result<Self> {
        let recipe = input(without_data(written.parse()?))?;
        for SourceSize { name, .. } in &args.sources {
            input(recipe.check_source("--source", name))?;
        }
        // Parameters are drawn when they are first used, and none is.
        let model = input(Mm1::new(&recipe.model, recipe.seed, &DeviceKind::Cpu.open()?))?;
        let parameters = ParameterCounts::of(&model);
        let (mut stages, mut left_out) = (BTreeMap::new(), Vec::new());
        for stage in &recipe.stage {
            match stage {
                Stage::Pretrain(training) | Stage::Sft(training)
                    if training.objective == ObjectiveConfig::Language && training.adapter.is_none() =>
                {
                    let of = StageOnRanks { recipe: &recipe, training, ranks, network, args };
                    let bill = input(of.bill().with_context(|| format!("stage.{}", training.name)))?;
                    stages.insert(training.name.clone(), bill);
                }
                _ => left_out.push(stage.name().to_owned()),
            }
        }
        if stages.is_empty() {
            let why = "--ranks plans stages that train the whole model by \"language\"; there is none";
            return Err(InputError::new(why).into());
        }
        let (name, image_tokens) = (recipe.name.clone(), recipe.model.image_tokens());
        let device_memory = args.device_memory;
        Ok(Self { name, ranks, parameters, image_tokens, device_memory, network, stages, left_out })
    }

    /// As a person reads it.
    pub(crate) fn summary(&self) -> String {
        let p = &self.parameters;
        let mut text = format!(
            "{} on {} ranks: {} parameters (vision {}, connector {}, lm {}, embedding {}),\n  {} image \
             tokens an image\n",
            self.name,
            HumanCount(u64::from(self.ranks)),
            HumanCount(p.total() as u64),
            HumanCount(p.vision as u64),
            HumanCount(p.connector as u64),
            HumanCount(p.lm as u64),
            HumanCount(p.embedding as u64),
            self.image_tokens
        );
        let Network { latency, bandwidth } = self.network;
        let _ = writeln!(
            text,
            "  network: {:.1} microseconds a message, {:.2} GB/s out of a rank",
            1e6 * latency,
            1e-9 * bandwidth
        );
        for (name, bill) in &self.stages {
            let _ = writeln!(text, "\n{name}");
            self.describe(bill, &mut text);
        }
        if !self.left_out.is_empty() {
            let _ = writeln!(text, "\nnot planned for ranks: {}", self.left_out.join(", "));
        }
        text
    }

    fn describe(&self, bill: &StageBill, text: &mut String) {
        let memory = &bill.memory;
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "  {name:<22} {value}");
        };
        line("memory of a rank", HumanBytes(memory.total).to_string());
        line("  weights", HumanBytes(memory.weights).to_string());
        line("  gradients", HumanBytes(memory.gradients).to_string());
        line("  shard of moments", HumanBytes(memory.moments).to_string());
        line(
            "  activations",
            format!("{} ({} images)", HumanBytes(memory.activations), bill.images_per_micro_batch),
        );
        if let (Some(there), Some(fits)) = (self.device_memory, bill.fits) {
            let said = if fits { "fits into" } else { "does NOT fit into" };
            line("", format!("{said} {} of a device", HumanBytes(there)));
        }
        let Exchange { bytes, seconds } = bill.exchange;
        line("exchange of a step", format!("{} out of a rank, {seconds:.3} s", HumanBytes(bytes)));
        line("work of a step", format!("{:.3e} operations", bill.operations));
        match &bill.time {
            Some(time) => {
                line(
                    "seconds of a step",
                    format!("{:.3} ({:.0}% computing)", time.step_seconds, 100.0 * time.efficiency),
                );
                line("tokens a day", format!("{:.3e}", time.tokens_per_day));
                line("time", format!("{} ({:.1} days)", duration(time.seconds), time.days));
                line("device hours", format!("{:.0}", time.device_hours));
                if let Some(cost) = time.cost {
                    line("cost", format!("{cost:.0}"));
                }
            }
            None => line("time", "unknown: give --micro-batch-seconds or --tflops".to_owned()),
        }
        line("checkpoints", HumanBytes(bill.checkpoint_bytes).to_string());
        for (name, need) in &bill.data {
            let epochs = need.epochs.map_or(String::new(), |epochs| format!(", {epochs:.2} epochs"));
            let documents = need.documents.map_or(String::new(), |n| format!(", {n:.3e} documents"));
            line(&format!("data of {name}"), format!("{:.3e} positions{documents}{epochs}", need.positions));
        }
    }
}

/// The recipe, checked as far as no data is needed.
fn without_data(mut recipe: Recipe) -> Result<Recipe> {
    check_stages(&recipe)?;
    let lm = &mut recipe.model.lm;
    if lm.vocab.is_none() {
        lm.vocab = match &recipe.tokenizer {
            TokenizerConfig::Bpe { vocab, .. } => Some(*vocab),
            TokenizerConfig::File { .. } => None,
        };
    }
    let origins = [recipe.model.vision.from.is_some(), recipe.model.lm.from.is_some()];
    ensure!(
        origins == [false; 2],
        "--ranks plans from sizes: write those of model.vision and model.lm in place of `from`"
    );
    ensure!(recipe.model.lm.vocab.is_some(), "model.lm.vocab: say it, since --ranks opens no tokenizer");
    recipe.model.check()?;
    recipe.image_spec().check()?;
    Ok(recipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        assert_eq!(bytes("80GB"), Ok(80_000_000_000));
        assert_eq!(bytes("64 GiB"), Ok(64 << 30));
        assert_eq!(bytes("1.5TB"), Ok(1_500_000_000_000));
        assert!(bytes("80").unwrap_err().contains("80GB"));
        assert!(bytes("-1GB").is_err() && bytes("NaNGB").is_err());
        assert!(positive("0").is_err() && positive("inf").is_err());
    }
}
