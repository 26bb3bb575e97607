//! [`evaluate`]: one task, one number of shots.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use mm1_data::document::{Picture, Segment, Special};
use mm1_data::image::open;
use mm1_data::loader::SkippedSample;
use mm1_data::question::Question;
use serde::{Deserialize, Serialize};

use crate::contamination::pixels;
use crate::log::Log;
use crate::model::{Continuations, Limits, Model};
use crate::record::Png;
use crate::score::bootstrap::Score;
use crate::score::{self, likelihood};
use crate::shots::{self, Choice, Prompt, Shots, Style};
use crate::task::{Asking, Metric, Task};
use crate::template::one_line;

/// Batches of prompts that are made at a time: answers that end early leave their places to others.
const BATCHES: usize = 4;

/// How an evaluation is run.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Demonstrations of each prompt.
    pub shots: usize,
    /// How prompts are written.
    pub style: Style,
    /// Which demonstrations are shown.
    pub demonstrations: Choice,
    /// Training items among which similar ones are looked for.
    pub pool: usize,
    /// Whether demonstrations show the way to their answer.
    pub reasoned: bool,
    /// Pixels a side with which demonstrations' pictures are looked at; `None`: as the question's.
    pub demonstration_size: Option<usize>,
    /// How many of the last demonstrations are looked at as the question all the same.
    pub sharp: usize,
    /// Test items at most, from the first; a smaller test split gives all of its items.
    pub n: u64,
    /// Answers that are made side by side. Scores do not depend on it.
    pub batch: usize,
    /// Seed of demonstrations, baselines and intervals.
    pub seed: u64,
    /// Whether every picture, of demonstrations too, is replaced by grey.
    pub blind: bool,
    /// Of how many rows, from the first, the pictures are kept for the report.
    pub keep_pictures: usize,
    /// Called after each batch with the items done and the items in all.
    pub progress: &'a dyn Fn(u64, u64),
}

/// What the model answered and what it is worth.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The test item's id.
    pub id: String,
    /// Its kind of question.
    pub category: String,
    /// The question; empty for captioning.
    pub question: String,
    /// The whole prompt, pictures written `<image>` and special tokens by name.
    pub prompt: String,
    /// What the model wrote, up to the stop string; in multiple choice the option that it found most likely.
    pub output: String,
    /// What was scored: see [`Task::prediction`].
    pub prediction: String,
    /// The accepted answers or reference captions.
    pub answers: Vec<String>,
    /// In the unit of [`Outcome::score`].
    pub score: f64,
    /// The options of multiple choice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// For each option, or each accepted answer, its log-probability after the prompt; where the task asks for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log_probs: Vec<f64>,
    /// Tokens of the first of them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tokens: usize,
    /// Hashes (XXH3, 64 bits) of the prompt's pictures in order, demonstrations first.
    pub hashes: Vec<String>,
    /// The pictures of the test item as the model saw them; for the first rows only, else empty.
    #[serde(default)]
    pub pictures: Vec<Png>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
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
    /// CIDEr × 100 or accuracy in percent: the mean of the rows, with its interval.
    pub score: Score,
    /// The same for each kind of question.
    pub by_category: BTreeMap<String, Score>,
    /// One for each test item, in order.
    pub rows: Vec<Row>,
    /// Test and training items that could not be read and were left out, to be shown to the person.
    pub skipped: Vec<SkippedSample>,
}

/// A test item that is to be asked.
struct Asked {
    question: Question,
    /// One, or one for each option whose prompt differs.
    prompts: Vec<Prompt>,
    /// What may follow each prompt, where likelihoods are asked for.
    texts: Vec<Vec<String>>,
    /// Whether its pictures are kept for the report.
    keep: bool,
}

/// Asks `model` every test question of `task` after `options.shots` demonstrations and scores the answers. Rows that `log`
/// holds from an earlier call are not asked again; each new one is written to it.
///
/// Nothing but the prompt decides an answer's score, so scores do not depend on the batch size as long as the model's answers
/// do not.
///
/// # Errors
/// A prompt that does not fit into the context, too few demonstrations, no test item, an error of the model or of `log`.
pub fn evaluate(task: &dyn Task, model: &mut dyn Model, log: &mut Log, options: &Options) -> Result<Outcome> {
    let total = task.tests().min(options.n);
    ensure!(options.batch > 0, "the batch size of an evaluation must be at least 1");
    ensure!(total > 0, "task {}: there is no test item to evaluate on", task.name());
    let mut shots = Shots::new(task, (options.shots, options.seed), options.demonstrations, options.reasoned);
    shots.look(model, options.pool)?;
    let mut skipped = BTreeMap::new();
    let mut rows = Vec::new();
    let indices: Vec<u64> = (0..total).collect();
    for batch in indices.chunks(options.batch * BATCHES) {
        let mut asked = Vec::new();
        // Where the rows of `asked` go.
        let mut places = Vec::new();
        for &index in batch {
            match task.test(index) {
                Ok(question) => match log.take(&question.id) {
                    Some(row) => rows.push(row),
                    None => {
                        let keep = rows.len() < options.keep_pictures;
                        places.push(rows.len());
                        rows.push(Row::default());
                        asked.push(Asked { keep, ..ask(model, &mut shots, question, options)? });
                    }
                },
                Err(e) => drop(skipped.insert(format!("{}/test/{index}", task.name()), format!("{e:#}"))),
            }
        }
        for (place, row) in places.into_iter().zip(answer(task, model, asked, options.reasoned)?) {
            log.push(&row)?;
            rows[place] = row;
        }
        (options.progress)(batch[batch.len() - 1] + 1, total);
    }
    ensure!(!rows.is_empty(), "task {}: no test item could be read: {skipped:?}", task.name());
    score::rows(task.metric(), &mut rows)?;
    let (score, by_category) = score::summary(task.metric(), &rows, options.seed);
    skipped.append(&mut shots.skipped);
    let (name, metric, skipped) = (task.name().to_string(), task.metric(), listed(skipped));
    Ok(Outcome { task: name, metric, shots: options.shots, score, by_category, rows, skipped })
}

/// Writes the prompts of a test item.
fn ask(model: &mut dyn Model, shots: &mut Shots, question: Question, options: &Options) -> Result<Asked> {
    let task = shots.task;
    let (template, asking) = (task.template(), task.metric().asks());
    let style = (options.style, options.reasoned);
    let demonstrations = shots.draw(model, &question)?;
    let texts: &[String] = match asking {
        Asking::Generate => &[],
        Asking::Choose => &question.choices,
        Asking::Judge => &question.answers,
    };
    ensure!(
        asking == Asking::Generate || !texts.is_empty(),
        "{}: it has no choices, which its metric asks for",
        question.id
    );
    let follows = |text: &String| match options.style {
        Style::Pretrained => template.answered(&question, Some(text)),
        // A demonstration's reply is the answer alone.
        Style::Chat => one_line(text),
    };
    let mut asked = Asked { question: question.clone(), prompts: Vec::new(), texts: Vec::new(), keep: false };
    let write = |choice: Option<&str>| shots::prompt(style, &template, &demonstrations, (&question, choice));
    if template.ask.contains("{choice}") && options.style == Style::Pretrained {
        for text in texts {
            asked.prompts.push(write(Some(text))?);
            asked.texts.push(vec![follows(text)]);
        }
    } else {
        asked.prompts.push(write(None)?);
        asked.texts.push(texts.iter().map(follows).collect());
    }
    let blurred = &demonstrations[..demonstrations.len().saturating_sub(options.sharp)];
    let small = blurred.iter().map(|demonstration| demonstration.pictures.len()).sum();
    for (prompt, texts) in asked.prompts.iter_mut().zip(&mut asked.texts) {
        // What happens to be the same in one batch must not decide how a prompt is read.
        prompt.shared = options.demonstrations == Choice::Fixed;
        prompt.small = options.demonstration_size.map(|side| (side, small));
        if options.blind {
            shots::blind(prompt)?;
        }
        move_space(prompt, texts);
        check_fit(task, options.shots, (prompt, texts), model)?;
    }
    Ok(asked)
}

/// Gives white space at the end of a prompt to the texts that follow: tokens have it before a word, not after one
/// (lm-evaluation-harness, `_encode_pair`).
fn move_space(prompt: &mut Prompt, texts: &mut [String]) {
    if let (Some(Segment::Text { text, .. }), false) = (prompt.segments.last_mut(), texts.is_empty()) {
        let space = text.split_off(text.trim_end().len());
        texts.iter_mut().for_each(|after| after.insert_str(0, &space));
    }
}

/// Refuses a prompt that does not fit: no demonstration is ever left out silently.
fn check_fit(
    task: &dyn Task,
    shots: usize,
    (prompt, texts): (&Prompt, &[String]),
    model: &dyn Model,
) -> Result<()> {
    let Some(context) = model.context() else { return Ok(()) };
    let judged = texts.iter().map(|text| model.tokens(&[Segment::prompt(text)])).max();
    let (tokens, answer) = (model.tokens(&prompt.segments), judged.unwrap_or(task.max_tokens()));
    ensure!(
        tokens + answer <= context,
        "task {}: the prompt of {} with {shots} demonstrations and all their pictures takes {tokens} tokens and the answer up \
         to {answer}, but the context has {context}: ask for fewer shots, fewer image tokens or a longer context",
        task.name(),
        prompt.id,
    );
    Ok(())
}

/// Asks the model, and makes a row of each item, its score still open.
fn answer(task: &dyn Task, model: &mut dyn Model, asked: Vec<Asked>, reasoned: bool) -> Result<Vec<Row>> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    if task.metric().asks() == Asking::Generate {
        let prompts: Vec<Prompt> = asked.iter().map(|a| a.prompts[0].clone()).collect();
        let stop: Vec<String> = task.stop().iter().map(|s| (*s).to_string()).collect();
        let outputs = model.generate(&prompts, &Limits { max_tokens: task.max_tokens(), stop })?;
        ensure!(
            outputs.len() == prompts.len(),
            "task {}: generation returned {} answers for {} prompts",
            task.name(),
            outputs.len(),
            prompts.len()
        );
        let rows = asked.iter().zip(outputs).map(|(asked, output)| {
            let output = cut(&output, &task.stop());
            let said = if reasoned { shots::conclusion(output) } else { output };
            let prediction = task.prediction(&asked.question, said);
            Ok(Row { output: output.to_string(), prediction, ..row(asked)? })
        });
        return rows.collect();
    }
    let continuations: Vec<Continuations> = asked
        .iter()
        .flat_map(|a| a.prompts.iter().cloned().zip(a.texts.iter().cloned()))
        .map(|(prompt, texts)| Continuations { prompt, texts })
        .collect();
    let mut judged = model.likelihoods(&continuations)?.into_iter();
    let mut rows = Vec::with_capacity(asked.len());
    for asked in &asked {
        let likelihoods: Vec<_> = judged.by_ref().take(asked.prompts.len()).flatten().collect();
        let log_probs: Vec<f64> = likelihoods.iter().map(|l| l.log_prob).collect();
        let tokens = likelihoods.first().map_or(0, |l| l.tokens);
        let Question { answers, choices, .. } = &asked.question;
        let output = match task.metric() {
            Metric::Perplexity => "",
            Metric::Greedy => likelihoods.iter().position(|l| l.greedy).map_or("", |i| answers[i].as_str()),
            metric => likelihood::most_likely(&log_probs, choices, metric == Metric::ChoiceByLength),
        }
        .to_owned();
        rows.push(Row { prediction: output.clone(), output, log_probs, tokens, ..row(asked)? });
    }
    Ok(rows)
}

pub(crate) fn listed(skipped: BTreeMap<String, String>) -> Vec<SkippedSample> {
    skipped.into_iter().map(|(id, reason)| SkippedSample { id, reason }).collect()
}

/// What is known of a row before the answer.
fn row(asked: &Asked) -> Result<Row> {
    let Asked { question, prompts, keep, .. } = asked;
    let prompt = prompts.first().context("an item without a prompt")?;
    let pictures: Vec<Arc<Picture>> = prompt
        .segments
        .iter()
        .filter_map(|s| match s {
            Segment::Image(image) => Some(open(image)),
            _ => None,
        })
        .collect::<Result<_>>()?;
    let own = &pictures[pictures.len() - question.pictures.len()..];
    let shown = if *keep { own } else { &[] };
    Ok(Row {
        id: question.id.clone(),
        category: question.category.clone(),
        question: question.text.clone(),
        prompt: written(&prompt.segments),
        answers: question.answers.clone(),
        choices: question.choices.clone(),
        hashes: pictures.iter().map(|p| format!("{:016x}", pixels(p))).collect(),
        pictures: shown.iter().map(|p| Png::encode(p)).collect::<Result<_>>()?,
        ..Row::default()
    })
}

/// `output` up to the first stop string.
fn cut<'a>(output: &'a str, stop: &[&str]) -> &'a str {
    let end = stop.iter().filter_map(|s| output.find(s)).min();
    &output[..end.unwrap_or(output.len())]
}

/// A prompt as text.
fn written(segments: &[Segment]) -> String {
    let mut text = String::new();
    for segment in segments {
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
