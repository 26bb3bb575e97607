//! mm1: the MM1 recipe as one program.

// First: its macros take the place of the standard library's in all that follow.
#[macro_use]
mod output;

mod adapters;
mod arguments;
mod attribution;
mod captioner;
mod checkpoints;
mod commands;
mod context;
mod continuation;
mod error;
mod estimate;
mod evaluation;
mod fleet;
mod interrupt;
mod local;
mod machine;
mod memory;
mod model_args;
mod network;
mod new_folder;
mod plan;
mod pretrained;
mod progress;
mod ranks;
mod recaption_input;
mod recipe;
mod recipe_tokenizer;
mod reuse;
mod run_folder;
mod run_report;
mod served_towers;
mod sources;
mod stage;
mod stage_key;
mod stage_parameters;
mod stored_tokenizer;
mod study;
mod summary;
mod tasks;
mod tokenizer_file;
mod trained;
mod wrap;

use std::path::PathBuf;
use std::process::ExitCode;
use std::{panic, thread};

use anyhow::Result;
use clap::{CommandFactory as _, Parser, Subcommand};
use mm1_data::isolated::ISOLATED;

use crate::error::InputError;

// Training makes and drops large buffers all the time; the system's allocator gives them back to the kernel,
// which clears every page again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The MM1 recipe (arXiv 2403.09611) as one program: train image encoders, pre-train and fine-tune multimodal
/// LLMs, evaluate them few-shot, chat with them.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train and evaluate: run all stages of a recipe. The same command again continues where it stopped.
    Run(commands::run::RunArgs),
    /// Run a recipe with every combination of the settings in its `ablation` table, and print their scores
    /// and what they show.
    Ablate(commands::ablate::AblateArgs),
    /// Fit how the best learning rate follows the decoder's size: to the runs of a recipe over sizes and
    /// rates, which are done first, or to those of a study's folder in its place.
    Law(commands::law::LawArgs),
    /// Check a recipe and show its parameters, steps, learning rates and memory, without running it.
    Plan(commands::plan::PlanArgs),
    /// Chat with a run's model: one answer to PROMPT, or a conversation without it.
    Chat(commands::chat::ChatArgs),
    /// Serve a run's model: the OpenAI interface for programs, and a page to talk to.
    Serve(commands::serve::ServeArgs),
    /// Evaluate a model few-shot on benchmarks, or compare two that were evaluated.
    Eval(commands::eval::EvalCommand),
    /// Make the report of a run folder again, report.html, or a page that compares several runs.
    Report(commands::report::ReportArgs),
    /// Watch a run or a study as it goes: stages, loss, speed and time left.
    Watch(commands::watch::WatchArgs),
    /// Score predictions against references, both JSON files of texts by id.
    Score(commands::score::ScoreArgs),
    /// Compare a language model with what another program makes of the same token ids.
    Verify(commands::verify::VerifyModelArgs),
    /// Write a run's model in the form of other programs: a folder for transformers, or GGUF for llama.cpp.
    Export(commands::export::ExportArgs),
    /// Write a model of others in the form that recipes and transformers read: from a GGUF or ONNX file,
    /// a folder of Hugging Face, or a part of a whole model.
    Import(commands::import::ImportModelArgs),
    /// Download trained networks to begin with: a small language model and a small image encoder.
    Fetch(commands::fetch::FetchModelsArgs),
    /// Download, convert, inspect, count and verify data; preview the packed rows of a recipe.
    #[command(subcommand)]
    Data(commands::data::DataCommand),
    /// List the recipes inside of this program, or print one to change it.
    Recipes(commands::recipes::RecipesArgs),
    /// Print the JSON Schema of recipes, by which editors complete and check them.
    Schema,
    /// Print a shell's script that completes commands and options.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write a manual page for each command.
    Man {
        /// The folder of the pages: mm1.1, mm1-run.1 and so on.
        #[arg(long)]
        out: PathBuf,
    },
}

fn main() -> ExitCode {
    hide_isolated_panics();
    match execute(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            output::fail(&e);
            ExitCode::from(error::exit_code(&e))
        }
    }
}

/// A library's panic on damaged data is reported as damage: its backtrace would be another message.
fn hide_isolated_panics() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if thread::current().name() != Some(ISOLATED) {
            report(panic);
        }
    }));
}

fn execute(command: Command) -> Result<()> {
    mm1_kernels::allocator::give_back_after(mm1_kernels::allocator::ELSEWHERE);
    mm1_kernels::cpu::requested().map_err(InputError::new)?;
    match command {
        Command::Run(args) => commands::run::run(&args),
        Command::Ablate(args) => commands::ablate::ablate(&args),
        Command::Law(args) => commands::law::law(&args),
        Command::Plan(args) => commands::plan::plan(&args),
        Command::Chat(args) => commands::chat::chat(&args),
        Command::Serve(args) => commands::serve::serve(&args),
        Command::Eval(command) => commands::eval::eval(&command),
        Command::Report(args) => commands::report::report(&args),
        Command::Watch(args) => commands::watch::watch(&args),
        Command::Score(args) => commands::score::score(&args),
        Command::Verify(args) => commands::verify::verify(&args),
        Command::Export(args) => commands::export::export(&args),
        Command::Import(args) => commands::import::import(&args),
        Command::Fetch(args) => commands::fetch::fetch(&args),
        Command::Data(command) => commands::data::data(&command),
        Command::Recipes(args) => commands::recipes::recipes(&args),
        Command::Schema => commands::schema::schema(),
        Command::Completions { shell } => commands::completions::completions(shell, &mut Cli::command()),
        Command::Man { out } => commands::man::man(&out, Cli::command()),
    }
}
