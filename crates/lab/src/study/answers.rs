//! [`RunAnswers`]: the scores of a run's examples, from the answers in its folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::scores::ScoredRun;
use crate::run::RunRecords;

/// What a study takes of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunAnswers {
    /// The tasks whose score is the mean over their examples.
    pub scored: ScoredRun,
    /// Tasks whose score is another: of a whole corpus such as BLEU's and perplexity, or of other answers.
    pub left_out: Vec<String>,
}

/// The first line of a file of answers.
#[derive(Deserialize)]
struct AnswersHead {
    about: AnswersAbout,
}

/// What they answer.
#[derive(Deserialize)]
struct AnswersAbout {
    task: String,
    shots: u64,
    blind: bool,
}

/// Any other line.
#[derive(Deserialize)]
struct ExampleScore {
    id: String,
    score: f64,
}

impl RunAnswers {
    /// The answers of `stage` after `shots` demonstrations, in `eval/STAGE/*.jsonl` of a run folder. Those of
    /// blind models are baselines and not among them.
    ///
    /// # Errors
    /// A folder that is none of a run, no answers, or damaged ones; the line names the file.
    pub fn read(folder: &Path, stage: &str, shots: u64) -> Result<Self> {
        Self::of(&RunRecords::read(folder)?, folder, stage, shots)
    }

    /// The same, of a run whose other `records` were read before.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn of(records: &RunRecords, folder: &Path, stage: &str, shots: u64) -> Result<Self> {
        let seed = records.planned("seed").and_then(toml::Value::as_integer);
        let seed = seed.and_then(|seed| u64::try_from(seed).ok()).with_context(|| {
            format!("{}: its plan.toml names no seed; give the --out of `mm1 run`", folder.display())
        })?;
        let (mut tasks, mut left_out) = (BTreeMap::new(), Vec::new());
        for path in files(&folder.join("eval").join(stage))? {
            let Some((task, scores)) = answers(&path, shots)? else { continue };
            let mean = scores.values().sum::<f64>() / scores.len() as f64;
            let whole = records
                .scores
                .iter()
                .find(|score| score.stage == stage && score.task == task && score.shots == shots)
                .and_then(|score| score.value);
            if whole.is_some_and(|whole| (whole - mean).abs() <= 1e-6 * (1.0 + whole.abs())) {
                tasks.insert(task, scores);
            } else {
                left_out.push(task);
            }
        }
        ensure!(
            !tasks.is_empty(),
            "{}: stage {stage} has no answers with {shots} shots whose mean is a score of eval.json; \
             evaluate again",
            folder.display()
        );
        Ok(Self { scored: ScoredRun { seed, tasks }, left_out })
    }
}

/// The files of answers, in order of their names.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)
        .with_context(|| format!("{}: no answers; give a run folder with this stage", folder.display()))?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let mut paths: Vec<_> =
        paths.into_iter().filter(|path| path.extension().is_some_and(|e| e == "jsonl")).collect();
    paths.sort();
    Ok(paths)
}

/// The task and the scores by example; `None` of other `shots` and of blind models.
fn answers(path: &Path, shots: u64) -> Result<Option<(String, BTreeMap<String, f64>)>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut lines = text.lines();
    let damaged = |line: usize| format!("{}: line {line} is damaged: evaluate again", path.display());
    let head: AnswersHead =
        serde_json::from_str(lines.next().unwrap_or_default()).with_context(|| damaged(1))?;
    if head.about.blind || head.about.shots != shots {
        return Ok(None);
    }
    let mut scores = BTreeMap::new();
    for (i, line) in lines.enumerate() {
        let example: ExampleScore = serde_json::from_str(line).with_context(|| damaged(i + 2))?;
        let twice = scores.insert(example.id, example.score).is_some();
        ensure!(!twice, "{}: line {} answers an example again: evaluate again", path.display(), i + 2);
    }
    Ok(Some((head.about.task, scores)))
}
