//! [`import_task`] and [`join_import`]: an import by tasks, in two rounds, as one import has two passes. In
//! the first each task looks at its share and writes digests; the join decides by them what is removed. In
//! the second each task writes its shards; the join lists them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::digest::{DecisionReader, DigestWriter};
use super::settle::{Settling, settle};
use super::{DONE, FilesRecord, SourceRecord, Task, TaskFolder, TaskHeader, TaskSet, offset};
use crate::account::{Account, Accounts};
use crate::examine::Damaged;
use crate::filter::{FilterCounts, FilterSpec};
use crate::image::KEY_BYTES;
use crate::import::{Checked, Cleaning, ImportOutcome, ImportSpec, Pass, Passes};
use crate::left_out::LeftOut;
use crate::shard::ShardEntry;
use crate::source::BesidePictures;
use crate::source::detect::{Detected, UnusedFile};
use crate::source::stored::StoredSource;
use crate::whole_file;

/// The marker of a task that has looked at its share.
const CHECKED: &str = "checked.json";
/// What it writes of its documents.
const DIGESTS: &str = "digests";
/// The folder of what is decided; it is there when all is.
const SETTLED: &str = ".settled";
/// What was removed, in that folder.
const COUNTS: &str = "settled.json";

/// What a task has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportStep {
    /// Its share is looked at; when all are, they are to be joined.
    Checked,
    /// Its shards are written; when all are, they are to be joined again.
    Written,
}

/// What the join has done.
pub enum ImportJoined {
    /// It is decided what is removed: each task is to run once more.
    Settled {
        /// Documents of all tasks.
        documents: u64,
        /// Those that will be in the shards.
        stay: u64,
    },
    /// The shards have their places and are listed.
    Whole {
        /// What one import of everything would have given.
        outcome: Box<ImportOutcome>,
        /// All sources.
        sources: Vec<JoinedSource>,
        /// What became of all files and documents.
        account: Accounts,
        /// Files of no source.
        files_left: Vec<UnusedFile>,
    },
}

/// A source of all tasks.
pub type JoinedSource = SourceRecord;

/// What the first round leaves.
#[derive(Serialize, Deserialize)]
struct CheckedRecord {
    files: FilesRecord,
    sources: Vec<SourceRecord>,
    skipped: u64,
    damaged: Vec<Damaged>,
    reasons: LeftOut,
    left_out: LeftOut,
}

/// What the second round leaves.
#[derive(Serialize, Deserialize)]
struct WrittenRecord {
    shards: Vec<ShardEntry>,
}

/// Does what is next of a task: the first round, or, once that is joined, the second. What is done already is
/// not done again.
///
/// `detected` has been shared, and `input` is what that gave; `sources` are its sources, open.
///
/// # Errors
/// As an import; a folder of other tasks, or in which the same task is being done.
pub fn import_task(
    (detected, sources): (&Detected, &[StoredSource]),
    (task, input): (Task, &str),
    spec: &ImportSpec,
    beside: &mut BesidePictures,
    progress: &mut dyn FnMut(Pass, u64),
) -> Result<ImportStep> {
    spec.check()?;
    let folder = TaskFolder::open(&spec.folder, task, header(spec, task, input)?)?;
    let settled = folder.root().join(SETTLED);
    if !settled.exists() {
        if !folder.has(CHECKED) {
            check(&folder, (detected, sources), spec, beside, progress)?;
        }
        return Ok(ImportStep::Checked);
    }
    if !folder.has(DONE) {
        // One that was begun later than the others were joined.
        ensure!(folder.has(CHECKED), "{}: joined without it; take another folder", folder.path().display());
        let decisions = DecisionReader::open(&settled.join(decisions(task.index)))?;
        let shards = write(&folder, sources, spec, decisions, progress)?;
        folder.finish(DONE, &WrittenRecord { shards })?;
    }
    Ok(ImportStep::Written)
}

fn decisions(index: u32) -> String {
    format!("decisions-{index:05}")
}

/// All settings that decide what an import writes.
fn header(spec: &ImportSpec, task: Task, input: &str) -> Result<TaskHeader> {
    let words = |text: &Option<String>| text.clone().unwrap_or_else(|| "as the sources say".to_owned());
    let settings = [
        ("input", input.to_owned()),
        ("name", spec.stem.clone()),
        ("shard-bytes", spec.shard_bytes.to_string()),
        ("filter", serde_json::to_string(&spec.filter)?),
        ("max-skipped-share", spec.max_skipped_share.to_string()),
        ("licence", words(&spec.licence)),
        ("attribution", words(&spec.attribution)),
        ("look", format!("{:?}", spec.how.look)),
    ];
    Ok(TaskHeader::new("import", task.of, &settings))
}

fn check(
    folder: &TaskFolder,
    (detected, sources): (&Detected, &[StoredSource]),
    spec: &ImportSpec,
    beside: &mut BesidePictures,
    progress: &mut dyn FnMut(Pass, u64),
) -> Result<()> {
    let digests = DigestWriter::create(&folder.path().join(DIGESTS))?;
    let mut passes = Passes::new(sources, spec, Cleaning::Digests(digests), progress);
    let checked = passes.check(beside)?;
    if let Cleaning::Digests(digests) = passes.into_cleaning() {
        digests.finish()?;
    }
    let record = CheckedRecord {
        files: FilesRecord::of(detected, beside),
        sources: sources.iter().map(SourceRecord::of).collect(),
        skipped: checked.skipped(),
        damaged: checked.damaged,
        reasons: checked.reasons,
        left_out: checked.left_out,
    };
    folder.finish(CHECKED, &record)
}

fn write(
    folder: &TaskFolder,
    sources: &[StoredSource],
    spec: &ImportSpec,
    decisions: DecisionReader,
    progress: &mut dyn FnMut(Pass, u64),
) -> Result<Vec<ShardEntry>> {
    // What a task that was killed has left. A shard that was moved to its place is not here: the marker is.
    for entry in fs::read_dir(folder.path()).with_context(|| folder.path().display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "tar" || ending == "part") {
            fs::remove_file(&path).with_context(|| path.display().to_string())?;
        }
    }
    let mut passes = Passes::new(sources, spec, Cleaning::Decisions(decisions), progress);
    passes.write(folder.path(), &Checked::default())
}

/// Joins the tasks of an import in `root`: after the first round decides what is removed, in about `memory`
/// bytes; after the second lists the shards. What is done already is not done again.
///
/// # Errors
/// One line that names the tasks that are missing; too many damaged documents, nothing left to write; a disk
/// that is full.
pub fn join_import(set: &TaskSet, memory: usize) -> Result<ImportJoined> {
    let checked: Vec<CheckedRecord> = set.all(CHECKED)?;
    let filter: Option<FilterSpec> = serde_json::from_str(set.header().setting("filter")?)?;
    let settled = set.root().join(SETTLED);
    let documents = checked.iter().flat_map(|record| &record.sources).map(|source| source.documents).sum();
    let before = settled.exists();
    if !before {
        judge(set, &checked, documents)?;
        decide(set, filter.as_ref(), memory)?;
    }
    let read = || anyhow::Ok(serde_json::from_slice(&fs::read(settled.join(COUNTS))?)?);
    let counts: FilterCounts = read().with_context(|| settled.join(COUNTS).display().to_string())?;
    ensure!(counts.documents > 0, "no document is left to write{}", why(&checked));
    if !before {
        return Ok(ImportJoined::Settled { documents, stay: counts.documents });
    }
    let written: Vec<WrittenRecord> = set.all(DONE)?;
    let of_tasks: Vec<Vec<ShardEntry>> = written.into_iter().map(|record| record.shards).collect();
    let shards = set.publish(set.header().setting("name")?, &of_tasks)?;
    remove_digests(set)?;
    whole(&checked, filter.map(|_| counts), shards)
}

/// What one import of everything refuses.
fn judge(set: &TaskSet, checked: &[CheckedRecord], documents: u64) -> Result<()> {
    let share: f64 = set.header().setting("max-skipped-share")?.parse()?;
    let skipped: u64 = checked.iter().map(|record| record.skipped).sum();
    ensure!(
        skipped as f64 <= share * documents as f64,
        "{skipped} of {documents} documents are damaged, above the share of {share} that may be skipped \
         (--max-skipped-share){}",
        why(checked)
    );
    Ok(())
}

fn damaged(checked: &[CheckedRecord]) -> Vec<Damaged> {
    offset(checked.iter().map(|record| (record.sources.as_slice(), record.damaged.as_slice())))
}

fn why(checked: &[CheckedRecord]) -> String {
    let first = damaged(checked).into_iter().next();
    first.map(|first| format!("; the first that is damaged is {first}")).unwrap_or_default()
}

/// Writes all decisions into a folder, which takes its name when it is whole.
fn decide(set: &TaskSet, filter: Option<&FilterSpec>, memory: usize) -> Result<()> {
    let part = set.root().join(".settled.part");
    if part.exists() {
        fs::remove_dir_all(&part).with_context(|| part.display().to_string())?;
    }
    fs::create_dir(&part).with_context(|| part.display().to_string())?;
    let tasks = 0..set.header().tasks;
    let digests: Vec<PathBuf> = tasks.clone().map(|index| set.task(index).join(DIGESTS)).collect();
    let decided = tasks.map(|index| part.join(decisions(index))).collect();
    let memory = memory.max(1 << 10).max(4 * KEY_BYTES);
    let counts = settle(&Settling { filter, digests, decisions: decided, folder: &part, memory })?;
    let write = || {
        whole_file::replace(&part.join(COUNTS), &serde_json::to_vec_pretty(&counts)?)?;
        fs::rename(&part, set.root().join(SETTLED))?;
        anyhow::Ok(whole_file::flush_folder(&part)?)
    };
    write().with_context(|| part.display().to_string())
}

/// Digests and decisions, which are no longer needed; markers stay, so that a task that comes again is done.
fn remove_digests(set: &TaskSet) -> Result<()> {
    let remove = |path: &Path| match path.exists() {
        true => fs::remove_file(path).with_context(|| path.display().to_string()),
        false => Ok(()),
    };
    for index in 0..set.header().tasks {
        remove(&set.task(index).join(DIGESTS))?;
        remove(&set.root().join(SETTLED).join(decisions(index)))?;
    }
    Ok(())
}

/// What one import of everything would have given.
fn whole(
    checked: &[CheckedRecord],
    filter: Option<FilterCounts>,
    shards: Vec<ShardEntry>,
) -> Result<ImportJoined> {
    let (mut reasons, mut left_out) = (LeftOut::default(), LeftOut::default());
    for record in checked {
        reasons.merge(&record.reasons);
        left_out.merge(&record.left_out);
    }
    let sources = SourceRecord::join(checked.iter().map(|record| record.sources.as_slice()));
    let (files, files_left) = FilesRecord::join(checked.iter().map(|record| &record.files))?;
    let outcome = ImportOutcome {
        shards,
        skipped: checked.iter().map(|record| record.skipped).sum(),
        damaged: damaged(checked),
        left_out,
        filter,
        there: sources.iter().map(|source| source.documents).sum(),
        reasons,
    };
    let account: Account = outcome.account();
    let account = Accounts { files, documents: account };
    Ok(ImportJoined::Whole { outcome: Box::new(outcome), sources, account, files_left })
}
