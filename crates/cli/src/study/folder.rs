//! [`StudyFolder`]: what is kept of a study beside its run folders.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use mm1_data::whole_file;
use mm1_lab::ablation::{AblationRun, AblationTable};
use mm1_lab::study::record::{FILE, RunState, StudyRecord, StudyRun};
use mm1_lab::study::results::{self, StudyResults};

use super::Study;
use super::job::{Job, Jobs};
use crate::error::InputError;
use crate::run_folder;

/// Where the recipes of all jobs lie; the first that is there of a study.
const RECIPES: &str = "recipes";

/// The longest readable part of a file's name.
const LONGEST: usize = 80;

/// `study.json`, `table.md`, `table.json`, `results.json`, `recipes/`.
pub(super) struct StudyFolder {
    root: PathBuf,
    /// The recipe of each job.
    recipes: Vec<PathBuf>,
}

/// Whether a study has been planned in `folder`.
pub(crate) fn is_planned(folder: &Path) -> bool {
    folder.join(RECIPES).is_dir()
}

impl StudyFolder {
    /// Makes the folder of the study in `out`, with the recipes of all jobs.
    ///
    /// # Errors
    /// A folder that can't be written.
    pub(super) fn make(study: &Study, jobs: &Jobs, out: &Path) -> Result<Self> {
        let root = out.join(slug(&study.name));
        let folder = root.join(RECIPES);
        fs::create_dir_all(&folder)
            .map_err(|e| InputError::new(format!("--out {}: it can't be made: {e}", out.display())))?;
        let recipes = jobs.all.iter().map(|job| folder.join(file_name(job))).collect();
        let made = Self { root, recipes };
        let _lock = made.lock()?;
        for (job, path) in jobs.all.iter().zip(&made.recipes) {
            // A run that another process begins may be reading it.
            if fs::read(path).ok().as_deref() != Some(job.text.as_bytes()) {
                whole_file::replace(path, job.text.as_bytes()).with_context(|| path.display().to_string())?;
            }
        }
        Ok(made)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The recipe of the job in `place`.
    pub(super) fn recipe(&self, place: usize) -> &Path {
        &self.recipes[place]
    }

    /// What is kept of the study while its jobs are in `states`.
    pub(super) fn record(&self, study: &Study, jobs: &Jobs, states: &[RunState]) -> StudyRecord {
        let run = |(cell, &place): (&super::StudyCell, &usize)| StudyRun {
            names: cell.names.clone(),
            folder: Path::new("..")
                .join(jobs.all[place].folder.strip_prefix(self.out()).unwrap_or(&jobs.all[place].folder)),
            state: states[place].clone(),
        };
        let runs = study.cells.iter().zip(&jobs.of_cell).map(run).collect();
        StudyRecord::new(&study.name, &study.grid, runs)
    }

    /// Where studies and runs lie.
    fn out(&self) -> &Path {
        self.root.parent().unwrap_or(&self.root)
    }

    /// Writes what is kept, and the table of the runs that are done.
    ///
    /// # Errors
    /// A folder that can't be written; scores that can't be read.
    pub(super) fn write(&self, record: &StudyRecord) -> Result<()> {
        let table = table_of(record, &self.root)?;
        let _lock = self.lock()?;
        let put = |name: &str, bytes: &[u8]| {
            let path = self.root.join(name);
            whole_file::replace(&path, bytes).with_context(|| path.display().to_string())
        };
        put(FILE, &serde_json::to_vec_pretty(record)?)?;
        put("table.md", table.markdown().as_bytes())?;
        put("table.json", &serde_json::to_vec_pretty(&table)?)
    }

    /// Writes all that its page is made of as one file.
    ///
    /// # Errors
    /// A folder that can't be written.
    pub(super) fn write_results(&self, results: &StudyResults) -> Result<()> {
        let _lock = self.lock()?;
        let path = self.root.join(results::FILE);
        whole_file::replace(&path, results.text()?.as_bytes()).with_context(|| path.display().to_string())
    }

    /// Held while files are written: two processes may do the same study.
    fn lock(&self) -> Result<File> {
        let path = self.root.join(".lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|e| InputError::new(format!("{}: can't be written: {e}", path.display())))?;
        file.lock().with_context(|| format!("locking {}", path.display()))?;
        Ok(file)
    }
}

/// A row for each run of a study that is done.
///
/// # Errors
/// Scores that can't be read.
fn table_of(study: &StudyRecord, folder: &Path) -> Result<AblationTable> {
    let mut done = Vec::new();
    for run in study.runs.iter().filter(|run| run.state == RunState::Done) {
        let scores = run_folder::read_json(&folder.join(&run.folder).join("eval.json"))?.unwrap_or_default();
        done.push(AblationRun { names: run.names.clone(), folder: run.folder.clone(), scores });
    }
    let heads = study.axes.iter().map(|axis| axis.name.clone()).collect();
    Ok(AblationTable::new(heads, &done, study.paper.clone()))
}

/// `clip_64.0123456789abcdef.toml`: what it is, and which run folder.
fn file_name(job: &Job) -> String {
    let key = job.folder.file_name().unwrap_or_default().to_string_lossy();
    format!("{}.{key}.toml", slug(&job.title))
}

/// A name as that of a file.
fn slug(name: &str) -> String {
    let parts = name.split(", ").map(|part| {
        let plain = |c: char| if c.is_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' };
        part.chars().map(plain).collect::<String>()
    });
    let all = parts.collect::<Vec<_>>().join("_");
    all.chars().take(LONGEST).collect::<String>().trim_matches('.').to_owned()
}
