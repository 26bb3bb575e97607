//! [`evaluate`]: one task, one number of shots.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use mm1_data::document::Segment;
use mm1_data::loader::SkippedSample;
use mm1_data::question::Question;
use serde_json::{Value, json};

use crate::contamination::pixel_hash;
use crate::item::ItemResult;
use crate::log::Log;
use crate::metric::{AnswerMode, Metric};
use crate::model::{AnswerLimits, Lengths, Likelihood, Model};
use crate::png::Png;
use crate::prompt::{Prompt, PromptWriter, ReducedPictures, Style, conclusion};
use crate::protocol::{Protocol, Selection};
use crate::score::bootstrap::Score;
use crate::score::{self, likelihood};
use crate::shots::Shots;
use crate::skipped::SkippedItems;
use crate::task::Task;
use crate::template::Template;

/// Batches of prompts that are made at a time: answers that end early leave their places to others.
const BATCHES: usize = 4;

/// One pass over the questions of a task: with one number of demonstrations, seeing or blind.
#[derive(Clone, Copy)]
pub struct EvalPass<'a> {
    /// The settings of the evaluation.
    pub protocol: &'a Protocol,
    /// How prompts are written: the protocol's style, for the model that is asked.
    pub style: Style,
    /// Demonstrations of each prompt; one of the protocol's numbers.
    pub shots: usize,
    /// Whether every picture, of demonstrations too, is replaced by grey.
    pub blind: bool,
    /// Seed of demonstrations, baselines and intervals.
    pub seed: u64,
    /// Of how many items, from the first, the pictures are kept for the report.
    pub kept_pictures: usize,
    /// Called after each batch with the items done and the items in all.
    pub progress: &'a dyn Fn(u64, u64),
}

impl EvalPass<'_> {
    /// All that an answer depends on: the first line of a log. Answers are taken from a log only where it is
    /// the same, so its keys keep the names that they had first.
    pub fn log_header(&self, model: &str, task: &str) -> Value {
        let Protocol {
            demonstrations,
            pool,
            chain_of_thought,
            demonstration_size,
            full_resolution_demonstrations,
            // No answer depends on these: which answers are asked for, how fast, and what stands beside them.
            tasks: _,
            shots: _,
            questions: _,
            batch: _,
            blind: _,
            style: _,
            contamination: _,
            data: _,
        } = self.protocol;
        json!({
            "model": model,
            "task": task,
            "shots": self.shots,
            "blind": self.blind,
            "style": self.style,
            "seed": self.seed,
            "demonstrations": demonstrations,
            "pool": pool,
            "chain_of_thought": chain_of_thought,
            "demonstration_size": demonstration_size,
            "sharp_demonstrations": full_resolution_demonstrations,
        })
    }
}

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
/// A prompt that does not fit into the context, too few demonstrations, no test item, an error of the model
/// or of `log`.
pub fn evaluate<M: Model>(
    task: &dyn Task,
    model: &mut M,
    log: &mut Log,
    pass: &EvalPass<'_>,
) -> Result<Outcome> {
    let total = task.tests().min(pass.protocol.questions as u64);
    ensure!(pass.protocol.batch > 0, "the batch size of an evaluation must be at least 1");
    ensure!(total > 0, "task {}: there is no test item to evaluate on", task.name());
    let mut examiner = Examiner::new(task, model, pass)?;
    let (mut skipped, mut items) = (SkippedItems::default(), Vec::new());
    let indices: Vec<u64> = (0..total).collect();
    for indices in indices.chunks(pass.protocol.batch * BATCHES) {
        let mut pending = Vec::new();
        for &index in indices {
            match task.test(index) {
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
        for (pending, item) in pending.iter().zip(examiner.answer(&pending)?) {
            log.push(&item)?;
            items[pending.place] = item;
        }
        (pass.progress)(indices[indices.len() - 1] + 1, total);
    }
    if let (true, Some(SkippedSample { id, reason })) = (items.is_empty(), skipped.list().first()) {
        bail!("task {}: no test item could be read, and first not {id}: {reason}", task.name());
    }
    skipped.append(&mut examiner.shots.skipped);
    Outcome::of(task, pass, items, &skipped)
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
            items,
            skipped: skipped.list(),
        })
    }
}

/// A test item that is to be asked.
struct PendingItem {
    /// Its index among the readable items.
    place: usize,
    question: Question,
}

/// Asks a model the questions of one pass.
struct Examiner<'a, M> {
    task: &'a dyn Task,
    template: Template,
    model: &'a mut M,
    pass: &'a EvalPass<'a>,
    shots: Shots<'a>,
}

impl<'a, M: Model> Examiner<'a, M> {
    fn new(task: &'a dyn Task, model: &'a mut M, pass: &'a EvalPass<'a>) -> Result<Self> {
        let mut shots = Shots::new(task, pass.protocol, pass.shots, pass.seed);
        shots.embed_pool(model)?;
        Ok(Self { task, template: task.template(), model, pass, shots })
    }

    /// The answers to questions in their order, the scores still open.
    fn answer(&mut self, pending: &[PendingItem]) -> Result<Vec<ItemResult>> {
        let (mut items, mut encoded, mut prompts_of_item) = (Vec::new(), Vec::new(), Vec::new());
        for item in pending {
            let prompts = self.prompts(&item.question)?;
            let (first, _) = prompts.first().context("an item without a prompt")?;
            items.push(self.unanswered(item, first)?);
            prompts_of_item.push(prompts.len());
            for (prompt, continuations) in &prompts {
                encoded.push(self.encode(prompt, continuations)?);
            }
        }
        if pending.is_empty() {
            return Ok(items);
        }
        match self.task.metric().answer_mode() {
            AnswerMode::Generate => self.generate(pending, &encoded, &mut items)?,
            AnswerMode::RankChoices | AnswerMode::ScoreAnswers => {
                let mut likelihoods = self.model.likelihoods(&encoded)?.into_iter();
                for (item, prompts) in items.iter_mut().zip(prompts_of_item) {
                    let of_item: Vec<Likelihood> = likelihoods.by_ref().take(prompts).flatten().collect();
                    ranked(self.task.metric(), &of_item, item);
                }
            }
        }
        Ok(items)
    }

    /// The prompts of a test item, with what may follow each where likelihoods are asked for: one prompt, or
    /// one for each option where the template writes the option into the question.
    fn prompts(&mut self, question: &Question) -> Result<Vec<(Prompt, Vec<String>)>> {
        let mode = self.task.metric().answer_mode();
        let demonstrations = self.shots.draw(self.model, question)?;
        let candidates: &[String] = match mode {
            AnswerMode::Generate => &[],
            AnswerMode::RankChoices => &question.choices,
            AnswerMode::ScoreAnswers => &question.answers,
        };
        ensure!(
            mode == AnswerMode::Generate || !candidates.is_empty(),
            "{}: it has no choices, which its metric asks for",
            question.id
        );
        let Protocol { chain_of_thought, .. } = *self.pass.protocol;
        let writer = PromptWriter { style: self.pass.style, template: &self.template, chain_of_thought };
        let mut prompts = Vec::new();
        if self.template.ask.contains("{choice}") && self.pass.style == Style::Pretrained {
            for text in candidates {
                let prompt = writer.write(&demonstrations, question, Some(text))?;
                prompts.push((prompt, vec![writer.continuation(question, text)]));
            }
        } else {
            let continuations = candidates.iter().map(|text| writer.continuation(question, text)).collect();
            prompts.push((writer.write(&demonstrations, question, None)?, continuations));
        }
        for (prompt, continuations) in &mut prompts {
            self.set_pictures(prompt, &demonstrations)?;
            move_space(prompt, continuations);
        }
        Ok(prompts)
    }

    /// Sets how the pictures of a prompt are encoded, or makes them grey.
    fn set_pictures(&self, prompt: &mut Prompt, demonstrations: &[Question]) -> Result<()> {
        let protocol = self.pass.protocol;
        // What happens to be the same in one batch must not decide how a prompt is read.
        prompt.shared_demonstrations = protocol.demonstrations == Selection::Fixed;
        let reduced = demonstrations.len().saturating_sub(protocol.full_resolution_demonstrations);
        let count = demonstrations[..reduced].iter().map(|question| question.pictures.len()).sum();
        prompt.reduced = protocol.demonstration_size.map(|side| ReducedPictures { side, count });
        if self.pass.blind { prompt.blind() } else { Ok(()) }
    }

    /// Encodes a prompt, and refuses one that does not fit: no demonstration is ever left out silently.
    fn encode(&self, prompt: &Prompt, continuations: &[String]) -> Result<M::Encoded> {
        let encoded = self.model.encode(prompt, continuations)?;
        let Some(lengths) = self.model.lengths(&encoded) else { return Ok(encoded) };
        let Lengths { prompt: tokens, continuation, context } = lengths;
        let answer = continuation.unwrap_or(self.task.max_tokens());
        ensure!(
            tokens + answer <= context,
            "task {}: the prompt of {} with {} demonstrations and all their pictures takes {tokens} tokens \
             and the answer up to {answer}, but the context has {context}: ask for fewer shots, fewer image \
             tokens or a longer context",
            self.task.name(),
            prompt.id,
            self.pass.shots,
        );
        Ok(encoded)
    }

    /// What is known of an item before its answer.
    fn unanswered(&self, item: &PendingItem, prompt: &Prompt) -> Result<ItemResult> {
        let question = &item.question;
        let pictures = prompt.pictures()?;
        let own = &pictures[pictures.len() - question.pictures.len()..];
        let kept = if item.place < self.pass.kept_pictures { own } else { &[] };
        Ok(ItemResult {
            id: question.id.clone(),
            category: question.category.clone(),
            question: question.text.clone(),
            prompt: prompt.text(),
            answers: question.answers.clone(),
            choices: question.choices.clone(),
            hashes: pictures.iter().map(|p| format!("{:016x}", pixel_hash(p))).collect(),
            pictures: kept.iter().map(|p| Png::encode(p)).collect::<Result<_>>()?,
            ..ItemResult::default()
        })
    }

    /// Fills in what the model writes.
    fn generate(
        &mut self,
        pending: &[PendingItem],
        prompts: &[M::Encoded],
        items: &mut [ItemResult],
    ) -> Result<()> {
        let task = self.task;
        let stop: Vec<String> = task.stop().iter().map(|s| (*s).to_string()).collect();
        let limits = AnswerLimits { max_tokens: task.max_tokens(), stop };
        let outputs = self.model.generate(prompts, &limits)?;
        ensure!(
            outputs.len() == prompts.len(),
            "task {}: generation returned {} answers for {} prompts",
            task.name(),
            outputs.len(),
            prompts.len()
        );
        for ((pending, item), output) in pending.iter().zip(items).zip(outputs) {
            let output = cut(&output, &task.stop());
            let answer = if self.pass.protocol.chain_of_thought { conclusion(output) } else { output };
            item.prediction = task.prediction(&pending.question, answer);
            item.output = output.to_owned();
        }
        Ok(())
    }
}

/// Fills in the option or answer that the model finds most likely.
fn ranked(metric: Metric, likelihoods: &[Likelihood], item: &mut ItemResult) {
    item.log_probs = likelihoods.iter().map(|l| l.log_prob).collect();
    item.tokens = likelihoods.first().map_or(0, |l| l.tokens);
    let ItemResult { answers, choices, log_probs, .. } = &*item;
    let output = match metric {
        Metric::Perplexity => "",
        Metric::Greedy => likelihoods.iter().position(|l| l.greedy).map_or("", |i| answers[i].as_str()),
        metric => likelihood::most_likely(log_probs, choices, metric == Metric::ChoiceByLength),
    }
    .to_owned();
    item.prediction = output.clone();
    item.output = output;
}

/// Gives white space at the end of a prompt to the texts that follow: tokens have it before a word, not after
/// one (lm-evaluation-harness, `_encode_pair`).
fn move_space(prompt: &mut Prompt, continuations: &mut [String]) {
    if let (Some(Segment::Text { text, .. }), false) = (prompt.segments.last_mut(), continuations.is_empty())
    {
        let space = text.split_off(text.trim_end().len());
        continuations.iter_mut().for_each(|after| after.insert_str(0, &space));
    }
}

/// `output` up to the first stop string.
fn cut<'a>(output: &'a str, stop: &[&str]) -> &'a str {
    let end = stop.iter().filter_map(|s| output.find(s)).min();
    &output[..end.unwrap_or(output.len())]
}
