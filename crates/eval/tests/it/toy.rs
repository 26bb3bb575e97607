//! A small task: tiny coloured squares, with options to evaluate it.

use std::sync::Arc;

use anyhow::{Result, bail};
use mm1_data::document::{Picture, Segment};
use mm1_data::image::open;
use mm1_data::question::Question;
use mm1_eval::run::Options;
use mm1_eval::shots::Prompt;
use mm1_eval::task::{Metric, Task};

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
            pictures: (0..self.pictures).map(picture).collect(),
            text: if caption { String::new() } else { format!("What is thing {index}?") },
            answers: match (caption, kind) {
                (true, _) => vec![format!("A photo of a {name} in spot {index}.")],
                (false, "what") => vec![name.into()],
                _ => vec!["yes".into()],
            },
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

pub(crate) fn options() -> Options<'static> {
    Options {
        n: 100,
        batch: 4,
        seed: 7,
        blind: false,
        keep_pictures: 2,
        context: 10_000,
        tokens: &tokens,
        progress: &|_, _| {},
    }
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
    prompt
        .segments
        .iter()
        .filter_map(|s| match s {
            Segment::Image(image) => Some(open(image).unwrap()),
            _ => None,
        })
        .collect()
}

fn pixels(prompt: &Prompt) -> usize {
    pictures(prompt).iter().flat_map(|p| &p.rgb).map(|&b| usize::from(b)).sum()
}
