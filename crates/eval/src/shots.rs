//! Few-shot prompts in the paper's forms: `{IMAGE}A photo of` and `{IMAGE}Question: {Q} Short answer:`, after k demonstrations
//! that have their pictures, their answer and a line break.
//!
//! The text follows the picture directly, as in pre-training, and never ends with a space: the answer brings its own, so tokens
//! do not depend on where the prompt was cut.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use mm1_data::chat::{self, Role, Turn};
use mm1_data::document::{Picture, Segment};
use mm1_data::image::open;
use mm1_data::question::Question;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::run::Options;
use crate::task::Task;
use crate::{Stream, rng};

/// What a caption begins with, in prompts and in the built-in world.
pub const CAPTION: &str = "A photo of";

/// What a user of a tuned model asks for a caption.
pub const CAPTION_REQUEST: &str = "Describe the picture.";

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
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// The test item's id.
    pub id: String,
    /// Demonstrations and question, none of it learned.
    pub segments: Vec<Segment>,
}

/// Writes the prompt for `test` after `demonstrations`.
pub fn prompt(style: Style, demonstrations: &[Question], test: &Question) -> Prompt {
    let segments = match style {
        Style::Pretrained => {
            let mut segments = Vec::new();
            for demonstration in demonstrations {
                segments.extend(pictures(demonstration));
                segments.push(Segment::prompt(format!("{}\n", answered(demonstration))));
            }
            segments.extend(pictures(test));
            segments.push(Segment::prompt(opening(test)));
            segments
        }
        Style::Chat => {
            let mut turns = Vec::new();
            for demonstration in demonstrations {
                turns.push(user_turn(demonstration));
                let text = one_line(typical_answer(demonstration));
                turns.push(Turn { role: Role::Assistant, segments: vec![Segment::prompt(text)] });
            }
            turns.push(user_turn(test));
            chat::prompt(&turns).into_iter().map(unlearned).collect()
        }
    };
    Prompt { id: test.id.clone(), segments }
}

/// The text that is scored for the model's `output`, already cut at the stop string. A caption begins with `A photo of` if the
/// references do, whether the prompt or the model wrote these words, so they never count for or against the model.
pub fn prediction(test: &Question, output: &str) -> String {
    let output = output.trim();
    if !test.text.is_empty() {
        return output.to_string();
    }
    let caption = if begins_as_caption(output) { output[CAPTION.len()..].trim_start() } else { output };
    if test.answers.first().is_some_and(|a| begins_as_caption(a)) {
        format!("{CAPTION} {caption}")
    } else {
        caption.to_string()
    }
}

/// Draws `shots` training items for `test`, in an order that depends on `seed` and the test item's id alone; fewer shots are
/// the first of more. An item with a picture of the test item is never drawn, a damaged one is replaced and put on `skipped`
/// (id and reason).
///
/// # Errors
/// The training split is too small.
pub fn draw(
    task: &dyn Task,
    (shots, seed): (usize, u64),
    test: &Question,
    skipped: &mut BTreeMap<String, String>,
) -> Result<Vec<Question>> {
    let mut indices =
        Indices::new(rng(seed, Stream::Shots, xxh3_64(test.id.as_bytes())), task.demonstrations());
    let mut drawn = Vec::with_capacity(shots);
    while drawn.len() < shots {
        let Some(index) = indices.next() else {
            bail!(
                "task {}: {shots} demonstrations are asked for, but the training split has {} that can be read and do not show \
                 the picture of {}; ask for fewer shots",
                task.name(),
                drawn.len(),
                test.id
            );
        };
        match task.demonstration(index) {
            Ok(q) => {
                if q.id != test.id && !q.pictures.iter().any(|p| test.pictures.contains(p)) {
                    drawn.push(q);
                }
            }
            Err(e) => drop(skipped.insert(format!("{}/train/{index}", task.name()), format!("{e:#}"))),
        }
    }
    Ok(drawn)
}

/// Numbers below `end` in random order without repetition.
pub(crate) struct Indices {
    rng: ChaCha8Rng,
    end: u64,
    seen: BTreeSet<u64>,
}

impl Indices {
    pub(crate) fn new(rng: ChaCha8Rng, end: u64) -> Self {
        Self { rng, end, seen: BTreeSet::new() }
    }
}

impl Iterator for Indices {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let left = self.end - self.seen.len() as u64;
        if left == 0 {
            return None;
        }
        // The n-th index that was not drawn yet.
        let mut index = self.rng.random_range(0..left);
        for &seen in &self.seen {
            index += u64::from(seen <= index);
        }
        self.seen.insert(index);
        Some(index)
    }
}

/// Refuses a prompt that does not fit: no demonstration is ever left out silently.
pub(crate) fn check_fit(task: &dyn Task, shots: usize, prompt: &Prompt, options: &Options) -> Result<()> {
    let (tokens, answer) = ((options.tokens)(&prompt.segments), task.max_tokens());
    ensure!(
        tokens + answer <= options.context,
        "task {}: the prompt of {} with {shots} demonstrations and all their pictures takes {tokens} tokens and the answer up \
         to {answer}, but the context has {}: ask for fewer shots, fewer image tokens or a longer context",
        task.name(),
        prompt.id,
        options.context
    );
    Ok(())
}

/// Replaces every picture by mid-grey of the same size: what a blind model is given.
///
/// # Errors
/// A damaged picture.
pub fn blind(prompt: &mut Prompt) -> Result<()> {
    for segment in &mut prompt.segments {
        if let Segment::Image(image) = segment {
            let Picture { width, height, ref rgb } = *open(image)?;
            *image = Arc::new(Picture { width, height, rgb: vec![128; rgb.len()] }).into();
        }
    }
    Ok(())
}

/// The most frequent answer, the first among equals.
pub fn typical_answer(question: &Question) -> &str {
    let count = |answer: &String| question.answers.iter().filter(|a| *a == answer).count();
    let best = question.answers.iter().rev().max_by_key(|a| count(a));
    best.map_or("", String::as_str)
}

/// The text before the answer.
fn opening(question: &Question) -> String {
    if question.text.is_empty() {
        CAPTION.to_string()
    } else {
        format!("Question: {} Short answer:", one_line(&question.text))
    }
}

/// The text of a demonstration with its answer.
fn answered(question: &Question) -> String {
    let answer = one_line(typical_answer(question));
    if question.text.is_empty() && begins_as_caption(&answer) {
        answer
    } else {
        format!("{} {answer}", opening(question))
    }
}

fn begins_as_caption(caption: &str) -> bool {
    caption.get(..CAPTION.len()).is_some_and(|start| start.eq_ignore_ascii_case(CAPTION))
}

fn user_turn(question: &Question) -> Turn {
    let text = if question.text.is_empty() { CAPTION_REQUEST.to_string() } else { one_line(&question.text) };
    let mut segments: Vec<Segment> = pictures(question).collect();
    segments.push(Segment::prompt(text));
    Turn { role: Role::User, segments }
}

fn pictures(question: &Question) -> impl Iterator<Item = Segment> + '_ {
    question.pictures.iter().map(|p| Segment::Image(p.clone()))
}

/// A line break would end the demonstration.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn unlearned(segment: Segment) -> Segment {
    match segment {
        Segment::Text { text, .. } => Segment::Text { text, learn: false },
        Segment::Token { token, .. } => Segment::Token { token, learn: false },
        image @ Segment::Image(_) => image,
    }
}
