//! [`RunEstimate`]: how long the training of a plan takes on this machine and what it leaves on disk, before
//! it begins.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use indicatif::HumanBytes;
use mm1_model::compute::on_pool;
use mm1_train::moments::GRADIENT_BYTES;
use serde::Serialize;

use crate::machine::{self, ProcessorTime};
use crate::memory::MemoryEstimate;
use crate::plan::{Plan, Worker};
use crate::recaption_input;
use crate::recipe::{ObjectiveConfig, Stage, TrainStage};
use crate::stage::measure::{evaluation_seconds, step_seconds};
use crate::stage::recaption;

/// Floating-point operations of a step, for each thread, above which no step is done for an estimate. On two
/// threads of a server's processor of 2024 that is about half a minute.
const MOST_WORK: f64 = 1e12;

/// The share of the processors above which what others take makes a measured step longer than it need be.
const BUSY: f64 = 0.1;

/// What a plan's training takes. All figures are estimates.
#[derive(Debug, Serialize)]
pub(crate) struct RunEstimate {
    /// Seconds of a step of each training stage; `None` where none could be measured here. Empty where none
    /// was to be measured.
    step_seconds: BTreeMap<String, Option<f64>>,
    /// Seconds of each training stage, likewise.
    seconds: BTreeMap<String, Option<f64>>,
    /// Seconds of each stage that evaluates, at most; likewise. Stages of kind `probe` are not measured.
    evaluation_seconds: BTreeMap<String, Option<f64>>,
    /// Seconds of each stage that writes captions, at most; likewise.
    recaption_seconds: BTreeMap<String, Option<f64>>,
    /// The share of the processors, from 0 to 1, that other programs took meanwhile; `None` where it is not
    /// known, or nothing was measured.
    taken_by_others: Option<f64>,
    /// Bytes of the checkpoints that stay in the run folder, and of the one more while one is written.
    checkpoint_bytes: u64,
    /// Bytes of the captions that stages write, with their images, at most.
    caption_bytes: u64,
    /// The folder in which downloads are kept, and the most that they take in GiB; `None` without downloads.
    cache: Option<(String, f64)>,
}

impl RunEstimate {
    /// Measures one step of each training stage of `plan` whose `memory` is there and whose step is short
    /// enough, and the first questions of each evaluation.
    ///
    /// # Errors
    /// Data that can't be read; a loss that is not finite.
    pub(crate) fn measure(
        plan: &Plan,
        memory: &BTreeMap<String, MemoryEstimate>,
        worker: Worker,
    ) -> Result<Self> {
        let mut estimate = Self::unmeasured(plan);
        let before = ProcessorTime::now();
        for stage in &plan.recipe.stage {
            if let Stage::Eval(eval) = stage {
                let fits = answers_fit(plan, worker.threads);
                let seconds = if fits { Some(on_pool(|| evaluation_seconds(plan, eval))?) } else { None };
                estimate.evaluation_seconds.insert(eval.name.clone(), seconds);
            }
            if let Stage::Recaption(recaption) = stage {
                let fits = answers_fit(plan, worker.threads);
                let seconds =
                    if fits { Some(on_pool(|| recaption::seconds(plan, recaption))?) } else { None };
                estimate.recaption_seconds.insert(recaption.name.clone(), seconds);
            }
            let Some(training) = stage.training() else { continue };
            let name = &training.name;
            let step = if fits(plan, stage, memory[name].mib, worker.threads) {
                Some(step_seconds(plan, training, worker)?)
            } else {
                None
            };
            estimate.step_seconds.insert(name.clone(), step);
            estimate.seconds.insert(name.clone(), step.map(|step| step * training.steps as f64));
        }
        let times = before.zip(ProcessorTime::now());
        estimate.taken_by_others = times.map(|(before, after)| after.taken_by_others(before));
        Ok(estimate)
    }

    /// What needs no step to be done: the disk.
    pub(crate) fn unmeasured(plan: &Plan) -> Self {
        let (mut kept, mut largest) = (0, 0);
        for stage in &plan.recipe.stage {
            let Some(training) = stage.training() else { continue };
            let bytes = checkpoint_bytes(plan, stage, training);
            let count =
                training.steps.div_ceil(training.checkpoint.every).min(training.checkpoint.keep as u64);
            kept += count * bytes;
            largest = largest.max(bytes);
        }
        let captions = plan.recipe.stage.iter().filter_map(Stage::recaption);
        let caption_bytes = captions.map(|stage| recaption_input::bytes(&plan.sources, stage)).sum();
        let cache = reads_addresses(plan).then(|| {
            let store = &plan.recipe.store;
            (store.cache.display().to_string(), store.cache_gib)
        });
        let checkpoint_bytes = kept + largest;
        let (step_seconds, seconds, evaluation_seconds, recaption_seconds) = Default::default();
        Self {
            step_seconds,
            seconds,
            evaluation_seconds,
            recaption_seconds,
            taken_by_others: None,
            checkpoint_bytes,
            caption_bytes,
            cache,
        }
    }

    /// As a person reads it, up to ten lines; none where nothing is trained or evaluated.
    pub(crate) fn summary(&self) -> String {
        let mut text = self.time_summary();
        if self.checkpoint_bytes > 0 {
            let disk = HumanBytes(self.checkpoint_bytes);
            let _ = writeln!(text, "disk: about {disk} of checkpoints in the run folder");
            if self.caption_bytes > 0 {
                let disk = HumanBytes(self.caption_bytes);
                let _ = writeln!(text, "      and at most about {disk} of captions with their images");
            }
            if let Some((folder, gib)) = &self.cache {
                let _ = writeln!(text, "      downloads are kept in {folder}, at most {gib} GiB");
            }
        }
        text
    }

    fn time_summary(&self) -> String {
        if self.seconds.is_empty() {
            return String::new();
        }
        let total: Option<f64> = self.seconds.values().copied().sum();
        let each = each(&self.seconds);
        let training = match total {
            Some(total) => format!(
                "time: about {} of training here ({each}),\n      by one measured step of each stage\n",
                duration(total)
            ),
            None => {
                format!(
                    "time: not measured where a step takes too much memory or time here\n      ({each})\n"
                )
            }
        };
        training + &self.recaption_summary() + &self.evaluation_summary() + &self.busy_warning()
    }

    fn recaption_summary(&self) -> String {
        if self.recaption_seconds.is_empty() {
            return String::new();
        }
        match self.recaption_seconds.values().copied().sum::<Option<f64>>() {
            Some(total) => format!(
                "time: at most about {} of captions written anew ({}),\n      by the first ones, with \
                 random weights, whose captions seldom end early\n",
                duration(total),
                each(&self.recaption_seconds)
            ),
            None => "time: writing captions is not measured, since it takes too much memory or time here\n"
                .to_owned(),
        }
    }

    fn evaluation_summary(&self) -> String {
        if self.evaluation_seconds.is_empty() {
            return String::new();
        }
        let each = each(&self.evaluation_seconds);
        match self.evaluation_seconds.values().copied().sum::<Option<f64>>() {
            Some(total) => format!(
                "time: at most about {} of evaluation ({each}),\n      \
                 by the first questions, with random weights, whose answers seldom end early\n",
                duration(total)
            ),
            None => {
                "time: evaluation is not measured, since it takes too much memory or time here\n".to_owned()
            }
        }
    }

    /// What makes the time longer than it is on a machine without other work; nothing, where little does.
    fn busy_warning(&self) -> String {
        match self.taken_by_others {
            Some(share) if share > BUSY => format!(
                "      warning: other programs took {:.0}% of the processors meanwhile; without them it \
                 takes less\n",
                100.0 * share
            ),
            _ => String::new(),
        }
    }
}

/// Each stage with its time.
fn each(seconds: &BTreeMap<String, Option<f64>>) -> String {
    let of = |(name, seconds): (&String, &Option<f64>)| match seconds {
        Some(seconds) => format!("{name} {}", duration(*seconds)),
        None => format!("{name} unknown"),
    };
    seconds.iter().map(of).collect::<Vec<_>>().join(", ")
}

/// Whether a few questions can be answered here in reasonable time.
fn answers_fit(plan: &Plan, threads: usize) -> bool {
    let parameters = plan.derived.parameters.total() as f64;
    let room = machine::available_mib().is_none_or(|available| {
        // Weights alone, in f32, and as much again for what is computed.
        2.0 * 4.0 * parameters < available as f64 * f64::from(1 << 20)
    });
    // Two operations for each parameter and position of a prompt of a thousand positions.
    room && 2.0 * parameters * 1000.0 < MOST_WORK * threads as f64
}

/// Whether a step of the stage can be done here in reasonable time.
fn fits(plan: &Plan, stage: &Stage, mib: u64, threads: usize) -> bool {
    let parameters = &plan.derived.parameters;
    let trained = match (stage, stage.training().map(|training| &training.objective)) {
        (Stage::Encoder(_), _) => parameters.vision,
        (_, Some(ObjectiveConfig::Align)) => parameters.vision + parameters.connector,
        _ => parameters.total(),
    };
    let positions = plan.derived.positions_per_step[stage.name()] as f64;
    // Kaplan et al. 2020: 6 operations for each parameter and position, forward and backward.
    let work = 6.0 * trained as f64 * positions;
    let room = machine::available_mib().is_none_or(|available| mib < available);
    room && work < MOST_WORK * threads as f64
}

/// Bytes of one checkpoint: weights and moments.
fn checkpoint_bytes(plan: &Plan, stage: &Stage, training: &TrainStage) -> u64 {
    let parameters = &plan.derived.parameters;
    let trained = match (stage, &training.objective) {
        // Their text tower has the decoder's sizes.
        (_, ObjectiveConfig::Clip { .. } | ObjectiveConfig::Siglip { .. }) => parameters.total(),
        (Stage::Encoder(_), _) => parameters.vision,
        _ => {
            let of = plan.derived.parameters_of(stage, training);
            let bytes = of.state_bytes(training.optimizer.moments);
            return bytes - GRADIENT_BYTES * of.trained as u64;
        }
    };
    training.optimizer.moments.state_bytes(trained) - GRADIENT_BYTES * trained as u64
}

/// Whether a source is read from an address.
fn reads_addresses(plan: &Plan) -> bool {
    serde_json::to_string(&plan.recipe.data).is_ok_and(|data| data.contains("://"))
}

/// `40 s`, `3 min`, `2 h 5 min`: no finer than such an estimate is.
pub(crate) fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as u64;
    match (minutes / 60, minutes % 60) {
        _ if seconds < 99.5 => format!("{:.0} s", seconds.max(1.0)),
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}
