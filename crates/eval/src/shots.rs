//! Few-shot demonstrations: which training items come before a question.

use std::collections::BTreeSet;

use anyhow::{Result, bail, ensure};
use mm1_data::question::Question;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use xxhash_rust::xxh3::xxh3_64;

use crate::model::Model;
use crate::protocol::{Protocol, Selection};
use crate::skipped::SkippedItems;
use crate::task::Task;
use crate::{RandomStream, rng};

/// Draws demonstrations of a task. An item with a picture of the test item is never drawn, a damaged one is
/// replaced and listed.
pub struct Shots<'a> {
    pub(crate) task: &'a dyn Task,
    protocol: &'a Protocol,
    shots: usize,
    seed: u64,
    /// For [`Selection::Similar`], else empty: the training items that are searched, with their pictures'
    /// features.
    pool: Vec<(Question, Vec<f32>)>,
    /// Training items that could not be read.
    pub skipped: SkippedItems,
}

impl<'a> Shots<'a> {
    /// `shots` demonstrations of `task`, selected as `protocol` says and drawn by `seed`.
    pub fn new(task: &'a dyn Task, protocol: &'a Protocol, shots: usize, seed: u64) -> Self {
        Self { task, protocol, shots, seed, pool: Vec::new(), skipped: SkippedItems::default() }
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
    pub fn draw(&mut self, model: &mut impl Model, test: &Question) -> Result<Vec<Question>> {
        let drawn = match self.protocol.demonstrations {
            _ if self.shots == 0 => return Ok(Vec::new()),
            Selection::Random => self.sample(xxh3_64(test.id.as_bytes()), Some(test)),
            // An item that a test question must not see would change the others' prompts: it is refused
            // below.
            Selection::Fixed => self.sample(0, None),
            Selection::Similar => self.similar(&mean_features(model, test)?, test),
        };
        let task = self.task.name();
        if drawn.len() < self.shots {
            bail!(
                "task {task}: {} demonstrations are asked for, but the training split has {} that can be \
                 read{} and do not show the picture of {}; ask for fewer shots",
                self.shots,
                drawn.len(),
                if self.protocol.chain_of_thought { ", show a chain of thought" } else { "" },
                test.id
            );
        }
        if let Some(same) = drawn.iter().find(|q| shows(q, test)) {
            bail!(
                "task {task}: the fixed demonstration {} shows the picture of {}: choose another seed, \
                 or random ones",
                same.id,
                test.id
            );
        }
        Ok(drawn)
    }

    fn sample(&mut self, stream: u64, test: Option<&Question>) -> Vec<Question> {
        let stream = rng(self.seed, RandomStream::Shots, stream);
        let mut indices = DistinctIndices::new(stream, self.task.demonstrations());
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
            Ok(question) => {
                Some(question).filter(|q| !self.protocol.chain_of_thought || !q.reasoning.is_empty())
            }
            Err(e) => {
                self.skipped.add(self.task.name(), "train", index, &e);
                None
            }
        }
    }
}

/// Whether an item is, or shows, the test item.
fn shows(question: &Question, test: &Question) -> bool {
    question.id == test.id || question.pictures.iter().any(|p| test.pictures.contains(p))
}

/// The mean over an item's pictures of their features `[d]`.
fn mean_features(model: &mut impl Model, question: &Question) -> Result<Vec<f32>> {
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
