//! [`RunFolder`]: what a run leaves on disk, and the rules by which it is continued.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;
use toml::{Table, Value};

use crate::error::InputError;

/// `plan.toml`, `tokenizer.json`, `metrics.jsonl`, `checkpoints/`, `eval.json`, `samples.json`,
/// `report.html`.
#[derive(Debug)]
pub(crate) struct RunFolder {
    root: PathBuf,
    // Held while the run lives: two processes never write into one folder.
    _lock: File,
}

impl RunFolder {
    /// Makes the folder if it is missing and locks it.
    ///
    /// # Errors
    /// Another process runs in it, it is not a folder, or it can't be written.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let shown = root.display();
        fs::create_dir_all(root)
            .map_err(|e| InputError::new(format!("--out {shown}: the run folder can't be made: {e}")))?;
        let path = root.join(".lock");
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(|e| {
                InputError::new(format!("--out {shown}: the run folder can't be written: {e}"))
            })?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { root: root.to_path_buf(), _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                Err(InputError::new(format!("--out {shown}: another mm1 is running in this folder")).into())
            }
            Err(TryLockError::Error(e)) => Err(e).context(format!("locking {}", path.display())),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn tokenizer(&self) -> PathBuf {
        self.root.join("tokenizer.json")
    }

    pub(crate) fn metrics(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    /// Writes `plan.toml` before the first step; later, refuses a plan whose `settled` part differs. `reread`
    /// gives the old settled part as this version would write it.
    ///
    /// # Errors
    /// [`InputError`] with the first setting that differs, old and new.
    pub(crate) fn settle_plan(&self, plan: &Table, reread: impl Fn(&Value) -> Value) -> Result<()> {
        let path = self.root.join("plan.toml");
        if !path.exists() {
            return self.write("plan.toml", toml::to_string(plan)?.as_bytes());
        }
        let old: Table = fs::read_to_string(&path)?
            .parse()
            .map_err(|e| InputError::new(format!("{}: damaged: {e}", path.display())))?;
        let nothing = Value::Table(Table::new());
        match difference(&reread(old.get("settled").unwrap_or(&nothing)), &plan["settled"], "") {
            None => Ok(()),
            Some(difference) => Err(InputError::new(format!(
                "--out {}: this folder belongs to another run ({difference}); take another folder, or the recipe and --set of its plan.toml",
                self.root.display()
            ))
            .into()),
        }
    }

    /// Replaces a file of the folder as a whole: after a crash the old one or the new one is there.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let (path, beside) = (self.root.join(name), self.root.join(format!(".{name}.new")));
        let put = || -> std::io::Result<()> {
            let mut file = File::create(&beside)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&beside, &path)
        };
        put()
            .inspect_err(|_| drop(fs::remove_file(&beside)))
            .with_context(|| format!("writing {}", path.display()))
    }

    /// A JSON file of the folder; `None` where it is not there yet.
    pub(crate) fn read_json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let path = self.root.join(name);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|e| InputError::new(format!("{}: damaged ({e}); remove it", path.display())).into()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// Opens `metrics.jsonl` for the lines after `step` of `stage`: lines that a killed run wrote beyond its
    /// last checkpoint are taken out, since the run writes them again.
    pub(crate) fn metrics_after(&self, stage: &str, step: u64) -> Result<MetricsLog> {
        let path = self.metrics();
        if path.exists() {
            let beyond = |line: &str| match serde_json::from_str::<serde_json::Value>(line) {
                Ok(v) => v["stage"] == stage && v["step"].as_u64().is_none_or(|s| s > step),
                Err(_) => true, // the line that a kill cut short
            };
            let mut before = String::new();
            for line in BufReader::new(File::open(&path)?).lines() {
                let line = line?;
                if !beyond(&line) {
                    before.push_str(&line);
                    before.push('\n');
                }
            }
            self.write("metrics.jsonl", before.as_bytes())?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&path);
        Ok(MetricsLog { file: file.with_context(|| format!("opening {}", path.display()))?, path })
    }
}

/// `metrics.jsonl`, one object a step.
#[derive(Debug)]
pub(crate) struct MetricsLog {
    file: File,
    path: PathBuf,
}

impl MetricsLog {
    /// Appends one line in one write, so that a kill cuts at most the last one.
    pub(crate) fn push(&mut self, metrics: &impl Serialize) -> Result<()> {
        let line = serde_json::to_string(metrics)? + "\n";
        self.file.write_all(line.as_bytes()).with_context(|| format!("writing {}", self.path.display()))
    }
}

/// The first place where two plans differ, as `path: old, now new`.
fn difference(old: &Value, new: &Value, path: &str) -> Option<String> {
    use Value::{Array, Table};
    let under = |key: &str| if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
    match (old, new) {
        (Table(a), Table(b)) => a.keys().chain(b.keys()).find_map(|key| match (a.get(key), b.get(key)) {
            (Some(a), Some(b)) => difference(a, b, &under(key)),
            (Some(a), None) => Some(format!("{}: {a}, now absent", under(key))),
            (None, Some(b)) => Some(format!("{}: absent, now {b}", under(key))),
            (None, None) => None,
        }),
        (Array(a), Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(i, (a, b))| difference(a, b, &under(&i.to_string())))
        }
        (a, b) if a == b => None,
        (Array(a), Array(b)) => Some(format!("{path}: {} entries, now {}", a.len(), b.len())),
        (a, b) => Some(format!("{path}: {a}, now {b}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_another_recipe_is_refused_by_field() {
        let dir = tempfile::tempdir().expect("dir");
        let folder = RunFolder::open(dir.path()).expect("open");
        let plan = |steps: i64| -> Table {
            format!("commit = \"{steps}\"\n[settled.recipe]\nsteps = {steps}").parse().expect("toml")
        };
        folder.settle_plan(&plan(4), Value::clone).expect("first");
        folder.settle_plan(&plan(4), Value::clone).expect("the same again");
        let error = folder.settle_plan(&plan(5), Value::clone).expect_err("another").to_string();
        assert!(error.contains("recipe.steps: 4, now 5"), "{error}");
        assert!(RunFolder::open(dir.path()).expect_err("locked").to_string().contains("another mm1"));
    }

    #[test]
    fn metrics_beyond_the_checkpoint_are_taken_out() {
        let dir = tempfile::tempdir().expect("dir");
        let folder = RunFolder::open(dir.path()).expect("open");
        let line = |stage: &str, step: u64| serde_json::json!({"stage": stage, "step": step});
        let mut log = folder.metrics_after("a", 0).expect("log");
        for step in 1..=5 {
            log.push(&line("a", step)).expect("push");
        }
        log.push(&line("b", 9)).expect("push");
        std::io::Write::write_all(&mut log.file, b"{\"stage\": \"a\", \"st").expect("cut line");
        let mut log = folder.metrics_after("a", 3).expect("log");
        log.push(&line("a", 4)).expect("push");
        let text = fs::read_to_string(folder.metrics()).expect("read");
        let steps: Vec<u64> = text
            .lines()
            .map(|l| {
                serde_json::from_str::<serde_json::Value>(l).expect("whole")["step"].as_u64().expect("step")
            })
            .collect();
        assert_eq!(steps, [1, 2, 3, 9, 4]);
    }
}
