//! The [`AblationTable`] of an ablation: a row for each run, its scores in columns, and the paper's own table
//! beside it.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::record::ScoreRecord;

/// One run.
#[derive(Clone, Debug)]
pub struct AblationRun {
    /// Its value on each axis.
    pub names: Vec<String>,
    /// Its run folder.
    pub folder: PathBuf,
    /// The content of its `eval.json`.
    pub scores: Vec<ScoreRecord>,
}

/// A table of the paper, printed beside the ablation's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PaperTable {
    /// The table's title.
    pub title: String,
    /// The heads of its columns.
    pub columns: Vec<String>,
    /// The rows; each has a text for every column.
    pub rows: Vec<Vec<String>>,
}

impl PaperTable {
    /// Refuses a row with more or fewer texts than there are columns.
    ///
    /// # Errors
    /// The row.
    pub(crate) fn check(&self) -> Result<()> {
        let columns = self.columns.len();
        for (i, row) in self.rows.iter().enumerate() {
            let texts = row.len();
            ensure!(
                texts == columns,
                "paper.rows.{i} has {texts} texts for {columns} columns: give one for each"
            );
        }
        Ok(())
    }
}

/// All runs of an ablation.
#[derive(Clone, Debug, Serialize)]
pub struct AblationTable {
    axes: Vec<String>,
    /// `task` or `task 4-shot`.
    columns: Vec<String>,
    rows: Vec<AblationRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paper: Option<PaperTable>,
}

#[derive(Clone, Debug, Serialize)]
struct AblationRow {
    names: Vec<String>,
    run: PathBuf,
    /// Scores with their 95% intervals, by column; `None` where the run lacks it.
    scores: Vec<Option<(f64, [f64; 2])>>,
}

impl AblationTable {
    /// A row for each of `cells`, which have a value for each of `axes`. The columns are the scores of whole
    /// tasks, those of the encoder alone first, and for each number of shots that several tasks were asked
    /// with, the mean over tasks: the paper's 0-shot, 4-shot, 8-shot.
    pub fn new(axes: Vec<String>, cells: &[AblationRun], paper: Option<PaperTable>) -> Self {
        let (mut columns, mut probes) = (Vec::<String>::new(), Vec::<String>::new());
        let mut found = Vec::new();
        for cell in cells {
            let scores = &cell.scores;
            probes.extend(scores.iter().filter(|s| s.is_of_encoder()).map(|s| s.task.clone()));
            let of_cell = of_run(scores);
            for (column, _) in &of_cell {
                if !columns.contains(column) {
                    columns.push(column.clone());
                }
            }
            found.push(of_cell);
        }
        columns.sort_by_key(|column| !probes.contains(column));
        let rows = cells.iter().zip(found).map(|(cell, found)| AblationRow {
            names: cell.names.clone(),
            run: cell.folder.clone(),
            scores: columns
                .iter()
                .map(|column| found.iter().find(|(name, _)| name == column).map(|(_, score)| *score))
                .collect(),
        });
        Self { rows: rows.collect(), axes, columns, paper }
    }

    /// As Markdown.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        let heads: Vec<&str> = self.axes.iter().chain(&self.columns).map(String::as_str).collect();
        markdown_line(&mut text, heads.iter().copied());
        markdown_line(&mut text, heads.iter().map(|_| "---"));
        for row in &self.rows {
            let scores = row.scores.iter().map(|score| match score {
                Some((value, [low, high])) if low < high => format!("{value:.1} [{low:.1}, {high:.1}]"),
                Some((value, _)) => format!("**{value:.1}**"),
                None => "–".to_owned(),
            });
            markdown_line(&mut text, row.names.iter().cloned().chain(scores));
        }
        if let Some(paper) = &self.paper {
            let _ = writeln!(text, "\n{}:\n", paper.title);
            markdown_line(&mut text, paper.columns.iter());
            markdown_line(&mut text, paper.columns.iter().map(|_| "---"));
            paper.rows.iter().for_each(|row| markdown_line(&mut text, row.iter()));
        }
        text
    }
}

/// The columns of one run.
fn of_run(scores: &[ScoreRecord]) -> Vec<(String, (f64, [f64; 2]))> {
    let whole: Vec<&ScoreRecord> = scores.iter().filter(|s| !s.task.contains('/')).collect();
    let name = |s: &ScoreRecord| {
        if s.is_of_encoder() { s.task.clone() } else { format!("{} {}-shot", s.task, s.shots) }
    };
    let mut columns: Vec<_> = whole
        .iter()
        .filter_map(|s| {
            let [low, high] = s.ci95?;
            Some((name(s), (s.value?, [low?, high?])))
        })
        .collect();
    let mut shots: Vec<u64> = whole.iter().filter(|s| !s.is_of_encoder()).map(|s| s.shots).collect();
    shots.sort_unstable();
    shots.dedup();
    for shots in shots {
        let of: Vec<f64> =
            whole.iter().filter(|s| !s.is_of_encoder() && s.shots == shots).filter_map(|s| s.value).collect();
        if of.len() > 1 {
            let mean = of.iter().sum::<f64>() / of.len() as f64;
            columns.push((format!("mean {shots}-shot"), (mean, [mean; 2])));
        }
    }
    columns
}

pub(crate) fn markdown_line(text: &mut String, cells: impl Iterator<Item = impl AsRef<str>>) {
    let _ = writeln!(
        text,
        "| {} |",
        cells.map(|c| c.as_ref().replace('|', "\\|")).collect::<Vec<_>>().join(" | ")
    );
}
