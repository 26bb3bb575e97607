//! Memory: what a training stage will take, and what it took.

use std::collections::BTreeMap;

use anyhow::Result;
use mm1_data::loader::LoaderMemory;
use mm1_data::loader::{Cursor, Loader, LoaderConfig};
use mm1_model::memory::Load;
use mm1_train::moments::GRADIENT_BYTES;
use serde::Serialize;

use crate::error::{InputError, input};
use crate::plan::{Plan, Worker};
use crate::recipe::{ObjectiveConfig, Stage, TrainStage};
use crate::stage_parameters::trained_parts;

/// Batches whose images are counted.
const LOOKED_AT: usize = 16;

/// What the program, its threads with their heaps, the allocator and the kernels hold beside what is counted,
/// in MiB. What this process holds now is not asked for: it differs by some MiB from run to run, and a plan
/// says the same each time.
const BESIDE_MIB: u64 = 62;

/// Bytes that a tokenizer holds for each of its tokens, with its merges.
const TOKENIZER_BYTES: usize = 600;

/// What a training stage will need, from its sizes and its first batches.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct MemoryEstimate {
    /// Images of a step, about.
    pub(crate) images: usize,
    /// Views of a step, about: as many as images, where none is tiled.
    pub(crate) views: usize,
    /// Memory at the peak in MiB.
    pub(crate) mib: u64,
    /// The loader's part of it.
    pub(crate) loader_mib: u64,
    /// The same in bytes, part by part.
    pub(crate) loader: LoaderMemory,
}

impl Plan {
    /// What each training stage will need in `worker`, by its name.
    ///
    /// # Errors
    /// If the first batches of a stage can't be read.
    pub(crate) fn memory(&self, worker: Worker) -> Result<BTreeMap<String, MemoryEstimate>> {
        let mut estimates = BTreeMap::new();
        for stage in &self.recipe.stage {
            if let Some(training) = stage.training() {
                let load = StageLoad { stage, training, config: self.loader(training, worker)? };
                estimates.insert(training.name.clone(), load.estimate(self)?);
            }
        }
        Ok(estimates)
    }
}

/// A training stage before it begins.
struct StageLoad<'a> {
    stage: &'a Stage,
    /// Its settings.
    training: &'a TrainStage,
    config: LoaderConfig,
}

impl StageLoad<'_> {
    /// What the stage will need.
    ///
    /// # Errors
    /// If its data can't be read.
    fn estimate(&self, plan: &Plan) -> Result<MemoryEstimate> {
        let Self { stage, training, config } = self;
        let counts = first_counts(config)?;
        let load = Load {
            positions: training.rows * training.length,
            images: counts.iter().map(|count| count.views).max().unwrap_or(0),
            recompute: training.activation_checkpointing,
            precision: plan.recipe.precision,
        };
        let model = &plan.recipe.as_of(&training.name).model;
        let parameters = plan.derived.parameters_of(stage, training);
        let activations = match stage {
            Stage::Encoder(_) => model.encoder_bytes(load),
            _ if training.objective == ObjectiveConfig::Align => {
                model.alignment_bytes(load, trained_parts(training))
            }
            _ => model.activation_bytes(load, trained_parts(training)),
        };
        let loader = config.memory(load.images);
        // The batches of a step are handed over together; its images on the device are among the activations.
        let batches = training.accumulate as u64 * config.batch_bytes(load.images);
        let gradients = parameters.trained as u64 * GRADIENT_BYTES;
        let state = parameters.state_bytes(training.optimizer.moments) - gradients;
        let accumulates = training.accumulate > 1;
        let step = if accumulates { gradients + activations } else { gradients.max(activations) };
        // A checkpoint is written from a copy of weights and moments, where the step has left its memory.
        let tokenizer = (plan.tokenizer.vocab() * TOKENIZER_BYTES) as u64;
        let bytes = state + step.max(state) + batches + loader.total() + tokenizer;
        let of_step = |of: fn(&PictureCounts) -> usize| {
            counts.iter().map(of).sum::<usize>() * training.accumulate / LOOKED_AT
        };
        Ok(MemoryEstimate {
            images: of_step(|count| count.pictures),
            views: of_step(|count| count.views),
            mib: bytes.div_ceil(1 << 20) + BESIDE_MIB,
            loader_mib: loader.total().div_ceil(1 << 20),
            loader,
        })
    }
}

/// Images of a batch.
struct PictureCounts {
    /// As documents have them.
    pictures: usize,
    /// As the encoder is given them.
    views: usize,
}

/// The numbers of images in the first batches.
fn first_counts(config: &LoaderConfig) -> Result<Vec<PictureCounts>> {
    let mut loader = Loader::start(LoaderConfig { threads: 1, ..config.clone() }, Cursor::default())?;
    let mut count = || {
        let (batch, _) = input(loader.next())?;
        Ok(PictureCounts { pictures: batch.pictures(), views: batch.images() })
    };
    (0..LOOKED_AT).map(|_| count()).collect()
}

/// Refuses a run of which a stage can't fit, before the system ends it in the middle.
///
/// # Errors
/// [`InputError`] with the stage, what it needs, and what the machine has, swap included. Where the system
/// does not say what it has, all is let through.
pub(crate) fn check_room(stages: &BTreeMap<String, MemoryEstimate>) -> Result<()> {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = |field: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(field))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    let Some(there) = kib("MemTotal:").map(|total| (total + kib("SwapTotal:").unwrap_or(0)) / 1024) else {
        return Ok(());
    };
    match stages.iter().find(|(_, estimate)| estimate.mib > there) {
        Some((stage, estimate)) => Err(InputError::new(format!(
            "stage.{stage} needs about {} MiB of memory, this machine has {there}: take fewer rows, a \
             shorter length or a smaller model, or activation_checkpointing = true",
            estimate.mib
        ))
        .into()),
        None => Ok(()),
    }
}

/// The most memory in MiB that this process has held since the last [`forget_peak`], where the system says.
pub(crate) fn peak_mib() -> Option<u64> {
    of_process("VmHWM:")
}

/// A peak as the end of a sentence says it.
pub(crate) fn and_peak(peak: Option<u64>) -> String {
    peak.map_or(String::new(), |mib| format!(" with at most {mib} MiB of memory"))
}

/// Resets the peak, where the system can.
pub(crate) fn forget_peak() {
    // Linux: "5" resets the high-water mark. Elsewhere there is no such file, and `peak_mib` says nothing.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn of_process(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix(field))?;
    kib.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib.div_ceil(1024))
}
