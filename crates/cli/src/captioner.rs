//! [`Captioner`]: pictures of a captioned set described by a model of ours. What is said of a picture depends
//! on no batch and no thread.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use mm1_data::document::{Document, Image, Picture, Segment};
use mm1_data::error_line::error_line;
use mm1_data::image::{ImageSpec, Tiling, open, prepare};
use mm1_data::loader::SkippedSample;
use mm1_data::question::Question;
use mm1_data::recaption::{Recaption, Refused, Tally, caption};
use mm1_data::shard::Provenance;
use mm1_eval::prompt::{PromptWriter, Style};
use mm1_eval::template::{CAPTION, Template};
use mm1_serve::generate::{AnswerOptions, EncodedPrompt, Finish, FinishedAnswer, GenerateOptions, Generator};
use mm1_serve::prompts::PromptTokenizer;
use mm1_serve::sampler::Sampling;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::input;
use crate::output::tell;
use crate::progress::Progress;
use crate::ranks::Ranks;

/// Captioned documents with numbers from 0.
pub(crate) trait CaptionedDocuments: Sync {
    /// The document of a number, and where it comes from.
    ///
    /// # Errors
    /// A damaged document.
    fn read(&self, number: u64) -> Result<ReadCaption>;

    /// What a person calls it.
    fn name(&self, number: u64) -> String;

    /// What describing them is called.
    fn title(&self) -> &str;

    /// How many there are to describe.
    fn count(&self) -> u64;
}

/// What a model is asked about a picture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CaptionRequest<'a> {
    /// Whether it was tuned on conversations, and is asked in turns.
    pub(crate) tuned: bool,
    /// What it is asked, of a model that was only pre-trained the words with which the caption begins; by
    /// default what evaluations ask.
    pub(crate) words: Option<&'a str>,
    /// Whether it is shown the alt-text.
    pub(crate) with_alt_text: bool,
}

/// How pictures are described.
pub(crate) struct Captioner<'a> {
    pub(crate) generator: &'a Generator,
    pub(crate) request: CaptionRequest<'a>,
    /// Longest description in tokens.
    pub(crate) max_tokens: usize,
    pub(crate) sampling: Sampling,
    /// Pictures that are described side by side.
    pub(crate) batch: usize,
    /// Words that a description must have, which must have ended, too. `None`: every description is taken.
    pub(crate) min_words: Option<usize>,
}

/// A document and where it is from.
pub(crate) type ReadCaption = (Document, Provenance);

/// What came of a picture; a rank sends it to the one that writes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Described {
    /// The description.
    As(String),
    /// The model said something that becomes no caption.
    Refused(Refused),
    /// Why the document can't be used.
    Skipped(String),
}

/// A document and the prompt about its picture.
struct CaptionPrompt {
    document: Document,
    origin: Provenance,
    prompt: EncodedPrompt,
}

/// A captioned document, taken apart.
struct CaptionedImage {
    document: Document,
    origin: Provenance,
    /// As the model's square: it is not decoded again.
    picture: Image,
    alt_text: String,
}

impl Captioner<'_> {
    /// [`Self::go_on`] at rank 0, to the end of `writing`; says what was skipped.
    ///
    /// # Errors
    /// As those of [`Self::go_on`]; a folder without captions.
    pub(crate) fn write(
        &self,
        documents: &impl CaptionedDocuments,
        ranks: &Ranks,
        mut writing: Recaption,
        check_stop: impl Fn() -> Result<()>,
    ) -> Result<Recaption> {
        self.go_on(documents, ranks, Some(&mut writing), check_stop)?;
        input(writing.finish())?;
        for SkippedSample { id, reason } in writing.skipped() {
            tell(format_args!("{:>14} skipped {id}: {reason}", documents.title()));
        }
        Ok(writing)
    }

    /// Describes the documents that are not described yet, each of `ranks` a part of them, into `writing` at
    /// rank 0. `check_stop` ends it between two steps.
    ///
    /// # Errors
    /// Too many damaged documents, a disk that is full, what `check_stop` gives.
    pub(crate) fn go_on(
        &self,
        documents: &impl CaptionedDocuments,
        ranks: &Ranks,
        mut writing: Option<&mut Recaption>,
        check_stop: impl Fn() -> Result<()>,
    ) -> Result<()> {
        let (title, total) = (documents.title(), documents.count());
        let next = writing.as_ref().map(|writing| if writing.is_done() { total } else { writing.next() });
        let mut next = ranks.of_first(next)?.context("rank 0 writes")?;
        if next == total {
            return Ok(());
        }
        if next > 0 {
            tell(format_args!("{title:>14} continues after {next} of {total} documents"));
        }
        let mut progress = writing.is_some().then(|| Progress::new(title, next, total));
        // Two batches of each rank, so that an answer that is done early leaves its place to another.
        let step = 2 * self.batch as u64 * ranks.count() as u64;
        while next < total {
            let numbers: Vec<u64> = (next..(next + step).min(total)).collect();
            next += numbers.len() as u64;
            let mut read = BTreeMap::new();
            let described = ranks.divide(&numbers, |own| {
                check_stop()?;
                self.describe(documents, own, &mut read)
            })?;
            let Some((writing, progress)) = writing.as_mut().zip(progress.as_mut()) else { continue };
            for (number, described) in numbers.into_iter().zip(described) {
                match described {
                    Described::As(description) => {
                        let own = read.remove(&number);
                        let (document, origin) = own.map_or_else(|| documents.read(number), Ok)?;
                        writing.write(&document, origin, &description)?;
                    }
                    Described::Refused(why) => writing.refuse(why),
                    Described::Skipped(reason) => {
                        let id = format!("{} ({number})", documents.name(number));
                        input(writing.skip(SkippedSample { id, reason }))?;
                    }
                }
            }
            let Tally { captions, skipped, short, cut, .. } = writing.tally();
            let refused = short + cut;
            let refused = if refused > 0 { format!(", {refused} refused") } else { String::new() };
            progress.update(next, &format!("{captions} captions{refused}, {skipped} skipped"));
        }
        if let Some(progress) = progress {
            progress.finish(&format!("{total} documents done"));
        }
        Ok(())
    }

    /// What the model says of the pictures at `numbers`, or why it says nothing. Puts what was read of them
    /// into `read`.
    ///
    /// # Errors
    /// A failure of the model.
    pub(crate) fn describe(
        &self,
        documents: &impl CaptionedDocuments,
        numbers: &[u64],
        read: &mut BTreeMap<u64, ReadCaption>,
    ) -> Result<Vec<Described>> {
        let image = self.generator.image();
        let images: Vec<Result<CaptionedImage>> =
            numbers.par_iter().map(|&number| captioned_image(documents.read(number)?, image)).collect();
        let prompts: Vec<Result<CaptionPrompt>> =
            images.into_iter().map(|image| self.prompt(image?)).collect();
        let asked =
            numbers.iter().zip(&prompts).filter_map(|(&i, asked)| Some((i, &asked.as_ref().ok()?.prompt)));
        let asked: Vec<(u64, &EncodedPrompt)> = asked.collect();
        // Running text has a caption in a line.
        let stop = if self.request.tuned { Vec::new() } else { vec!["\n".to_owned()] };
        let answer =
            AnswerOptions { stop, sampling: self.sampling, ..AnswerOptions::greedy(self.max_tokens) };
        let options = GenerateOptions { answer, batch: self.batch };
        let answers = self.generator.answer_numbered(&EncodedPrompt::default(), &asked, &options, None)?;
        let mut answers = answers.into_iter();
        let described = numbers.iter().zip(prompts).map(|(&number, asked)| match asked {
            Ok(CaptionPrompt { document, origin, .. }) => {
                read.insert(number, (document, origin));
                Ok(self.description(answers.next().context("an answer for each prompt")?))
            }
            Err(reason) => Ok(Described::Skipped(error_line(&reason))),
        });
        described.collect()
    }

    /// The prompt about an image.
    fn prompt(&self, image: CaptionedImage) -> Result<CaptionPrompt> {
        let CaptionedImage { document, origin, picture, alt_text } = image;
        let prompt = self.request.encode(self.generator.prompts(), picture, &alt_text, self.max_tokens)?;
        Ok(CaptionPrompt { document, origin, prompt })
    }

    /// What the model says of the picture, with the words that the prompt began.
    fn description(&self, answer: FinishedAnswer) -> Described {
        let FinishedAnswer { text, finish } = answer;
        if let Some(least) = self.min_words {
            if finish == Finish::Length {
                return Described::Refused(Refused::Cut);
            }
            if text.split_whitespace().count() < least {
                return Described::Refused(Refused::Short);
            }
        }
        let begun = if self.request.tuned { "" } else { self.request.words.unwrap_or(CAPTION) };
        Described::As(format!("{begun}{text}"))
    }
}

impl CaptionRequest<'_> {
    /// The prompt about `picture`, after which a description of `max_tokens` has room.
    ///
    /// # Errors
    /// A prompt that is too long.
    pub(crate) fn encode(
        &self,
        prompts: &PromptTokenizer,
        picture: Image,
        alt_text: &str,
        max_tokens: usize,
    ) -> Result<EncodedPrompt> {
        let hint = if self.with_alt_text { alt_text } else { "" };
        let prompt = prompts.encode(&[(&self.segments(picture, hint)?).into()])?;
        let (tokens, context) = (prompt.positions(), prompts.context());
        ensure!(
            tokens + max_tokens <= context,
            "the prompt takes {tokens} tokens and the answer up to {max_tokens}, but the context has \
             {context}"
        );
        Ok(prompt)
    }

    /// The question in the style that the model was trained for. A pre-trained model reads the alt-text as
    /// text that stands between the picture and its caption, a tuned one as part of the turn.
    fn segments(&self, picture: Image, alt_text: &str) -> Result<Vec<Segment>> {
        let style = if self.tuned { Style::Chat } else { Style::Pretrained };
        let question = Question {
            pictures: vec![picture],
            text: self.words.unwrap_or_default().to_owned(),
            ..Question::default()
        };
        let mut template = Template::captions();
        if self.words.is_some() {
            let asked = "{pictures}{question}".to_owned();
            template = Template { ask: asked.clone(), chat: asked, ..template };
        }
        let writer = PromptWriter { style, template: &template, chain_of_thought: false };
        let mut segments = writer.write(&[], &question, None)?.segments;
        if !alt_text.is_empty()
            && let Some(Segment::Text { text, .. }) =
                segments.iter_mut().rfind(|segment| matches!(segment, Segment::Text { .. }))
        {
            let alt_text = alt_text.split_whitespace().collect::<Vec<_>>().join(" ");
            *text = if self.tuned {
                format!("{text} Its alt-text: {alt_text}")
            } else {
                format!("{alt_text}\n{text}")
            };
        }
        Ok(segments)
    }
}

/// Prepares the picture of a document.
fn captioned_image((document, origin): ReadCaption, spec: &ImageSpec) -> Result<CaptionedImage> {
    let (image, alt_text) = caption(&document)?;
    let picture = square(image, spec)?;
    Ok(CaptionedImage { document, origin, picture, alt_text })
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
pub(crate) fn sums(tally: &Tally) -> String {
    let mean = |sum: u64| sum as f64 / tally.captions.max(1) as f64;
    let mut text = format!(
        "{} captions of {:.1} words (before: {:.1}), {:.1}% gained a content word, {} documents skipped",
        tally.captions,
        mean(tally.words_after),
        mean(tally.words_before),
        100.0 * mean(tally.gained),
        tally.skipped
    );
    for (count, why) in [(tally.short, "too short"), (tally.cut, "did not end")] {
        if count > 0 {
            text += &format!(", {count} refused: {why}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts of a prompt, pictures as `[]`, special tokens by name.
    fn asked(tuned: bool, words: Option<&str>, alt_text: &str) -> String {
        let picture = Arc::new(Picture { width: 1, height: 1, rgb: vec![0; 3] }).into();
        let piece = |segment: &Segment| match segment {
            Segment::Text { text, .. } => text.clone(),
            Segment::Image(_) => "[]".to_owned(),
            Segment::Token { token, .. } => format!("<{token:?}>"),
        };
        let request = CaptionRequest { tuned, words, with_alt_text: true };
        request.segments(picture, alt_text).expect("no placeholder").iter().map(piece).collect()
    }

    #[test]
    fn a_model_is_asked_as_it_was_trained() {
        assert_eq!(asked(false, None, ""), "[]A photo of");
        assert_eq!(asked(false, None, "Rex  in\nOslo"), "[]Rex in Oslo\nA photo of");
        assert_eq!(asked(true, None, ""), "<User>[]Describe the picture.<Assistant>");
        assert_eq!(asked(true, None, "Rex"), "<User>[]Describe the picture. Its alt-text: Rex<Assistant>");
    }

    #[test]
    fn a_model_is_asked_in_the_words_that_are_given() {
        // Braces are text.
        assert_eq!(asked(false, Some("Here {is}"), ""), "[]Here {is}");
        assert_eq!(asked(true, Some("What is this?"), ""), "<User>[]What is this?<Assistant>");
        assert_eq!(asked(true, Some("What?"), "Rex"), "<User>[]What? Its alt-text: Rex<Assistant>");
    }
}
