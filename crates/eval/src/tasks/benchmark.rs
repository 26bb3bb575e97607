//! [`Benchmark`]: a test set on disk, in its own format. Each format's file makes one.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use mm1_data::document::Image;
use mm1_data::question::Question;

use crate::task::{Metric, Task};
use crate::template::Template;

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
    pub tests: Vec<Item>,
    /// The training split, to demonstrate with; may be empty.
    pub demonstrations: Vec<Item>,
}

/// An item whose pictures are still on disk.
#[derive(Clone, Debug, Default)]
pub struct Item {
    /// All but the pictures.
    pub question: Question,
    /// Where they are.
    pub pictures: Vec<Place>,
}

/// Where a picture is.
#[derive(Clone, Debug)]
pub enum Place {
    /// A file of its own.
    File(PathBuf),
}

impl Item {
    /// Reads the pictures.
    fn read(&self) -> Result<Question> {
        let pictures = self.pictures.iter().map(Place::read).collect::<Result<_>>();
        let pictures = pictures.with_context(|| self.question.id.clone())?;
        Ok(Question { pictures, ..self.question.clone() })
    }
}

impl Place {
    fn read(&self) -> Result<Image> {
        match self {
            Self::File(path) => Ok(Image::from(fs::read(path).with_context(|| path.display().to_string())?)),
        }
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
        self.tests[index as usize].read()
    }

    fn demonstration(&self, index: u64) -> Result<Question> {
        self.demonstrations[index as usize].read()
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
