//! [`Task`]: a benchmark.

use anyhow::Result;
use mm1_data::question::Question;

use crate::metric::Metric;
use crate::prompt;
use crate::score::{letter, open, yes_no};
use crate::template::Template;

/// Training items that answers without sight are chosen on, if a task says nothing else.
pub(crate) const BASELINE_ITEMS: usize = 500;

/// A benchmark: test items, and training items to demonstrate with. Items are pure functions of their index.
pub trait Task: Send + Sync {
    /// The name in `eval.json`.
    fn name(&self) -> &str;

    /// How answers are scored.
    fn metric(&self) -> Metric;

    /// Number of test items.
    fn tests(&self) -> u64;

    /// Number of training items.
    fn demonstrations(&self) -> u64;

    /// The test item `index < tests()`.
    ///
    /// # Errors
    /// A damaged item; it is skipped and listed.
    fn test(&self, index: u64) -> Result<Question>;

    /// The training item `index < demonstrations()`.
    ///
    /// # Errors
    /// A damaged item; it is skipped and listed.
    fn demonstration(&self, index: u64) -> Result<Question>;

    /// The same without its pictures, for baselines that see none.
    ///
    /// # Errors
    /// A damaged item; it is skipped and listed.
    fn blind_demonstration(&self, index: u64) -> Result<Question> {
        Ok(Question { pictures: Vec::new(), ..self.demonstration(index)? })
    }

    /// The most tokens that an answer may take.
    fn max_tokens(&self) -> usize;

    /// The most tokens that a chain of thought before the answer may take, where `max_tokens` does not count
    /// them.
    fn reasoning_tokens(&self) -> usize {
        0
    }

    /// How an item is written.
    fn template(&self) -> Template {
        self.metric().template()
    }

    /// What is scored of the model's output, already cut at the stop string.
    fn prediction(&self, question: &Question, output: &str) -> String {
        match self.metric() {
            // Some sets have questions without options among those with.
            Metric::Letter if question.choices.is_empty() => open::accepted(output, &question.answers),
            Metric::Letter => letter::chosen(output, &question.choices),
            Metric::YesNo => yes_no::first_word(output),
            _ => prompt::prediction(question, output),
        }
    }

    /// Training items that the baselines are chosen on.
    fn baseline_items(&self) -> usize {
        BASELINE_ITEMS
    }

    /// Whether its questions have pictures: else there is nothing to be blind for.
    fn has_pictures(&self) -> bool {
        true
    }

    /// The answer ends before the first of these.
    fn stop(&self) -> Vec<&str> {
        vec!["\n"]
    }
}
