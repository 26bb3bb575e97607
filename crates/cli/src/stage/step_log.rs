//! [`StepLog`]: where the steps of a stage are written and shown, once their figures were read.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use indicatif::HumanCount;
use mm1_data::loader::SkippedSample;
use mm1_lab::balance::RankTime;
use mm1_model::device::DeviceKind;
use mm1_train::StepReport;
use serde::Serialize;

use crate::context::Context;
use crate::progress::Progress;
use crate::ranks::{Balance, Spent};
use crate::recipe::TrainStage;
use crate::run_folder::{MetricsLog, RunFolder};

/// Steps that are read together at most.
const TOGETHER: f64 = 10.0;

/// Seconds of work after which they are read in any case, so that a run says where it is.
const SECONDS_TOGETHER: f64 = 1.0;

/// The steps of a stage, written by the first rank. Reading their figures waits for the device: on a GPU it
/// is done for several steps together, so that the next one is there before the last one ends.
pub(super) struct StepLog<'a> {
    stage: &'a str,
    written: Option<(MetricsLog, Progress)>,
    balance: Balance,
    device: DeviceKind,
    unread: Vec<UnreadStep>,
    /// When the first of them began.
    begun: Instant,
    /// How many are read together.
    together: usize,
}

/// A step whose figures may still be on a device.
pub(super) struct UnreadStep {
    pub(super) step: u64,
    pub(super) lr: f64,
    /// Waiting for data.
    pub(super) data_seconds: f64,
    /// In exchanges with other ranks.
    pub(super) exchanged: Option<Spent>,
    /// Damaged samples met on the way to this step.
    pub(super) skipped: Vec<SkippedSample>,
}

impl<'a> StepLog<'a> {
    /// After `done` steps. The next one is read alone.
    pub(super) fn begin(context: &Context, stage: &'a TrainStage, done: u64) -> Result<Self> {
        let name = stage.name.as_str();
        let balance = Balance::new(context.ranks.hosts()?);
        let written = if context.ranks.is_first() {
            Some((context.folder.metrics_after(name, done)?, Progress::new(name, done, stage.steps)))
        } else {
            None
        };
        let device = context.plan.recipe.device.kind();
        let (unread, begun) = (Vec::new(), Instant::now());
        Ok(Self { stage: name, written, balance, device, unread, begun, together: 1 })
    }

    /// What was done since the last step is no part of the next one.
    pub(super) fn go_on(&mut self) {
        self.begun = Instant::now();
    }

    /// Adds a step, in which the ranks spent their time so.
    pub(super) fn push(&mut self, step: UnreadStep, times: &[RankTime]) {
        self.balance.add(times);
        self.unread.push(step);
    }

    /// Whether the reports of the steps are to be read.
    pub(super) fn is_due(&self) -> bool {
        self.unread.len() >= self.together
    }

    /// Writes all steps, now that their `reports` were read. Each took as long as another.
    pub(super) fn write(&mut self, reports: Vec<StepReport>) -> Result<()> {
        let (seconds, time) = (self.begun.elapsed().as_secs_f64() / self.unread.len().max(1) as f64, now());
        self.go_on();
        if self.device != DeviceKind::Cpu {
            self.together = (SECONDS_TOGETHER / seconds).clamp(1.0, TOGETHER) as usize;
        }
        for (unread, report) in self.unread.drain(..).zip(reports) {
            let UnreadStep { step, lr, data_seconds, exchanged, skipped } = unread;
            let stage = self.stage;
            let line = StepMetrics {
                step,
                stage,
                report,
                lr,
                seconds,
                data_seconds,
                exchange_seconds: exchanged.map(|spent| spent.all.as_secs_f64()),
                waiting_seconds: exchanged.map(|spent| spent.waiting.as_secs_f64()),
                time,
                skipped,
            };
            if let Some((metrics, progress)) = &mut self.written {
                metrics.push(&line)?;
                progress.update(step, &line.figures());
            }
        }
        Ok(())
    }

    /// What was written is on disk from here on.
    pub(super) fn flush(&self) -> Result<()> {
        self.written.as_ref().map_or(Ok(()), |(metrics, _)| metrics.flush())
    }

    /// Keeps in `folder` how the ranks spend their time.
    pub(super) fn keep_balance(&mut self, folder: &RunFolder) -> Result<()> {
        self.balance.keep(folder, self.stage)
    }

    /// Shows `message` in the place of the progress, and how the ranks have spent their time.
    pub(super) fn finish(self, message: &str) {
        if let Some((_, progress)) = self.written {
            progress.finish(&format!("{message}{}", self.balance.summary()));
        }
    }
}

/// One line of `metrics.jsonl`.
#[derive(Serialize)]
struct StepMetrics<'a> {
    step: u64,
    stage: &'a str,
    #[serde(flatten)]
    report: StepReport,
    lr: f64,
    /// Of the whole step, waiting for data included; of steps that were read together, the mean.
    seconds: f64,
    data_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    exchange_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_seconds: Option<f64>,
    /// When the step was read, in seconds since 1970, to the millisecond.
    time: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    skipped: Vec<SkippedSample>,
}

impl StepMetrics<'_> {
    fn figures(&self) -> String {
        let per_second = |n: usize| HumanCount((n as f64 / self.seconds) as u64);
        format!(
            "loss {:.3}  lr {:.1e}  {} tokens/s  {} images/s",
            self.report.loss,
            self.lr,
            per_second(self.report.tokens),
            per_second(self.report.images)
        )
    }
}

/// Seconds since 1970, to the millisecond.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as f64 / 1000.0
}
