//! Two models on the same questions, or one after more and fewer demonstrations: the paired test of every
//! evaluation that both folders, or one, hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use crate::item::ItemResult;
use crate::log;
use crate::score::bootstrap::{self, Difference};

/// Seed of the resampling.
const SEED: u64 = 1;

/// One evaluation of both.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskComparison {
    /// `STAGE/TASK-K-shot`, or without the stage where each folder has one of its own; of one folder
    /// `STAGE/TASK, K − J shots`.
    pub task: String,
    /// Questions that both were asked.
    pub n: usize,
    /// Questions that one of them was not asked.
    pub alone: usize,
    /// The mean of the first on them.
    pub a: f64,
    /// The mean of the second.
    pub b: f64,
    /// `a − b`, with its interval and the two-sided p.
    pub difference: Difference,
}

/// Compares the answers in the folders `eval/` of two runs or evaluations.
///
/// # Errors
/// A folder without answers, or two that share no evaluation.
pub fn folders(a: &Path, b: &Path) -> Result<Vec<TaskComparison>> {
    let (mut of_a, mut of_b) = (evaluations(a)?, evaluations(b)?);
    let stages =
        |of: &BTreeMap<[String; 2], _>| of.keys().map(|[stage, _]| stage.clone()).collect::<BTreeSet<_>>();
    // Stages that are called differently are meant to be compared where there is no choice.
    if stages(&of_a).len() == 1 && stages(&of_b).len() == 1 && stages(&of_a) != stages(&of_b) {
        let bare = |of: BTreeMap<[String; 2], _>| {
            of.into_iter().map(|([_, task], items)| ([String::new(), task], items)).collect()
        };
        (of_a, of_b) = (bare(of_a), bare(of_b));
    }
    let mut compared = Vec::new();
    for ([stage, task], items) in of_a {
        if let Some(others) = of_b.remove(&[stage.clone(), task.clone()]) {
            let name = if stage.is_empty() { task } else { format!("{stage}/{task}") };
            compared.extend(pair(name, items, &others));
        }
    }
    ensure!(
        !compared.is_empty(),
        "{} and {} hold no answers to the same questions: evaluate both with the same --tasks, --shots \
         and --seed",
        a.display(),
        b.display()
    );
    Ok(compared)
}

/// Compares the answers of one folder with one another: those after more demonstrations (the first of the
/// comparison) with those after the fewest, for each stage and task.
///
/// # Errors
/// A folder without answers, or with one number of demonstrations of each task.
pub fn shots(root: &Path) -> Result<Vec<TaskComparison>> {
    let mut by_task = BTreeMap::<String, BTreeMap<usize, Vec<ItemResult>>>::new();
    for ([stage, name], items) in evaluations(root)? {
        let numbered = name.strip_suffix("-shot").and_then(|name| name.rsplit_once('-'));
        if let Some((task, Ok(shots))) = numbered.map(|(task, shots)| (task, shots.parse())) {
            by_task.entry(format!("{stage}/{task}")).or_default().insert(shots, items);
        }
    }
    let mut compared = Vec::new();
    for (task, mut by_shots) in by_task {
        let Some((fewest, fewer)) = by_shots.pop_first() else { continue };
        let more = by_shots.into_iter();
        compared.extend(
            more.filter_map(|(k, items)| pair(format!("{task}, {k} − {fewest} shots"), items, &fewer)),
        );
    }
    ensure!(
        !compared.is_empty(),
        "{}: each task was asked with one number of demonstrations: evaluate with two, as in --shots 0,4, or \
         give a second folder",
        root.display()
    );
    Ok(compared)
}

fn pair(task: String, items: Vec<ItemResult>, others: &[ItemResult]) -> Option<TaskComparison> {
    let scores: BTreeMap<&str, f64> = others.iter().map(|item| (item.id.as_str(), item.score)).collect();
    let questions = items.len() + others.len();
    let both: Vec<(f64, f64)> =
        items.iter().filter_map(|item| Some((item.score, *scores.get(item.id.as_str())?))).collect();
    let (a, b): (Vec<f64>, Vec<f64>) = both.into_iter().unzip();
    let difference = bootstrap::paired(&a, &b, SEED)?;
    let mean = |scores: &[f64]| scores.iter().sum::<f64>() / scores.len() as f64;
    Some(TaskComparison {
        task,
        n: a.len(),
        alone: questions - 2 * a.len(),
        a: mean(&a),
        b: mean(&b),
        difference,
    })
}

/// The answers of each `eval/STAGE/TASK-K-shot.jsonl`; those of blind models are baselines, not compared.
fn evaluations(root: &Path) -> Result<BTreeMap<[String; 2], Vec<ItemResult>>> {
    let mut found = BTreeMap::new();
    let folder = root.join("eval");
    let list = |folder: &Path| -> Result<Vec<(String, std::path::PathBuf)>> {
        let entries = fs::read_dir(folder).with_context(|| {
            format!("{}: no answers; give a run folder or the --out of `mm1 eval`", folder.display())
        })?;
        let entry = |entry: std::io::Result<fs::DirEntry>| {
            let entry = entry?;
            Ok((entry.file_name().to_string_lossy().into_owned(), entry.path()))
        };
        entries.map(entry).collect()
    };
    // What a system keeps beside folders, such as `.DS_Store`, is no stage.
    for (stage, folder) in list(&folder)?.into_iter().filter(|(_, path)| path.is_dir()) {
        for (name, file) in list(&folder)? {
            if let Some(task) = name.strip_suffix(".jsonl").filter(|task| !task.ends_with("-blind")) {
                found.insert([stage.clone(), task.to_owned()], log::read(&file)?);
            }
        }
    }
    ensure!(!found.is_empty(), "{}: it holds no answers", folder.display());
    Ok(found)
}
