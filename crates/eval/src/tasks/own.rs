//! A task of a user's own: a TOML file says where its items are, how they are written and how they are
//! scored. docs/guide/evaluation.md, "A task of your own", shows one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use mm1_data::document::Image;
use mm1_data::question::Question;
use mm1_data::text_file;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::benchmark::{Benchmark, BenchmarkItem};
use super::json;
use super::picture::PictureLocation;
use crate::metric::{AnswerMode, Metric};
use crate::template::{LETTERED, Template, letter, one_line};

/// Tokens of an answer: more than any context holds.
const MAX_TOKENS: usize = 100_000;

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskFile {
    name: String,
    metric: Metric,
    #[serde(default = "default_max_tokens")]
    max_tokens: usize,
    #[serde(default = "default_stop")]
    stop: Vec<String>,
    data: ItemFiles,
    #[serde(default)]
    fields: FieldNames,
    /// Parts of [`Template`]; the others are the metric's.
    #[serde(default)]
    template: toml::Table,
}

/// Where the items are, from the folder of the TOML file on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ItemFiles {
    test: PathBuf,
    /// Items to demonstrate with.
    train: Option<PathBuf>,
    /// The folder that paths of pictures begin in.
    #[serde(default)]
    pictures: PathBuf,
}

/// Names of fields in the JSON objects.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FieldNames {
    id: String,
    question: String,
    answers: String,
    choices: String,
    pictures: String,
    category: String,
    reasoning: String,
}

impl Default for FieldNames {
    fn default() -> Self {
        let [id, question, answers, choices, pictures, category, reasoning] =
            ["id", "question", "answers", "choices", "image", "category", "reasoning"].map(str::to_owned);
        Self { id, question, answers, choices, pictures, category, reasoning }
    }
}

fn default_max_tokens() -> usize {
    16
}

fn default_stop() -> Vec<String> {
    vec!["\n".to_owned()]
}

/// Opens the task that the TOML file `path` describes. All its items are checked, but no picture is opened
/// yet.
///
/// # Errors
/// One line with the TOML file and the field, or the file of items and the line.
pub fn open(path: &Path) -> Result<Benchmark> {
    let here = || path.display().to_string();
    let text = text_file::read(path).with_context(here)?;
    let spec: TaskFile = toml::from_str(&text).map_err(|e| {
        let line = e.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        anyhow!("{}:{line}: {}", path.display(), one_line(e.message()))
    })?;
    spec.check().with_context(here)?;
    let template = spec.template().with_context(here)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let tests = spec.items(folder, &spec.data.test, ("test", &template))?;
    let demonstrations = match &spec.data.train {
        Some(train) => spec.items(folder, train, ("train", &template))?,
        None => Vec::new(),
    };
    let TaskFile { name, metric, max_tokens, stop, .. } = spec;
    Ok(Benchmark { name, metric, template, max_tokens, stop, tests, demonstrations })
}

impl TaskFile {
    fn check(&self) -> Result<()> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        ensure!(
            self.name.starts_with(char::is_alphanumeric) && self.name.chars().all(allowed),
            "name: `{}` is to be of letters, digits, -, _ and ., and to begin with one of the first two",
            self.name
        );
        ensure!(self.max_tokens > 0, "max_tokens: an answer needs at least 1");
        ensure!(
            self.max_tokens <= MAX_TOKENS,
            "max_tokens = {}: an answer has at most {MAX_TOKENS}",
            self.max_tokens
        );
        ensure!(
            !self.stop.iter().any(String::is_empty),
            "stop: an empty text would end every answer; leave it out"
        );
        ensure!(
            self.data.train.as_ref() != Some(&self.data.test),
            "data.train: it is data.test, so that questions would be shown with their answers; leave it out"
        );
        Ok(())
    }

    /// The metric's template with the parts that are written.
    fn template(&self) -> Result<Template> {
        let mut parts = toml::Table::try_from(self.metric.template())?;
        parts.extend(self.template.clone());
        let template: Template =
            parts.try_into().map_err(|e: toml::de::Error| anyhow!("template: {}", one_line(e.message())))?;
        template.check()?;
        ensure!(
            !template.ask.contains("{choice}") || self.metric.answer_mode() != AnswerMode::Generate,
            "template.ask: {{choice}} is for the metrics choice, choice-by-length and greedy"
        );
        Ok(template)
    }

    fn items(
        &self,
        folder: &Path,
        file: &Path,
        (split, template): (&str, &Template),
    ) -> Result<Vec<BenchmarkItem>> {
        let mut ids = BTreeSet::new();
        json::lines(&folder.join(file), |record: Map<String, Value>| {
            let written = text(&record, &self.fields.id)?;
            let id = if written.is_empty() { ids.len().to_string() } else { written };
            ensure!(ids.insert(id.clone()), "field `{}`: {id} is the id of an earlier item", self.fields.id);
            let mut item = self.item(&record, &folder.join(&self.data.pictures))?;
            item.question.id = format!("{}/{split}/{id}", self.name);
            check_written(&item, template)?;
            Ok(item)
        })
    }

    fn item(&self, record: &Map<String, Value>, pictures: &Path) -> Result<BenchmarkItem> {
        let of = &self.fields;
        let category = text(record, &of.category)?;
        let question = Question {
            category: if category.is_empty() { self.name.clone() } else { category },
            text: text(record, &of.question)?,
            answers: texts(record, &of.answers)?,
            choices: texts(record, &of.choices)?,
            reasoning: text(record, &of.reasoning)?,
            ..Question::default()
        };
        let missing = |field: &str| format!("field `{field}` is missing or empty");
        ensure!(self.metric == Metric::Cider || !question.text.is_empty(), missing(&of.question));
        ensure!(!question.answers.is_empty(), missing(&of.answers));
        let letters: Vec<String> = (0..question.choices.len()).map(letter).collect();
        let right = match (self.metric, self.metric.answer_mode()) {
            (Metric::Letter, _) => Some(&letters),
            (_, AnswerMode::RankChoices) => Some(&question.choices),
            _ => None,
        };
        if let Some(right) = right {
            ensure!(
                right.len() >= 2,
                "field `{}` has {} options; it needs at least 2",
                of.choices,
                right.len()
            );
            ensure!(
                self.metric != Metric::Letter || right.len() <= LETTERED,
                "field `{}` has {} options; letters are there for {LETTERED}",
                of.choices,
                right.len()
            );
            let wrong = question.answers.iter().find(|answer| !right.contains(answer));
            let known = right.join(", ");
            ensure!(
                wrong.is_none(),
                "field `{}`: `{}` is none of: {known}",
                of.answers,
                wrong.map_or("", |w| w)
            );
        }
        let place = |name: &String| {
            let path = pictures.join(name);
            ensure!(path.is_file(), "field `{}`: there is no file {}", of.pictures, path.display());
            Ok(PictureLocation::File(path))
        };
        let pictures = texts(record, &of.pictures)?.iter().map(place).collect::<Result<_>>()?;
        Ok(BenchmarkItem { question, pictures })
    }
}

/// Refuses an item that the template has no place for, with blanks for its pictures.
fn check_written(item: &BenchmarkItem, template: &Template) -> Result<()> {
    let pictures = vec![Image::from(Vec::new()); item.pictures.len()];
    let question = Question { pictures, ..item.question.clone() };
    template.write_question(&question, None)?;
    template.turns(&question, false)?;
    Ok(())
}

/// A field of one text; empty where it is missing.
fn text(record: &Map<String, Value>, field: &str) -> Result<String> {
    let texts = texts(record, field)?;
    ensure!(texts.len() <= 1, "field `{field}` has {} texts; it is to be one", texts.len());
    Ok(texts.into_iter().next().unwrap_or_default())
}

/// A field of one text or a list of texts, whole numbers among them; none where it is missing.
fn texts(record: &Map<String, Value>, field: &str) -> Result<Vec<String>> {
    let text = |value: &Value| match value {
        Value::String(text) if !text.trim().is_empty() => Ok(text.clone()),
        Value::Number(number) if !number.is_f64() => Ok(number.to_string()),
        _ => {
            bail!("field `{field}`: {value} is no text; write one in quotation marks, or leave the field out")
        }
    };
    match record.get(field) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(values)) => values.iter().map(text).collect(),
        Some(value) => Ok(vec![text(value)?]),
    }
}
