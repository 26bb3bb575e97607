//! `mm1 report`: the report of a run folder or of a study, made again.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use mm1_data::printable::printable_lines;
use mm1_lab::report::ReportAuthor;
use mm1_lab::study::findings::StudyFindings;
use mm1_lab::study::page;
use mm1_lab::study::record::{self, RunState, StudyRecord, StudyRun};
use mm1_lab::study::results::StudyResults;
use serde_json::json;

use crate::error::{InputError, input};
use crate::output::{self, print_json, tell};

/// The files of which a report shows something; a folder with none of them is no run folder.
const SHOWN: [&str; 3] = ["plan.toml", "metrics.jsonl", "eval.json"];

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Run folder, the --out of `mm1 eval`, the folder of a study, or a study's results.json. A run may be
    /// working in a folder.
    run: PathBuf,
    /// Print the scores, and what a study has shown, as Markdown.
    #[arg(long, conflicts_with_all = ["csv", "json"])]
    md: bool,
    /// Print a line for each score, as CSV.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Print one JSON document as the last line of standard output.
    #[arg(long)]
    json: bool,
}

/// Writes `report.html` anew, from what the folder holds now; of a study's results, `NAME.html` beside
/// `NAME.json`.
///
/// # Errors
/// A folder that is no run folder or can't be written; a file that has no results of a study.
pub(crate) fn report(args: &ReportArgs) -> Result<()> {
    let is_study = args.run.is_file() || args.run.join(record::FILE).exists();
    let there = |name: &&str| args.run.join(name).exists();
    ensure!(
        is_study || SHOWN.iter().any(there),
        InputError::new(format!(
            "{}: not a run folder: it has none of {}; give the --out of `mm1 run` or `mm1 eval`, the \
             folder of a study in the --out of `mm1 ablate`, or its results.json",
            args.run.display(),
            SHOWN.join(", ")
        ))
    );
    if args.md || args.csv {
        return printed(args, is_study);
    }
    let report = if is_study {
        input(page::write(&args.run))?
    } else {
        input(mm1_lab::report::write(&args.run, ReportAuthor::Reader))?
    };
    if args.json {
        print_json(&json!({ "run": args.run, "report": report }))?;
    } else {
        tell(format_args!("open {}", report.display()));
    }
    Ok(())
}

/// Prints the scores as they were asked for. A run is a study of one.
fn printed(args: &ReportArgs, is_study: bool) -> Result<()> {
    let folder = args.run.as_path();
    let results = if is_study {
        input(StudyResults::read(folder))?
    } else {
        let run = StudyRun { names: Vec::new(), folder: PathBuf::from("."), state: RunState::Done };
        let name = folder.display().to_string();
        StudyResults::collect(StudyRecord { name, axes: Vec::new(), runs: vec![run], paper: None }, folder)
    };
    let text =
        if args.csv { page::csv(&results) } else { page::markdown(&results, &StudyFindings::of(&results)) };
    // As it is: in pieces it would be no table.
    output::print(printable_lines(&text).as_bytes())
}
