//! `mm1 run`: all stages of a recipe, in order, each continued where it stopped.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Args;
use mm1_eval::result::TaskScore;
use mm1_kernels::allocator::give_back_now;
use mm1_model::compute::on_pool;
use serde_json::json;

use crate::arguments::{ChangedDataArgs, DeviceArgs, RecipeArgs, ThreadsArgs};
use crate::context::Context;
use crate::continuation::ChangedData;
use crate::evaluation;
use crate::interrupt::stop_flag;
use crate::memory;
use crate::output::{print_json, tell};
use crate::plan::{Plan, Worker};
use crate::progress::clock;
use crate::recipe::{Stage, WrittenRecipe};
use crate::run_folder::RunFolder;
use crate::run_report::RunReport;
use crate::stage;

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Run folder: plan, metrics, checkpoints, scores and report. It is made, or continued.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    threads: ThreadsArgs,
    #[command(flatten)]
    changed_data: ChangedDataArgs,
    /// Print one JSON document as the last line of standard output.
    #[arg(long)]
    json: bool,
}

/// What a run has left.
pub(crate) struct FinishedRun {
    /// The page for people.
    pub(crate) report: PathBuf,
    /// The scores of all stages.
    pub(crate) scores: Vec<TaskScore>,
    /// The most memory of a stage in MiB, where the system says.
    pub(crate) peak_mib: Option<u64>,
}

/// Runs the recipe in the run folder.
///
/// # Errors
/// Wrong input, an interrupt, or a failure; what was done stays and is continued by the same command.
pub(crate) fn run(args: &RunArgs) -> Result<()> {
    let started = Instant::now();
    let recipe = args.device.put(args.recipe.read()?);
    let worker = Worker::alone(args.threads.start_pool()?);
    let FinishedRun { report, scores, peak_mib } =
        stages(recipe, &args.out, worker, &stop_flag()?, args.changed_data.choice())?;
    let seconds = started.elapsed().as_secs_f64();
    tell(format_args!("done in {}{}; open {}", clock(seconds), memory::and_peak(peak_mib), report.display()));
    if args.json {
        let done = json!({
            "run": args.out, "report": report, "seconds": seconds, "peak_mib": peak_mib, "eval": scores,
        });
        print_json(&done)?;
    }
    Ok(())
}

/// Does all stages of a recipe in the folder `out`; those that are done there are not done again.
///
/// # Errors
/// As [`run`].
pub(crate) fn stages(
    recipe: WrittenRecipe,
    out: &Path,
    worker: Worker,
    stop: &Arc<AtomicBool>,
    changed_data: ChangedData,
) -> Result<FinishedRun> {
    let folder = RunFolder::open(out)?;
    let plan = Plan::resolve(recipe, Some(&folder))?;
    plan.settle(&folder, changed_data)?;
    let memory = plan.memory(worker)?;
    eprint!("{}", plan.summary(&memory));
    memory::check_room(&memory)?;
    let report = RunReport::begin(&folder, worker.threads)?;
    let context = Context { plan, folder, report, worker, stop: stop.clone() };
    let done = in_order(&context);
    let report = context.report.end(&context.folder, done.as_ref().err());
    if let (Err(_), Ok(report)) = (&done, &report) {
        tell(format_args!("what there is so far: open {}", report.display()));
    }
    done?;
    let (scores, peak_mib) = (evaluation::scores(&context.folder)?, context.report.peak_mib());
    Ok(FinishedRun { report: report?, scores, peak_mib })
}

/// All stages, one after the other.
fn in_order(context: &Context) -> Result<()> {
    for stage in &context.plan.recipe.stage {
        give_back_now();
        memory::forget_peak();
        let run = || match stage {
            Stage::Encoder(s) | Stage::Pretrain(s) | Stage::Sft(s) => stage::train::run(context, s),
            Stage::Probe(s) => stage::probe::run(context, s),
            Stage::Eval(s) => stage::evaluate::run(context, s),
        };
        on_pool(run).with_context(|| format!("stage {}", stage.name()))?;
        context.report.update(&context.folder)?;
    }
    Ok(())
}
