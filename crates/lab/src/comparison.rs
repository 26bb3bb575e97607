//! A page of several runs beside each other: how they differ, their scores, and their curves over each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use toml::Value;

use crate::number::{count, duration};
use crate::overlay::{MOST_CURVES, OverlaidCurve, Overlay, line_key};
use crate::plot::escape;
use crate::record::{ScoreRecord, StepRecord};
use crate::report::document;
use crate::result::{distinct, value};
use crate::run::{RunRecords, StageRecords};
use crate::section::{self, TRAINING_HEADS, row};

/// Letters of a setting that are shown.
const LONGEST: usize = 80;
/// Settings that are shown.
const MOST_SETTINGS: usize = 60;

/// A run with the name that it has on the page.
pub struct ComparedRun {
    /// The end of its folder's path, as much as tells it apart from others.
    pub name: String,
    /// As it was given.
    pub folder: PathBuf,
    records: RunRecords,
}

/// Reads the runs in `folders`, two or more.
///
/// # Errors
/// A folder that is none or comes twice; more runs than can be told apart.
pub fn read(folders: &[PathBuf]) -> Result<Vec<ComparedRun>> {
    ensure!(
        folders.len() <= MOST_CURVES,
        "{} runs: give {MOST_CURVES} at most, since more curves can't be told apart; `mm1 ablate` does \
         studies of any number",
        folders.len()
    );
    let mut runs = Vec::new();
    for (folder, name) in folders.iter().zip(names(folders)?) {
        runs.push(ComparedRun { name, folder: folder.clone(), records: RunRecords::read(folder)? });
    }
    Ok(runs)
}

/// As many of the last parts of each path as tell all apart.
fn names(folders: &[PathBuf]) -> Result<Vec<String>> {
    let mut full = Vec::new();
    for folder in folders {
        let path =
            folder.canonicalize().with_context(|| format!("{}: not a run folder", folder.display()))?;
        ensure!(!full.contains(&path), "{}: the same folder comes twice", folder.display());
        full.push(path);
    }
    let parts: Vec<Vec<String>> = full
        .iter()
        .map(|path| path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect())
        .collect();
    let longest = parts.iter().map(Vec::len).max().unwrap_or(0);
    let last = |count: usize| -> Vec<String> {
        parts.iter().map(|of| of[of.len().saturating_sub(count)..].join("/")).collect()
    };
    let tells = |names: &Vec<String>| names.iter().collect::<BTreeSet<_>>().len() == names.len();
    Ok((1..longest).map(last).find(tells).unwrap_or_else(|| last(longest)))
}

/// The whole page. Everything that comes from the runs is escaped.
pub fn page(runs: &[ComparedRun]) -> String {
    let title = format!("{} runs compared", runs.len());
    let mut body = format!("<header>\n<h1>{title}</h1>\n{}</header>\n{}", legend(runs), notes(runs));
    for (heading, html) in [
        ("Runs", runs_table(runs)),
        ("Settings that differ", settings(runs)),
        ("Scores", scores(runs)),
        ("Training", training(runs)),
    ] {
        if !html.is_empty() {
            body += &format!("<section><h2>{heading}</h2>\n{html}</section>\n");
        }
    }
    document(&title, &body)
}

/// Writes the page of `runs` to `file`, as a whole.
///
/// # Errors
/// A file that can't be written.
pub fn write(runs: &[ComparedRun], file: &Path) -> Result<()> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let put = || std::fs::write(&beside, page(runs)).and_then(|()| std::fs::rename(&beside, file));
    put()
        .inspect_err(|_| drop(std::fs::remove_file(&beside)))
        .with_context(|| format!("writing {}", file.display()))
}

fn legend(runs: &[ComparedRun]) -> String {
    let item = |(i, run): (usize, &ComparedRun)| format!("<li>{}{}</li>", line_key(i), escape(&run.name));
    let items: String = runs.iter().enumerate().map(item).collect();
    format!("<ul class=\"legend\">{items}</ul>\n")
}

/// What is missing or broken of any run.
fn notes(runs: &[ComparedRun]) -> String {
    let of = |run: &ComparedRun| {
        let note = |note: &String| format!("<li>{}: {}</li>", escape(&run.name), escape(note));
        run.records.notes.iter().map(note).collect::<String>()
    };
    let items: String = runs.iter().map(of).collect();
    if items.is_empty() {
        return items;
    }
    format!("<aside class=\"notes\" role=\"note\"><h2>What is missing</h2><ul>{items}</ul></aside>\n")
}

/// A table whose first `texts` columns are texts, which do not wrap; cells are HTML.
fn table(heads: &[String], texts: usize, rows: &[Vec<String>]) -> String {
    section::table("left", heads, texts, rows)
}

fn owned(heads: &[&str]) -> Vec<String> {
    heads.iter().map(|head| (*head).to_owned()).collect()
}

/// The escaped names of all runs, as heads of columns.
fn run_heads(runs: &[ComparedRun]) -> impl Iterator<Item = String> {
    runs.iter().map(|run| escape(&run.name))
}

fn runs_table(runs: &[ComparedRun]) -> String {
    let sum = |run: &ComparedRun, of: fn(&StepRecord) -> Option<f64>| -> f64 {
        run.records.stages.iter().map(|stage| stage.sum(of)).sum()
    };
    let line = |run: &ComparedRun| {
        let parts = run.records.planned("parameters").and_then(Value::as_table);
        let parameters: Option<i64> =
            parts.map(|parts| parts.values().filter_map(Value::as_integer).sum::<i64>());
        vec![
            escape(&run.name),
            escape(&run.folder.display().to_string()),
            escape(&run.records.name),
            parameters.map_or_else(|| "–".to_owned(), |n| count(n as f64)),
            count(sum(run, |step| step.tokens)),
            count(sum(run, |step| step.images)),
            duration(sum(run, |step| step.seconds)),
        ]
    };
    let heads = owned(&["Run", "Folder", "Recipe", "Parameters", "Tokens", "Pictures", "Training"]);
    table(&heads, 3, &runs.iter().map(line).collect::<Vec<_>>())
}

/// The settings in which the runs' plans differ, but for what the runs are called.
fn settings(runs: &[ComparedRun]) -> String {
    let mut of_runs = Vec::new();
    for run in runs.iter().filter(|run| !run.records.plan.is_empty()) {
        let plan = &run.records.plan;
        let recipe = plan.get("settled").and_then(|settled| settled.get("recipe"));
        let mut found = BTreeMap::new();
        flatten("", recipe.unwrap_or(&Value::Table(plan.clone())), &mut found);
        found.remove("name");
        of_runs.push((run, found));
    }
    let paths: BTreeSet<&String> = of_runs.iter().flat_map(|(_, settings)| settings.keys()).collect();
    let differs = |path: &&&String| of_runs.iter().any(|(_, of)| of.get(**path) != of_runs[0].1.get(**path));
    let differing: Vec<&&String> = paths.iter().filter(differs).collect();
    if of_runs.len() < 2 {
        return String::new();
    }
    if differing.is_empty() {
        return "<p>The runs have the same settings.</p>\n".to_owned();
    }
    let line = |path: &&&String| {
        let cell = |(_, settings): &(&ComparedRun, BTreeMap<String, String>)| {
            settings.get(**path).map_or_else(|| "–".to_owned(), |value| escape(value))
        };
        std::iter::once(escape(path)).chain(of_runs.iter().map(cell)).collect()
    };
    let heads: Vec<String> = std::iter::once("Setting".to_owned())
        .chain(of_runs.iter().map(|(run, _)| escape(&run.name)))
        .collect();
    let shown: Vec<Vec<String>> = differing.iter().take(MOST_SETTINGS).map(line).collect();
    let more = differing.len().saturating_sub(MOST_SETTINGS);
    let more = if more > 0 { format!("<p class=\"caption\">And {more} more.</p>\n") } else { String::new() };
    table(&heads, heads.len(), &shown) + &more
}

/// Every setting below `value` with its path; what has a name is found by it.
fn flatten(path: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    let under = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let name = |item: &Value| item.get("name").and_then(Value::as_str).map(str::to_owned);
    match value {
        Value::Table(table) => table.iter().for_each(|(key, inner)| flatten(&under(key), inner, found)),
        Value::Array(items) if !items.is_empty() && items.iter().all(|item| name(item).is_some()) => {
            items.iter().for_each(|item| flatten(&under(&name(item).unwrap_or_default()), item, found));
        }
        other => {
            let text = other.as_str().map_or_else(|| other.to_string(), str::to_owned);
            let cut = text.chars().count() > LONGEST;
            let shown: String = text.chars().take(LONGEST).collect();
            found.insert(path.to_owned(), if cut { shown + "…" } else { shown });
        }
    }
}

/// A row for each evaluation, task and number of shots, a column for each run.
fn scores(runs: &[ComparedRun]) -> String {
    let whole = |run: &ComparedRun| -> Vec<ScoreRecord> {
        run.records.scores.iter().filter(|score| !score.task.contains('/')).cloned().collect()
    };
    let of_runs: Vec<Vec<ScoreRecord>> = runs.iter().map(whole).collect();
    let places = distinct(of_runs.iter().flatten().map(|s| (&s.stage, &s.task, s.shots)));
    if places.is_empty() {
        return String::new();
    }
    let line = |&(stage, task, shots): &(&String, &String, u64)| {
        let of = |scores: &Vec<ScoreRecord>| {
            let is = |s: &&ScoreRecord| (&s.stage, &s.task, s.shots) == (stage, task, shots);
            scores.iter().find(is).cloned()
        };
        let found: Vec<Option<ScoreRecord>> = of_runs.iter().map(of).collect();
        let metrics = distinct(found.iter().flatten().map(|s| s.metric_name().to_owned())).join("; ");
        let questions = distinct(found.iter().flatten().filter_map(|s| s.n));
        let n = questions.iter().map(u64::to_string).collect::<Vec<_>>().join(" or ");
        let of_encoder = found.iter().flatten().all(ScoreRecord::is_of_encoder);
        let shots = if of_encoder { "–".to_owned() } else { shots.to_string() };
        let cell = |score: &Option<ScoreRecord>| score.as_ref().map_or_else(|| "–".to_owned(), value);
        [escape(stage), format!("{} <small>{}</small>", escape(task), escape(&metrics)), shots, n]
            .into_iter()
            .chain(found.iter().map(cell))
            .collect()
    };
    let heads: Vec<String> =
        owned(&["Stage", "Task", "Shots", "<i>n</i>"]).into_iter().chain(run_heads(runs)).collect();
    let lines: Vec<Vec<String>> = places.iter().map(line).collect();
    format!(
        "{}<p class=\"caption\">In brackets: 95% interval over the questions, without the chance of the \
         seed; <i>n</i>: number of questions. Only a study with seeds shows whether settings differ.</p>\n",
        table(&heads, 2, &lines)
    )
}

/// Every stage that a run has steps of: a table, and the losses over each other.
fn training(runs: &[ComparedRun]) -> String {
    let named = |run: &ComparedRun, name: &str| -> bool {
        run.records.stages.iter().any(|stage| stage.name == name && !stage.steps.is_empty())
    };
    let names = distinct(runs.iter().flat_map(|run| run.records.stages.iter().map(|s| s.name.as_str())));
    let there = names.into_iter().filter(|name| runs.iter().any(|run| named(run, name)));
    there.map(|name| of_stage(runs, name)).collect()
}

fn of_stage(runs: &[ComparedRun], name: &str) -> String {
    let stages: Vec<(usize, &ComparedRun, &StageRecords)> = runs
        .iter()
        .enumerate()
        .filter_map(|(i, run)| {
            let stage = run.records.stages.iter().find(|s| s.name == name && !s.steps.is_empty())?;
            Some((i, run, stage))
        })
        .collect();
    let heads: String = std::iter::once("Run")
        .chain(TRAINING_HEADS[1..].iter().copied())
        .map(|head| format!(r#"<th scope="col">{head}</th>"#))
        .collect();
    let rows: String = stages.iter().map(|(_, run, stage)| row(&run.name, stage)).collect();
    let units = distinct(stages.iter().map(|(_, _, stage)| stage.loss_unit()));
    let y = if let [unit] = units[..] { unit.to_owned() } else { "loss; units differ".to_owned() };
    let language = stages.iter().all(|(_, _, stage)| stage.is_language());
    let (seen, amount) = if language {
        ("tokens", (|step: &StepRecord| step.tokens) as fn(&StepRecord) -> Option<f64>)
    } else {
        ("pictures", (|step: &StepRecord| step.images) as fn(&StepRecord) -> Option<f64>)
    };
    let figure = |over: &str, x: &str, of: &dyn Fn(&StageRecords) -> Vec<(f64, f64)>| {
        let curves: Vec<OverlaidCurve<'_>> = stages
            .iter()
            .map(|(number, run, stage)| OverlaidCurve { name: &run.name, number: *number, points: of(stage) })
            .collect();
        let title = format!("Loss of stage {name} over {over}");
        let svg = Overlay { title: &title, x, y: &y, curves: &curves }.svg();
        format!("<figure><figcaption>Loss over {over}</figcaption>{svg}</figure>\n")
    };
    let figures = [
        figure("steps", "step", &|stage| stage.points(|s| s.loss)),
        figure(seen, seen, &|stage| summed(stage, amount)),
        figure("time", "seconds of training", &|stage| summed(stage, |step| step.seconds)),
    ];
    format!(
        "<h3>{}</h3>\n<div class=\"scroll\"><table><thead><tr>{heads}</tr></thead>\n<tbody>{rows}</tbody>\
         </table></div>\n<div class=\"plots\">{}</div>\n{}<p class=\"caption\">Moving averages over a \
         thirtieth of each curve.</p>\n",
        escape(name),
        figures.concat(),
        legend(runs)
    )
}

/// The loss over what all steps up to each have together.
fn summed(stage: &StageRecords, amount: impl Fn(&StepRecord) -> Option<f64>) -> Vec<(f64, f64)> {
    let mut sum = 0.0;
    let point = |step: &StepRecord| {
        sum += amount(step).unwrap_or(0.0);
        (sum, step.loss.unwrap_or(f64::NAN))
    };
    stage.steps.iter().map(point).collect()
}
