//! [`RunFolder`]: what a run leaves on disk, and the rules by which it is continued.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use mm1_data::whole_file;
use mm1_lab::balance;
use mm1_lab::tensorboard::{self, EventFile};
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::error::InputError;
use crate::output::tell;
use crate::sources::RECAPTIONED;

/// The file with all settings of a run.
pub(crate) const PLAN: &str = "plan.toml";
/// Held by the process that writes.
pub(crate) const LOCK: &str = ".lock";

/// What the runs of a study have told.
pub(crate) const LOG: &str = "log.txt";

/// What a run or an evaluation leaves, and what a disk has of its own.
const OURS: [&str; 14] = [
    PLAN,
    RECAPTIONED,
    "processes.json",
    balance::FILE,
    "tokenizer.json",
    "tokenizer_config.json",
    "metrics.jsonl",
    "checkpoints",
    "eval",
    "eval.json",
    "samples.json",
    "report.html",
    LOG,
    "lost+found",
];

/// `plan.toml`, `tokenizer.json`, `metrics.jsonl`, `checkpoints/`, `recaptioned/`, `eval.json`,
/// `samples.json`, `report.html`, TensorBoard's event file.
#[derive(Debug)]
pub(crate) struct RunFolder {
    root: PathBuf,
    // Held while the run lives: two processes never write into one folder. Ranks beside the first have none,
    // and write nothing.
    lock: Option<File>,
}

impl RunFolder {
    /// Makes the folder if it is missing and locks it.
    ///
    /// # Errors
    /// Another process runs in it, it is not a folder, it holds something else, or it can't be written.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let busy =
            || InputError::new(format!("--out {}: another mm1 is running in this folder", root.display()));
        Ok(Self::try_open(root)?.ok_or_else(busy)?)
    }

    /// The same; `None` where another process runs in it.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn try_open(root: &Path) -> Result<Option<Self>> {
        check_ours(root)?;
        fs::create_dir_all(root).map_err(|e| {
            InputError::new(format!("--out {}: the run folder can't be made: {e}", root.display()))
        })?;
        Ok(lock(root)?.map(|lock| Self { root: root.to_path_buf(), lock: Some(lock) }))
    }

    /// The folder of a run of several ranks, for one that writes nothing there.
    ///
    /// # Errors
    /// [`InputError`]: a folder that this rank does not see.
    pub(crate) fn of_other_rank(root: &Path) -> Result<Self> {
        ensure!(
            root.join(LOCK).exists(),
            InputError::new(format!(
                "--out {}: rank 0 has made it, and this rank does not see it: give a folder on a disk that \
                 all ranks share",
                root.display()
            ))
        );
        Ok(Self { root: root.to_path_buf(), lock: None })
    }

    /// Whether this process writes there.
    pub(crate) fn is_own(&self) -> bool {
        self.lock.is_some()
    }

    /// Whether a process runs in the folder.
    pub(crate) fn is_busy(root: &Path) -> bool {
        root.is_dir() && lock(root).is_ok_and(|lock| lock.is_none())
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

    /// The `plan.toml` that is there; `None` before the first run.
    ///
    /// # Errors
    /// [`InputError`]: a file that is no plan.
    pub(crate) fn plan(&self) -> Result<Option<Table>> {
        let path = self.root.join(PLAN);
        let damaged = |why: String| {
            InputError::new(format!(
                "{}: damaged ({why}): put a good copy there, or take another folder",
                path.display()
            ))
        };
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(InputError::new(format!("{}: can't be read: {e}", path.display())).into()),
        };
        let text = String::from_utf8(bytes).map_err(|e| damaged(e.to_string()))?;
        let plan: Table = text.parse().map_err(|e: toml::de::Error| damaged(e.message().to_owned()))?;
        let settled = plan.get("settled").and_then(|settled| settled.get("recipe"));
        ensure!(settled.is_some_and(Value::is_table), damaged("it has no [settled.recipe]".to_owned()));
        Ok(Some(plan))
    }

    /// Whether a run has left something here that the next one would build on: a checkpoint, an answer, a
    /// score or a caption.
    pub(crate) fn has_results(&self) -> bool {
        let inside = |folder: PathBuf| folder.read_dir().into_iter().flatten().flatten();
        let in_stages = |name: &str| inside(self.root.join(name)).flat_map(move |stage| inside(stage.path()));
        // What a writer that was killed has left is no checkpoint.
        let whole = |entry: fs::DirEntry| !entry.file_name().to_string_lossy().contains(".tmp-");
        self.root.join("eval.json").exists()
            || in_stages("checkpoints").any(whole)
            || in_stages("eval").next().is_some()
            || in_stages(RECAPTIONED).next().is_some()
    }

    /// Replaces a file of the folder as a whole: after a crash the old one or the new one is there. Does
    /// nothing where another rank writes.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        if !self.is_own() {
            return Ok(());
        }
        let path = self.root.join(name);
        whole_file::replace(&path, bytes).with_context(|| format!("writing {}", path.display()))
    }

    /// A JSON file of the folder; `None` where it is not there yet.
    pub(crate) fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        read_json(&self.root.join(name))
    }

    /// Opens `metrics.jsonl` for the lines after `step` of `stage`: lines that a killed run wrote beyond its
    /// last checkpoint are taken out, since the run writes them again. What is no line is taken out too, and
    /// said.
    pub(crate) fn metrics_after(&self, stage: &str, step: u64) -> Result<MetricsLog> {
        let path = self.metrics();
        if path.exists() {
            let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            let (mut before, mut damaged) = (Vec::with_capacity(bytes.len()), 0);
            // In bytes: a kill may cut a line inside of a letter.
            for line in bytes.split_inclusive(|&byte| byte == b'\n') {
                let parsed = line.ends_with(b"\n").then(|| serde_json::from_slice::<serde_json::Value>(line));
                match parsed {
                    Some(Ok(v)) if v["stage"] == stage && v["step"].as_u64().is_none_or(|s| s > step) => {}
                    Some(Ok(_)) => before.extend_from_slice(line),
                    _ => damaged += 1,
                }
            }
            if damaged > 0 {
                let lines = if damaged == 1 { "a line".to_owned() } else { format!("{damaged} lines") };
                tell(format_args!(
                    "mm1: warning: {}: {lines} cut short or damaged, taken out",
                    path.display()
                ));
            }
            // Each stage looks here; most find nothing to change.
            if before != bytes {
                self.write("metrics.jsonl", &before)?;
            }
        }
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("opening {}", path.display()))?;
        Ok(MetricsLog { file, path, events: EventFile::begin(&self.root)? })
    }

    /// How many of the first `steps` steps of `stage` have no line in `metrics.jsonl`.
    pub(crate) fn missing_metrics(&self, stage: &str, steps: u64) -> u64 {
        let bytes = fs::read(self.metrics()).unwrap_or_default();
        let lines = bytes.split(|&byte| byte == b'\n');
        let step = |line: &[u8]| {
            let line: serde_json::Value = serde_json::from_slice(line).ok()?;
            (line["stage"] == stage).then(|| line["step"].as_u64())?
        };
        let there: BTreeSet<u64> = lines.filter_map(step).filter(|step| (1..=steps).contains(step)).collect();
        steps - there.len() as u64
    }
}

/// Refuses a folder that holds something else.
fn check_ours(root: &Path) -> Result<()> {
    if root.join(PLAN).exists() {
        return Ok(());
    }
    let names = root.read_dir().into_iter().flatten().flatten().map(|entry| entry.file_name());
    let ours = |name: &str| OURS.contains(&name) || name.starts_with(tensorboard::PREFIX);
    let foreign = |name: &String| !name.starts_with('.') && !ours(name);
    match names.map(|name| name.to_string_lossy().into_owned()).find(foreign) {
        Some(name) => Err(InputError::new(format!(
            "--out {}: not a run folder and not empty (it has {name}): take another folder",
            root.display()
        ))
        .into()),
        None => Ok(()),
    }
}

/// A JSON file; `None` where it is not there.
///
/// # Errors
/// [`InputError`]: a file that is damaged. One that can't be read.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| InputError::new(format!("{}: damaged ({e}); remove it", path.display())).into()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("reading {}", path.display())),
    }
}

/// The lock of a folder; `None` where another process holds it.
fn lock(root: &Path) -> Result<Option<File>> {
    let path = root.join(LOCK);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(|e| {
        InputError::new(format!("--out {}: the run folder can't be written: {e}", root.display()))
    })?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(e).context(format!("locking {}", path.display())),
    }
}

/// `metrics.jsonl`, one object a step.
#[derive(Debug)]
pub(crate) struct MetricsLog {
    file: File,
    path: PathBuf,
    /// The same for TensorBoard.
    events: EventFile,
}

impl MetricsLog {
    /// Appends one line in one write, so that a kill cuts at most the last one.
    pub(crate) fn push(&mut self, metrics: &impl Serialize) -> Result<()> {
        let line = serde_json::to_string(metrics)? + "\n";
        self.push_line(line.as_bytes())
    }

    /// Appends a line of another run as it is, its end included.
    pub(crate) fn push_line(&mut self, line: &[u8]) -> Result<()> {
        self.file.write_all(line).with_context(|| format!("writing {}", self.path.display()))?;
        // From the line itself, so that both files have the same digits.
        self.events.push(&serde_json::from_slice(line).context("a line of metrics.jsonl")?)
    }

    /// Waits until all lines are on the disk: a checkpoint never knows of steps that have none.
    pub(crate) fn flush(&self) -> Result<()> {
        self.file.sync_data().with_context(|| format!("writing {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_something_else_is_refused_and_one_of_ours_is_not() {
        let dir = tempfile::tempdir().expect("dir");
        let open = || RunFolder::open(dir.path()).map(drop).map_err(|e| e.to_string());
        // Hidden files are nobody's work.
        fs::write(dir.path().join(".DS_Store"), "x").expect("write");
        assert_eq!(open(), Ok(()));
        for ours in ["tokenizer.json", "metrics.jsonl", "report.html"] {
            fs::write(dir.path().join(ours), "x").expect("write");
        }
        assert_eq!(open(), Ok(()));
        fs::write(dir.path().join("thesis.tex"), "x").expect("write");
        let error = open().expect_err("foreign");
        assert!(error.contains("thesis.tex") && error.contains("take another folder"), "{error}");
        // Beside a plan other files may lie.
        fs::write(dir.path().join("plan.toml"), "x").expect("write");
        assert_eq!(open(), Ok(()));
        let held = RunFolder::open(dir.path()).expect("open");
        assert!(open().expect_err("locked").contains("another mm1"));
        drop(held);
    }

    #[test]
    fn a_plan_that_is_none_is_refused_in_one_line() {
        let dir = tempfile::tempdir().expect("dir");
        let folder = RunFolder::open(dir.path()).expect("open");
        assert!(folder.plan().expect("none").is_none());
        let damages =
            [&b"x = 1\n"[..], b"", b"[settled]\n", b"[settled.recipe", b"settled = 3", b"name = \"\xff\""];
        for damage in damages {
            fs::write(dir.path().join("plan.toml"), damage).expect("write");
            let error = folder.plan().expect_err("damaged").to_string();
            assert!(error.contains("plan.toml: damaged") && !error.contains('\n'), "{error}");
        }
    }

    /// A kill, or a disk that loses its last block, ends a line anywhere.
    #[test]
    fn metrics_cut_at_any_byte_go_on() {
        let dir = tempfile::tempdir().expect("dir");
        let folder = RunFolder::open(dir.path()).expect("open");
        let line =
            |step: u64| serde_json::json!({"stage": "a", "step": step, "name": "é😀"}).to_string() + "\n";
        let whole = line(1) + &line(2);
        for cut in 0..whole.len() {
            fs::write(folder.metrics(), &whole.as_bytes()[..cut]).expect("write");
            folder.metrics_after("a", 2).expect("log");
            let kept = fs::read_to_string(folder.metrics()).expect("text");
            let lines = if cut < line(1).len() { 0 } else { 1 };
            assert_eq!(kept, line(1).repeat(lines), "cut at {cut}");
            assert_eq!(folder.missing_metrics("a", 2), 2 - lines as u64);
        }
        fs::write(folder.metrics(), [b"\xff\xfe\n".as_slice(), whole.as_bytes()].concat()).expect("write");
        folder.metrics_after("a", 2).expect("log");
        assert_eq!(folder.missing_metrics("a", 2), 0);
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
