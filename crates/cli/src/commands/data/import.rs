//! `mm1 data import`: data of any format as shards.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use indicatif::{HumanBytes, HumanCount};
use mm1_data::account::Accounts;
use mm1_data::examine::PictureCheck;
use mm1_data::filter::{FilterCounts, FilterSpec};
use mm1_data::import::{self, ImportOutcome, ImportSpec, Pass};
use mm1_data::shard::ShardEntry;
use mm1_data::source::detect::UnusedFile;
use mm1_data::task::{ImportStep, SourceRecord, Task, import_task};
use mm1_data::text_file;
use mm1_eval::counted::counted;
use serde_json::json;
use toml::{Table, Value};

use super::sources::{DocumentProgress, Share, SourceArgs, TaskArgs, account_table, list_damaged};
use crate::error::{InputError, input};
use crate::output::{print_json, tell};
use crate::recipe;

#[derive(Debug, Args)]
#[command(after_help = "Filter rules (FIELD = default), for --filter-set and for a --filter file:
  min_side = 11, max_side = 9999  pixels of an image's shorter and longer side
  max_aspect = 2.0                largest aspect ratio
  max_uses = 10                   how often the same image, in any file format, may occur in
                                  all documents
  names = [\"logo\", \"button\", \"icon\"]
                                  images with one of these in their name are removed
  require_picture = false, require_text = true
  unique_text = true              deduplication: of documents with equal texts and the same
                                  images only the first stays
  languages = []                  languages that stay, such as [\"eng\"]; empty: all

Shards appear under their names when all are complete; after an interrupt the same command starts over.
With --task the same commands are given twice: all tasks, mm1 data join DIR, all tasks, mm1 data join DIR.
The first round looks at the data, the join decides what the filter removes, the second round writes.
Use them in a recipe:  --set data.NAME.kind=shards --set data.NAME.path=DIR")]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    sources: SourceArgs,
    #[command(flatten)]
    task: TaskArgs,
    /// Folder for the shards; it is made.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Prefix of the shards' names: NAME-000000.tar.
    #[arg(long, value_name = "NAME", default_value = "shard")]
    name: String,
    /// Size of a shard, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    shard_mib: u64,
    /// Licence, written into every document and the manifest. Default: what the sources say.
    #[arg(long)]
    licence: Option<String>,
    /// Attribution, written into every document and the manifest. Default: what the sources say.
    #[arg(long)]
    attribution: Option<String>,
    /// Filter rules from a TOML file; see below.
    #[arg(long, value_name = "FILE", conflicts_with = "no_filter")]
    filter: Option<PathBuf>,
    /// Override a filter rule: min_side=32, languages=["eng"]. May be repeated.
    #[arg(long, value_name = "FIELD=VALUE", conflicts_with = "no_filter")]
    filter_set: Vec<String>,
    /// Do not filter: keep every document that is not damaged.
    #[arg(long)]
    no_filter: bool,
    /// Largest share of damaged documents; above it nothing is written.
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    max_skipped_share: f64,
    /// Check only the headers of images. Default: decode each, so that the shards hold no damaged image.
    #[arg(long)]
    headers_only: bool,
    /// Print one JSON document as the last line of standard output.
    #[arg(long)]
    json: bool,
}

/// Writes the shards.
///
/// # Errors
/// Wrong input, too many damaged documents, a full disk.
pub(crate) fn import(args: &ImportArgs) -> Result<()> {
    let filter = if args.no_filter { None } else { Some(rules(args)?) };
    let store = SourceArgs::store()?;
    let (opened, share) = args.sources.open_share(&store, args.task)?;
    let look = if args.headers_only { PictureCheck::Headers } else { PictureCheck::Pixels };
    let spec = ImportSpec {
        folder: args.to.clone(),
        stem: args.name.clone(),
        shard_bytes: args.shard_mib << 20,
        filter,
        max_skipped_share: args.max_skipped_share,
        licence: args.licence.clone(),
        attribution: args.attribution.clone(),
        how: args.sources.examination(look),
    };
    let total = opened.documents();
    let mut bar = (Pass::Check, DocumentProgress::new("checking", total));
    let mut beside = opened.detected.beside.clone();
    let mut progress = |pass: Pass, done: u64| {
        if bar.0 != pass {
            let checked = std::mem::replace(&mut bar, (pass, DocumentProgress::new("writing", total)));
            checked.1.finish("all documents are read");
        }
        bar.1.update(done);
    };
    if let Some(Share { task, input: files }) = share {
        let of = (&opened.detected, opened.sources.as_slice());
        let step = input(import_task(of, (task, &files), &spec, &mut beside, &mut progress))?;
        return report_task(args, task, step);
    }
    let imported = input(import::import(&opened.sources, &spec, &mut beside, &mut progress))?;
    bar.1.finish("all shards are whole");
    let account = Accounts { files: opened.detected.files(&beside), documents: imported.account() };
    let sources: Vec<_> = opened.sources.iter().map(SourceRecord::of).collect();
    let left = &opened.detected.left;
    ImportReport { to: &args.to, imported: &imported, account: &account, sources: &sources, left }
        .print(args.json)
}

/// What a task has done, and what is next.
fn report_task(args: &ImportArgs, task: Task, step: ImportStep) -> Result<()> {
    let (round, next) = match step {
        ImportStep::Checked => ("check", "when all tasks have done this"),
        ImportStep::Written => ("write", "when all tasks have done this, for the last time"),
    };
    let to = args.to.display();
    tell(format_args!("task {task}: round {round:?} is done; {next}: mm1 data join {to}"));
    if args.json {
        print_json(&json!({"to": args.to, "task": task.to_string(), "round": round}))
    } else {
        Ok(())
    }
}

/// The rules: those of the file, changed by each edit.
fn rules(args: &ImportArgs) -> Result<FilterSpec> {
    let mut table = Table::new();
    if let Some(path) = &args.filter {
        let text = text_file::read(path)
            .map_err(|e| InputError::new(format!("--filter {}: {e:#}", path.display())))?;
        table = toml::from_str(&text)
            .map_err(|e| InputError::new(format!("--filter {}: {e}", path.display())))?;
    }
    for edit in &args.filter_set {
        let wrong = || InputError::new(format!("--filter-set {edit}: write it as field=value"));
        let (field, written) = edit.split_once('=').ok_or_else(wrong)?;
        table.insert(field.to_owned(), recipe::value_of(written));
    }
    input(Value::Table(table).try_into().context("a rule of the filter"))
}

/// What an import has done, by one process or by tasks.
pub(super) struct ImportReport<'a> {
    pub(super) to: &'a Path,
    pub(super) imported: &'a ImportOutcome,
    pub(super) account: &'a Accounts,
    pub(super) sources: &'a [SourceRecord],
    /// Files of no source.
    pub(super) left: &'a [UnusedFile],
}

impl ImportReport<'_> {
    /// On standard output.
    pub(super) fn print(&self, as_json: bool) -> Result<()> {
        let Self { to, account, .. } = *self;
        let ImportOutcome { shards, skipped, damaged, left_out, filter, .. } = self.imported;
        let sum = |of: fn(&ShardEntry) -> u64| shards.iter().map(of).sum::<u64>();
        if *skipped > 0 {
            tell(format_args!("mm1: {skipped} damaged documents were skipped:"));
            list_damaged(damaged, *skipped);
        }
        if as_json {
            let source = |record: &SourceRecord| {
                let SourceRecord { name, kind, files, documents, .. } = record;
                json!({"source": name, "kind": kind, "files": files, "documents": documents})
            };
            let sources: Vec<_> = self.sources.iter().map(source).collect();
            return print_json(&json!({
                "to": to,
                "read": self.sources.iter().map(|record| record.documents).sum::<u64>(),
                "documents": sum(|shard| shard.documents),
                "images": sum(|shard| shard.images),
                "words": sum(|shard| shard.words),
                "bytes": sum(|shard| shard.bytes),
                "skipped": skipped,
                "skipped_documents": damaged,
                "removed": filter.as_ref().map(|counts| json!({
                    "documents": counts.removed_documents, "pictures": counts.removed_pictures,
                })),
                "sources": sources,
                "left_out": left_out,
                "files_left_out": self.left,
                "account": account,
                "shards": shards,
            }));
        }
        print!(
            "{}{}",
            account_table(account, left_out),
            filter.as_ref().map_or_else(String::new, filter_table)
        );
        println!(
            "\n{} documents, {} images, {} words in {} of {} in {}",
            HumanCount(sum(|shard| shard.documents)),
            HumanCount(sum(|shard| shard.images)),
            HumanCount(sum(|shard| shard.words)),
            counted(shards.len() as u64, "shard"),
            HumanBytes(sum(|shard| shard.bytes)),
            to.display()
        );
        Ok(())
    }
}

/// What the rules have removed and kept, as a table.
fn filter_table(counts: &FilterCounts) -> String {
    let FilterCounts { documents, pictures, removed_documents, removed_pictures } = counts;
    let count = |number: Option<&u64>| number.map_or(String::new(), |n| HumanCount(*n).to_string());
    let mut text = String::from("\n");
    let mut line = |name: &str, documents: &str, pictures: &str| {
        let _ = writeln!(text, "{name:<24} {documents:>12} {pictures:>12}");
    };
    line("by the filter rules", "documents", "pictures");
    let rules: BTreeSet<_> = removed_documents.keys().chain(removed_pictures.keys()).collect();
    for rule in rules {
        let name = serde_json::to_value(rule).ok();
        let name = name.as_ref().and_then(|name| name.as_str()).unwrap_or_default();
        let counts = [removed_documents, removed_pictures].map(|removed| count(removed.get(rule)));
        line(&format!("removed: {name}"), &counts[0], &counts[1]);
    }
    line("kept", &count(Some(documents)), &count(Some(pictures)));
    text
}
