//! Few-shot prompts: which demonstrations, with their pictures and answers, come before a question, and how
//! it is all written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use mm1_data::chat;
use mm1_data::document::{Image, Picture, Segment};
use mm1_data::image::open;
use mm1_data::question::Question;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::model::Model;
use crate::task::Task;
use crate::template::{Template, without_opening};
use crate::{Stream, rng};

/// What a caption begins with, in prompts and in the built-in world.
pub const CAPTION: &str = "A photo of";

/// What a user of a tuned model asks for a caption.
pub const CAPTION_REQUEST: &str = "Describe the picture.";

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

/// Which training items are shown before a question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// Others for each question, drawn by the seed and the question's id.
    #[default]
    Random,
    /// The same for all questions; they are read once.
    Fixed,
    /// Those with the most similar pictures, the most similar last (RICES: Yang et al. 2022; Alayrac et al.
    /// 2022).
    Similar,
}

/// What the model is to continue.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prompt {
    /// The test item's id.
    pub id: String,
    /// Demonstrations and question, none of it learned.
    pub segments: Vec<Segment>,
    /// How many of the segments come before the question.
    pub before: usize,
    /// Whether these are the same in the prompts of all items.
    pub shared: bool,
    /// Pixels a side with which the first pictures are looked at, and how many these are; `None`: all as the
    /// question's.
    pub small: Option<(usize, usize)>,
}

impl Prompt {
    /// The first segment from which on pictures are looked at as the question's.
    pub fn sharp_from(&self) -> usize {
        let Some((_, count)) = self.small else { return 0 };
        let before = self.segments[..self.before].iter().enumerate();
        let mut pictures = before.filter(|(_, segment)| matches!(segment, Segment::Image(_)));
        pictures.nth(count).map_or(self.before, |(place, _)| place)
    }
}

/// Writes the prompt for `test` after `demonstrations`, judged for the option `choice` where one is given.
///
/// # Errors
/// An item that places another number of pictures than it has.
pub fn prompt(
    (style, reasoned): (Style, bool),
    template: &Template,
    demonstrations: &[Question],
    (test, choice): (&Question, Option<&str>),
) -> Result<Prompt> {
    let (before, asked) = match style {
        Style::Pretrained => {
            let mut before = vec![Segment::prompt(&template.preamble)];
            for demonstration in demonstrations {
                before.extend(template.shown(demonstration, reasoned)?);
            }
            (before, template.asked(test, choice)?)
        }
        Style::Chat => {
            let mut turns = Vec::new();
            for demonstration in demonstrations {
                turns.extend(template.turns(demonstration, reasoned)?);
            }
            let [asked, _] = template.turns(test, false)?;
            (chat::document("", &turns).segments, chat::prompt(&[asked]))
        }
    };
    let mut segments = joined(before.into_iter().map(unlearned));
    let before = segments.len();
    segments.extend(joined(asked.into_iter().map(unlearned)));
    Ok(Prompt { id: test.id.clone(), segments, before, ..Prompt::default() })
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
    let said = match output.rfind(CONCLUSION) {
        Some(at) => output[at + CONCLUSION.len()..].lines().next().unwrap_or_default(),
        None => output.trim().lines().next_back().unwrap_or_default(),
    };
    let said = said.split(". ").next().unwrap_or_default();
    said.trim_matches(|c: char| c.is_whitespace() || c == ':').trim_end_matches('.')
}

/// Draws demonstrations of a task. An item with a picture of the test item is never drawn, a damaged one is
/// replaced and listed.
pub struct Shots<'a> {
    pub(crate) task: &'a dyn Task,
    shots: usize,
    seed: u64,
    choice: Choice,
    /// Whether only items with a chain of thought will do.
    reasoned: bool,
    /// For [`Choice::Similar`]: the training items that are searched, with their pictures' features.
    pool: Vec<(Question, Vec<f32>)>,
    /// Training items that could not be read: id and reason.
    pub skipped: BTreeMap<String, String>,
}

impl<'a> Shots<'a> {
    /// `shots` demonstrations of `task`, by `seed`; with `reasoned` only those with a chain of thought.
    pub fn new(task: &'a dyn Task, (shots, seed): (usize, u64), choice: Choice, reasoned: bool) -> Self {
        Self { task, shots, seed, choice, reasoned, pool: Vec::new(), skipped: BTreeMap::new() }
    }

    /// Looks at the pictures of `pool` training items, where similar ones will be asked for.
    ///
    /// # Errors
    /// A task without pictures, or a model without features.
    pub fn look(&mut self, model: &mut dyn Model, pool: usize) -> Result<()> {
        if self.choice != Choice::Similar || self.shots == 0 {
            return Ok(());
        }
        let mut indices = Indices::new(rng(self.seed, Stream::Shots, 0), self.task.demonstrations());
        while self.pool.len() < pool
            && let Some(index) = indices.next()
        {
            if let Some(question) = self.read(index) {
                let features = mean_features(model, &question)?;
                self.pool.push((question, features));
            }
        }
        Ok(())
    }

    /// The demonstrations for `test`. Random ones are in an order that depends on the seed and the test
    /// item's id alone; fewer shots are the first of more.
    ///
    /// # Errors
    /// The training split is too small.
    pub fn draw(&mut self, model: &mut dyn Model, test: &Question) -> Result<Vec<Question>> {
        let drawn = match self.choice {
            _ if self.shots == 0 => return Ok(Vec::new()),
            Choice::Random => self.sample(xxh3_64(test.id.as_bytes()), Some(test)),
            // An item that a test question must not see would change the others' prompts: it is refused
            // below.
            Choice::Fixed => self.sample(0, None),
            Choice::Similar => self.similar(&mean_features(model, test)?, test),
        };
        let task = self.task.name();
        if drawn.len() < self.shots {
            bail!(
                "task {task}: {} demonstrations are asked for, but the training split has {} that can be read{} and do not show \
                 the picture of {}; ask for fewer shots",
                self.shots,
                drawn.len(),
                if self.reasoned { ", show a chain of thought" } else { "" },
                test.id
            );
        }
        if let Some(same) = drawn.iter().find(|q| shows(q, test)) {
            bail!(
                "task {task}: the fixed demonstration {} shows the picture of {}: choose another seed, or random ones",
                same.id,
                test.id
            );
        }
        Ok(drawn)
    }

    fn sample(&mut self, stream: u64, test: Option<&Question>) -> Vec<Question> {
        let mut indices = Indices::new(rng(self.seed, Stream::Shots, stream), self.task.demonstrations());
        let mut drawn = Vec::with_capacity(self.shots);
        while drawn.len() < self.shots
            && let Some(index) = indices.next()
        {
            let question = self.read(index);
            drawn.extend(question.filter(|q| !test.is_some_and(|test| shows(q, test))));
        }
        drawn
    }

    fn similar(&self, features: &[f32], test: &Question) -> Vec<Question> {
        let others = self.pool.iter().filter(|(q, _)| !shows(q, test));
        let mut ranked: Vec<_> = others.map(|(q, of)| (cosine(features, of), q)).collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
        ranked.into_iter().take(self.shots).rev().map(|(_, q)| q.clone()).collect()
    }

    fn read(&mut self, index: u64) -> Option<Question> {
        match self.task.demonstration(index) {
            Ok(question) => Some(question).filter(|q| !self.reasoned || !q.reasoning.is_empty()),
            Err(e) => {
                self.skipped.insert(format!("{}/train/{index}", self.task.name()), format!("{e:#}"));
                None
            }
        }
    }
}

/// Whether an item is, or shows, the test item.
fn shows(question: &Question, test: &Question) -> bool {
    question.id == test.id || question.pictures.iter().any(|p| test.pictures.contains(p))
}

fn mean_features(model: &mut dyn Model, question: &Question) -> Result<Vec<f32>> {
    ensure!(
        !question.pictures.is_empty(),
        "{}: it has no picture, so no similar ones: ask for random demonstrations",
        question.id
    );
    let features = model.features(&question.pictures)?;
    let mean = |i: usize| features.iter().map(|f| f[i]).sum::<f32>() / features.len() as f32;
    Ok((0..features[0].len()).map(mean).collect())
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f64::MIN_POSITIVE)
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

/// Replaces every picture by mid-grey of the same size: what a blind model is given.
///
/// # Errors
/// A damaged picture.
pub fn blind(prompt: &mut Prompt) -> Result<()> {
    for segment in &mut prompt.segments {
        if let Segment::Image(image) = segment {
            *image = grey(image)?;
        }
    }
    Ok(())
}

fn grey(image: &Image) -> Result<Image> {
    let Picture { width, height, ref rgb } = *open(image)?;
    Ok(Arc::new(Picture { width, height, rgb: vec![128; rgb.len()] }).into())
}

/// The most frequent answer, the first among equals.
pub fn typical_answer(question: &Question) -> &str {
    let count = |answer: &String| question.answers.iter().filter(|a| *a == answer).count();
    let best = question.answers.iter().rev().max_by_key(|a| count(a));
    best.map_or("", String::as_str)
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
