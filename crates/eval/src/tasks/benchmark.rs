//! [`Benchmark`]: a test set on disk, in its own format. Each format's file makes one.

use std::path::PathBuf;
use std::sync::Arc;
use std::{fmt, fs};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use mm1_data::document::Image;
use mm1_data::image::open;
use mm1_data::question::Question;
use mm1_data::source::cells::Cells;

use super::reader;
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
#[derive(Clone, Default)]
pub struct Item {
    /// All but the pictures.
    pub question: Question,
    /// Where they are.
    pub pictures: Vec<Place>,
}

/// Where a picture is.
#[derive(Clone)]
pub enum Place {
    /// A file of its own.
    File(PathBuf),
    /// A row and column of Parquet files.
    Cell(Arc<Cells>, usize, String),
    /// Base64 in a file of tab-separated values: the byte where its row begins, and the column.
    Tsv(PathBuf, u64, usize),
}

impl Benchmark {
    /// Asked in the form of its metric.
    pub fn new(name: &str, metric: Metric, tests: Vec<Item>, demonstrations: Vec<Item>) -> Self {
        let (template, max_tokens) = match metric {
            Metric::Cider => (Template::captions(), 64),
            Metric::Letter => (Template::letters(), 16),
            _ => (Template::questions(), 32),
        };
        let (name, stop) = (name.to_owned(), vec!["\n".to_owned()]);
        Self { name, metric, template, max_tokens, stop, tests, demonstrations }
    }

    /// A set without a training split: other test items are demonstrated, as in the paper, which draws from the training
    /// set if there is one, otherwise from the validation set. [`crate::shots`] never shows an item before itself.
    pub fn of_tests(name: &str, metric: Metric, tests: Vec<Item>) -> Self {
        Self::new(name, metric, tests.clone(), tests)
    }
}

impl Item {
    /// Reads the pictures. Each is decoded once, so that a damaged one is found here.
    fn read(&self) -> Result<Question> {
        let read = |place: &Place| {
            let image = place.read()?;
            open(&image).with_context(|| place.to_string())?;
            Ok(image)
        };
        let pictures = self.pictures.iter().map(read).collect::<Result<_>>();
        let pictures = pictures.with_context(|| self.question.id.clone())?;
        Ok(Question { pictures, ..self.question.clone() })
    }
}

impl Place {
    /// Without a name: the same picture at two places is the same.
    fn read(&self) -> Result<Image> {
        match self {
            Self::File(path) => Ok(Image::from(fs::read(path).with_context(|| self.to_string())?)),
            Self::Cell(cells, row, column) => cells.picture(*row, column),
            Self::Tsv(file, at, column) => {
                let text = reader::cell(file, *at, *column).with_context(|| self.to_string())?;
                let bytes = BASE64_STANDARD.decode(text.trim()).with_context(|| self.to_string())?;
                Ok(Image::from(bytes))
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Cell(cells, row, column) => write!(f, "{}, {column}", cells.place(*row)),
            Self::Tsv(file, at, column) => {
                write!(f, "{}, column {column} of the row at byte {at}", file.display())
            }
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
