//! [`Examiner`]: asks a model the questions of one pass; [`Prompter`]: what it asks.

use anyhow::{Context as _, Result, bail, ensure};
use mm1_data::document::Segment;
use mm1_data::question::Question;

use crate::contamination::pixel_hash;
use crate::counted::counted;
use crate::item::ItemResult;
use crate::metric::{AnswerMode, Metric};
use crate::model::{AnswerLimits, Lengths, Likelihood, Model, PromptReader, Reply};
use crate::pass::EvalPass;
use crate::png::Png;
use crate::prompt::{Prompt, PromptWriter, ReducedPictures, Style, conclusion};
use crate::protocol::{Protocol, Selection};
use crate::refusal::Refusal;
use crate::score::likelihood;
use crate::shots::Shots;
use crate::skipped::SkippedItems;
use crate::task::Task;
use crate::template::Template;

/// A test item that is to be asked.
pub(crate) struct PendingItem {
    /// Its index among the readable items.
    pub(crate) place: usize,
    pub(crate) question: Question,
}

/// Takes an answered item, its score still open, and its index among the readable ones.
pub(crate) type OnItem<'a> = &'a mut dyn FnMut(usize, ItemResult) -> Result<()>;

/// Asks a model the questions of one pass.
pub(crate) struct Examiner<'a, M> {
    prompter: Prompter<'a>,
    model: &'a mut M,
}

impl<'a, M: Model> Examiner<'a, M> {
    pub(crate) fn new(task: &'a dyn Task, model: &'a mut M, pass: &'a EvalPass<'a>) -> Result<Self> {
        let mut prompter = Prompter::new(task, pass);
        prompter.shots.embed_pool(model)?;
        Ok(Self { prompter, model })
    }

    /// As [`Prompter::test`].
    pub(crate) fn test(&self, index: u64) -> Result<Question> {
        self.prompter.test(index)
    }

    /// Training items that could not be read.
    pub(crate) fn skipped(&mut self) -> &mut SkippedItems {
        &mut self.prompter.shots.skipped
    }

    /// Gives the answers to questions to `on_item`, each as soon as it is there.
    pub(crate) fn answer(&mut self, pending: &[PendingItem], on_item: OnItem<'_>) -> Result<()> {
        let (mut items, mut encoded, mut prompts_of_item) = (Vec::new(), Vec::new(), Vec::new());
        for item in pending {
            let demonstrations = self.prompter.shots.draw(self.model, &item.question)?;
            let prompts = self.prompter.prompts(&demonstrations, &item.question)?;
            let (first, _) = prompts.first().context("an item without a prompt")?;
            items.push(self.prompter.unanswered(item, first)?);
            prompts_of_item.push(prompts.len());
            for (prompt, continuations) in &prompts {
                encoded.push(self.prompter.encode(self.model, prompt, continuations)?);
            }
        }
        if pending.is_empty() {
            return Ok(());
        }
        let metric = self.prompter.task.metric();
        match metric.answer_mode() {
            AnswerMode::Generate => self.generate(pending, &encoded, &mut items, on_item),
            AnswerMode::RankChoices | AnswerMode::ScoreAnswers => {
                let mut likelihoods = self.model.likelihoods(&encoded)?.into_iter();
                for ((pending, mut item), prompts) in pending.iter().zip(items).zip(prompts_of_item) {
                    let of_item: Vec<Likelihood> = likelihoods.by_ref().take(prompts).flatten().collect();
                    ranked(metric, &of_item, &mut item);
                    on_item(pending.place, item)?;
                }
                Ok(())
            }
        }
    }

    /// Has the model write.
    fn generate(
        &mut self,
        pending: &[PendingItem],
        prompts: &[M::Encoded],
        items: &mut [ItemResult],
        on_item: OnItem<'_>,
    ) -> Result<()> {
        let Prompter { task, pass, .. } = self.prompter;
        let stop: Vec<String> = task.stop().iter().map(|s| (*s).to_string()).collect();
        let limits = AnswerLimits { max_tokens: self.prompter.answer_tokens(), stop };
        let mut replies = 0;
        self.model.generate(prompts, &limits, &mut |i, reply| {
            let mut item = std::mem::take(items.get_mut(i).context("a reply to no prompt")?);
            let output = match reply {
                Reply::Words(words) => words,
                Reply::Nothing(why) => {
                    item.no_answer = Some(why);
                    String::new()
                }
            };
            let output = cut(&output, &task.stop());
            let answer = if pass.protocol.chain_of_thought { conclusion(output) } else { output };
            item.prediction = task.prediction(&pending[i].question, answer);
            item.output = output.to_owned();
            replies += 1;
            on_item(pending[i].place, item)
        })?;
        let asked = prompts.len();
        ensure!(replies == asked, "task {}: the model gave {replies} replies to {asked}", task.name());
        Ok(())
    }
}

/// Writes the prompts of one pass.
pub(crate) struct Prompter<'a> {
    task: &'a dyn Task,
    template: Template,
    pass: &'a EvalPass<'a>,
    pub(crate) shots: Shots<'a>,
}

impl<'a> Prompter<'a> {
    /// The most tokens that a reply may take.
    fn answer_tokens(&self) -> usize {
        let reasoning = if self.pass.protocol.chain_of_thought { self.task.reasoning_tokens() } else { 0 };
        self.task.max_tokens() + reasoning
    }

    pub(crate) fn new(task: &'a dyn Task, pass: &'a EvalPass<'a>) -> Self {
        let shots = Shots::new(task, pass.protocol, pass.style, pass.shots, pass.seed);
        Self { task, template: task.template(), pass, shots }
    }

    /// The test item `index`, if it can be asked.
    ///
    /// # Errors
    /// An item that can't be read; one that places another number of pictures than it has, or lacks the
    /// options or answers whose likelihoods are asked for. It is skipped and listed.
    pub(crate) fn test(&self, index: u64) -> Result<Question> {
        let question = self.task.test(index)?;
        for (_, continuations) in self.written(&[], &question)? {
            let empty = continuations.iter().any(|text| text.trim().is_empty());
            ensure!(!empty, "{}: one of its options or answers is empty", question.id);
        }
        Ok(question)
    }

    /// The prompts of a test item, with what may follow each where likelihoods are asked for: one prompt, or
    /// one for each option where the template writes the option into the question.
    pub(crate) fn prompts(
        &self,
        demonstrations: &[Question],
        question: &Question,
    ) -> Result<Vec<(Prompt, Vec<String>)>> {
        let mut prompts = self.written(demonstrations, question)?;
        for (prompt, continuations) in &mut prompts {
            self.set_pictures(prompt, demonstrations)?;
            move_space(prompt, continuations);
        }
        Ok(prompts)
    }

    /// The same with the pictures as they are.
    fn written(
        &self,
        demonstrations: &[Question],
        question: &Question,
    ) -> Result<Vec<(Prompt, Vec<String>)>> {
        let mode = self.task.metric().answer_mode();
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
                let prompt = writer.write(demonstrations, question, Some(text))?;
                prompts.push((prompt, vec![writer.continuation(question, text)]));
            }
        } else {
            let continuations = candidates.iter().map(|text| writer.continuation(question, text)).collect();
            prompts.push((writer.write(demonstrations, question, None)?, continuations));
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
        let (side, overviews) = (protocol.demonstration_size, protocol.demonstration_overviews);
        prompt.reduced = (side.is_some() || overviews).then_some(ReducedPictures { side, overviews, count });
        if self.pass.blind { prompt.blind() } else { Ok(()) }
    }

    /// Encodes a prompt, and refuses one that does not fit: no demonstration is ever left out silently.
    ///
    /// # Errors
    /// [`Refusal`] for that.
    pub(crate) fn encode<R: PromptReader>(
        &self,
        reader: &R,
        prompt: &Prompt,
        continuations: &[String],
    ) -> Result<R::Encoded> {
        let encoded = reader.encode(prompt, continuations)?;
        let Some(lengths) = reader.lengths(&encoded) else { return Ok(encoded) };
        let Lengths { prompt: tokens, continuation, context } = lengths;
        let answer = continuation.unwrap_or(self.answer_tokens());
        if tokens.saturating_add(answer) > context {
            bail!(Refusal::new(format!(
                "task {}: the prompt of {} with {} and all their pictures takes {tokens} tokens and the \
                 answer up to {answer}, but the context has {context}: ask for fewer shots, fewer image \
                 tokens or shorter answers",
                self.task.name(),
                prompt.id,
                counted(self.pass.shots as u64, "demonstration"),
            )));
        }
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
            further_categories: question.further_categories.clone(),
            question: question.text.clone(),
            prompt: prompt.text(),
            answers: question.answers.clone(),
            choices: question.choices.clone(),
            hashes: pictures.iter().map(|p| format!("{:016x}", pixel_hash(p))).collect(),
            pictures: kept.iter().map(|p| Png::encode(p)).collect::<Result<_>>()?,
            ..ItemResult::default()
        })
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
