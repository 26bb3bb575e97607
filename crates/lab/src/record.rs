//! The lines and entries of a run folder's files, as far as a report shows them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Questions from which on a task's interval is narrow enough to tell runs apart.
pub const ENOUGH_QUESTIONS: u64 = 200;

/// One line of `metrics.jsonl`. A number that JSON can't write, such as `NaN`, is `None`.
#[derive(Clone, Debug, Deserialize)]
pub struct StepRecord {
    /// The optimisation step within its stage.
    pub step: u64,
    /// The stage's name.
    pub stage: String,
    /// Mean loss over the step's weights, in nats.
    pub loss: Option<f64>,
    /// Learning rate.
    pub lr: Option<f64>,
    /// Norm of all gradients together, before clipping.
    pub grad_norm: Option<f64>,
    /// Positions that this step saw.
    pub tokens: Option<f64>,
    /// Pictures that this step saw.
    pub images: Option<f64>,
    /// Wall time of this step.
    pub seconds: Option<f64>,
    /// The part of `seconds` spent waiting for data.
    pub data_seconds: Option<f64>,
    /// When it ended, in seconds since 1970; runs of earlier versions do not say.
    pub time: Option<f64>,
    /// Throughput; `tokens / seconds` where it is not written.
    pub tokens_per_second: Option<f64>,
    /// Damaged samples met on the way to this step.
    #[serde(default)]
    pub skipped: Vec<SkippedRecord>,
    /// What the losses of its examples weigh together.
    pub weight: Option<f64>,
    /// What the objective reports of itself, such as DINO's `rank`.
    #[serde(flatten)]
    pub figures: BTreeMap<String, Value>,
}

/// One entry of `eval.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreRecord {
    /// The stage after which it was measured.
    pub stage: String,
    /// `task`, or `task/category`.
    pub task: String,
    /// Number of demonstrations.
    pub shots: u64,
    /// What is measured, such as `accuracy` or `cider`.
    pub metric: String,
    /// As papers print it.
    pub value: Option<f64>,
    /// 95% interval.
    pub ci95: Option<[Option<f64>; 2]>,
    /// Number of questions.
    pub n: Option<u64>,
    /// What simpler answers score, by name.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub baselines: serde_json::Map<String, Value>,
    /// What training had seen of the questions, where it was compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contamination: Option<OverlapRecord>,
}

/// What training had seen of a task's questions: `contamination` of an entry of `eval.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlapRecord {
    /// Training documents that were compared.
    pub documents: u64,
    /// Questions that were compared with them.
    pub items: u64,
    /// Questions about a picture of the same pixels.
    pub same_pictures: u64,
    /// Questions about a picture that looks like one of training, the same ones among them.
    pub near_pictures: u64,
    /// Questions that share 13 words in a row with a training text.
    pub texts: u64,
}

/// One entry of `samples.json`: a test question with what the model said.
#[derive(Clone, Debug, Deserialize)]
pub struct AnswerRecord {
    /// The question's id.
    pub id: String,
    /// The stage after which it was asked.
    pub stage: String,
    /// The task.
    pub task: String,
    /// Number of demonstrations.
    pub shots: u64,
    /// The question; empty for captioning.
    pub question: String,
    /// The accepted answers.
    pub answers: Vec<String>,
    /// What the model said.
    pub output: String,
    /// The item's score as `eval.json` has it: 100 is right, 0 is wrong; a caption's CIDEr × 100.
    pub score: Option<f64>,
    /// The pictures that were shown.
    #[serde(default)]
    pub pictures: Vec<EmbeddedPng>,
}

/// A picture inside `samples.json`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct EmbeddedPng {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// The PNG file, in base64.
    pub png_base64: String,
}

/// A sample that could not be used.
#[derive(Clone, Debug, Deserialize)]
pub struct SkippedRecord {
    /// The sample's id or file.
    pub id: String,
    /// Why it was skipped.
    pub reason: String,
}

impl StepRecord {
    /// Pictures a second.
    pub(crate) fn pictures_per_second(&self) -> Option<f64> {
        Some(self.images? / self.seconds.filter(|s| *s > 0.0)?)
    }

    /// Positions a second.
    pub(crate) fn throughput(&self) -> Option<f64> {
        let divided = || Some(self.tokens? / self.seconds.filter(|s| *s > 0.0)?);
        self.tokens_per_second.or_else(divided)
    }
}

impl ScoreRecord {
    /// The metric's name as papers write it, with its unit.
    pub(crate) fn metric_name(&self) -> &str {
        match self.metric.as_str() {
            "cider" => "CIDEr × 100",
            "vqa-accuracy" => "VQA accuracy, %",
            "exact-match" | "exact" => "exact match, %",
            "normalised-match" => "exact match without case and punctuation, %",
            "bleu4" => "BLEU-4, %",
            "rouge-l" => "ROUGE-L, %",
            "anls" => "ANLS, %",
            "relaxed-accuracy" => "relaxed accuracy, %",
            "yes-no" => "yes or no right, %",
            "letter" => "letter of the option right, %",
            "choice" => "most likely option right, %",
            "choice-by-length" => "most likely option by character right, %",
            "greedy" => "written by greedy decoding, %",
            "perplexity" => "perplexity, lower is better",
            "accuracy" => "right class, %",
            "recall-at1" => "recall at 1, %",
            other => other,
        }
    }

    /// Whether it measures the image encoder alone, which is shown no demonstrations.
    pub(crate) fn is_of_encoder(&self) -> bool {
        matches!(self.metric.as_str(), "accuracy" | "recall-at1")
    }

    /// Whether less is better, as of a perplexity.
    pub(crate) fn lower_is_better(&self) -> bool {
        self.metric == "perplexity"
    }
}
