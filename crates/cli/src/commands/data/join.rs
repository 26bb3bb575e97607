//! `mm1 data join`: tasks of a `mm1 data` command put together.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use indicatif::HumanCount;
use mm1_data::recaption::CaptionedShare;
use mm1_data::statistics::Counted;
use mm1_data::task::{DONE, ImportJoined, TaskSet, join_import};
use mm1_data::verify::{self, VerifiedShare};
use serde_json::json;

use super::import::ImportReport;
use super::stats::StatsReport;
use super::{recaption, verify as verify_command};
use crate::error::{InputError, input};
use crate::output::print_json;

#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    /// Folder of the tasks: what they were given as --to.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Memory for finding equal images and documents, in MiB; what is more is sorted in files.
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    memory_mib: u64,
    /// Print one JSON document as the last line of standard output: what one process would have printed.
    #[arg(long)]
    json: bool,
}

/// Joins what all tasks have done.
///
/// # Errors
/// Tasks that are missing, by their numbers, or of another kind; what the command itself refuses.
pub(crate) fn join(args: &JoinArgs) -> Result<()> {
    let set = input(TaskSet::open(&args.folder))?;
    match set.header().command.as_str() {
        "import" => {
            let memory = usize::try_from(args.memory_mib << 20).unwrap_or(usize::MAX);
            imported(args, input(join_import(&set, memory))?)
        }
        "recaption" => recaption::report(&args.folder, &input(CaptionedShare::join(&set))?, args.json),
        "stats" => {
            let counted = input(set.all(DONE).and_then(Counted::join))?;
            StatsReport::of(counted).print(args.json)
        }
        "verify" => {
            let tasks: Vec<VerifiedShare> = input(set.all(DONE))?;
            let (verified, left) = (input(verify::join(&tasks))?, VerifiedShare::files_left(&tasks)?);
            verify_command::report(&verified, &left, args.json)
        }
        other => Err(InputError::new(format!("tasks of {other:?}: of another version of mm1")).into()),
    }
}

fn imported(args: &JoinArgs, joined: ImportJoined) -> Result<()> {
    match joined {
        ImportJoined::Settled { documents, stay } if args.json => {
            print_json(&json!({"to": args.folder, "round": "check", "read": documents, "documents": stay}))
        }
        ImportJoined::Settled { documents, stay } => {
            println!(
                "{} of {} documents stay; run all tasks once more to write them, then join again",
                HumanCount(stay),
                HumanCount(documents)
            );
            Ok(())
        }
        ImportJoined::Whole { outcome, sources, account, files_left } => ImportReport {
            to: &args.folder,
            imported: &outcome,
            account: &account,
            sources: &sources,
            left: &files_left,
        }
        .print(args.json),
    }
}
