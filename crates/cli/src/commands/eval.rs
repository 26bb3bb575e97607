//! `mm1 eval`: a model's scores on tasks with demonstrations; and two models compared, question by question.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand};
use mm1_eval::compare::{self, Compared};
use mm1_eval::model::Model;
use mm1_eval::remote::Remote;
use mm1_eval::shots::{Choice, Style};
use serde_json::json;

use crate::arguments::{DeviceArgs, ThreadsArgs};
use crate::error::{InputError, input};
use crate::evaluation::{Evaluation, records};
use crate::interrupt::stop_flag;
use crate::local::Local;
use crate::recipe::{EvalStage, eval_pool};
use crate::run_folder::RunFolder;
use crate::tasks::TaskData;
use crate::trained::Trained;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct EvalCommand {
    #[command(subcommand)]
    compare: Option<Compare>,
    #[command(flatten)]
    args: Option<EvalArgs>,
}

#[derive(Debug, Subcommand)]
enum Compare {
    /// Two folders that hold scores: the differences on the questions that both were asked, with paired tests.
    Compare {
        /// A run folder, or the --out of `mm1 eval`.
        a: PathBuf,
        /// Another one.
        b: PathBuf,
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
    /// The address of a model with the OpenAI interface, such as http://localhost:8000/v1; its key is taken from
    /// OPENAI_API_KEY.
    #[arg(long, value_name = "ADDRESS")]
    model: Option<String>,
    /// Which model behind the address.
    #[arg(long, requires = "model", default_value = "default")]
    model_name: String,
    /// Tasks, joined by commas: scene-captions, scene-vqa, scene-pairs, scene-binding, scene-ocr, captions:SOURCE, vqa:SOURCE of the run's recipe, the name of a test
    /// set in --data, or a task file of your own.
    #[arg(long, required = true, value_delimiter = ',')]
    tasks: Vec<String>,
    /// Numbers of demonstrations, joined by commas.
    #[arg(long, default_value = "0,4,8", value_delimiter = ',')]
    shots: Vec<usize>,
    /// Questions of each task at most.
    #[arg(long, default_value_t = 1000, value_parser = at_least_one)]
    questions: usize,
    /// Answers made side by side; no score depends on it.
    #[arg(long, default_value_t = 64, value_parser = at_least_one)]
    batch: usize,
    /// From which demonstrations and intervals follow.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The folder of the test sets: coco/, vqav2/, … as docs/guide/evaluation.md says.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Which training items are shown: others for each question, the same for all, or those with similar pictures.
    #[arg(long, value_enum, default_value_t = Demonstrations::Random)]
    demonstrations: Demonstrations,
    /// Demonstrations show the way to their answer, and what the model concludes is scored.
    #[arg(long)]
    chain_of_thought: bool,
    /// Look at the demonstrations' pictures with so many pixels a side, at the question's as ever (mixed resolution).
    #[arg(long, value_name = "PIXELS", value_parser = at_least_one)]
    demonstration_size: Option<usize>,
    /// Of these, look at the last so many demonstrations as at the question.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "demonstration_size")]
    sharp_demonstrations: usize,
    /// Training documents of each source that the questions are compared with; 0: none.
    #[arg(long, value_name = "DOCUMENTS", default_value_t = 1000)]
    contamination: u64,
    /// Do not measure what the same model answers without sight.
    #[arg(long)]
    no_blind: bool,
    /// Ask as a conversation, or in running text; by default as the model was trained.
    #[arg(long, value_enum)]
    style: Option<Asked>,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    threads: ThreadsArgs,
    /// The folder for eval.json, samples.json and the answers; the same command again goes on where it stopped.
    #[arg(long)]
    out: PathBuf,
    /// Print one JSON document as the last line.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Demonstrations {
    Random,
    Fixed,
    Similar,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Asked {
    Chat,
    Text,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("give a number of at least 1".to_owned()),
    }
}

/// Scores a model, or compares two.
///
/// # Errors
/// A folder without a model, a task that can't be asked, an interrupt.
pub(crate) fn eval(command: &EvalCommand) -> Result<()> {
    match (&command.compare, &command.args) {
        (Some(Compare::Compare { a, b, json }), _) => compare(a, b, *json),
        (None, Some(args)) => args.run(),
        (None, None) => Err(InputError::new("eval: give --run or --model, --tasks and --out").into()),
    }
}

impl EvalArgs {
    fn run(&self) -> Result<()> {
        self.threads.start_pool()?;
        let folder = RunFolder::open(&self.out)?;
        match (&self.run, &self.model) {
            (Some(run), _) => {
                let model = Trained::of_stage(run, self.stage.as_deref(), self.device)?;
                let patch = model.recipe.model.vision.patch;
                input(self.eval_stage(&model.stage).check_demonstration_size(patch))?;
                let stop = stop_flag()?;
                let data = TaskData::open(
                    Some(&model.recipe),
                    &self.tasks,
                    self.data.as_deref(),
                    self.contamination > 0,
                );
                let mut local = Local { generator: &model.generator, batch: self.batch, stop: &stop };
                let style = if model.tuned { Style::Chat } else { Style::Pretrained };
                let about = (model.stage.as_str(), style, model.id.as_str());
                self.evaluate(&folder, &input(data)?, about, &mut local)
            }
            (None, Some(address)) => {
                let mut remote = input(Remote::new(address, &self.model_name, self.batch))?;
                let data = input(TaskData::open(None, &self.tasks, self.data.as_deref(), false))?;
                let id = format!("{} at {address}", self.model_name);
                let about = (self.model_name.as_str(), Style::Chat, id.as_str());
                self.evaluate(&folder, &data, about, &mut remote)
            }
            (None, None) => Err(InputError::new("eval: give --run or --model").into()),
        }
    }

    fn evaluate(
        &self,
        folder: &RunFolder,
        data: &TaskData,
        (name, style, id): (&str, Style, &str),
        model: &mut dyn Model,
    ) -> Result<()> {
        let stage = self.eval_stage(name);
        let tasks = self.tasks.iter().map(|task| data.task(task)).collect::<Result<Vec<_>>>()?;
        let style = match self.style {
            Some(Asked::Chat) => Style::Chat,
            Some(Asked::Text) => Style::Pretrained,
            None => style,
        };
        let training = &data.training;
        let evaluation = Evaluation { stage: &stage, style, seed: self.seed, model_id: id, folder, training };
        evaluation.run(&tasks, model)?;
        eprintln!("scores in {}", self.out.join("eval.json").display());
        if self.json {
            println!("{}", json!({ "out": self.out, "eval": records(folder)? }));
        }
        Ok(())
    }

    fn eval_stage(&self, name: &str) -> EvalStage {
        EvalStage {
            name: name.to_owned(),
            tasks: self.tasks.clone(),
            shots: self.shots.clone(),
            questions: self.questions,
            batch: self.batch,
            blind: !self.no_blind,
            demonstrations: match self.demonstrations {
                Demonstrations::Random => Choice::Random,
                Demonstrations::Fixed => Choice::Fixed,
                Demonstrations::Similar => Choice::Similar,
            },
            pool: eval_pool(),
            chain_of_thought: self.chain_of_thought,
            demonstration_size: self.demonstration_size,
            sharp_demonstrations: self.sharp_demonstrations,
            contamination: self.contamination,
            data: self.data.clone(),
        }
    }
}

fn compare(a: &Path, b: &Path, json: bool) -> Result<()> {
    let compared = input(compare::folders(a, b))?;
    println!(
        "{:<32} {:>5} {:>8} {:>8} {:>8}  {:<18} {:>8}",
        "task", "n", "A", "B", "A − B", "95% interval", "p"
    );
    for Compared { task, n, a, b, difference, .. } in &compared {
        let [low, high] = difference.ci95;
        println!(
            "{task:<32} {n:>5} {a:>8.2} {b:>8.2} {:>8.2}  {:<18} {:>8.4}",
            difference.value,
            format!("[{low:.2}, {high:.2}]"),
            difference.p
        );
    }
    if json {
        println!("{}", json!({ "a": a, "b": b, "compared": compared }));
    }
    Ok(())
}
