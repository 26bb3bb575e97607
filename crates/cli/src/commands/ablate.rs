//! `mm1 ablate`: one recipe with every combination of some settings, one table of what they score, and what
//! that shows.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use mm1_data::printable::printable_lines;
use mm1_lab::study::findings::StudyFindings;
use mm1_lab::study::page;
use mm1_lab::study::results::{self, StudyResults};
use serde_json::{Value, json};

use crate::arguments::RecipeArgs;
use crate::error::input;
use crate::output::{self, print_json, tell};
use crate::progress::clock;
use crate::ranks::Ranks;
use crate::run_folder;
use crate::study::{Study, StudyArgs};

#[derive(Debug, Args)]
pub(crate) struct AblateArgs {
    // Its overrides are those of every run.
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Folder of studies. It is made, or continued: a folder for this study by the recipe's name, and runs/
    /// with a run folder for each run, which studies in the same folder have in common.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    study: StudyArgs,
    /// Print one JSON document as the last line of standard output.
    #[arg(long)]
    json: bool,
}

/// Does all runs of a study, each in a folder of its own, and prints the table of their scores.
///
/// # Errors
/// As `mm1 run`; runs that failed, when all others are done. The same command again continues.
pub(crate) fn ablate(args: &AblateArgs) -> Result<()> {
    let ranks = Ranks::begin()?;
    let done = as_rank(args, &ranks);
    ranks.end(done)
}

/// The part of one rank; that of a process alone is all of it.
fn as_rank(args: &AblateArgs, ranks: &Ranks) -> Result<()> {
    let started = Instant::now();
    let study = Study::read(&args.recipe, &args.study)?;
    let Some(outcome) = study.run(&args.study, &args.out, ranks)? else { return Ok(()) };
    if let Some(bill) = &outcome.bill {
        return if args.json { print_json(bill) } else { Ok(()) };
    }
    let (folder, seconds) = (&outcome.folder, started.elapsed().as_secs_f64());
    // As just written: the run folders have been read for it.
    let results = input(StudyResults::read(&folder.join(results::FILE)))?;
    let findings = StudyFindings::of(&results);
    let page = input(page::write_beside(folder, &results, &findings))?;
    if args.json {
        let table: Option<Value> = run_folder::read_json(&folder.join("table.json"))?;
        print_json(&json!({
            "out": args.out, "study": folder, "seconds": seconds, "runs": outcome.record.runs, "table": table,
            "findings": findings, "report": page,
        }))?;
    } else {
        let table = std::fs::read_to_string(folder.join("table.md"))?;
        // As it is: in pieces it would be no table.
        output::print(printable_lines(&table).as_bytes())?;
        findings.notes.iter().for_each(|note| tell(format_args!("note: {note}")));
        for outcome in &findings.outcomes {
            for sentence in &outcome.sentences {
                tell(format_args!("{}, {} shots: {sentence}", outcome.stage, outcome.shots));
            }
        }
    }
    tell(format_args!("done in {}; open {}", clock(seconds), page.display()));
    Study::check_failures(&outcome)
}
