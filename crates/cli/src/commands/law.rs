//! `mm1 law`: how the best learning rate follows the size of the decoder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use mm1_data::whole_file;
use mm1_lab::law::PowerLaw;
use mm1_lab::law::observation::LawAxis;
use mm1_lab::law::page;
use mm1_lab::law::reading::{LawMeasure, LawRuns, run_folders};
use serde_json::{Value, json};

use crate::arguments::RecipeArgs;
use crate::error::{InputError, input};
use crate::output::{print_json, tell};
use crate::ranks::Ranks;
use crate::study::{Study, StudyArgs};

/// Below this p the runs of a size are no parabola.
const NO_PARABOLA: f64 = 0.01;

/// Runs that are left out and named; the page names all.
const NAMED: usize = 5;

#[derive(Debug, Args)]
pub(crate) struct LawArgs {
    // Or the folder of a study, or its law.json.
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Folder of studies, as of `mm1 ablate`; needed with a recipe, whose runs are done there first.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// By what runs are judged: loss, that of held-out texts where an evaluation has a perplexity, else that
    /// of training; or the score of a task with its number of shots, such as scene-vqa:8.
    #[arg(long, default_value = "loss", value_name = "loss|TASK:SHOTS")]
    target: LawMeasure,
    /// What is fitted over the size. For the weight decay all runs of a size have one learning rate.
    #[arg(long, default_value = "learning-rate", value_name = "learning-rate|weight-decay")]
    axis: LawAxis,
    #[command(flatten)]
    study: StudyArgs,
    /// Print one JSON document as the last line of standard output.
    #[arg(long)]
    json: bool,
}

/// Does the runs of a recipe, or reads those of a folder, and fits the law to them.
///
/// # Errors
/// As `mm1 ablate`; a size whose best rate the runs don't enclose, with the rate to add.
pub(crate) fn law(args: &LawArgs) -> Result<()> {
    let ranks = Ranks::begin()?;
    let done = as_rank(args, &ranks);
    ranks.end(done)
}

/// The part of one rank; that of a process alone is all of it.
fn as_rank(args: &LawArgs, ranks: &Ranks) -> Result<()> {
    let given = args.recipe.path();
    if LawRuns::is_file(given) || given.extension().is_some_and(|end| end == "json") && given.is_file() {
        args.check_read(given)?;
        return if ranks.is_first() { of_file(args, given) } else { Ok(()) };
    }
    let folder = if given.is_dir() {
        args.check_read(given)?;
        Some(given.to_owned())
    } else {
        done_study(args, ranks)?
    };
    let Some(folder) = folder.filter(|_| ranks.is_first()) else { return Ok(()) };
    let folders = input(run_folders(&folder))?;
    let runs = input(LawRuns::read(&folders, args.axis, &args.target))?.seen_from(&folder);
    for note in runs.notes.iter().take(NAMED) {
        tell(format_args!("mm1: warning: {note}"));
    }
    if runs.notes.len() > NAMED {
        tell(format_args!("mm1: warning: and {} more; law.html lists all", runs.notes.len() - NAMED));
    }
    let fitted = PowerLaw::fit(args.axis, runs.target, &runs.observations());
    let why = fitted.as_ref().err().map(|e| format!("{e:#}")).unwrap_or_default();
    let page = page::page(
        &format!("The law of the {}", args.axis.name()),
        &runs,
        fitted.as_ref().map_err(|_| why.as_str()),
    );
    put(&folder, "law.html", page.as_bytes())?;
    let page = folder.join("law.html");
    let law = fitted.map_err(|e| {
        InputError::new(format!("{}: {e:#}; the curves: {}", folder.display(), page.display()))
    })?;
    put(&folder, "law.svg", page::svg_file(&law).as_bytes())?;
    let document = document(&runs, &law)?;
    put(&folder, "law.json", &serde_json::to_vec_pretty(&document)?)?;
    if args.json {
        print_json(&document)?;
    } else {
        print_law(&runs, &law);
    }
    tell(format_args!("open {}", page.display()));
    Ok(())
}

impl LawArgs {
    /// Refuses what is about runs to do, where they are read from `given`.
    fn check_read(&self, given: &Path) -> Result<()> {
        let out = self.out.as_ref().map(|_| "--out");
        let option = out.or_else(|| self.recipe.given()).or_else(|| self.study.given());
        let Some(option) = option else { return Ok(()) };
        let given = given.display();
        Err(InputError::new(format!(
            "{option} is about the runs of a recipe, and {given} has runs that are done: leave it out"
        ))
        .into())
    }
}

/// Fits the law again to the runs of a `law.json`, and writes nothing.
fn of_file(args: &LawArgs, file: &Path) -> Result<()> {
    let runs = input(LawRuns::read_file(file))?;
    let asked = [
        (args.target != LawMeasure::Loss, format!("--target {}", args.target)),
        (args.axis == LawAxis::WeightDecay && runs.axis != args.axis, "--axis weight-decay".to_owned()),
    ];
    for (asked, option) in asked {
        ensure!(
            !asked,
            InputError::new(format!(
                "{}: {option}: the file has the {} over the size by the {}: leave it out, or give the \
                 folder of the runs",
                file.display(),
                runs.axis.name(),
                runs.measured
            ))
        );
    }
    let law = PowerLaw::fit(runs.axis, runs.target, &runs.observations());
    let law = input(law.with_context(|| file.display().to_string()))?;
    if args.json {
        return print_json(&document(&runs, &law)?);
    }
    print_law(&runs, &law);
    Ok(())
}

/// `law.json`: the runs, and what follows from them.
fn document(runs: &LawRuns, law: &PowerLaw) -> Result<Value> {
    let [a, b] = law.axis.paper();
    let mut document = serde_json::to_value(runs)?;
    document["law"] = serde_json::to_value(law)?;
    document["paper"] = json!({ "a": a, "b": b });
    Ok(document)
}

/// The folder of the recipe's study, when its runs are done, at rank 0; none where the bill is all.
fn done_study(args: &LawArgs, ranks: &Ranks) -> Result<Option<PathBuf>> {
    let out = args.out.as_deref();
    let out = out.ok_or_else(|| {
        InputError::new("law: give --out for the runs of a recipe, or the folder of a study that is done")
    })?;
    let study = Study::read(&args.recipe, &args.study)?;
    let Some(outcome) = study.run(&args.study, out, ranks)? else { return Ok(None) };
    if let Some(bill) = &outcome.bill {
        if args.json {
            print_json(bill)?;
        }
        return Ok(None);
    }
    let failed = outcome.record.runs.iter().filter(|run| run.failure().is_some()).count();
    if failed > 0 {
        tell(format_args!(
            "{failed} of {} runs failed: those that diverged count as such",
            outcome.record.runs.len()
        ));
    }
    Ok(Some(outcome.folder))
}

fn put(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = folder.join(name);
    ensure!(!fs::metadata(&path).is_ok_and(|there| there.is_dir()), "{} is a folder", path.display());
    whole_file::replace(&path, bytes).with_context(|| format!("writing {}", path.display()))
}

/// The best rate of each size, the law, and the lines for a recipe.
fn print_law(runs: &LawRuns, law: &PowerLaw) {
    println!("{}", runs.measured);
    println!(
        "{:>12} {:>10}  {:<22} {:>10} {:>5} {:>9}",
        "size", "best", "95% interval", "the paper", "runs", "diverged"
    );
    for of in &law.optima {
        let [low, high] = of.ln.ci95().map(f64::exp);
        let [a, b] = law.axis.paper();
        let paper = (a * (of.parameters as f64).ln() + b).exp();
        println!(
            "{:>12} {:>10.2e}  {:<22} {paper:>10.2e} {:>5} {:>9}",
            of.parameters,
            of.best,
            format!("[{low:.2e}, {high:.2e}]"),
            of.runs,
            of.diverged
        );
        if of.parabola_p.is_some_and(|p| p < NO_PARABOLA) {
            tell(format_args!(
                "mm1: warning: size {}: the results are no parabola (p {:.1e}): the best rate is rough; \
                 take rates nearer to it",
                of.parameters,
                of.parabola_p.unwrap_or_default()
            ));
        }
    }
    println!("{}", law.sentence());
    if law.axis == LawAxis::LearningRate {
        println!(
            "for a recipe whose stages have lr = \"law\":\n\n[law]\na = {:.4}\nb = {:.4}",
            law.a.value, law.b.value
        );
    }
}
