//! The sources that a command is given: paths, and what the person says of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use clap::Args;
use indicatif::HumanCount;
use mm1_data::account::Accounts;
use mm1_data::examine::{Damaged, Examination, PictureCheck};
use mm1_data::left_out::LeftOut;
use mm1_data::printable::printable;

use mm1_data::source::detect::{self, DetectOptions, Detected, UnusedFile};
use mm1_data::source::stored::{self, StoredSource};
use mm1_data::store::{Store, StoreSpec};
use mm1_data::task::Task;
use serde_json::json;

use crate::arguments::ThreadsArgs;
use crate::error::input;
use crate::output::{print_json, tell};
use crate::progress::Progress;

/// Files that are named one by one; all are counted.
const NAMED: usize = 20;
/// Reasons that are shown, the most frequent ones; all are counted.
const REASONS: usize = 20;

#[derive(Debug, Args)]
pub(crate) struct SourceArgs {
    /// Files, folders, glob patterns (a/*.tar, a-{000..127}.tar) and URLs (https://, s3://, gs://). Their
    /// format is detected from names and content; a folder may hold several formats.
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<String>,
    /// Format of the sources, instead of detecting it: folder, classes, shards, webdataset,
    /// parquet-captioned, obelics, mmc4, html, text, json-text, parquet-text, conversations or
    /// parquet-conversations.
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Set a field of the source, as in a recipe's [data.NAME]: caption=json.caption, text=COLUMN,
    /// pictures=DIR, missing=leave-out. May be repeated. Images of MMC4, LLaVA and OBELICS files are looked
    /// for beside the file, in images/, pictures/ and imgs/, and in a folder with the file's name.
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    settings: Vec<String>,
    #[command(flatten)]
    pub(crate) threads: ThreadsArgs,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct TaskArgs {
    /// Do only the I-th of N shares of the files, counted from 0 (0/8 to 7/8), as any scheduler starts it. It
    /// may be killed and started again; when all are done, mm1 data join DIR puts them together.
    #[arg(long, value_name = "I/N")]
    pub(crate) task: Option<Task>,
}

/// A task and the input of all tasks in words.
pub(crate) struct Share {
    pub(crate) task: Task,
    pub(crate) input: String,
}

impl SourceArgs {
    /// What the paths are, or the share of it that a task has.
    pub(crate) fn detect_share(&self, store: &Store, task: TaskArgs) -> Result<(Detected, Option<Share>)> {
        let mut detected = self.detect(store)?;
        let Some(task) = task.task else { return Ok((detected, None)) };
        let files = input(detected.share(task))?;
        let said = format!("{files}, --kind {:?}, --set {:?}", self.kind, self.settings);
        Ok((detected, Some(Share { task, input: said })))
    }

    /// The opened sources, or the share of them that a task has.
    pub(crate) fn open_share(&self, store: &Store, task: TaskArgs) -> Result<(Opened, Option<Share>)> {
        let (detected, share) = self.detect_share(store, task)?;
        Ok((opened(detected, store, share.is_some())?, share))
    }

    /// A store with the default cache.
    pub(crate) fn store() -> Result<Store> {
        input(Store::new(StoreSpec::default()))
    }

    /// What the paths are; files of no source are named on standard error.
    pub(crate) fn detect(&self, store: &Store) -> Result<Detected> {
        let said = input(DetectOptions::new(self.kind.clone(), &self.settings))?;
        let detected = input(detect::detect(&self.sources, &said, store))?;
        let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for UnusedFile { file, reason } in &detected.left {
            reasons.entry(reason).or_default().push(file);
        }
        for (reason, files) in reasons {
            let more = if files.len() > NAMED { ", …" } else { "" };
            let named: Vec<_> = files.iter().take(NAMED).map(|file| printable(file)).collect();
            let (named, reason) = (named.join(", "), printable(reason));
            let count = if files.len() == 1 { "1 file".to_owned() } else { format!("{} files", files.len()) };
            tell(format_args!("mm1: left out, {reason}: {count} ({named}{more})"));
        }
        Ok(detected)
    }

    /// The opened sources. What each was taken for is said on standard error.
    pub(crate) fn open(&self, store: &Store) -> Result<Opened> {
        opened(self.detect(store)?, store, false)
    }

    /// How documents are looked at.
    pub(crate) fn examination(&self, look: PictureCheck) -> Examination {
        Examination { look, threads: self.threads.count(), large: false }
    }
}

/// Opens what was detected; files of a share may have no document.
fn opened(detected: Detected, store: &Store, share: bool) -> Result<Opened> {
    let detected = input(detected.clear())?;
    let open = if share { stored::open_shares } else { stored::open };
    let sources = input(open(&detected.sources, store))?;
    for source in &sources {
        let (name, kind) = (source.name(), source.kind());
        let (files, documents) = (counted(source.files(), "file"), counted(source.documents(), "document"));
        tell(format_args!("{name:>14} {files} as {kind}, {documents}"));
    }
    Ok(Opened { sources, detected })
}

/// Open sources, and what was found with them.
pub(crate) struct Opened {
    pub(crate) sources: Vec<StoredSource>,
    pub(crate) detected: Detected,
}

impl Opened {
    /// Documents of all sources.
    pub(crate) fn documents(&self) -> u64 {
        self.sources.iter().map(StoredSource::documents).sum()
    }
}

/// Says that a task is done, and what is next.
pub(super) fn task_done(to: &Path, task: Option<Task>, as_json: bool) -> Result<()> {
    let task = task.map_or_else(String::new, |task| task.to_string());
    let shown = to.display();
    tell(format_args!("task {task} is done; when all are: mm1 data join {shown}"));
    if as_json { print_json(&json!({"to": to, "task": task, "round": "done"})) } else { Ok(()) }
}

/// `1 file`, `2 files`.
pub(super) fn counted(number: u64, of: &str) -> String {
    format!("{} {of}{}", HumanCount(number), if number == 1 { "" } else { "s" })
}

/// Documents from one showing of progress to the next.
const EVERY: u64 = 64;

/// Progress in documents.
pub(crate) struct DocumentProgress {
    progress: Progress,
    last: u64,
}

impl DocumentProgress {
    pub(crate) fn new(name: &str, total: u64) -> Self {
        Self { progress: Progress::new(name, 0, total), last: 0 }
    }

    /// Where the number of documents is not known.
    pub(crate) fn open_ended(name: &str) -> Self {
        Self { progress: Progress::open_ended(name), last: 0 }
    }

    /// `done` documents are behind.
    pub(crate) fn update(&mut self, done: u64) {
        if done >= self.last + EVERY {
            self.last = done;
            self.progress.update(done, "documents");
        }
    }

    /// Ends with a line that stays.
    pub(crate) fn finish(self, line: &str) {
        self.progress.finish(line);
    }
}

/// What became of all files and documents, in lines that add up, and what documents lack, by reason.
pub(crate) fn account_table(account: &Accounts, left_out: &LeftOut) -> String {
    let Accounts { files, documents } = account;
    let mut text = format!("\n{:>12} {:>12}  what became of them\n", "files", "documents");
    let mut line = |files: Option<u64>, documents: Option<u64>, what: &str| {
        let count =
            |count: Option<u64>| count.map_or_else(String::new, |count| HumanCount(count).to_string());
        let _ = writeln!(text, "{:>12} {:>12}  {}", count(files), count(documents), printable(what));
    };
    line(Some(files.there), Some(documents.there), "there");
    line(Some(files.read), Some(documents.read), "read");
    for (name, [of_files, of_documents]) in [
        ("skipped", [&files.skipped, &documents.skipped]),
        ("left out", [&files.left_out, &documents.left_out]),
    ] {
        most(of_files, |reason, count| line(Some(count), None, &format!("{name}: {reason}")));
        most(of_documents, |reason, count| line(None, Some(count), &format!("{name}: {reason}")));
    }
    let lost = [files, documents].map(|account| account.in_no_count());
    if lost != [0, 0] {
        let _ = writeln!(text, "{:>12} {:>12}  in no count: a fault of mm1", lost[0], lost[1]);
    }
    if !left_out.is_empty() {
        text.push_str("\nleft out of documents and archives, by reason\n");
        most(left_out, |reason, count| {
            let _ = writeln!(text, "{:>12}  {}", HumanCount(count).to_string(), printable(reason));
        });
    }
    text
}

/// Calls `line` for the most frequent reasons, in the order of their names, and for all others together.
fn most(counts: &LeftOut, mut line: impl FnMut(&str, u64)) {
    let mut all: Vec<(&str, u64)> = counts.iter().collect();
    all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let others: u64 = all.iter().skip(REASONS).map(|(_, count)| count).sum();
    let number = all.len().saturating_sub(REASONS);
    all.truncate(REASONS);
    all.sort_unstable();
    all.into_iter().for_each(|(reason, count)| line(reason, count));
    if number > 0 {
        line(&format!("{number} other reasons, which --json has"), others);
    }
}

/// Names damaged documents on standard error.
pub(crate) fn list_damaged(damaged: &[Damaged], count: u64) {
    for found in damaged.iter().take(NAMED) {
        tell(format_args!("  {found}"));
    }
    if count > NAMED as u64 {
        tell(format_args!("  … and {} more; --json lists the first 1000", count - NAMED as u64));
    }
}
