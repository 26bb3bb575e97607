//! `mm1 eval`: a model's scores on tasks with demonstrations; and two models compared, question by question.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use mm1_data::printable::printable;
use mm1_eval::compare::{self, TaskComparison};
use mm1_eval::model::Model;
use mm1_eval::prompt::Style;
use mm1_eval::protocol::Protocol;
use mm1_eval::remote::{RemoteModel, RemoteSettings};
use serde_json::json;

use crate::arguments::{DeviceArgs, ThreadsArgs, Weights};
use crate::error::{InputError, input};
use crate::evaluation::{Evaluation, scores};
use crate::interrupt::stop_flag;
use crate::local::LocalModel;
use crate::output::{print_json, tell};
use crate::ranks::{Ranks, SharedModel};
use crate::recipe::EvalStage;
use crate::run_folder::RunFolder;
use crate::tasks::TaskData;
use crate::trained::Trained;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct EvalCommand {
    #[command(subcommand)]
    compare: Option<Compare>,
    // Not an `Option`: clap takes it for absent where it has arguments of its own that are flattened.
    #[command(flatten)]
    args: EvalArgs,
}

#[derive(Debug, Subcommand)]
enum Compare {
    /// Two folders that hold scores: the differences on the questions that both were asked, with paired
    /// tests. Or one: each number of demonstrations beside the fewest.
    Compare {
        /// A run folder, or the --out of `mm1 eval`.
        a: PathBuf,
        /// Another one. Default: none; numbers of demonstrations are compared.
        b: Option<PathBuf>,
        /// Print one JSON document as the last line.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct EvalArgs {
    /// The run folder of the model.
    #[arg(long, required_unless_present = "model", conflicts_with = "model")]
    run: Option<PathBuf>,
    /// The model as this stage of the run has left it. Default: the last that has a checkpoint.
    #[arg(long, requires = "run")]
    stage: Option<String>,
    /// The address of a model with the OpenAI interface, such as http://localhost:8000/v1; its key is taken
    /// from OPENAI_API_KEY, which is never shown or kept.
    #[arg(long, value_name = "ADDRESS")]
    model: Option<String>,
    /// Which model behind the address. Default: the only one that the server lists.
    #[arg(long, value_name = "NAME", requires = "model")]
    model_name: Option<String>,
    /// Seconds that the model behind the address may take for one question. A silent one is then given up;
    /// the same command asks again.
    #[arg(
        long,
        value_name = "SECONDS",
        requires = "model",
        default_value_t = 300,
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    timeout: u64,
    #[command(flatten)]
    protocol: Protocol,
    /// From which demonstrations and intervals follow.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How the language model's weights are kept: in the precision of the run, or in 8 bits, which is faster
    /// and less exact.
    #[arg(long, value_name = "FORM", value_enum, default_value_t, conflicts_with = "model")]
    weights: Weights,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    threads: ThreadsArgs,
    /// The folder for eval.json, samples.json and the answers; the same command again goes on where it
    /// stopped.
    #[arg(long, required = true)]
    out: Option<PathBuf>,
    /// Print one JSON document as the last line.
    #[arg(long)]
    json: bool,
}

/// Scores a model, or compares two.
///
/// # Errors
/// A folder without a model, a task that can't be asked, an interrupt.
pub(crate) fn eval(command: &EvalCommand) -> Result<()> {
    match &command.compare {
        Some(Compare::Compare { a, b, json }) => compare(a, b.as_deref(), *json),
        None => command.args.run(),
    }
}

impl EvalArgs {
    fn run(&self) -> Result<()> {
        let ranks = Ranks::begin()?;
        let done = self.as_rank(&ranks);
        ranks.end(done)
    }

    /// The part of one rank; that of a process alone is all of it.
    fn as_rank(&self, ranks: &Ranks) -> Result<()> {
        input(self.protocol.check())?;
        self.threads.start_pool()?;
        let out = self.out.as_deref().ok_or_else(|| InputError::new("eval: give --out"))?;
        match (&self.run, &self.model) {
            (Some(run), _) => {
                let stop = stop_flag()?;
                let folder = ranks.first_before_others(&stop, || match ranks.is_first() {
                    true => RunFolder::open(out),
                    false => RunFolder::of_other_rank(out),
                })?;
                self.evaluate_run(run, &folder, ranks, &stop)
            }
            (None, Some(address)) => {
                ensure!(
                    ranks.count() == 1,
                    InputError::new(
                        "--model: one process asks what is behind an address: start without mpirun"
                    )
                );
                self.evaluate_address(address, &RunFolder::open(out)?)
            }
            (None, None) => Err(InputError::new("eval: give --run or --model").into()),
        }
    }

    fn evaluate_run(&self, run: &Path, folder: &RunFolder, ranks: &Ranks, stop: &AtomicBool) -> Result<()> {
        let Protocol { tasks, data, contamination, batch, .. } = &self.protocol;
        let size = self.protocol.image_size;
        let device = self.device.of(ranks);
        let model = Trained::of_stage(run, self.stage.as_deref(), device, size, self.weights)?;
        input(self.protocol.check_resolution(model.recipe.model.vision.patch))?;
        // What an evaluation says of training data is in the scores, which one rank writes.
        let checked = *contamination > 0 && ranks.is_first();
        let of_run = Some((&model.recipe, run));
        let data = input(TaskData::open(of_run, tasks, data.as_deref(), checked))?;
        let asked = AskedModel {
            stage: &model.stage,
            trained_style: if model.tuned { Style::Chat } else { Style::Pretrained },
            id: &model.id,
        };
        let mut own = LocalModel { generator: &model.generator, batch: *batch, stop };
        self.evaluate(folder, &data, &asked, &mut SharedModel { own: &mut own, ranks })
    }

    fn evaluate_address(&self, address: &str, folder: &RunFolder) -> Result<()> {
        let Protocol { tasks, data, batch, image_size, demonstration_overviews, .. } = &self.protocol;
        for (flag, given) in
            [("--image-size", image_size.is_some()), ("--demonstration-overviews", *demonstration_overviews)]
        {
            let settled = "a model behind an address has its own size and tiles: leave it out";
            ensure!(!given, InputError::new(format!("{flag}: {settled}")));
        }
        let mut remote = input(RemoteModel::new(RemoteSettings {
            address,
            model: self.model_name.as_deref(),
            key: std::env::var("OPENAI_API_KEY").ok(),
            parallel: *batch,
            timeout: Duration::from_secs(self.timeout),
            tell: Box::new(at_times(|line| tell(line))),
        }))?;
        let data = input(TaskData::open(None, tasks, data.as_deref(), false))?;
        let name = remote.name().to_owned();
        let id = format!("{name} at {}", remote.address());
        let asked = AskedModel { stage: &name, trained_style: Style::Chat, id: &id };
        self.evaluate(folder, &data, &asked, &mut remote)
    }

    fn evaluate<M: Model>(
        &self,
        folder: &RunFolder,
        data: &TaskData,
        asked: &AskedModel<'_>,
        model: &mut M,
    ) -> Result<()> {
        let stage = EvalStage { name: asked.stage.to_owned(), protocol: self.protocol.clone() };
        let tasks = stage.protocol.tasks.iter().map(|task| data.task(task)).collect::<Result<Vec<_>>>()?;
        let evaluation = Evaluation {
            stage: &stage,
            trained_style: asked.trained_style,
            seed: self.seed,
            model_id: asked.id,
            folder,
            training: &data.training,
        };
        evaluation.run(&tasks, model)?;
        tell(format_args!("scores in {}", folder.root().join("eval.json").display()));
        if self.json && folder.is_own() {
            print_json(&json!({ "out": folder.root(), "eval": scores(folder.root())? }))?;
        }
        Ok(())
    }
}

/// Tells at most one line a second: all questions of a batch may fail at once.
fn at_times(tell: fn(&str)) -> impl Fn(&str) + Sync {
    let last: Mutex<Option<Instant>> = Mutex::new(None);
    move |line: &str| {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= Duration::from_secs(1)) {
            *last = Some(Instant::now());
            tell(line);
        }
    }
}

/// Which model is asked.
struct AskedModel<'a> {
    /// The stage that `eval.json` names.
    stage: &'a str,
    trained_style: Style,
    /// The same for the same model.
    id: &'a str,
}

fn compare(a: &Path, b: Option<&Path>, json: bool) -> Result<()> {
    let compared = input(b.map_or_else(|| compare::shots(a), |b| compare::folders(a, b)))?;
    println!(
        "{:<40} {:>5} {:>8} {:>8} {:>8}  {:<18} {:>8}",
        "task", "n", "A", "B", "A − B", "95% interval", "p"
    );
    for TaskComparison { task, n, a, b, difference, .. } in &compared {
        let [low, high] = difference.ci95;
        println!(
            "{:<40} {n:>5} {a:>8.2} {b:>8.2} {:>8.2}  {:<18} {:>8.4}",
            printable(task),
            difference.value,
            format!("[{low:.2}, {high:.2}]"),
            difference.p
        );
    }
    if json {
        print_json(&json!({ "a": a, "b": b, "compared": compared }))?;
    }
    Ok(())
}
