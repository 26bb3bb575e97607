//! [`evaluate`]: one task, one number of shots.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use mm1_data::loader::SkippedSample;

use crate::examiner::{Examiner, PendingItem};
use crate::item::ItemResult;
use crate::log::Log;
use crate::metric::Metric;
use crate::model::Model;
use crate::no_answer::NoAnswerCounts;
pub use crate::pass::EvalPass;
use crate::refusal::Refusal;
use crate::score;
use crate::score::bootstrap::Score;
use crate::skipped::SkippedItems;
use crate::task::Task;

/// Batches of prompts that are made at a time: answers that end early leave their places to others.
const BATCHES: usize = 4;

/// The result of [`evaluate`].
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The task's name.
    pub task: String,
    /// How it was scored.
    pub metric: Metric,
    /// Demonstrations of each prompt.
    pub shots: usize,
    /// CIDEr × 100 or accuracy in percent: the mean of the items, with its interval.
    pub score: Score,
    /// The same for each kind of question.
    pub by_category: BTreeMap<String, Score>,
    /// One for each test item, in order.
    pub items: Vec<ItemResult>,
    /// How many of them the model gave no words to. They are scored as empty answers.
    pub no_answers: NoAnswerCounts,
    /// Test and training items that could not be read and were left out, to be shown to the person.
    pub skipped: Vec<SkippedSample>,
}

/// Asks `model` every test question of `task` after `pass.shots` demonstrations and scores the answers.
/// Answers that `log` holds from an earlier call are not asked for again; each new one is written to it.
///
/// Nothing but the prompt decides an answer's score, so scores do not depend on the batch size as long as the
/// model's answers do not.
///
/// # Errors
/// [`Refusal`] for a prompt that does not fit into the context, too few demonstrations, no test item; else an
/// error of the model or of `log`.
pub fn evaluate<M: Model>(
    task: &dyn Task,
    model: &mut M,
    log: &mut Log,
    pass: &EvalPass<'_>,
) -> Result<Outcome> {
    let total = task.tests().min(pass.protocol.questions as u64);
    ensure!(pass.protocol.batch > 0, "the batch size of an evaluation must be at least 1");
    ensure!(total > 0, no_items(task));
    let mut examiner = Examiner::new(task, model, pass)?;
    let (mut skipped, mut items) = (SkippedItems::default(), Vec::new());
    let indices: Vec<u64> = (0..total).collect();
    for indices in indices.chunks(pass.protocol.batch * BATCHES) {
        let mut pending = Vec::new();
        for &index in indices {
            match examiner.test(index) {
                Ok(question) => {
                    let place = items.len();
                    let answered = log.take(&question.id);
                    items.push(answered.unwrap_or_else(|| {
                        pending.push(PendingItem { place, question });
                        ItemResult::default()
                    }));
                }
                Err(e) => skipped.add(task.name(), "test", index, &e),
            }
        }
        examiner.answer(&pending, &mut |place, item| {
            log.push(&item)?;
            items[place] = item;
            Ok(())
        })?;
        (pass.progress)(indices[indices.len() - 1] + 1, total);
    }
    if let (true, Some(SkippedSample { id, reason })) = (items.is_empty(), skipped.list().first()) {
        let message = format!("task {}: no test item can be read, and first not {id}: {reason}", task.name());
        bail!(Refusal::new(message));
    }
    skipped.append(examiner.skipped());
    Outcome::of(task, pass, items, &skipped)
}

/// A task that has nothing to ask.
pub(crate) fn no_items(task: &dyn Task) -> Refusal {
    Refusal::new(format!("task {}: there is no test item to evaluate on", task.name()))
}

impl Outcome {
    /// Scores the answered items.
    fn of(
        task: &dyn Task,
        pass: &EvalPass<'_>,
        mut items: Vec<ItemResult>,
        skipped: &SkippedItems,
    ) -> Result<Self> {
        score::score_items(task.metric(), &mut items)?;
        let (score, by_category) = score::summary(task.metric(), &items, pass.seed);
        Ok(Self {
            task: task.name().to_owned(),
            metric: task.metric(),
            shots: pass.shots,
            score,
            by_category,
            no_answers: NoAnswerCounts::of(items.iter().filter_map(|item| item.no_answer.as_ref())),
            items,
            skipped: skipped.list(),
        })
    }
}
