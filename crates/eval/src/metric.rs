//! [`Metric`]: how the answers of a benchmark are scored, and what it needs of the model for that.

use serde::{Deserialize, Serialize};

use crate::template::Template;

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
pub(crate) enum AnswerMode {
    /// An answer in its own words.
    Generate,
    /// The likelihood of each option.
    RankChoices,
    /// The likelihood of each accepted answer.
    ScoreAnswers,
}

impl Metric {
    /// Whether it compares captions, of which each is its own: no answer is a typical one.
    pub(crate) fn of_captions(self) -> bool {
        matches!(self, Self::Cider | Self::Bleu4 | Self::RougeL)
    }

    /// As papers write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cider => "CIDEr × 100",
            Self::VqaAccuracy => "VQA accuracy",
            Self::ExactMatch => "exact match",
            Self::NormalisedMatch => "exact match without case and punctuation",
            Self::Bleu4 => "BLEU-4",
            Self::RougeL => "ROUGE-L",
            Self::Anls => "ANLS",
            Self::RelaxedAccuracy => "relaxed accuracy",
            Self::YesNo => "yes or no right",
            Self::Letter => "letter of the option right",
            Self::Choice => "most likely option right",
            Self::ChoiceByLength => "most likely option by character right",
            Self::Greedy => "written by greedy decoding",
            Self::Perplexity => "perplexity (lower is better)",
            Self::Accuracy => "accuracy",
            Self::RecallAt1 => "recall at 1",
        }
    }

    /// What stands behind a value: `%`, or nothing.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Cider | Self::Perplexity => "",
            _ => "%",
        }
    }

    /// How an item is written where a task says nothing else.
    pub(crate) fn template(self) -> Template {
        match self {
            Self::Cider => Template::captions(),
            Self::Letter => Template::letters(),
            _ => Template::questions(),
        }
    }

    pub(crate) fn answer_mode(self) -> AnswerMode {
        match self {
            Self::Choice | Self::ChoiceByLength => AnswerMode::RankChoices,
            Self::Greedy | Self::Perplexity => AnswerMode::ScoreAnswers,
            _ => AnswerMode::Generate,
        }
    }
}
