//! [`Benchmark`]: a test set on disk, in its own format. Each format's file makes one.

use anyhow::{Context as _, Result, ensure};
use mm1_data::image::open;
use mm1_data::question::Question;

use super::picture::PictureLocation;
use crate::metric::Metric;
use crate::task::Task;
use crate::template::{Template, letter};

/// A test set: its items, and how they are asked and scored.
pub struct Benchmark {
    /// The name in `eval.json`.
    pub name: String,
    /// How answers are scored.
    pub metric: Metric,
    /// How an item is written.
    pub template: Template,
    /// The most tokens that an answer may take.
    pub max_tokens: usize,
    /// The answer ends before the first of these.
    pub stop: Vec<String>,
    /// What is asked.
    pub tests: Vec<BenchmarkItem>,
    /// The training split, to demonstrate with; may be empty.
    pub demonstrations: Vec<BenchmarkItem>,
}

/// An item whose pictures are still on disk.
#[derive(Clone, Default)]
pub struct BenchmarkItem {
    /// All but the pictures.
    pub question: Question,
    /// Where they are.
    pub pictures: Vec<PictureLocation>,
}

impl Benchmark {
    /// Asked in the form of its metric.
    pub fn new(
        name: &str,
        metric: Metric,
        tests: Vec<BenchmarkItem>,
        demonstrations: Vec<BenchmarkItem>,
    ) -> Self {
        let (template, max_tokens) = match metric {
            Metric::Cider => (Template::captions(), 64),
            Metric::Letter => (Template::letters(), 16),
            _ => (Template::questions(), 32),
        };
        let (name, stop) = (name.to_owned(), vec!["\n".to_owned()]);
        Self { name, metric, template, max_tokens, stop, tests, demonstrations }
    }

    /// A set without a training split: other test items are demonstrated, as in the paper, which draws from
    /// the training set if there is one, otherwise from the validation set. [`crate::shots`] never shows an
    /// item before itself.
    pub fn of_tests(name: &str, metric: Metric, tests: Vec<BenchmarkItem>) -> Self {
        Self::new(name, metric, tests.clone(), tests)
    }
}

impl Benchmark {
    /// An item with its pictures.
    ///
    /// # Errors
    /// A picture that can't be read; an item that no answer could be right of.
    fn read(&self, item: &BenchmarkItem) -> Result<Question> {
        let Question { id, answers, choices, .. } = &item.question;
        ensure!(!answers.is_empty(), "{id}: no answer is accepted");
        if self.metric == Metric::Letter && !choices.is_empty() {
            let options = choices.len();
            let wrong = answers.iter().find(|answer| !(0..options).any(|option| letter(option) == **answer));
            ensure!(
                wrong.is_none(),
                "{id}: the answer {:?} is the letter of none of its {options} options",
                wrong.map_or("", String::as_str)
            );
        }
        item.read()
    }
}

impl BenchmarkItem {
    /// Reads the pictures. Each is decoded once, so that a damaged one is found here.
    fn read(&self) -> Result<Question> {
        let read = |place: &PictureLocation| {
            let image = place.read()?;
            open(&image).with_context(|| place.to_string())?;
            Ok(image)
        };
        let pictures = self.pictures.iter().map(read).collect::<Result<_>>();
        let pictures = pictures.with_context(|| self.question.id.clone())?;
        Ok(Question { pictures, ..self.question.clone() })
    }
}

impl Task for Benchmark {
    fn name(&self) -> &str {
        &self.name
    }

    fn metric(&self) -> Metric {
        self.metric
    }

    fn tests(&self) -> u64 {
        self.tests.len() as u64
    }

    fn demonstrations(&self) -> u64 {
        self.demonstrations.len() as u64
    }

    fn test(&self, index: u64) -> Result<Question> {
        self.read(&self.tests[index as usize])
    }

    fn demonstration(&self, index: u64) -> Result<Question> {
        self.read(&self.demonstrations[index as usize])
    }

    fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    fn has_pictures(&self) -> bool {
        self.tests.iter().any(|item| !item.pictures.is_empty())
    }

    fn template(&self) -> Template {
        self.template.clone()
    }

    fn stop(&self) -> Vec<&str> {
        self.stop.iter().map(String::as_str).collect()
    }
}
