//! [`StudyRecord`]: `study.json`, the runs of a study with their places on its axes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::ablation::PaperTable;
use crate::grid::StudyGrid;
use crate::grid::axis::GridAxis;

/// The file's name in the folder of a study.
pub const FILE: &str = "study.json";

/// All that is kept of a study beside its run folders.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StudyRecord {
    /// The recipe's name.
    pub name: String,
    /// The axes in the order in which the recipe has them.
    pub axes: Vec<StudyAxis>,
    /// One run for each combination.
    pub runs: Vec<StudyRun>,
    /// The paper's table, if the recipe has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paper: Option<PaperTable>,
}

/// An axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StudyAxis {
    /// What is changed.
    pub name: String,
    /// The names of its values.
    pub values: Vec<String>,
    /// The value that the others are compared with.
    pub base: String,
    /// Whether it repeats every setting with other seeds.
    pub repeats: bool,
    /// Within what the values are claimed to be alike, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
}

/// The run of one combination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StudyRun {
    /// Its value on each axis.
    pub names: Vec<String>,
    /// Its run folder, from the study's folder.
    pub folder: PathBuf,
    /// How far it is.
    pub state: RunState,
}

/// How far a run is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// Not begun.
    Waiting,
    /// A process works on it.
    Running,
    /// Finished.
    Done,
    /// Given up, with the reason.
    Failed(String),
}

impl StudyAxis {
    /// As the study's file has it.
    pub fn of(axis: &GridAxis) -> Self {
        Self {
            name: axis.name.clone(),
            values: axis.values.iter().map(|value| value.name.clone()).collect(),
            base: axis.values[axis.base].name.clone(),
            repeats: axis.repeats,
            margin: axis.margin,
        }
    }

    /// Refuses a name that is none of its values.
    fn check(&self, name: &String) -> Result<()> {
        ensure!(self.values.contains(name), "the axis {:?} has no value {name:?}", self.name);
        Ok(())
    }
}

impl StudyRecord {
    /// A study of these `runs`.
    pub fn new(name: &str, grid: &StudyGrid, runs: Vec<StudyRun>) -> Self {
        let axes = grid.axes.iter().map(StudyAxis::of).collect();
        Self { name: name.to_owned(), axes, runs, paper: grid.paper.clone() }
    }

    /// The study in `folder`.
    ///
    /// # Errors
    /// A folder without a whole `study.json`.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let bytes = fs::read(&path).with_context(|| {
            format!(
                "{}: no study; give the folder with study.json that `mm1 ablate` has made",
                folder.display()
            )
        })?;
        let damaged = || format!("{}: damaged; the same `mm1 ablate` writes it again", path.display());
        let record: Self = serde_json::from_slice(&bytes).with_context(damaged)?;
        record.check().with_context(damaged)?;
        Ok(record)
    }

    /// Refuses what no study has, so that places of values can be taken for granted.
    ///
    /// # Errors
    /// A base or a name of a run that is none of its axis' values, a run with a name more or less than there
    /// are axes, a row of the paper's table that is longer or shorter than its head.
    pub(super) fn check(&self) -> Result<()> {
        for axis in &self.axes {
            axis.check(&axis.base)?;
        }
        self.runs.iter().try_for_each(|run| self.check_names(&run.names))?;
        self.paper.as_ref().map_or(Ok(()), PaperTable::check)
    }

    /// Refuses what are not the names of one of its runs.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(super) fn check_names(&self, names: &[String]) -> Result<()> {
        let (named, axes) = (names.len(), self.axes.len());
        ensure!(named == axes, "a run has {named} values for {axes} axes");
        self.axes.iter().zip(names).try_for_each(|(axis, name)| axis.check(name))
    }
}

impl StudyRun {
    /// Why it failed, if it did.
    pub fn failure(&self) -> Option<&str> {
        match &self.state {
            RunState::Failed(reason) => Some(reason),
            _ => None,
        }
    }
}
