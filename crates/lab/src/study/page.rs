//! A study as a page, as Markdown and as CSV: what it has shown, in sentences, figures and numbers.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::findings::{SettingMean, StudyFindings, StudyOutcomeFindings};
use super::record::{RunState, StudyRecord, StudyRun};
use super::results::StudyResults;
use crate::ablation::{PaperTable, markdown_line};
use crate::plot::{Intervals, Mark, Series, escape, key};
use crate::record::ScoreRecord;
use crate::report::{ReportAuthor, document, put};
use crate::result::distinct;
use crate::section;
use crate::words::shots;

/// What the intervals are.
const INTERVALS: &str = "Mean over tasks; ± is half of the 95% interval, over seeds and questions. \
                         Differences are paired by seed and question, averaged over the other axes, and \
                         corrected for their number (Holm).";

/// The widest line of text in Markdown; rows of tables are as wide as they are.
const WIDTH: usize = 110;

/// The whole page of a study; it leads to the pages of runs that lie beside its `folder`.
pub fn page(results: &StudyResults, folder: Option<&Path>, findings: &StudyFindings) -> String {
    let study = &results.study;
    let list =
        |items: &[String]| items.iter().map(|item| format!("<li>{}</li>", escape(item))).collect::<String>();
    let done = study.runs.iter().filter(|run| run.state == RunState::Done).count();
    let mut body = format!(
        "<header>\n<h1>{}</h1>\n<ul class=\"facts\"><li>{done} of {} runs are done</li></ul>\n</header>\n",
        escape(&study.name),
        study.runs.len()
    );
    if !findings.notes.is_empty() {
        let _ = writeln!(
            body,
            "<aside class=\"notes\" role=\"note\"><h2>What these figures don't say</h2><ul>{}</ul></aside>",
            list(&findings.notes)
        );
    }
    for outcome in &findings.outcomes {
        let _ = writeln!(
            body,
            "<section><h2>{}</h2>\n<ul class=\"verdict\">{}</ul>\n<p class=\"caption\">{INTERVALS} Tasks: \
             {}.</p>\n{}</section>",
            escape(&title(outcome)),
            list(&outcome.sentences),
            escape(&outcome.tasks.join(", ")),
            settings_table(study, outcome)
        );
    }
    body += &plots(findings);
    let _ = writeln!(body, "<section><h2>Runs</h2>\n{}</section>", runs_table(study, folder));
    if let Some(paper) = &study.paper {
        let _ =
            writeln!(body, "<section><h2>{}</h2>\n{}</section>", escape(&paper.title), paper_table(paper));
    }
    document(&study.name, &body)
}

/// Writes the page of a study: `report.html` in its folder, or `NAME.html` beside its results `NAME.json`.
///
/// # Errors
/// A folder without a study, a file that has no results, or a page that can't be written.
pub fn write(path: &Path) -> Result<PathBuf> {
    let results = StudyResults::read(path)?;
    let findings = StudyFindings::of(&results);
    if path.is_dir() {
        return write_beside(path, &results, &findings);
    }
    let file = path.with_extension("html");
    std::fs::write(&file, page(&results, None, &findings)).with_context(|| file.display().to_string())?;
    Ok(file)
}

/// Writes the page of the study in `folder`, whose `results` and `findings` are known.
///
/// # Errors
/// A page that can't be written.
pub fn write_beside(folder: &Path, results: &StudyResults, findings: &StudyFindings) -> Result<PathBuf> {
    put(folder, &page(results, Some(folder), findings), ReportAuthor::Reader)
}

fn title(outcome: &StudyOutcomeFindings) -> String {
    format!("{}, {}", outcome.stage, shots(outcome.shots))
}

/// `56.1 ± 2.3`
fn plus_minus(of: &SettingMean) -> String {
    let estimate = &of.mean.estimate;
    format!("{:.1} ± {:.1}", estimate.value, estimate.half_width())
}

/// The names of axes but repeats.
fn heads(study: &StudyRecord) -> Vec<&str> {
    study.axes.iter().filter(|axis| !axis.repeats).map(|axis| axis.name.as_str()).collect()
}

/// A table; the first `names` columns are texts, and long ones wrap. Cells are HTML.
fn table(heads: &[&str], names: usize, rows: &[Vec<String>]) -> String {
    let heads: Vec<String> = heads.iter().map(|head| escape(head)).collect();
    section::table("text", &heads, names, rows)
}

fn settings_table(study: &StudyRecord, outcome: &StudyOutcomeFindings) -> String {
    let names = heads(study);
    let heads = [&names[..], &["mean score", "seeds", "questions"]].concat();
    let row = |of: &SettingMean| {
        let names = of.names.iter().map(|name| escape(name));
        names.chain([plus_minus(of), of.mean.seeds.to_string(), of.mean.examples.to_string()]).collect()
    };
    table(&heads, names.len(), &outcome.settings.iter().map(row).collect::<Vec<_>>())
}

/// Each axis: its values across, a series for each evaluation and number of shots.
fn plots(findings: &StudyFindings) -> String {
    let means = findings.outcomes.iter().flat_map(|outcome| &outcome.means);
    let axes = distinct(means.map(|means| means.axis.as_str()));
    let figures: String = axes.into_iter().map(|axis| figure(findings, axis)).collect();
    if figures.is_empty() {
        return figures;
    }
    format!("<section><h2>Axes</h2>\n<div class=\"plots\">{figures}</div></section>\n")
}

fn figure(findings: &StudyFindings, axis: &str) -> String {
    let (mut columns, mut series) = (Vec::<String>::new(), Vec::new());
    for (colour, outcome) in findings.outcomes.iter().enumerate() {
        let Some(means) = outcome.means.iter().find(|means| means.axis == axis) else { continue };
        columns = means.values.iter().map(|(name, _)| name.clone()).collect();
        let mark = |(column, (_, mean)): (usize, &(String, super::scores::MeanEstimate))| {
            let [low, high] = mean.estimate.ci95();
            Mark { column, value: mean.estimate.value, interval: Some((low, high)) }
        };
        let marks = means.values.iter().enumerate().map(mark).collect();
        series.push(Series { name: title(outcome), colour, baseline: false, marks });
    }
    let title = format!("mean score over {axis}");
    let svg = Intervals { title: &title, x: axis, y: "mean score", columns: &columns, series: &series }.svg();
    let legend: String = series.iter().map(|s| format!("<li>{}{}</li>", key(s), escape(&s.name))).collect();
    format!(
        "<figure><figcaption>{}</figcaption>{svg}<ul class=\"legend\">{legend}</ul></figure>\n",
        escape(axis)
    )
}

/// Every run with the way to its page.
fn runs_table(study: &StudyRecord, folder: Option<&Path>) -> String {
    let has_page =
        |run: &StudyRun| folder.is_some_and(|of| of.join(&run.folder).join("report.html").exists());
    let names: Vec<&str> = study.axes.iter().map(|axis| axis.name.as_str()).collect();
    let heads = [&names[..], &["run"]].concat();
    let row = |run: &StudyRun| {
        let state = match &run.state {
            RunState::Done | RunState::Running if has_page(run) => {
                format!("<a href=\"{}/report.html\">its page</a>", escape(&shown(&run.folder)))
            }
            RunState::Failed(reason) => format!("failed: {}", escape(reason)),
            RunState::Waiting => "waiting".to_owned(),
            RunState::Done => "done".to_owned(),
            RunState::Running => "running".to_owned(),
        };
        run.names.iter().map(|name| escape(name)).chain([state]).collect()
    };
    table(&heads, heads.len(), &study.runs.iter().map(row).collect::<Vec<_>>())
}

/// A path as links have it.
fn shown(folder: &Path) -> String {
    folder.to_string_lossy().replace('\\', "/")
}

fn paper_table(paper: &PaperTable) -> String {
    let heads: Vec<&str> = paper.columns.iter().map(String::as_str).collect();
    let rows: Vec<Vec<String>> =
        paper.rows.iter().map(|row| row.iter().map(|cell| escape(cell)).collect()).collect();
    table(&heads, 1, &rows)
}

/// The same as Markdown.
pub fn markdown(results: &StudyResults, findings: &StudyFindings) -> String {
    let study = &results.study;
    let mut text = format!("# {}\n", study.name);
    for note in &findings.notes {
        let _ = write!(text, "\n{}\n", wrapped(note, "> ", "> "));
    }
    for outcome in &findings.outcomes {
        let _ = writeln!(text, "\n## {}\n", title(outcome));
        for sentence in &outcome.sentences {
            let _ = writeln!(text, "{}", wrapped(sentence, "- ", "  "));
        }
        if !outcome.sentences.is_empty() {
            text.push('\n');
        }
        let tasks = format!("{INTERVALS} Tasks: {}.", outcome.tasks.join(", "));
        let _ = writeln!(text, "{}\n", wrapped(&tasks, "", ""));
        let names = heads(study);
        let heads = [&names[..], &["mean score", "seeds", "questions"]].concat();
        markdown_line(&mut text, heads.iter());
        markdown_line(&mut text, heads.iter().map(|_| "---"));
        for of in &outcome.settings {
            let figures = [plus_minus(of), of.mean.seeds.to_string(), of.mean.examples.to_string()];
            markdown_line(&mut text, of.names.iter().chain(&figures));
        }
    }
    let _ = write!(text, "\n## Runs\n\n{}", results.table().markdown());
    text
}

/// `text` in lines of at most [`WIDTH`] columns, the first after `first` and the others after `next`.
pub(crate) fn wrapped(text: &str, first: &str, next: &str) -> String {
    let (mut lines, mut line) = (String::new(), first.to_owned());
    let mut words = 0;
    for word in text.split(' ') {
        if words > 0 && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines = lines + &line + "\n";
            (line, words) = (next.to_owned(), 0);
        }
        if words > 0 {
            line.push(' ');
        }
        line += word;
        words += 1;
    }
    lines + &line
}

/// A line for each score of each run.
pub fn csv(results: &StudyResults) -> String {
    let (mut text, study) = (String::new(), &results.study);
    let heads = ["stage", "task", "shots", "metric", "value", "low", "high", "n", "run"];
    csv_line(&mut text, study.axes.iter().map(|axis| axis.name.as_str()).chain(heads));
    for run in &results.runs {
        for score in run.scores.iter().cloned() {
            let ScoreRecord { stage, task, shots, metric, value, ci95, n, .. } = score;
            let number = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
            let [low, high] = ci95.unwrap_or_default().map(number);
            let n = n.map_or(String::new(), |n| n.to_string());
            let cells =
                [stage, task, shots.to_string(), metric, number(value), low, high, n, shown(&run.folder)];
            csv_line(&mut text, run.names.iter().chain(&cells).map(String::as_str));
        }
    }
    text
}

/// Cells as RFC 4180 has them.
fn csv_line<'a>(text: &mut String, cells: impl Iterator<Item = &'a str>) {
    let quoted = |cell: &str| {
        let plain = !cell.contains([',', '"', '\n', '\r']);
        if plain { cell.to_owned() } else { format!("\"{}\"", cell.replace('"', "\"\"")) }
    };
    *text += &cells.map(quoted).collect::<Vec<_>>().join(",");
    text.push('\n');
}
