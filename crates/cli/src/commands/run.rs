//! `mm1 run`: all stages of a recipe, in order, each continued where it stopped.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result};
use mm1_eval::record::Record;
use mm1_kernels::allocator::give_back_now;
use mm1_model::ops::on_pool;
use serde_json::json;

use crate::evaluation;
use crate::memory;
use crate::plan::Plan;
use crate::progress::clock;
use crate::recipe::{Recipe, Stage};
use crate::run_folder::RunFolder;
use crate::stage;

/// What every stage needs.
pub(crate) struct Context {
    pub(crate) plan: Plan,
    pub(crate) folder: RunFolder,
    pub(crate) threads: usize,
    /// Set by an interrupt; a stage then writes a checkpoint and stops.
    pub(crate) stop: Arc<AtomicBool>,
}

/// What a run has left.
pub(crate) struct Done {
    /// The page for people.
    pub(crate) report: PathBuf,
    /// The scores of all stages.
    pub(crate) scores: Vec<Record>,
    /// The most memory of a stage in MiB, where the system says.
    pub(crate) peak_mib: Option<u64>,
}

/// Runs the recipe in the folder `out`.
///
/// # Errors
/// Wrong input, an interrupt, or a failure; what was done stays and is continued by the same command.
pub(crate) fn run(
    recipe: &Path,
    edits: &[String],
    out: &Path,
    threads: Option<u16>,
    json: bool,
) -> Result<()> {
    let started = Instant::now();
    let recipe = Recipe::read(recipe, edits)?;
    let threads = settle_threads(threads)?;
    let Done { report, scores, peak_mib } = stages(recipe, out, threads, &stop_flag()?)?;
    let seconds = started.elapsed().as_secs_f64();
    eprintln!("done in {}{}; open {}", clock(seconds), memory::told(peak_mib), report.display());
    if json {
        let done =
            json!({"run": out, "report": report, "seconds": seconds, "peak_mib": peak_mib, "eval": scores});
        println!("{done}");
    }
    Ok(())
}

/// Does all stages of `recipe` in the folder `out`; those that are done there are not done again.
///
/// # Errors
/// As [`run`].
pub(crate) fn stages(recipe: Recipe, out: &Path, threads: usize, stop: &Arc<AtomicBool>) -> Result<Done> {
    let folder = RunFolder::open(out)?;
    let plan = Plan::resolve(recipe, Some(&folder))?;
    folder.settle_plan(&plan.to_table()?)?;
    eprint!("{}", plan.summary(&plan.bills(threads)?));
    let context = Context { plan, folder, threads, stop: stop.clone() };
    let mut peak = None;
    for stage in &context.plan.recipe.stage {
        give_back_now();
        memory::forget_peak();
        let run = || match stage {
            Stage::Encoder(s) | Stage::Pretrain(s) | Stage::Sft(s) => stage::train::run(&context, s),
            Stage::Probe(s) => stage::probe::run(&context, s),
            Stage::Eval(s) => stage::evaluate::run(&context, s),
        };
        on_pool(context.plan.recipe.precision.into(), run)
            .with_context(|| format!("stage {}", stage.name()))?;
        peak = peak.max(memory::peak_mib());
    }
    let report = mm1_lab::report::write(context.folder.root())?;
    Ok(Done { report, scores: evaluation::records(&context.folder)?, peak_mib: peak })
}

/// Bytes of a thread's stack: as many as the main thread has.
const STACK: usize = 8 << 20;

/// Starts the threads for computing: as many as asked, or one for each core.
pub(crate) fn settle_threads(threads: Option<u16>) -> Result<usize> {
    let threads = match threads {
        Some(n) => usize::from(n),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).stack_size(STACK);
    pool.build_global().context("starting the threads")?;
    Ok(threads)
}

/// The first interrupt asks for a checkpoint, the second ends the process.
pub(crate) fn stop_flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("\nstopping after this step, with a checkpoint; once more to stop at once");
    })
    .context("catching interrupts")?;
    Ok(stop)
}
