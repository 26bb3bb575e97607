//! Captions and questions of a source of your own: its held-out part is asked, demonstrations come from a training part.

use std::sync::Arc;

use anyhow::{Result, ensure};
use mm1_data::question::Question;
use mm1_data::source::{Source, Split};

use crate::task::{Metric, Task};

/// Items of a source without an end.
const ENDLESS: u64 = 100_000;
/// Training items that the answers without sight are chosen on: questions are short, and each has its own best guess.
const QUESTION_SAMPLES: usize = 5000;

/// CIDEr of the captions of held-out pictures, or the accuracy of answers about them. Where captions begin with `A photo
/// of`, these words are part of the prediction; else only what follows them.
pub struct SourceTask {
    name: String,
    held_out: Arc<dyn Source>,
    training: Arc<dyn Source>,
    metric: Metric,
    max_tokens: usize,
}

impl SourceTask {
    /// Captioning of a source's pictures. `max_tokens` is the longest caption in tokens.
    pub fn captions(name: &str, source: Arc<dyn Source>, max_tokens: usize) -> Self {
        let metric = Metric::Cider;
        Self { name: name.to_owned(), held_out: source.clone(), training: source, metric, max_tokens }
    }

    /// Questions of the held-out part of one source, demonstrated by the training part of another, or of the same.
    pub fn questions(
        name: &str,
        held_out: Arc<dyn Source>,
        training: Arc<dyn Source>,
        max_tokens: usize,
    ) -> Self {
        Self { name: name.to_owned(), held_out, training, metric: Metric::VqaAccuracy, max_tokens }
    }

    fn item(&self, source: &dyn Source, split: Split, index: u64) -> Result<Question> {
        let question = source.question(split, index)?;
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
        self.training.len(Split::Train).unwrap_or(ENDLESS)
    }

    fn test(&self, index: u64) -> Result<Question> {
        self.item(self.held_out.as_ref(), Split::Test, index)
    }

    fn demonstration(&self, index: u64) -> Result<Question> {
        self.item(self.training.as_ref(), Split::Train, index)
    }

    fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    fn samples(&self) -> usize {
        if self.metric == Metric::Cider { crate::task::SAMPLES } else { QUESTION_SAMPLES }
    }
}
