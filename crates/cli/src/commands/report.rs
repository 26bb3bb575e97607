//! `mm1 report`: the report of a run folder or of a study, made again; or several runs beside each other.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use mm1_data::printable::printable_lines;
use mm1_lab::comparison::{self, ComparedRun};
use mm1_lab::law::PowerLaw;
use mm1_lab::law::page as law_page;
use mm1_lab::law::reading::LawRuns;
use mm1_lab::report::ReportAuthor;
use mm1_lab::study::figure;
use mm1_lab::study::findings::StudyFindings;
use mm1_lab::study::page;
use mm1_lab::study::record::{self, RunState, StudyAxis, StudyRecord, StudyRun};
use mm1_lab::study::results::StudyResults;
use serde_json::json;

use crate::error::{InputError, input};
use crate::output::{self, print_json, tell};

/// The files of which a report shows something; a folder with none of them is no run folder.
const SHOWN: [&str; 3] = ["plan.toml", "metrics.jsonl", "eval.json"];

/// The page of several runs, where `--out` names no other.
const COMPARISON: &str = "comparison.html";

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Run folder, the --out of `mm1 eval`, the folder of a study, a study's results.json, or the law.json of
    /// `mm1 law`. A run may be working in a folder. Several run folders are compared in a page of their own.
    #[arg(required = true)]
    run: Vec<PathBuf>,
    /// The page of several runs. By default comparison.html in the current folder.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["md", "csv", "svg"])]
    out: Option<PathBuf>,
    /// Print the scores, and what a study or several runs have shown, as Markdown.
    #[arg(long, conflicts_with_all = ["csv", "svg", "json"])]
    md: bool,
    /// Print a line for each score, as CSV.
    #[arg(long, conflicts_with_all = ["svg", "json"])]
    csv: bool,
    /// Print the figure of a study as SVG: mean scores with their intervals over the values of its longest
    /// axis, beside the paper's; or that of a law.
    #[arg(long, conflicts_with = "json")]
    svg: bool,
    /// Print one JSON document as the last line of standard output.
    #[arg(long)]
    json: bool,
}

/// Writes `report.html` anew, from what the folder holds now; of a study's results, `NAME.html` beside
/// `NAME.json`; of several folders, the page that compares them.
///
/// # Errors
/// A folder that is no run folder or can't be written; a file that has no results of a study.
pub(crate) fn report(args: &ReportArgs) -> Result<()> {
    args.run.iter().try_for_each(|run| check(run, args.run.len() > 1))?;
    ensure!(
        !args.svg || matches!(&args.run[..], [run] if is_study(run)),
        InputError::new(
            "--svg draws a study or a law: give the study's folder in the --out of `mm1 ablate`, its \
             results.json, or the law.json of `mm1 law`"
        )
    );
    if let [run] = &args.run[..] {
        ensure!(
            args.out.is_none(),
            InputError::new("--out is for several runs: the report of one is the report.html in its folder")
        );
        return of_one(args, run);
    }
    let runs = input(comparison::read(&args.run))?;
    if args.md || args.csv {
        return printed(args, &StudyResults::collect(compared(&runs), Path::new("")));
    }
    let file = args.out.clone().unwrap_or_else(|| PathBuf::from(COMPARISON));
    input(comparison::write(&runs, &file))?;
    tell_page(args, &file)
}

fn is_study(folder: &Path) -> bool {
    folder.is_file() || folder.join(record::FILE).exists()
}

/// Refuses what is no run folder, and a study among several folders.
fn check(folder: &Path, several: bool) -> Result<()> {
    let there = |name: &&str| folder.join(name).exists();
    ensure!(
        is_study(folder) || SHOWN.iter().any(there),
        InputError::new(format!(
            "{}: not a run folder: it has none of {}; give the --out of `mm1 run` or `mm1 eval` (of many \
             DIR/*), the folder of a study in the --out of `mm1 ablate`, or its results.json",
            folder.display(),
            SHOWN.join(", ")
        ))
    );
    ensure!(
        !(several && is_study(folder)),
        InputError::new(format!(
            "{}: a study or a law, which has a page of its own: give it alone, or run folders",
            folder.display()
        ))
    );
    Ok(())
}

/// The report of a law: of the `law.json` of `mm1 law`.
fn of_law(args: &ReportArgs, file: &Path) -> Result<()> {
    let runs = input(LawRuns::read_file(file))?;
    let law = PowerLaw::fit(runs.axis, runs.target, &runs.observations());
    let law = input(law.with_context(|| file.display().to_string()))?;
    let title = format!("The law of the {}", runs.axis.name());
    if args.svg {
        return output::print(law_page::svg_file(&law).as_bytes());
    }
    if args.md || args.csv {
        let text = if args.csv { law_page::csv(&runs) } else { law_page::markdown(&title, &runs, &law) };
        return output::print(printable_lines(&text).as_bytes());
    }
    let page = file.with_extension("html");
    std::fs::write(&page, law_page::page(&title, &runs, Ok(&law)))
        .with_context(|| page.display().to_string())?;
    tell_page(args, &page)
}

/// The report of a run, a study or a law.
fn of_one(args: &ReportArgs, run: &Path) -> Result<()> {
    if LawRuns::is_file(run) {
        return of_law(args, run);
    }
    if args.svg {
        let results = input(StudyResults::read(run))?;
        let figure = input(figure::svg_file(&results, &StudyFindings::of(&results)))?;
        return output::print(figure.as_bytes());
    }
    if args.md || args.csv {
        let results = if is_study(run) {
            input(StudyResults::read(run))?
        } else {
            let name = run.display().to_string();
            let own = StudyRun { names: Vec::new(), folder: PathBuf::from("."), state: RunState::Done };
            StudyResults::collect(StudyRecord { name, axes: Vec::new(), runs: vec![own], paper: None }, run)
        };
        return printed(args, &results);
    }
    let report = if is_study(run) {
        input(page::write(run))?
    } else {
        input(mm1_lab::report::write(run, ReportAuthor::Reader))?
    };
    tell_page(args, &report)
}

fn tell_page(args: &ReportArgs, report: &Path) -> Result<()> {
    if args.json {
        let runs = if let [run] = &args.run[..] { json!(run) } else { json!(args.run) };
        print_json(&json!({ "run": runs, "report": report }))?;
    } else {
        tell(format_args!("open {}", report.display()));
    }
    Ok(())
}

/// Several runs as a study with one axis.
fn compared(runs: &[ComparedRun]) -> StudyRecord {
    let names: Vec<String> = runs.iter().map(|run| run.name.clone()).collect();
    let base = names.first().cloned().unwrap_or_default();
    let axis =
        StudyAxis { name: "run".to_owned(), values: names.clone(), base, repeats: false, margin: None };
    let run = |run: &ComparedRun| StudyRun {
        names: vec![run.name.clone()],
        folder: run.folder.clone(),
        state: RunState::Done,
    };
    let runs = runs.iter().map(run).collect();
    StudyRecord { name: format!("{} runs compared", names.len()), axes: vec![axis], runs, paper: None }
}

/// Prints the scores as they were asked for.
fn printed(args: &ReportArgs, results: &StudyResults) -> Result<()> {
    let text =
        if args.csv { page::csv(results) } else { page::markdown(results, &StudyFindings::of(results)) };
    // As it is: in pieces it would be no table.
    output::print(printable_lines(&text).as_bytes())
}
