//! [`LiveStudy`]: a study as it goes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use mm1_lab::live::{LiveRun, LiveState, last_written};
use mm1_lab::study::record::{RunState, StudyRecord, StudyRun};
use serde_json::json;

use super::view::{Shown, figures, silence, untrained};
use crate::estimate::duration;
use crate::study::last_process;

/// A study whose folder is looked at again and again.
pub(super) struct LiveStudy {
    folder: PathBuf,
    record: StudyRecord,
    /// The runs that work now, by their folders: of combinations, and of stages that several have in common.
    running: BTreeMap<PathBuf, LiveRun>,
}

impl LiveStudy {
    /// Looks for the first time.
    ///
    /// # Errors
    /// A damaged `study.json`.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let record = StudyRecord::read(folder)?;
        let mut study = Self { folder: folder.to_path_buf(), record, running: BTreeMap::new() };
        study.look();
        Ok(study)
    }

    /// Looks again. What can't be read now is as it was.
    pub(super) fn look(&mut self) {
        if let Ok(record) = StudyRecord::read(&self.folder) {
            self.record = record;
        }
        let mut now = BTreeMap::new();
        for folder in self.working() {
            let run = self.running.remove(&folder).or_else(|| LiveRun::open(&folder).ok());
            let Some(mut run) = run else { continue };
            run.look();
            if run.state == LiveState::Running {
                now.insert(folder, run);
            }
        }
        self.running = now;
    }

    /// The folders of runs that may be at work: those of the study that are said to, and those beside it
    /// that belong to no combination, as of stages that several runs begin with.
    fn working(&self) -> Vec<PathBuf> {
        let of_study: Vec<PathBuf> = self.record.runs.iter().map(|run| self.place(run)).collect();
        let running = self.record.runs.iter().filter(|run| run.state == RunState::Running);
        let mut found: Vec<PathBuf> = running.map(|run| self.place(run)).collect();
        let open = self.record.runs.iter().any(|run| run.state == RunState::Waiting);
        if open || !found.is_empty() {
            let beside = self.folder.join("..").join(crate::study::RUNS);
            let folders = beside.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
            let shared = folders.filter(|path| !of_study.contains(path) && is_at_work(path));
            found.extend(shared);
        }
        found
    }

    fn place(&self, run: &StudyRun) -> PathBuf {
        self.folder.join(&run.folder)
    }

    fn count(&self, state: impl Fn(&RunState) -> bool) -> usize {
        self.record.runs.iter().filter(|run| state(&run.state)).count()
    }

    /// All runs that work, and how many do not.
    pub(super) fn shown(&self) -> Shown {
        let mut lines = vec![format!("{}: {}", self.record.name, self.summary())];
        let names: BTreeMap<PathBuf, String> =
            self.record.runs.iter().map(|run| (self.place(run), run.names.join(", "))).collect();
        for (folder, run) in &self.running {
            let name = names.get(folder).cloned().unwrap_or_else(|| format!("first stages: {}", run.name));
            lines.push(format!("  {name}"));
            lines.push(format!("    {}", of_run(run)));
        }
        for run in &self.record.runs {
            if let Some(reason) = run.failure() {
                lines.push(format!("  failed: {}: {reason}", run.names.join(", ")));
            }
        }
        Shown { lines, ended: self.ended() }
    }

    /// Its summary, and a line for each run that works.
    pub(super) fn line(&self) -> Shown {
        let mut shown = self.shown();
        shown.lines.truncate(1);
        for run in self.running.values() {
            shown.lines.push(format!("{}: {}", run.name, of_run(run)));
        }
        shown
    }

    /// `3 of 12 runs done, 2 running, 1 failed; about 2 h left`.
    fn summary(&self) -> String {
        let all = self.record.runs.len();
        let mut parts = vec![format!("{} of {all} runs done", self.count(|of| *of == RunState::Done))];
        let running = self.running.len();
        if running > 0 {
            parts.push(format!("{running} running"));
        }
        let failed = self.count(|of| matches!(of, RunState::Failed(_)));
        if failed > 0 {
            parts.push(format!("{failed} failed"));
        }
        let left = self.left().map_or_else(String::new, |left| format!("; about {} left", duration(left)));
        parts.join(", ") + &left
    }

    /// By the mean time of the runs that are done; runs that work are half done.
    fn left(&self) -> Option<f64> {
        let done = self.record.runs.iter().filter(|run| run.state == RunState::Done);
        let spent: Vec<f64> = done.filter_map(|run| seconds(&self.place(run))).collect();
        let running = self.count(|of| *of == RunState::Running);
        if spent.is_empty() || running == 0 {
            return None;
        }
        let mean = spent.iter().sum::<f64>() / spent.len() as f64;
        let waiting = self.count(|of| *of == RunState::Waiting) as f64;
        Some(mean * (waiting + running as f64 / 2.0) / running as f64)
    }

    /// Whether no run is left that would begin.
    fn ended(&self) -> bool {
        self.count(|of| matches!(of, RunState::Waiting | RunState::Running)) == 0
    }

    pub(super) fn failure(&self) -> Option<String> {
        let failed = self.count(|of| matches!(of, RunState::Failed(_)));
        (failed > 0).then(|| format!("{failed} of {} runs have failed", self.record.runs.len()))
    }

    pub(super) fn json(&self) -> serde_json::Value {
        let running: Vec<_> = self
            .running
            .iter()
            .map(|(folder, run)| json!({ "folder": folder, "stages": run.stages }))
            .collect();
        json!({ "study": self.record.name, "runs": self.record.runs, "running": running })
    }
}

/// The stage that a run is at.
fn of_run(run: &LiveRun) -> String {
    let silent = silence(run).map_or_else(String::new, |news| format!("  no news for {news}"));
    let Some(stage) = run.current() else { return format!("ends{silent}") };
    let name = &stage.name;
    match stage.planned {
        Some(planned) => format!("{name} {}/{planned}  {}{silent}", stage.done, figures(stage, true)),
        None => {
            let (works, count) = untrained(stage);
            format!("{name} {}{silent}", count.unwrap_or(works))
        }
    }
}

/// Whether a process has noted its begin in a run folder, and no end, and something was written of late.
fn is_at_work(folder: &Path) -> bool {
    const LATE: Duration = Duration::from_secs(600);
    let Some(last) = last_process(folder) else { return false };
    let age = last_written(folder).and_then(|written| SystemTime::now().duration_since(written).ok());
    last.end.is_none() && age.is_none_or(|age| age < LATE)
}

/// What the last process of a run took.
fn seconds(folder: &Path) -> Option<f64> {
    let last = last_process(folder)?;
    let at = |time: &str| humantime::parse_rfc3339(time).ok();
    let spent = at(&last.last)?.duration_since(at(&last.started)?).ok()?;
    Some(spent.as_secs_f64())
}
