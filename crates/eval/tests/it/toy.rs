//! A small task: tiny coloured squares, with options to evaluate it.

use std::sync::{Arc, LazyLock};

use anyhow::{Result, bail};
use mm1_data::document::{Image, Picture, Segment};
use mm1_data::image::open;
use mm1_data::question::Question;
use mm1_eval::log::Log;
use mm1_eval::metric::Metric;
use mm1_eval::model::{AnswerLimits, Lengths, Likelihood, Model, OnReply, PromptReader, Reply};
use mm1_eval::prompt::{Prompt, Style};
use mm1_eval::protocol::Protocol;
use mm1_eval::run::{self, EvalPass, Outcome};
use mm1_eval::task::Task;

/// `test` items and `train` items; those in `damaged` can't be read.
pub(crate) struct Toy {
    pub(crate) metric: Metric,
    pub(crate) tests: u64,
    pub(crate) train: u64,
    pub(crate) pictures: usize,
    pub(crate) damaged: Vec<u64>,
}

impl Toy {
    pub(crate) fn vqa() -> Self {
        Self { metric: Metric::VqaAccuracy, tests: 20, train: 40, pictures: 1, damaged: vec![] }
    }

    pub(crate) fn captions() -> Self {
        Self { metric: Metric::Cider, ..Self::vqa() }
    }

    fn question(&self, split: &str, index: u64) -> Result<Question> {
        if self.damaged.contains(&index) {
            bail!("toy/{split}/{index}: the picture is damaged");
        }
        let picture = |k: usize| {
            let rgb = [index as u8, k as u8, u8::from(split == "test")].repeat(6);
            Arc::new(Picture { width: 3, height: 2, rgb }).into()
        };
        let (name, kind) =
            (["dog", "cat", "owl"][index as usize % 3], ["what", "yes-no"][index as usize % 2]);
        let caption = self.metric == Metric::Cider;
        Ok(Question {
            id: format!("toy/{split}/{index}"),
            category: if caption { "caption" } else { kind }.into(),
            further_categories: Vec::new(),
            pictures: (0..self.pictures).map(picture).collect(),
            text: if caption { String::new() } else { format!("What is thing {index}?") },
            answers: match (caption, kind) {
                (true, _) => vec![format!("A photo of a {name} in spot {index}.")],
                (false, "what") => vec![name.into()],
                _ => vec!["yes".into()],
            },
            choices: ["dog", "cat", "owl", "yes"].map(String::from).to_vec(),
            reasoning: if index.is_multiple_of(4) { String::new() } else { "Look at it.".into() },
        })
    }
}

impl Task for Toy {
    fn name(&self) -> &str {
        "toy"
    }
    fn metric(&self) -> Metric {
        self.metric
    }
    fn tests(&self) -> u64 {
        self.tests
    }
    fn demonstrations(&self) -> u64 {
        self.train
    }
    fn test(&self, index: u64) -> Result<Question> {
        self.question("test", index)
    }
    fn demonstration(&self, index: u64) -> Result<Question> {
        self.question("train", index)
    }
    fn max_tokens(&self) -> usize {
        4
    }
}

/// A picture is 10 tokens, a text one for each word, a special token one.
pub(crate) fn tokens(segments: &[Segment]) -> usize {
    let size = |s: &Segment| match s {
        Segment::Image(_) => 10,
        Segment::Text { text, .. } => text.split_whitespace().count(),
        Segment::Token { .. } => 1,
    };
    segments.iter().map(size).sum()
}

/// A hundred questions, seeing, without demonstrations.
pub(crate) fn protocol() -> Protocol {
    Protocol { questions: 100, batch: 4, pool: 20, ..Protocol::default() }
}

static PROTOCOL: LazyLock<Protocol> = LazyLock::new(protocol);

pub(crate) fn pass() -> EvalPass<'static> {
    EvalPass {
        protocol: &PROTOCOL,
        style: Style::Pretrained,
        shots: 0,
        blind: false,
        seed: 7,
        kept_pictures: 2,
        progress: &|_, _| {},
    }
}

/// What answers.
pub(crate) type Answers<'a> = &'a mut dyn FnMut(&[Prompt]) -> Result<Vec<String>>;

/// A model that is a function, with a context in tokens.
pub(crate) struct Fun<'a>(pub(crate) Answers<'a>, pub(crate) usize);

impl PromptReader for Fun<'_> {
    type Encoded = (Prompt, Vec<String>);

    fn encode(&self, prompt: &Prompt, continuations: &[String]) -> Result<Self::Encoded> {
        Ok((prompt.clone(), continuations.to_vec()))
    }
    fn lengths(&self, (prompt, continuations): &Self::Encoded) -> Option<Lengths> {
        let length = |text: &String| tokens(&[Segment::prompt(text)]);
        Some(Lengths {
            prompt: tokens(&prompt.segments),
            continuation: continuations.iter().map(length).max(),
            context: self.1,
        })
    }
}

impl Model for Fun<'_> {
    fn generate(
        &mut self,
        prompts: &[Self::Encoded],
        limits: &AnswerLimits,
        on_reply: OnReply<'_>,
    ) -> Result<()> {
        assert!(limits.max_tokens >= 4 && limits.stop == ["\n"], "{limits:?}");
        let prompts: Vec<Prompt> = prompts.iter().map(|(prompt, _)| prompt.clone()).collect();
        (self.0)(&prompts)?.into_iter().enumerate().try_for_each(|(i, text)| on_reply(i, Reply::Words(text)))
    }
    /// Longer texts are less likely; a text that the prompt's answer begins with is certain.
    fn likelihoods(&mut self, prompts: &[Self::Encoded]) -> Result<Vec<Vec<Likelihood>>> {
        let judge = |(prompt, continuations): &Self::Encoded| -> Result<Vec<Likelihood>> {
            let said = (self.0)(std::slice::from_ref(prompt))?.remove(0);
            let judge = |text: &String| {
                let greedy = said.trim().starts_with(text.trim());
                Likelihood { log_prob: if greedy { 0.0 } else { -(text.len() as f64) }, tokens: 1, greedy }
            };
            Ok(continuations.iter().map(judge).collect())
        };
        prompts.iter().map(judge).collect()
    }
    /// The first pixel.
    fn features(&mut self, pictures: &[Image]) -> Result<Vec<Vec<f32>>> {
        let first = |picture: &Image| {
            let rgb = &open(picture)?.rgb;
            Ok(vec![f32::from(rgb[0]), 10.0])
        };
        pictures.iter().map(first).collect()
    }
}

/// Asks a function, and keeps nothing.
pub(crate) fn evaluate(task: &dyn Task, model: Answers, pass: &EvalPass<'_>) -> Result<Outcome> {
    run::evaluate(task, &mut Fun(model, 10_000), &mut Log::none(), pass)
}

/// Answers by what the prompt shows and nothing else.
pub(crate) fn answer_by_prompt(prompts: &[Prompt]) -> Result<Vec<String>> {
    let answer = |p: &Prompt| {
        let bytes = format!("{:?}", p.segments).into_bytes();
        let sum: usize = bytes.iter().map(|&b| usize::from(b)).sum::<usize>() + pixels(p);
        format!(" {}\nQuestion: more", ["dog", "cat", "owl", "yes", "no"][sum % 5])
    };
    Ok(prompts.iter().map(answer).collect())
}

pub(crate) fn pictures(prompt: &Prompt) -> Vec<Arc<Picture>> {
    prompt.pictures().unwrap()
}

fn pixels(prompt: &Prompt) -> usize {
    pictures(prompt).iter().flat_map(|p| &p.rgb).map(|&b| usize::from(b)).sum()
}
