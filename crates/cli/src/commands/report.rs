//! `mm1 report`: the report of a run folder, made again.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use mm1_lab::report::ReportAuthor;
use serde_json::json;

use crate::error::{InputError, input};
use crate::output::{print_json, tell};

/// The files of which a report shows something; a folder with none of them is no run folder.
const SHOWN: [&str; 3] = ["plan.toml", "metrics.jsonl", "eval.json"];

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Run folder, or the --out of `mm1 eval`. A run may be working in it.
    run: PathBuf,
    /// Print one JSON document as the last line of standard output.
    #[arg(long)]
    json: bool,
}

/// Writes `report.html` anew, from what the folder holds now.
///
/// # Errors
/// A folder that is no run folder or can't be written.
pub(crate) fn report(args: &ReportArgs) -> Result<()> {
    let there = |name: &&str| args.run.join(name).exists();
    ensure!(
        SHOWN.iter().any(there),
        InputError::new(format!(
            "{}: not a run folder: it has none of {}; give the --out of `mm1 run` or `mm1 eval`",
            args.run.display(),
            SHOWN.join(", ")
        ))
    );
    let report = input(mm1_lab::report::write(&args.run, ReportAuthor::Reader))?;
    if args.json {
        print_json(&json!({ "run": args.run, "report": report }))?;
    } else {
        tell(format_args!("open {}", report.display()));
    }
    Ok(())
}
