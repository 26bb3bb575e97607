//! [`Task`]: one of N shares of the input of a `mm1 data` command, done by any scheduler, and [`TaskSet`]:
//! all of them together again.
//!
//! A task writes into a hidden folder of its own, `.task-00003`, and ends with a marker there, so that it may
//! be killed at any moment and started any number of times. What all have in common stands in `.tasks.json`:
//! a task of another command, number or setting is refused.
// Rejected: tasks that write shards at once, after which the join removes what was there before. It reads
// the input once instead of twice, but rewrites nearly every shard, on one machine.

mod digest;
mod files;
mod import;
mod settle;
mod share;
mod sorter;

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, Error, Result, bail, ensure};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

pub(crate) use self::digest::{Decision, DecisionReader, DigestWriter};
pub use self::files::{FilesRecord, SourceRecord, offset};
pub use self::import::{ImportJoined, ImportStep, JoinedSource, import_task, join_import};

use crate::printable::printable;
use crate::shard::{FolderLock, MANIFEST, ShardEntry, ShardManifest, is_shard};
use crate::{text_file, whole_file};

/// What all tasks of a folder have in common.
const HEADER: &str = ".tasks.json";
/// The marker of a task that has nothing left to do.
pub const DONE: &str = "done.json";
/// Tasks that a folder may have: their numbers have five digits.
const MAX_TASKS: u32 = 100_000;

/// One of several shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// Which, from 0.
    pub index: u32,
    /// How many there are.
    pub of: u32,
}

impl Task {
    /// The numbers of `units` that are this task's. All tasks together have each once, in order, and as many
    /// as each other, or one more.
    pub fn range(self, units: u64) -> Range<u64> {
        let bound = |index: u32| (u128::from(units) * u128::from(index) / u128::from(self.of)) as u64;
        bound(self.index)..bound(self.index + 1)
    }
}

impl FromStr for Task {
    type Err = Error;

    /// `0/8` to `7/8`.
    fn from_str(text: &str) -> Result<Self> {
        let parts =
            text.split_once('/').and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)));
        let (index, of): (u32, u32) = parts.context("write it as I/N, such as 0/8")?;
        ensure!((1..=MAX_TASKS).contains(&of), "{of} tasks: give 1 to {MAX_TASKS}");
        ensure!(index < of, "tasks are counted from 0: give 0/{of} to {}/{of}", of - 1);
        Ok(Self { index, of })
    }
}

impl std::fmt::Display for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

/// What all tasks of a folder have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskHeader {
    /// The command: `import`, `recaption`, `stats` or `verify`.
    pub command: String,
    /// How many shares there are.
    pub tasks: u32,
    /// All that decides what comes of the tasks, by name; the input is one of them.
    pub settings: BTreeMap<String, String>,
}

impl TaskHeader {
    /// The header of `tasks` shares.
    pub fn new(command: &str, tasks: u32, settings: &[(&str, String)]) -> Self {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Self { command: command.to_owned(), tasks, settings }
    }

    /// A setting by its name.
    ///
    /// # Errors
    /// There is none: another version of this program has begun the folder.
    pub fn setting(&self, name: &str) -> Result<&str> {
        let value = self.settings.get(name).map(String::as_str);
        value.with_context(|| format!("{HEADER}: no setting {name}; take another folder"))
    }

    /// The first difference in words, where there is one.
    fn difference(&self, new: &Self) -> Option<String> {
        let differ =
            |name: &str, old: &str, new: &str| (old != new).then(|| format!("{name}: {old}, now {new}"));
        differ("command", &self.command, &new.command)
            .or_else(|| differ("tasks", &self.tasks.to_string(), &new.tasks.to_string()))
            .or_else(|| {
                let value = |header: &Self, name: &String| {
                    header.settings.get(name).cloned().unwrap_or_else(|| "absent".to_owned())
                };
                let mut names = self.settings.keys().chain(new.settings.keys());
                names.find_map(|name| differ(name, &value(self, name), &value(new, name)))
            })
    }

    fn read(root: &Path) -> Result<Option<Self>> {
        let path = root.join(HEADER);
        if !path.exists() {
            return Ok(None);
        }
        let read = || anyhow::Ok(serde_json::from_str(&text_file::read(&path)?)?);
        read().map(Some).with_context(|| format!("{}: damaged; take another folder", path.display()))
    }
}

/// The folder of one task.
pub struct TaskFolder {
    root: PathBuf,
    folder: PathBuf,
    header: TaskHeader,
    // Held while this lives: a task that is started twice at once is done by one of both.
    _lock: FolderLock,
}

/// A marker as it is written.
#[derive(Serialize, Deserialize)]
struct Marker<T> {
    header: TaskHeader,
    result: T,
}

impl TaskFolder {
    /// Begins or continues a task in `root`, which is made.
    ///
    /// # Errors
    /// A folder of other tasks, or in which another process does the same task; one that can't be written.
    pub fn open(root: &Path, task: Task, header: TaskHeader) -> Result<Self> {
        ensure!(!root.is_file(), "--to {}: a file, not a folder", root.display());
        {
            let _lock = FolderLock::wait(root).context("--to")?;
            match TaskHeader::read(root)? {
                None => {
                    // A set that is whole already, of one task.
                    ensure!(
                        !root.join(MANIFEST).exists(),
                        "--to {}: has shards already; take another folder",
                        root.display()
                    );
                    whole_file::replace(&root.join(HEADER), &serde_json::to_vec_pretty(&header)?)
                        .with_context(|| root.display().to_string())?;
                }
                Some(old) => {
                    if let Some(difference) = old.difference(&header) {
                        bail!(
                            "--to {}: holds other tasks ({}); take another folder, or these settings",
                            root.display(),
                            printable(&difference)
                        );
                    }
                }
            }
        }
        let folder = task_folder(root, task.index);
        let _lock = FolderLock::take(&folder).context("--to")?;
        Ok(Self { root: root.to_owned(), folder, header, _lock })
    }

    /// Where the task writes.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// The folder of all tasks.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the marker is there.
    pub fn has(&self, marker: &str) -> bool {
        self.folder.join(marker).exists()
    }

    /// Writes a marker, after which the work that it names is never done again.
    ///
    /// # Errors
    /// A disk that is full.
    pub fn finish(&self, marker: &str, result: &impl Serialize) -> Result<()> {
        let path = self.folder.join(marker);
        let marker = Marker { header: self.header.clone(), result };
        whole_file::replace(&path, &serde_json::to_vec(&marker)?).with_context(|| path.display().to_string())
    }
}

fn task_folder(root: &Path, index: u32) -> PathBuf {
    root.join(format!(".task-{index:05}"))
}

/// All tasks of a folder.
pub struct TaskSet {
    root: PathBuf,
    header: TaskHeader,
    lock: FolderLock,
}

impl TaskSet {
    /// The tasks in `root`.
    ///
    /// # Errors
    /// None were begun there; another process joins them; tasks of another number among them.
    pub fn open(root: &Path) -> Result<Self> {
        let none = || format!("{}: no tasks; begin with mm1 data … --task 0/N --to DIR", root.display());
        ensure!(root.is_dir(), "{}: no such folder", root.display());
        let header = TaskHeader::read(root)?.with_context(none)?;
        let lock = FolderLock::take(root)?;
        for entry in fs::read_dir(root).with_context(|| root.display().to_string())? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let number = name.strip_prefix(".task-").and_then(|number| number.parse::<u32>().ok());
            ensure!(
                number.is_none_or(|number| number < header.tasks),
                "{}: {name} is of more than {} tasks; take another folder",
                root.display(),
                header.tasks
            );
        }
        Ok(Self { root: root.to_owned(), header, lock })
    }

    /// What they have in common.
    pub fn header(&self) -> &TaskHeader {
        &self.header
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of a task.
    fn task(&self, index: u32) -> PathBuf {
        task_folder(&self.root, index)
    }

    /// What all tasks have written into a marker, in order.
    ///
    /// # Errors
    /// One line that names the tasks without it; a marker that is damaged, or of tasks of another kind.
    pub fn all<T: DeserializeOwned>(&self, marker: &str) -> Result<Vec<T>> {
        let path = |index: u32| self.task(index).join(marker);
        let missing: Vec<u32> = (0..self.header.tasks).filter(|&index| !path(index).exists()).collect();
        if let Some(first) = missing.first() {
            let TaskHeader { command, tasks, .. } = &self.header;
            let are = if missing.len() == 1 { "is" } else { "are" };
            bail!(
                "{}: {} of {tasks} tasks {are} missing: {}; run mm1 data {command} … --task {first}/{tasks}",
                self.root.display(),
                missing.len(),
                ranges(&missing)
            );
        }
        let read = |index: u32| {
            let path = path(index);
            let wrong = || format!("{}: damaged; delete it and run task {index} again", path.display());
            // Written by us, and as long as what it lists.
            let bytes = fs::read(&path).with_context(wrong)?;
            // Before the result, which is of the kind of the tasks.
            let Marker::<IgnoredAny> { header, .. } = serde_json::from_slice(&bytes).with_context(wrong)?;
            if let Some(difference) = self.header.difference(&header) {
                bail!("{}: of tasks of another kind ({})", path.display(), printable(&difference));
            }
            let Marker { result, .. } = serde_json::from_slice(&bytes).with_context(wrong)?;
            Ok(result)
        };
        (0..self.header.tasks).map(read).collect()
    }

    /// Gives the shards of all tasks their place in the folder, `STEM-000000.tar` and on in the order of the
    /// tasks, and writes the manifest. What was moved before stays: an interrupted join goes on.
    ///
    /// # Errors
    /// A shard that is missing, or that lies where another should; a disk that is full.
    pub(crate) fn publish(&self, stem: &str, of_tasks: &[Vec<ShardEntry>]) -> Result<Vec<ShardEntry>> {
        let mut shards = Vec::new();
        for (index, entries) in (0..).zip(of_tasks) {
            for entry in entries {
                let placed = ShardEntry { file: format!("{stem}-{:06}.tar", shards.len()), ..entry.clone() };
                let (from, to) = (self.task(index).join(&entry.file), self.root.join(&placed.file));
                if from.exists() {
                    ensure!(!to.exists(), "{}: exists; delete it, or take another folder", to.display());
                    fs::rename(&from, &to).with_context(|| to.display().to_string())?;
                }
                let bytes = fs::metadata(&to).map_or(0, |metadata| metadata.len());
                ensure!(
                    bytes == entry.bytes,
                    "{}: {bytes} bytes instead of {}; delete {} and run task {index} again",
                    to.display(),
                    entry.bytes,
                    self.task(index).display()
                );
                shards.push(placed);
            }
        }
        let listed = |shard: &ShardEntry| shards.contains(shard) || !is_shard(&shard.file, stem);
        if self.root.join(MANIFEST).exists() {
            let old = ShardManifest::read(&self.root)?;
            let foreign = old.shards.iter().find(|shard| !listed(shard));
            ensure!(
                foreign.is_none(),
                "{}: lists shards of another import",
                self.root.join(MANIFEST).display()
            );
        }
        ShardManifest::add(&self.root, shards.clone(), &self.lock)?;
        Ok(shards)
    }
}

/// `0, 3-5, 9`.
fn ranges(numbers: &[u32]) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for &number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let run = |&(first, last): &(u32, u32)| match last - first {
        0 => first.to_string(),
        _ => format!("{first}-{last}"),
    };
    runs.iter().map(run).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_everything_once_in_order() {
        for (units, of) in [(0, 3), (1, 5), (10, 3), (7, 7), (1_000_003, 64), (u64::MAX, 100_000)] {
            let mut next = 0;
            for index in 0..of {
                let range = Task { index, of }.range(units);
                assert_eq!(range.start, next, "{units} {index}/{of}");
                let len = range.end - range.start;
                assert!([units / u64::from(of), units / u64::from(of) + 1].contains(&len));
                next = range.end;
            }
            assert_eq!(next, units);
        }
    }

    #[test]
    fn tasks_are_counted_from_0() {
        assert_eq!("3/8".parse::<Task>().unwrap(), Task { index: 3, of: 8 });
        for (text, why) in [
            ("8/8", "tasks are counted from 0: give 0/8 to 7/8"),
            ("0/0", "0 tasks: give 1 to 100000"),
            ("0/100001", "100001 tasks: give 1 to 100000"),
            ("3", "write it as I/N, such as 0/8"),
            ("-1/8", "write it as I/N, such as 0/8"),
        ] {
            assert_eq!(text.parse::<Task>().unwrap_err().to_string(), why);
        }
        assert_eq!(ranges(&[0, 3, 4, 5, 9]), "0, 3-5, 9");
    }
}
