//! mm1: the MM1 recipe as one program.

mod commands;
mod error;
mod evaluation;
mod local;
mod memory;
mod plan;
mod progress;
mod recipe;
mod run_folder;
mod stage;
mod tasks;
mod trained;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::error::InputError;

// Training makes and drops large buffers all the time; the system's allocator gives them back to the kernel, which
// clears every page again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The MM1 recipe (arXiv 2403.09611) as one program: pre-train, tune, evaluate with shots, chat.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Do all stages of a recipe; the same command again continues where it stopped.
    Run {
        #[command(flatten)]
        recipe: RecipeArgs,
        /// The run folder.
        #[arg(long)]
        out: PathBuf,
        /// Threads for computing and loading; no result depends on it. Default: one for each core.
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
        threads: Option<u16>,
        /// Print one JSON document as the last line.
        #[arg(long)]
        json: bool,
    },
    /// Do a recipe with every combination of some settings, and print one table of their scores.
    Ablate(commands::ablate::AblateArgs),
    /// Check a recipe and show what it would do, without doing it.
    Plan {
        #[command(flatten)]
        recipe: RecipeArgs,
        /// Print one JSON document as the last line.
        #[arg(long)]
        json: bool,
    },
    /// Talk with a run's model: one answer to PROMPT, or a conversation without it.
    Chat(commands::chat::ChatArgs),
    /// Score a model on tasks with demonstrations, or compare two that were scored.
    Eval(commands::eval::EvalCommand),
    /// Score predictions against references, both JSON files of texts by id.
    Score(commands::score::ScoreArgs),
    /// Convert, show, count and check data; preview what training would see.
    #[command(subcommand)]
    Data(commands::data::DataCommand),
}

#[derive(Debug, Args)]
struct RecipeArgs {
    /// The recipe, a TOML file.
    recipe: PathBuf,
    /// Change a setting: model.lm.layers=4, or stage.pretrain.steps=40 by a stage's name. May be repeated.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    edits: Vec<String>,
}

fn main() -> ExitCode {
    match execute(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("mm1: {e:#}");
            ExitCode::from(error::exit_code(&e))
        }
    }
}

fn execute(command: Command) -> Result<()> {
    mm1_kernels::allocator::give_back_after(mm1_kernels::allocator::ELSEWHERE);
    mm1_kernels::cpu::requested().map_err(InputError::new)?;
    match command {
        Command::Run { recipe, out, threads, json } => {
            commands::run::run(&recipe.recipe, &recipe.edits, &out, threads, json)
        }
        Command::Ablate(args) => commands::ablate::ablate(&args),
        Command::Plan { recipe, json } => commands::plan::plan(&recipe.recipe, &recipe.edits, json),
        Command::Chat(args) => commands::chat::chat(&args),
        Command::Eval(command) => commands::eval::eval(&command),
        Command::Score(args) => commands::score::score(&args),
        Command::Data(command) => commands::data::data(&command),
    }
}
