//! `mm1 data recaption`: synthetic captions by a trained model over a captioned set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use mm1_data::document::{Document, Image, Picture, Segment};
use mm1_data::error_line::error_line;
use mm1_data::image::{ImageSpec, Tiling, open, prepare};
use mm1_data::loader::SkippedSample;
use mm1_data::question::Question;
use mm1_data::recaption::{CaptionedShare, Recaption, RecaptionSettings, RecaptionSpec, Tally, caption};
use mm1_data::shard::Provenance;
use mm1_data::source::files::ReadDocument;
use mm1_data::source::stored::StoredSource;
use mm1_data::task::{DONE, TaskFolder, TaskHeader};
use mm1_eval::prompt::{PromptWriter, Style};
use mm1_eval::template::{CAPTION, Template};
use mm1_serve::generate::{AnswerOptions, EncodedPrompt, GenerateOptions};
use rayon::prelude::*;
use serde_json::json;

use super::sources::{Opened, Share, SourceArgs, TaskArgs, task_done};
use crate::arguments::DeviceArgs;
use crate::error::{InputError, input};
use crate::output::{print_json, tell};
use crate::progress::Progress;
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
    let captioner = Captioner { args, model: &model, source: &source, total, ranks };
    if !ranks.is_first() {
        return captioner.go_on(None);
    }
    let folder = share.map(|share| input(task_folder(args, share, &spec))).transpose()?;
    if folder.as_ref().is_some_and(|folder| folder.has(DONE)) {
        return task_done(&args.to, args.task.task, args.json);
    }
    // The folder of a task is locked already; what is written lies in one of its own.
    let to = folder.as_ref().map_or(args.to.as_path(), TaskFolder::path);
    let to = if folder.is_some() { to.join(CAPTIONED) } else { to.to_owned() };
    let mut writing = input(Recaption::open(&to, spec))?;
    captioner.go_on(Some(&mut writing))?;
    input(writing.finish())?;
    for SkippedSample { id, reason } in writing.skipped() {
        tell(format_args!("{:>14} skipped {id}: {reason}", "recaption"));
    }
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
        settings: settings
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect::<RecaptionSettings>(),
        shard_bytes: (mib * f64::from(1 << 20)) as u64,
        max_skipped_share: args.max_skipped_share,
        may_be_empty: args.task.task.is_some(),
    })
}

/// Documents to describe.
struct Captioner<'a> {
    args: &'a RecaptionArgs,
    model: &'a Trained,
    source: &'a Opened,
    total: u64,
    ranks: &'a Ranks,
}

/// A document and where it is from.
type Read = (Document, Provenance);

/// The description of a picture, or why there is none.
type Described = Result<String, String>;

/// A document and the prompt about its image.
struct CaptionPrompt {
    document: Document,
    origin: Provenance,
    prompt: EncodedPrompt,
}

impl Captioner<'_> {
    /// Describes what is not described yet, into `writing` at the rank that writes.
    fn go_on(&self, mut writing: Option<&mut Recaption>) -> Result<()> {
        let next =
            writing.as_ref().map(|writing| if writing.is_done() { self.total } else { writing.next() });
        let mut next = self.ranks.of_first(next)?.context("rank 0 writes")?;
        if next == self.total {
            return Ok(());
        }
        if next > 0 {
            tell(format_args!("{:>14} continues after {next} of {} documents", "recaption", self.total));
        }
        let mut progress = writing.is_some().then(|| Progress::new("recaption", next, self.total));
        // Two batches of each rank, so that an answer that is done early leaves its place to another.
        let step = 2 * u64::from(self.args.batch) * self.ranks.count() as u64;
        while next < self.total {
            let numbers: Vec<u64> = (next..(next + step).min(self.total)).collect();
            next += numbers.len() as u64;
            let mut read = BTreeMap::new();
            let described = self.ranks.divide(&numbers, |own| self.describe(own, &mut read))?;
            let Some((writing, progress)) = writing.as_mut().zip(progress.as_mut()) else { continue };
            for (number, described) in numbers.into_iter().zip(described) {
                match described {
                    Ok(description) => {
                        let own = read.remove(&number);
                        let (document, origin) = own.map_or_else(|| self.read(number), Ok)?;
                        writing.write(&document, origin, &description)?;
                    }
                    Err(reason) => {
                        let id = place(self.source, number)
                            .map_or_else(String::new, |(source, at)| source.file(at));
                        input(writing.skip(SkippedSample { id: format!("{id} ({number})"), reason }))?;
                    }
                }
            }
            let Tally { captions, skipped, .. } = writing.tally();
            progress.update(next, &format!("{captions} captions, {skipped} skipped"));
        }
        if let Some(progress) = progress {
            progress.finish(&format!("{} documents done", self.total));
        }
        Ok(())
    }

    /// What the model says of the pictures at `numbers`, or why it says nothing. Puts what was read of them
    /// into `read`.
    fn describe(&self, numbers: &[u64], read: &mut BTreeMap<u64, Read>) -> Result<Vec<Described>> {
        // Running text has a caption in a line.
        let stop = if self.model.tuned { Vec::new() } else { vec!["\n".to_owned()] };
        let answer = AnswerOptions { stop, ..AnswerOptions::greedy(usize::from(self.args.max_tokens)) };
        let options = GenerateOptions { answer, batch: usize::from(self.args.batch) };
        let image = self.model.generator.image();
        let images: Vec<Result<CaptionedImage>> =
            numbers.par_iter().map(|&number| captioned_image(self.read(number)?, image)).collect();
        let asked: Vec<Result<CaptionPrompt>> = images.into_iter().map(|image| self.prompt(image?)).collect();
        let prompts: Vec<&EncodedPrompt> = asked.iter().flatten().map(|asked| &asked.prompt).collect();
        let shared = EncodedPrompt::default();
        let answers = self.model.generator.generate_after(&shared, &prompts, &options, None)?;
        let mut answers = answers.into_iter();
        let described = numbers.iter().zip(asked).map(|(&number, asked)| match asked {
            Ok(CaptionPrompt { document, origin, .. }) => {
                read.insert(number, (document, origin));
                let answer = answers.next().context("an answer for each prompt")?;
                Ok(Ok(self.description(&answer)))
            }
            Err(reason) => Ok(Err(error_line(&reason))),
        });
        described.collect()
    }

    /// Reads the document at `number`.
    fn read(&self, number: u64) -> Result<Read> {
        let (source, at) = place(self.source, number).context("no such document")?;
        let ReadDocument { document, origin, .. } = source.document(at)?;
        Ok((document, origin))
    }

    /// The prompt about an image.
    fn prompt(
        &self,
        CaptionedImage { document, origin, picture, alt_text }: CaptionedImage,
    ) -> Result<CaptionPrompt> {
        let hint = if self.args.with_alt_text { alt_text.as_str() } else { "" };
        let generator = &self.model.generator;
        let prompt = generator.encode(&[(&prompt(self.model.tuned, picture, hint)?).into()])?;
        let (tokens, answer) = (prompt.positions(), usize::from(self.args.max_tokens));
        ensure!(
            tokens + answer <= generator.prompts().context(),
            "the prompt takes {tokens} tokens and the answer up to {answer}, but the context has {}",
            generator.prompts().context()
        );
        Ok(CaptionPrompt { document, origin, prompt })
    }

    /// What the model says of the picture, with the words that the prompt began.
    fn description(&self, answer: &str) -> String {
        if self.model.tuned { answer.to_owned() } else { format!("{CAPTION}{answer}") }
    }
}

/// A captioned document, taken apart.
struct CaptionedImage {
    document: Document,
    origin: Provenance,
    /// As the model's square: it is not decoded again.
    picture: Image,
    alt_text: String,
}

/// Prepares the picture of a document.
fn captioned_image((document, origin): Read, spec: &ImageSpec) -> Result<CaptionedImage> {
    let (image, alt_text) = caption(&document)?;
    let picture = square(image, spec)?;
    Ok(CaptionedImage { document, origin, picture, alt_text })
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

/// The question in the style that the model was trained for. A pre-trained model reads the alt-text as text
/// that stands between the picture and its caption, a tuned one as part of the turn.
fn prompt(tuned: bool, picture: Image, alt_text: &str) -> Result<Vec<Segment>> {
    let style = if tuned { Style::Chat } else { Style::Pretrained };
    let question = Question { pictures: vec![picture], ..Question::default() };
    let writer = PromptWriter { style, template: &Template::captions(), chain_of_thought: false };
    let mut segments = writer.write(&[], &question, None)?.segments;
    if !alt_text.is_empty()
        && let Some(Segment::Text { text, .. }) =
            segments.iter_mut().rfind(|segment| matches!(segment, Segment::Text { .. }))
    {
        let alt_text = alt_text.split_whitespace().collect::<Vec<_>>().join(" ");
        *text =
            if tuned { format!("{text} Its alt-text: {alt_text}") } else { format!("{alt_text}\n{text}") };
    }
    Ok(segments)
}

/// The picture as the model's square. One that is tiled stays as it is, and is decoded once more when the
/// model reads it: its pixels may be many.
fn square(image: &Image, spec: &ImageSpec) -> Result<Image> {
    if spec.config.tiling != Tiling::default() {
        open(image)?;
        return Ok(image.clone());
    }
    let side = u32::try_from(spec.size)?;
    Ok(Arc::new(Picture { width: side, height: side, rgb: prepare(image, spec)? }).into())
}

/// The sums in short.
fn sums(tally: &Tally) -> String {
    let mean = |sum: u64| sum as f64 / tally.captions.max(1) as f64;
    format!(
        "{} captions of {:.1} words (before: {:.1}), {:.1}% gained a content word, {} documents skipped",
        tally.captions,
        mean(tally.words_after),
        mean(tally.words_before),
        100.0 * mean(tally.gained),
        tally.skipped
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts of a prompt, pictures as `[]`, special tokens by name.
    fn asked(tuned: bool, alt_text: &str) -> String {
        let picture = Arc::new(Picture { width: 1, height: 1, rgb: vec![0; 3] }).into();
        let piece = |segment: &Segment| match segment {
            Segment::Text { text, .. } => text.clone(),
            Segment::Image(_) => "[]".to_owned(),
            Segment::Token { token, .. } => format!("<{token:?}>"),
        };
        prompt(tuned, picture, alt_text).expect("no placeholder").iter().map(piece).collect()
    }

    #[test]
    fn a_model_is_asked_as_it_was_trained() {
        assert_eq!(asked(false, ""), "[]A photo of");
        assert_eq!(asked(false, "Rex  in\nOslo"), "[]Rex in Oslo\nA photo of");
        assert_eq!(asked(true, ""), "<User>[]Describe the picture.<Assistant>");
        assert_eq!(asked(true, "Rex"), "<User>[]Describe the picture. Its alt-text: Rex<Assistant>");
    }
}
