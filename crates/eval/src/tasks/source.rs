//! Captions and questions of a source of your own: its held-out part is asked, demonstrations come from a
//! training part.

use std::sync::Arc;

use anyhow::{Result, ensure};
use mm1_data::image::DecodeBudget;
use mm1_data::question::Question;
use mm1_data::source::{Source, Split};

use crate::metric::Metric;
use crate::task::{BASELINE_ITEMS, Task};
use crate::template::Template;

/// Bytes at most of a text whose perplexity is measured.
const TEXT: usize = 2000;
/// Items of a source without an end.
const ENDLESS: u64 = 100_000;
/// Training items that the answers without sight are chosen on: questions are short, and each has its own
/// best guess.
const QUESTION_BASELINE_ITEMS: usize = 5000;

/// CIDEr of the captions of held-out pictures, the accuracy of answers about them, or the perplexity of
/// texts. Where captions begin with `A photo of`, these words are part of the prediction; else only what
/// follows them.
pub struct SourceTask {
    name: String,
    held_out: Arc<dyn Source>,
    training: Arc<dyn Source>,
    metric: Metric,
    max_tokens: usize,
    decoding: DecodeBudget,
}

impl SourceTask {
    /// Captioning of a source's pictures. `max_tokens` is the longest caption in tokens.
    pub fn captions(name: &str, source: Arc<dyn Source>, max_tokens: usize) -> Self {
        Self::of(name, [source.clone(), source], Metric::Cider, max_tokens)
    }

    /// Questions of the held-out part of one source, demonstrated by the training part of another, or of the
    /// same.
    pub fn questions(
        name: &str,
        held_out: Arc<dyn Source>,
        training: Arc<dyn Source>,
        max_tokens: usize,
    ) -> Self {
        Self::of(name, [held_out, training], Metric::VqaAccuracy, max_tokens)
    }

    /// The texts of the held-out part: each after its first word.
    pub fn texts(name: &str, source: Arc<dyn Source>) -> Self {
        Self::of(name, [source.clone(), source], Metric::Perplexity, 0)
    }

    fn of(name: &str, [held_out, training]: [Arc<dyn Source>; 2], metric: Metric, max_tokens: usize) -> Self {
        let decoding = DecodeBudget::default();
        Self { name: name.to_owned(), held_out, training, metric, max_tokens, decoding }
    }

    fn text(&self, index: u64) -> Result<Question> {
        let document = self.held_out.document(Split::Test, index)?;
        let text = document.texts().collect::<String>();
        let text = text.trim_start();
        let text = &text[..text.floor_char_boundary(TEXT)];
        let first = text.find(char::is_whitespace).unwrap_or(text.len());
        ensure!(!text[first..].trim().is_empty(), "{}: a text of one word at most", document.id);
        Ok(Question {
            id: document.id,
            category: "text".to_owned(),
            text: text[..first].to_owned(),
            answers: vec![text[first..].to_owned()],
            ..Question::default()
        })
    }

    fn item(&self, source: &dyn Source, split: Split, index: u64) -> Result<Question> {
        let question = source.question(split, index, &self.decoding)?;
        let caption = self.metric == Metric::Cider;
        ensure!(
            question.text.is_empty() == caption,
            "{}: {}",
            question.id,
            if caption {
                "a question, not a caption; its task is vqa:SOURCE"
            } else {
                "a caption, not a question; its task is captions:SOURCE"
            }
        );
        Ok(question)
    }
}

impl Task for SourceTask {
    fn name(&self) -> &str {
        &self.name
    }

    fn metric(&self) -> Metric {
        self.metric
    }

    fn tests(&self) -> u64 {
        self.held_out.len(Split::Test).unwrap_or(ENDLESS)
    }

    fn demonstrations(&self) -> u64 {
        match self.metric {
            Metric::Perplexity => 0,
            _ => self.training.len(Split::Train).unwrap_or(ENDLESS),
        }
    }

    fn template(&self) -> Template {
        match self.metric {
            Metric::Perplexity => Template {
                ask: "{question}".to_owned(),
                answer: "{answer}".to_owned(),
                separator: "\n\n".to_owned(),
                ..Template::questions()
            },
            metric => metric.template(),
        }
    }

    fn has_pictures(&self) -> bool {
        self.metric != Metric::Perplexity
    }

    fn test(&self, index: u64) -> Result<Question> {
        if self.metric == Metric::Perplexity {
            return self.text(index);
        }
        self.item(self.held_out.as_ref(), Split::Test, index)
    }

    fn demonstration(&self, index: u64) -> Result<Question> {
        self.item(self.training.as_ref(), Split::Train, index)
    }

    fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    fn baseline_items(&self) -> usize {
        if self.metric == Metric::Cider { BASELINE_ITEMS } else { QUESTION_BASELINE_ITEMS }
    }
}
