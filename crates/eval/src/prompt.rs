//! [`Prompt`]: demonstrations with their pictures and answers, and the question after them, in one of two
//! styles.

use std::sync::Arc;

use anyhow::Result;
use mm1_data::chat;
use mm1_data::document::{Image, Picture, Segment, Special};
use mm1_data::image::open;
use mm1_data::question::Question;
use serde::{Deserialize, Serialize};

use crate::template::{CAPTION, Template, one_line, without_opening};

/// What stands before the answer in a chain of thought.
const CONCLUSION: &str = "answer is";

/// How a prompt is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Style {
    /// Running text, for a pre-trained model.
    Pretrained,
    /// Demonstrations as earlier turns of a conversation, for a tuned model.
    Chat,
}

/// What the model is to continue.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prompt {
    /// The test item's id.
    pub id: String,
    /// Demonstrations and question, none of it learned.
    pub segments: Vec<Segment>,
    /// How many of the segments are demonstrations; the question is the rest. At most `segments.len()`.
    pub demonstration_segments: usize,
    /// Whether these are the same in the prompts of all items.
    pub shared_demonstrations: bool,
    /// The first pictures, if less is shown of them than of the question's.
    pub reduced: Option<ReducedPictures>,
}

/// Pictures at the beginning of a prompt of which less is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReducedPictures {
    /// Pixels a side; `None`: as many as the question's.
    pub side: Option<usize>,
    /// Whether they are shown by their overviews alone, without tiles.
    pub overviews: bool,
    /// How many these are.
    pub count: usize,
}

impl Prompt {
    /// The first segment from which on pictures are encoded at full resolution.
    pub fn full_resolution_from(&self) -> usize {
        let Some(ReducedPictures { count, .. }) = self.reduced else { return 0 };
        let demonstrations = self.segments[..self.demonstration_segments].iter().enumerate();
        let mut pictures = demonstrations.filter(|(_, segment)| matches!(segment, Segment::Image(_)));
        pictures.nth(count).map_or(self.demonstration_segments, |(place, _)| place)
    }

    /// The pictures, demonstrations first.
    ///
    /// # Errors
    /// A damaged picture.
    pub fn pictures(&self) -> Result<Vec<Arc<Picture>>> {
        let picture = |segment: &Segment| match segment {
            Segment::Image(image) => Some(open(image)),
            _ => None,
        };
        self.segments.iter().filter_map(picture).collect()
    }

    /// Replaces every picture by mid-grey of the same size: what a blind model is given.
    ///
    /// # Errors
    /// A damaged picture.
    pub fn blind(&mut self) -> Result<()> {
        for segment in &mut self.segments {
            if let Segment::Image(image) = segment {
                *image = grey(image)?;
            }
        }
        Ok(())
    }

    /// The prompt as text, pictures written `<image>` and special tokens by name.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for segment in &self.segments {
            match segment {
                Segment::Text { text: t, .. } => text.push_str(t),
                Segment::Image(_) => text.push_str("<image>"),
                Segment::Token { token, .. } => text.push_str(match token {
                    Special::Pad => "<pad>",
                    Special::End => "<end>",
                    Special::Image => "<image>",
                    Special::User => "<user>",
                    Special::Assistant => "<assistant>",
                    Special::System => "<system>",
                }),
            }
        }
        text
    }
}

/// Writes the prompts of a task.
#[derive(Clone, Copy, Debug)]
pub struct PromptWriter<'a> {
    /// Running text, or a conversation.
    pub style: Style,
    /// How an item is written.
    pub template: &'a Template,
    /// Whether demonstrations show how their answer is found.
    pub chain_of_thought: bool,
}

impl PromptWriter<'_> {
    /// Refuses a demonstration that can't be written.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub(crate) fn check_demonstration(&self, item: &Question) -> Result<()> {
        match self.style {
            Style::Pretrained => self.template.write_demonstration(item, self.chain_of_thought).map(drop),
            Style::Chat => self.template.turns(item, self.chain_of_thought).map(drop),
        }
    }

    /// The prompt for `test` after `demonstrations`. With a `choice` it is the prompt by which that option is
    /// scored.
    ///
    /// # Errors
    /// An item that places another number of pictures than it has.
    pub fn write(
        &self,
        demonstrations: &[Question],
        test: &Question,
        choice: Option<&str>,
    ) -> Result<Prompt> {
        let (shown, question) = match self.style {
            Style::Pretrained => {
                let mut shown = vec![Segment::prompt(&self.template.preamble)];
                for demonstration in demonstrations {
                    shown.extend(self.template.write_demonstration(demonstration, self.chain_of_thought)?);
                }
                (shown, self.template.write_question(test, choice)?)
            }
            Style::Chat => {
                let mut turns = Vec::new();
                for demonstration in demonstrations {
                    turns.extend(self.template.turns(demonstration, self.chain_of_thought)?);
                }
                let [question, _] = self.template.turns(test, false)?;
                (chat::document("", &turns).segments, chat::prompt(&[question]))
            }
        };
        let mut segments = joined(shown.into_iter().map(unlearned));
        let demonstration_segments = segments.len();
        segments.extend(joined(question.into_iter().map(unlearned)));
        Ok(Prompt { id: test.id.clone(), segments, demonstration_segments, ..Prompt::default() })
    }

    /// What follows the prompt of `test` if `text`, an option or an accepted answer, is the answer.
    pub fn continuation(&self, test: &Question, text: &str) -> String {
        match self.style {
            Style::Pretrained => self.template.write_answer(test, Some(text)),
            // A demonstration's reply is the answer alone.
            Style::Chat => one_line(text),
        }
    }
}

/// The text that is scored for the model's `output`, already cut at the stop string. A caption begins with `A
/// photo of` if the references do, whether the prompt or the model wrote these words, so they never count for
/// or against the model.
pub fn prediction(test: &Question, output: &str) -> String {
    let output = output.trim();
    if !test.text.is_empty() {
        return output.to_string();
    }
    let caption = without_opening(output);
    if test.answers.first().is_some_and(|a| without_opening(a).len() < a.len()) {
        format!("{CAPTION} {caption}")
    } else {
        caption.to_string()
    }
}

/// The answer at the end of a chain of thought: what follows the last `answer is`, up to the end of its
/// sentence; without these words the last line.
pub fn conclusion(output: &str) -> &str {
    let last = match output.rfind(CONCLUSION) {
        Some(at) => output[at + CONCLUSION.len()..].lines().next().unwrap_or_default(),
        None => output.trim().lines().next_back().unwrap_or_default(),
    };
    let sentence = last.split(". ").next().unwrap_or_default();
    sentence.trim_matches(|c: char| c.is_whitespace() || c == ':').trim_end_matches('.')
}

fn grey(image: &Image) -> Result<Image> {
    let Picture { width, height, ref rgb } = *open(image)?;
    Ok(Arc::new(Picture { width, height, rgb: vec![128; rgb.len()] }).into())
}

/// Neighbouring texts as one: tokens do not depend on where a demonstration ends.
fn joined(segments: impl Iterator<Item = Segment>) -> Vec<Segment> {
    let mut out: Vec<Segment> = Vec::new();
    for segment in segments {
        match (out.last_mut(), segment) {
            (_, Segment::Text { text, .. }) if text.is_empty() => {}
            (Some(Segment::Text { text, .. }), Segment::Text { text: more, .. }) => text.push_str(&more),
            (_, segment) => out.push(segment),
        }
    }
    out
}

fn unlearned(segment: Segment) -> Segment {
    match segment {
        Segment::Text { text, .. } => Segment::Text { text, learn: false },
        Segment::Token { token, .. } => Segment::Token { token, learn: false },
        image @ Segment::Image(_) => image,
    }
}
