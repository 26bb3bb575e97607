//! `mm1 data recaption`: synthetic captions by a trained model over a captioned set.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use mm1_data::document::Document;
use mm1_data::recaption::{CaptionedShare, Recaption, RecaptionSettings, RecaptionSpec};
use mm1_data::shard::Provenance;
use mm1_data::source::files::ReadDocument;
use mm1_data::source::stored::StoredSource;
use mm1_data::task::{DONE, TaskFolder, TaskHeader};
use mm1_serve::sampler::Sampling;
use serde_json::json;

use super::sources::{Opened, Share, SourceArgs, TaskArgs, task_done};
use crate::arguments::DeviceArgs;
use crate::captioner::{CaptionRequest, CaptionedDocuments, Captioner, sums};
use crate::error::{InputError, input};
use crate::output::print_json;
use crate::ranks::Ranks;
use crate::trained::Trained;

/// The folder inside of a task's in which captions are being written.
const CAPTIONED: &str = "captioned";

#[derive(Debug, Args)]
pub(crate) struct RecaptionArgs {
    #[command(flatten)]
    sources: SourceArgs,
    #[command(flatten)]
    task: TaskArgs,
    /// Run folder of the model that writes the captions.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    #[command(flatten)]
    device: DeviceArgs,
    /// Folder for the shards. The same command again continues where it stopped.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Batch size: images captioned together; no caption depends on it.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Longest caption, in tokens.
    #[arg(long, value_name = "N", default_value_t = 96, value_parser = clap::value_parser!(u16).range(1..))]
    max_tokens: u16,
    /// Caption only the first N documents.
    #[arg(long, value_name = "N", conflicts_with = "task", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Put the image's alt-text into the prompt.
    #[arg(long)]
    with_alt_text: bool,
    /// Size of a shard, in MiB. After a kill at most this much is done again.
    #[arg(long, value_name = "MIB", default_value_t = 32.0)]
    shard_mib: f64,
    /// Largest share of documents, of at least 20, that may be damaged or without a caption.
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    max_skipped_share: f64,
    /// Print one JSON document as the last line of standard output.
    #[arg(long)]
    json: bool,
}

/// Describes every picture, joins the description with the alt-text, and writes shards.
///
/// # Errors
/// Wrong input, too many damaged documents, a disk that is full; what was written stays, and the same command
/// goes on.
pub(crate) fn recaption(args: &RecaptionArgs) -> Result<()> {
    let ranks = Ranks::begin()?;
    let done = as_rank(args, &ranks);
    ranks.end(done)
}

/// The part of one rank; that of a process alone is all of it. Each describes a part of the pictures, and
/// rank 0 writes.
fn as_rank(args: &RecaptionArgs, ranks: &Ranks) -> Result<()> {
    ensure!(
        ranks.count() == 1 || args.task.task.is_none(),
        InputError::new("--task: tasks share the files and ranks the pictures: start tasks without mpirun")
    );
    args.sources.threads.start_pool()?;
    let model = Trained::load(&args.run, args.device.of(ranks))?;
    let (source, share) = args.sources.open_share(&SourceArgs::store()?, args.task)?;
    let total = source.documents().min(args.limit.unwrap_or(u64::MAX));
    let spec = input(spec(args, &model, &source))?;
    ranks.agree(&serde_json::to_vec(&spec.settings)?, "give all ranks the same model, files and settings")?;
    let captioner = Captioner {
        generator: &model.generator,
        request: CaptionRequest { tuned: model.tuned, words: None, with_alt_text: args.with_alt_text },
        max_tokens: usize::from(args.max_tokens),
        sampling: Sampling::Greedy,
        batch: usize::from(args.batch),
        min_words: None,
    };
    let documents = FirstOfSources { source: &source, count: total };
    if !ranks.is_first() {
        return captioner.go_on(&documents, ranks, None, || Ok(()));
    }
    let folder = share.map(|share| input(task_folder(args, share, &spec))).transpose()?;
    if folder.as_ref().is_some_and(|folder| folder.has(DONE)) {
        return task_done(&args.to, args.task.task, args.json);
    }
    // The folder of a task is locked already; what is written lies in one of its own.
    let to = folder.as_ref().map_or(args.to.as_path(), TaskFolder::path);
    let to = if folder.is_some() { to.join(CAPTIONED) } else { to.to_owned() };
    let writing = input(Recaption::open(&to, spec))?;
    let writing = captioner.write(&documents, ranks, writing, || Ok(()))?;
    let done = CaptionedShare::of(&writing);
    let Some(folder) = folder else { return report(&args.to, &done, args.json) };
    // Where the join looks for them.
    for shard in &done.shards {
        let (from, to) = (to.join(&shard.file), folder.path().join(&shard.file));
        if from.exists() {
            input(std::fs::rename(&from, &to).with_context(|| to.display().to_string()))?;
        }
    }
    input(folder.finish(DONE, &done))?;
    task_done(&args.to, args.task.task, args.json)
}

/// The folder of a task, whose settings are those that decide what is written.
fn task_folder(args: &RecaptionArgs, share: Share, spec: &RecaptionSpec) -> Result<TaskFolder> {
    let Share { task, input } = share;
    let own = spec.settings.iter().filter(|(name, _)| *name != "source");
    let mut settings: Vec<(&str, String)> = own.map(|(name, value)| (name.as_str(), value.clone())).collect();
    settings.push(("input", input));
    TaskFolder::open(&args.to, task, TaskHeader::new("recaption", task.of, &settings))
}

fn spec(args: &RecaptionArgs, model: &Trained, source: &Opened) -> Result<RecaptionSpec> {
    let mib = args.shard_mib;
    ensure!((0.001..=1e6).contains(&mib), "--shard-mib {mib}: give a number from 0.001 to 1000000");
    let describe = |source: &StoredSource| {
        let (documents, bytes) = (source.documents(), source.bytes());
        format!("{} as {}, {documents} documents, {bytes} bytes", source.name(), source.kind())
    };
    let settings = [
        ("model", model.id.clone()),
        ("source", source.sources.iter().map(describe).collect::<Vec<_>>().join("; ")),
        ("limit", args.limit.map_or("none".to_owned(), |limit| limit.to_string())),
        ("max-tokens", args.max_tokens.to_string()),
        ("with-alt-text", args.with_alt_text.to_string()),
        ("shard-mib", mib.to_string()),
    ];
    Ok(RecaptionSpec {
        settings: RecaptionSettings::from(settings.map(|(name, value)| (name.to_owned(), value))),
        shard_bytes: (mib * f64::from(1 << 20)) as u64,
        max_skipped_share: args.max_skipped_share,
        share_setting: "--max-skipped-share",
        keep_alt_text: true,
        may_be_empty: args.task.task.is_some(),
    })
}

/// The first documents of the sources.
struct FirstOfSources<'a> {
    source: &'a Opened,
    count: u64,
}

impl CaptionedDocuments for FirstOfSources<'_> {
    fn read(&self, number: u64) -> Result<(Document, Provenance)> {
        let (source, at) = place(self.source, number).context("no such document")?;
        let ReadDocument { document, origin, .. } = source.document(at)?;
        Ok((document, origin))
    }

    fn name(&self, number: u64) -> String {
        place(self.source, number).map_or_else(String::new, |(source, at)| source.file(at))
    }

    fn title(&self) -> &str {
        "recaption"
    }

    fn count(&self) -> u64 {
        self.count
    }
}

/// The source of the document at `number`, and its place there.
fn place(opened: &Opened, mut number: u64) -> Option<(&StoredSource, u64)> {
    for source in &opened.sources {
        if number < source.documents() {
            return Some((source, number));
        }
        number -= source.documents();
    }
    None
}

/// What was written, by one process or by tasks.
pub(super) fn report(to: &Path, done: &CaptionedShare, as_json: bool) -> Result<()> {
    let tally = &done.tally;
    if as_json {
        let mean = |sum: u64| sum as f64 / tally.captions.max(1) as f64;
        let document = json!({
            "to": to,
            "captions": tally.captions,
            "words_before": mean(tally.words_before),
            "words_after": mean(tally.words_after),
            "gained": mean(tally.gained),
            "skipped": tally.skipped,
            "skipped_documents": done.skipped,
        });
        print_json(&document)?;
    } else {
        println!("{}: {}", to.display(), sums(tally));
    }
    Ok(())
}
