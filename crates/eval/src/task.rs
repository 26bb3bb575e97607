//! [`Task`]: a benchmark. [`Metric`]: how its answers are scored.

use anyhow::Result;
use mm1_data::question::Question;
use serde::{Deserialize, Serialize};

use crate::score::{letter, open, yes_no};
use crate::shots;
use crate::template::Template;

/// Training items that answers without sight are chosen on, if a task says nothing else.
pub(crate) const SAMPLES: usize = 500;

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

    /// The most tokens that an answer may take.
    fn max_tokens(&self) -> usize;

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
            Metric::YesNo => yes_no::said(output),
            _ => shots::prediction(question, output),
        }
    }

    /// Training items that the baselines are chosen on.
    fn samples(&self) -> usize {
        SAMPLES
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

/// How answers are scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Captions: CIDEr × 100.
    Cider,
    /// Short answers: VQA accuracy in percent.
    VqaAccuracy,
    /// Exact match in percent.
    ExactMatch,
    /// Exact match in percent, letter case and punctuation ignored.
    NormalisedMatch,
    /// Captions: BLEU-4 in percent; each item's own, which do not average to the corpus's.
    Bleu4,
    /// Captions: ROUGE-L in percent.
    RougeL,
    /// Answers read from documents: ANLS in percent.
    Anls,
    /// Answers read from charts: relaxed accuracy in percent.
    RelaxedAccuracy,
    /// `yes` or `no`, the first word that the model wrote: percent.
    YesNo,
    /// The letter of an option, written by the model: percent.
    Letter,
    /// The option with the highest log-probability: percent.
    Choice,
    /// The option with the highest log-probability by character: percent.
    ChoiceByLength,
    /// Whether greedy decoding would write one of the accepted answers: percent.
    Greedy,
    /// e to the mean negative log-probability of a token of the answers: the lower the better.
    Perplexity,
    /// The right class of a picture, by an image encoder alone ([`crate::probe`]): percent.
    Accuracy,
    /// The own caption of a picture, or picture of a caption, nearest of all: percent.
    RecallAt1,
}

/// What a metric needs of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asking {
    /// An answer in its own words.
    Generate,
    /// How likely each option is.
    Choose,
    /// How likely each accepted answer is.
    Judge,
}

impl Metric {
    /// Whether it compares captions, of which each is its own: no answer is a typical one.
    pub(crate) fn of_captions(self) -> bool {
        matches!(self, Self::Cider | Self::Bleu4 | Self::RougeL)
    }

    /// How an item is written where a task says nothing else.
    pub(crate) fn template(self) -> Template {
        match self {
            Self::Cider => Template::captions(),
            Self::Letter => Template::letters(),
            _ => Template::questions(),
        }
    }

    pub(crate) fn asks(self) -> Asking {
        match self {
            Self::Choice | Self::ChoiceByLength => Asking::Choose,
            Self::Greedy | Self::Perplexity => Asking::Judge,
            _ => Asking::Generate,
        }
    }
}
