//! `mm1 run`: all stages of a recipe, in order, each continued where it stopped.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{io, thread};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use mm1_eval::result::TaskScore;
use mm1_kernels::allocator::give_back_now;
use mm1_model::compute::on_pool;
use serde_json::json;

use crate::arguments::{ChangedDataArgs, DeviceArgs, RecipeArgs, ThreadsArgs};
use crate::context::Context;
use crate::error::Interrupted;
use crate::evaluation;
use crate::interrupt::stop_flag;
use crate::memory;
use crate::output::{print_json, tell};
use crate::plan::{Plan, Worker};
use crate::progress::clock;
use crate::ranks::Ranks;
use crate::recipe::{Stage, WrittenRecipe};
use crate::reuse;
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
    /// Take the first stages of this run folder as far as they are done there and come to the same digits:
    /// same seed, data, tokenizer and settings. What is not sure to be the same is done here.
    #[arg(long, value_name = "DIR")]
    reuse: Option<PathBuf>,
    /// A study has started this process: it waits for a folder in which another process runs, and stops with
    /// a checkpoint when its standard input ends.
    #[arg(long, hide = true)]
    of_study: bool,
    /// Print one JSON document as the last line of standard output.
    #[arg(long)]
    json: bool,
}

/// What a run has left.
struct FinishedRun {
    /// The page for people.
    report: PathBuf,
    /// The scores of all stages.
    scores: Vec<TaskScore>,
    /// The most memory of a stage in MiB, where the system says.
    peak_mib: Option<u64>,
}

/// Runs the recipe in the run folder.
///
/// # Errors
/// Wrong input, an interrupt, or a failure; what was done stays and is continued by the same command.
pub(crate) fn run(args: &RunArgs) -> Result<()> {
    let started = Instant::now();
    let ranks = Ranks::begin()?;
    let done = as_rank(args, &ranks, started);
    ranks.end(done)
}

/// The part of one rank; that of a process alone is all of it.
fn as_rank(args: &RunArgs, ranks: &Ranks, started: Instant) -> Result<()> {
    let recipe = args.device.put(args.recipe.read()?);
    let worker = Worker::of(ranks, args.threads.start_pool()?);
    let stop = stop_flag()?;
    let context =
        ranks.first_before_others(&stop, || begin(args, recipe, ranks.clone(), worker, stop.clone()))?;
    ranks.agree(
        toml::to_string(&context.plan.to_table()?)?.as_bytes(),
        "give all ranks the same recipe and data",
    )?;
    let done = in_order(&context);
    if !ranks.is_first() {
        return done;
    }
    let FinishedRun { report, scores, peak_mib } = finish(&context, done)?;
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

/// The run folder `out`, as soon as no other process runs in it.
fn open_when_free(out: &Path, stop: &AtomicBool) -> Result<RunFolder> {
    let mut told = false;
    loop {
        if let Some(folder) = RunFolder::try_open(out)? {
            return Ok(folder);
        }
        ensure!(!stop.load(Ordering::Relaxed), Interrupted);
        if !told {
            tell(format_args!("waiting for another mm1 that is running in {}", out.display()));
            told = true;
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// Asks the run to stop when nobody writes to its standard input any more: the study was ended.
fn stop_at_end_of_input(stop: &Arc<AtomicBool>) {
    let stop = stop.clone();
    thread::spawn(move || {
        // An input that can't be read has ended, too.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        stop.store(true, Ordering::Relaxed);
    });
}

/// Opens the folder and what the recipe names, and says what will be done.
fn begin(
    args: &RunArgs,
    recipe: WrittenRecipe,
    ranks: Ranks,
    worker: Worker,
    stop: Arc<AtomicBool>,
) -> Result<Context> {
    let folder = if !ranks.is_first() {
        RunFolder::of_other_rank(&args.out)?
    } else if args.of_study {
        stop_at_end_of_input(&stop);
        open_when_free(&args.out, &stop)?
    } else {
        RunFolder::open(&args.out)?
    };
    let mut plan = Plan::resolve(recipe, Some(&folder))?;
    plan.take_device(args.device.of(&ranks).or(plan.recipe.device))?;
    for stage in plan.recipe.stage.iter().filter_map(Stage::training) {
        ranks.share_of(&stage.name, stage.accumulate)?;
    }
    if folder.is_own() {
        plan.settle(&folder, args.changed_data.choice())?;
        if let Some(from) = &args.reuse {
            reuse::take_over(&plan, &folder, from)?;
        }
    }
    let memory = plan.memory(worker)?;
    if folder.is_own() {
        eprint!("{}", plan.summary(&memory));
    }
    memory::check_room(&memory)?;
    let report = RunReport::begin(&folder, worker.threads)?;
    Ok(Context { plan, folder, report, worker, ranks, stop })
}

/// Brings the report up to date after the stages, whether they are `done` or not.
fn finish(context: &Context, done: Result<()>) -> Result<FinishedRun> {
    let report = context.report.end(&context.folder, done.as_ref().err());
    if let (Err(_), Ok(report)) = (&done, &report) {
        tell(format_args!("what there is so far: open {}", report.display()));
    }
    done?;
    let (scores, peak_mib) = (evaluation::scores(context.folder.root())?, context.report.peak_mib());
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
            Stage::Recaption(s) => stage::recaption::run(context, s),
        };
        on_pool(run).with_context(|| format!("stage {}", stage.name()))?;
        if context.ranks.is_first() {
            context.report.update(&context.folder)?;
        }
        // What the stage has left is whole for all.
        context.ranks.meet(&context.stop);
    }
    Ok(())
}
