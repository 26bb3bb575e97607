//! `mm1 data stats`: what is in data, counted.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use indicatif::{HumanBytes, HumanCount};
use mm1_data::account::Accounts;
use mm1_data::examine::{Damaged, LISTED, PictureCheck};
use mm1_data::printable::printable;
use mm1_data::source::detect::UnusedFile;
use mm1_data::statistics::{Counted, CountedShare, Histogram, Statistics, StoredStatistics, Sums};
use mm1_data::task::{DONE, FilesRecord, SourceRecord, TaskFolder, TaskHeader};
use mm1_data::text_file;
use mm1_data::tokenizer::Tokenizer;
use serde::Serialize;

use super::sources::{DocumentProgress, Share, SourceArgs, TaskArgs, account_table, list_damaged, task_done};
use crate::error::input;
use crate::output::print_json;

/// The longest bar of a histogram in characters.
const BAR: usize = 40;

#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    #[command(flatten)]
    sources: SourceArgs,
    #[command(flatten)]
    task: TaskArgs,
    /// Folder of the tasks; with --task.
    #[arg(long, value_name = "DIR", requires = "task")]
    to: Option<PathBuf>,
    /// Count tokens too, with the tokenizer.json of a run.
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Decode every image. Default: read headers only.
    #[arg(long)]
    decode: bool,
    /// Print one JSON document as the last line of standard output.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints: the totals, and the same of each source.
#[derive(Serialize)]
pub(super) struct StatsReport {
    #[serde(flatten)]
    total: Statistics,
    sources: Vec<SourceStats>,
    skipped_documents: Vec<Damaged>,
    /// Files that belong to no source.
    files_left_out: Vec<UnusedFile>,
    /// What became of all files and documents.
    account: Accounts,
}

#[derive(Serialize)]
struct SourceStats {
    source: String,
    kind: String,
    files: u64,
    file_bytes: u64,
    #[serde(flatten)]
    statistics: Statistics,
}

/// Counts everything.
///
/// # Errors
/// Wrong input. A damaged document is counted as skipped.
pub(crate) fn stats(args: &StatsArgs) -> Result<()> {
    let tokenizer = match &args.tokenizer {
        Some(path) => {
            let loaded = Tokenizer::load(path);
            Some(input(loaded.with_context(|| format!("--tokenizer {}", path.display())))?)
        }
        None => None,
    };
    let store = SourceArgs::store()?;
    let (opened, share) = args.sources.open_share(&store, args.task)?;
    let folder = share.map(|share| args.folder(share)).transpose()?;
    if folder.as_ref().is_some_and(|folder| folder.has(DONE)) {
        return report_task(args);
    }
    let how =
        args.sources.examination(if args.decode { PictureCheck::Pixels } else { PictureCheck::Headers });
    let mut bar = DocumentProgress::new("counting", opened.documents());
    let (mut statistics, mut damaged) = (Vec::new(), Vec::new());
    let (mut before, mut beside) = (0, opened.detected.beside.clone());
    for stored in &opened.sources {
        let (of_source, found) = Statistics::of(stored, tokenizer.as_ref(), how, &mut beside, &mut |done| {
            bar.update(before + done)
        })?;
        before += stored.documents();
        statistics.push(StoredStatistics::from(&of_source));
        damaged.extend(found);
    }
    bar.finish(&format!("{} documents done", HumanCount(before)));
    damaged.truncate(LISTED);
    let sources = opened.sources.iter().map(SourceRecord::of).collect();
    let files = FilesRecord::of(&opened.detected, &beside);
    let counted = CountedShare { sources, statistics, damaged, files };
    match folder {
        Some(folder) => {
            input(folder.finish(DONE, &counted))?;
            report_task(args)
        }
        None => StatsReport::of(Counted::join(vec![counted])?).print(args.json),
    }
}

impl StatsArgs {
    /// The folder of a task, whose settings are those that decide what is counted.
    fn folder(&self, share: Share) -> Result<TaskFolder> {
        let tokenizer = self.tokenizer.as_ref().map(|path| input(text_file::read(path))).transpose()?;
        let tokenizer = tokenizer.map_or_else(
            || "none".to_owned(),
            |text| format!("{:016x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes())),
        );
        let settings =
            [("input", share.input), ("tokenizer", tokenizer), ("decode", self.decode.to_string())];
        let to = self.to.as_deref().context("--task needs --to DIR, the folder of all tasks");
        input(to.and_then(|to| {
            TaskFolder::open(to, share.task, TaskHeader::new("stats", share.task.of, &settings))
        }))
    }
}

fn report_task(args: &StatsArgs) -> Result<()> {
    let (to, task) = (args.to.as_deref().unwrap_or(Path::new("")), args.task.task);
    task_done(to, task, args.json)
}

impl StatsReport {
    pub(super) fn of(counted: Counted) -> Self {
        let mut total = Statistics::default();
        let source = |(record, statistics): (SourceRecord, Statistics)| {
            total.merge(&statistics);
            let SourceRecord { name: source, kind, files, bytes: file_bytes, .. } = record;
            SourceStats { source, kind, files, file_bytes, statistics }
        };
        let sources = counted.sources.into_iter().map(source).collect();
        let account = Accounts { files: counted.files, documents: total.account() };
        let (skipped_documents, files_left_out) = (counted.damaged, counted.files_left);
        Self { total, sources, skipped_documents, files_left_out, account }
    }

    pub(super) fn print(&self, as_json: bool) -> Result<()> {
        if as_json {
            return print_json(self);
        }
        print!("{}", table(self));
        list_damaged(&self.skipped_documents, self.total.skipped);
        Ok(())
    }
}

fn table(report: &StatsReport) -> String {
    let total = &report.total;
    let mut text = format!("{:<22}{}\n", "", HEAD);
    for source in &report.sources {
        let Statistics { sums, skipped, .. } = &source.statistics;
        row(&mut text, &source.source, sums, Some(*skipped), source.statistics.tokens);
    }
    if report.sources.len() > 1 {
        row(&mut text, "all", &total.sums, Some(total.skipped), total.tokens);
    }
    text.push('\n');
    for (kind, sums) in &total.kinds {
        let name = serde_json::to_value(kind).ok();
        row(&mut text, name.as_ref().and_then(|name| name.as_str()).unwrap_or_default(), sums, None, None);
    }
    // Pictures of one source may have a licence each: the table has sources, `--json` has all.
    let mut by_source = BTreeMap::<&str, Sums>::new();
    for (origin, sums) in &total.origins {
        by_source.entry(&origin.source).or_default().add(sums);
    }
    if by_source.len() > 1 {
        text.push('\n');
        for (source, sums) in &by_source {
            row(&mut text, &format!("from {}", printable(source)), sums, None, None);
        }
    }
    for (name, histogram) in [
        ("words of a document", &total.words_histogram),
        ("tokens of a document", &total.tokens_histogram),
        ("images of a document", &total.images_histogram),
        ("shorter side of an image in pixels", &total.short_side_histogram),
        ("longer side of an image in pixels", &total.long_side_histogram),
    ] {
        chart(&mut text, name, histogram);
    }
    if !total.formats.is_empty() {
        let formats: Vec<_> =
            total.formats.iter().map(|(name, count)| format!("{} {name}", HumanCount(*count))).collect();
        let _ = writeln!(text, "\nformats of images: {}", formats.join(", "));
    }
    text + &account_table(&report.account, &total.left_out)
}

const HEAD: &str = "   documents      images         words       bytes     skipped        tokens";

fn row(text: &mut String, name: &str, sums: &Sums, skipped: Option<u64>, tokens: Option<u64>) {
    let count = |n: Option<u64>| n.map_or(String::new(), |n| HumanCount(n).to_string());
    let line = format!(
        "{name:<22}{:>12}{:>12}{:>14}{:>12}{:>12}{:>14}",
        count(Some(sums.documents)),
        count(Some(sums.images)),
        count(Some(sums.words)),
        HumanBytes(sums.bytes).to_string(),
        count(skipped),
        count(tokens)
    );
    let _ = writeln!(text, "{}", line.trim_end());
}

fn chart(text: &mut String, name: &str, histogram: &Histogram) {
    if histogram.is_empty() {
        return;
    }
    let _ = writeln!(
        text,
        "\n{name}: {:.1} on average, {} at most",
        histogram.mean(),
        HumanCount(histogram.max())
    );
    let bins = histogram.bins();
    let most = bins.iter().map(|(_, _, count)| *count).max().unwrap_or(1).max(1);
    for (from, to, count) in bins {
        let range = if from == to { from.to_string() } else { format!("{from}-{to}") };
        let length = (count as f64 / most as f64 * BAR as f64).ceil() as usize;
        let _ = writeln!(text, "{range:>16} {:>12}  {}", HumanCount(count).to_string(), "█".repeat(length));
    }
}
