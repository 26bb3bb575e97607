//! Few-shot demonstrations: which training items come before a question.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Result, bail};
use mm1_data::question::Question;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use xxhash_rust::xxh3::xxh3_64;

use crate::counted::counted;
use crate::model::Model;
use crate::prompt::{PromptWriter, Style};
use crate::protocol::{Protocol, Selection};
use crate::refusal::Refusal;
use crate::same_item::ItemIdentity;
use crate::skipped::SkippedItems;
use crate::task::Task;
use crate::{RandomStream, rng};

/// Draws demonstrations of a task. An item that shows the test item is never drawn: one with its picture, in
/// any file format, or without pictures its question in any spelling. A damaged one is replaced and listed.
pub struct Shots<'a> {
    pub(crate) task: &'a dyn Task,
    style: Style,
    protocol: &'a Protocol,
    shots: usize,
    seed: u64,
    /// For [`Selection::Similar`], else empty: the training items that are searched, with their pictures'
    /// features.
    pool: Vec<PoolItem>,
    /// Training items that could not be read.
    pub skipped: SkippedItems,
}

impl<'a> Shots<'a> {
    /// `shots` demonstrations of `task` for prompts of that style, selected as `protocol` says and drawn by
    /// `seed`.
    pub fn new(task: &'a dyn Task, protocol: &'a Protocol, style: Style, shots: usize, seed: u64) -> Self {
        Self { task, style, protocol, shots, seed, pool: Vec::new(), skipped: SkippedItems::default() }
    }

    /// Encodes the pictures of `protocol.pool` training items, where similar ones will be asked for.
    ///
    /// # Errors
    /// A task without pictures, or a model without features.
    pub fn embed_pool(&mut self, model: &mut impl Model) -> Result<()> {
        if self.protocol.demonstrations != Selection::Similar || self.shots == 0 {
            return Ok(());
        }
        let stream = rng(self.seed, RandomStream::Shots, 0);
        let mut indices = DistinctIndices::new(stream, self.task.demonstrations());
        while self.pool.len() < self.protocol.pool
            && let Some(index) = indices.next()
        {
            if let Some(item) = self.read(index) {
                let features = mean_features(model, &item.question)?;
                self.pool.push(PoolItem { item, features });
            }
        }
        Ok(())
    }

    /// The demonstrations for `test`. Random ones are in an order that depends on the seed and the test
    /// item's id alone; fewer shots are the first of more.
    ///
    /// # Errors
    /// The training split is too small.
    pub fn draw(&mut self, model: &mut impl Model, test: &Question) -> Result<Vec<Question>> {
        match self.protocol.demonstrations {
            Selection::Similar if self.shots > 0 => {
                let features = mean_features(model, test)?;
                let identity = ItemIdentity::of(test)?;
                let drawn = self.similar(&features, &identity);
                self.accepted(drawn, test, &identity)
            }
            _ => self.rehearse(test),
        }
    }

    /// The same without a model: random ones in the place of similar ones.
    pub(crate) fn rehearse(&mut self, test: &Question) -> Result<Vec<Question>> {
        let there = self.task.demonstrations();
        if self.shots as u64 > there {
            bail!(self.too_few(&format!("has {there}")));
        }
        if self.shots == 0 {
            return Ok(Vec::new());
        }
        let identity = ItemIdentity::of(test)?;
        let drawn = match self.protocol.demonstrations {
            // An item that a test question must not see would change the others' prompts: it is refused
            // below.
            Selection::Fixed => self.sample(0, None),
            Selection::Random | Selection::Similar => {
                self.sample(xxh3_64(test.id.as_bytes()), Some(&identity))
            }
        };
        self.accepted(drawn, test, &identity)
    }

    fn accepted(
        &self,
        drawn: Vec<TrainingItem>,
        test: &Question,
        identity: &ItemIdentity,
    ) -> Result<Vec<Question>> {
        if drawn.len() < self.shots {
            let thinks = if self.protocol.chain_of_thought { ", show a chain of thought" } else { "" };
            bail!(self.too_few(&format!(
                "has {} that can be read{thinks} and do not show what {} asks",
                drawn.len(),
                test.id
            )));
        }
        if let Some(same) = drawn.iter().find(|item| item.identity.shows(identity)) {
            bail!(Refusal::new(format!(
                "task {}: the fixed demonstration {} shows what {} asks: choose another seed, or random ones",
                self.task.name(),
                same.question.id,
                test.id
            )));
        }
        Ok(drawn.into_iter().map(|item| item.question).collect())
    }

    fn too_few(&self, split: &str) -> Refusal {
        let (task, asked) = (self.task.name(), counted(self.shots as u64, "demonstration"));
        let be = if self.shots == 1 { "is" } else { "are" };
        Refusal::new(format!(
            "task {task}: {asked} {be} asked for, but the training split {split}; ask for fewer shots"
        ))
    }

    fn sample(&mut self, stream: u64, test: Option<&ItemIdentity>) -> Vec<TrainingItem> {
        let stream = rng(self.seed, RandomStream::Shots, stream);
        let mut indices = DistinctIndices::new(stream, self.task.demonstrations());
        let mut drawn = Vec::new();
        while drawn.len() < self.shots
            && let Some(index) = indices.next()
        {
            let item = self.read(index);
            drawn.extend(item.filter(|item| !test.is_some_and(|test| item.identity.shows(test))));
        }
        drawn
    }

    fn similar(&self, features: &[f32], test: &ItemIdentity) -> Vec<TrainingItem> {
        let others = self.pool.iter().filter(|other| !other.item.identity.shows(test));
        let mut ranked: Vec<_> =
            others.map(|other| (cosine(features, &other.features), &other.item)).collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
        ranked.into_iter().take(self.shots).rev().map(|(_, item)| item.clone()).collect()
    }

    fn read(&mut self, index: u64) -> Option<TrainingItem> {
        let read = || {
            let question = self.task.demonstration(index)?;
            // One that can't be written is damaged, as one that can't be read.
            let (template, chain_of_thought) = (&self.task.template(), self.protocol.chain_of_thought);
            PromptWriter { style: self.style, template, chain_of_thought }.check_demonstration(&question)?;
            let identity = Arc::new(ItemIdentity::of(&question)?);
            anyhow::Ok(TrainingItem { question, identity })
        };
        match read() {
            Ok(item) => Some(item)
                .filter(|item| !self.protocol.chain_of_thought || !item.question.reasoning.is_empty()),
            Err(e) => {
                self.skipped.add(self.task.name(), "train", index, &e);
                None
            }
        }
    }
}

/// A training item, and what tells it from others.
#[derive(Clone)]
struct TrainingItem {
    question: Question,
    identity: Arc<ItemIdentity>,
}

/// A training item that may be similar to a test item.
struct PoolItem {
    item: TrainingItem,
    /// The mean of its pictures' features, `[d]`.
    features: Vec<f32>,
}

/// The mean over an item's pictures of their features `[d]`.
fn mean_features(model: &mut impl Model, question: &Question) -> Result<Vec<f32>> {
    if question.pictures.is_empty() {
        let message = "it has no picture, so no similar ones: ask for random demonstrations";
        bail!(Refusal::new(format!("{}: {message}", question.id)));
    }
    let features = model.features(&question.pictures)?;
    let mean = |i: usize| features.iter().map(|f| f[i]).sum::<f32>() / features.len() as f32;
    Ok((0..features[0].len()).map(mean).collect())
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f64::MIN_POSITIVE)
}

/// Numbers below `end` in random order without repetition. A shuffled list would need memory for each of
/// them, and a source may have no end.
pub(crate) struct DistinctIndices {
    rng: ChaCha8Rng,
    end: u64,
    /// Those that were drawn; all below `end`.
    drawn: BTreeSet<u64>,
}

impl DistinctIndices {
    pub(crate) fn new(rng: ChaCha8Rng, end: u64) -> Self {
        Self { rng, end, drawn: BTreeSet::new() }
    }
}

impl Iterator for DistinctIndices {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let left = self.end - self.drawn.len() as u64;
        if left == 0 {
            return None;
        }
        // The n-th index that was not drawn yet.
        let mut index = self.rng.random_range(0..left);
        for &drawn in &self.drawn {
            index += u64::from(drawn <= index);
        }
        self.drawn.insert(index);
        Some(index)
    }
}
