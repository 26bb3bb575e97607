//! [`Protocol`]: how models are evaluated. The stage of a recipe, the command line and the log have their
//! settings here.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use clap::{ArgAction, Args, ValueEnum};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::prompt::Style;

/// Pixels a side that a demonstration's picture may have at most.
const MAX_SIDE: usize = 4096;

/// Demonstrations of a prompt: far more than a context holds.
const MAX_SHOTS: usize = 1000;
/// Questions side by side; for a model behind an address, threads.
const MAX_BATCH: usize = 4096;
/// Items whose features are held in memory.
const MAX_POOL: usize = 100_000;

/// What is asked, after which demonstrations, and what stands beside the scores.
///
/// A recipe's stage takes all of these fields, and `mm1 eval` a flag for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Args)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["tasks"]))]
pub struct Protocol {
    /// Names of tasks: `scene-captions`, `text-choice` and the other built-in ones; `captions:SOURCE`,
    /// `vqa:SOURCE` and `perplexity:SOURCE` about the held-out part of a source, `vqa:SOURCE/OTHER` with
    /// demonstrations of another source; a test set in the folder `data`, such as `coco`; or a task file of
    /// your own.
    #[schemars(length(min = 1))]
    #[arg(
        long,
        required = true,
        value_delimiter = ',',
        help = "Tasks, joined by commas: scene-captions, scene-vqa, scene-pairs, scene-binding, \
                scene-steps, scene-ocr, scene-detail, text-choice, text-completion; facts; \
                captions:SOURCE, vqa:SOURCE, perplexity:SOURCE of the run's recipe; the name of a test \
                set in --data; or a task file of your own"
    )]
    pub tasks: Vec<String>,
    /// Numbers of demonstrations (shots) with which each task is asked.
    /// Unit: demonstrations.
    #[schemars(length(min = 1))]
    #[arg(
        long,
        value_delimiter = ',',
        default_values_t = Self::default().shots,
        help = "Numbers of demonstrations, joined by commas"
    )]
    pub shots: Vec<usize>,
    /// Questions of each task, from the first; a smaller test split gives all it has.
    /// Unit: questions.
    #[schemars(range(min = 1))]
    #[arg(long, default_value_t = Self::default().questions, help = "Questions of each task at most")]
    pub questions: usize,
    /// Questions answered in one batch; no score depends on it.
    /// Unit: questions.
    #[schemars(range(min = 1))]
    #[arg(
        long,
        default_value_t = Self::default().batch,
        help = "Questions answered in one batch; no score depends on it"
    )]
    pub batch: usize,
    /// Whether the blind baseline is measured too: the same prompts with images replaced by grey.
    #[arg(
        long = "no-blind",
        action = ArgAction::SetFalse,
        help = "Skip the blind baseline (images replaced by grey)"
    )]
    pub blind: bool,
    /// In which style the model is asked.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(extend("default" = "as-trained"))]
    #[arg(long, value_enum, default_value_t)]
    pub style: StyleChoice,
    /// Which training items are shown as demonstrations.
    #[arg(long, value_enum, default_value_t)]
    pub demonstrations: Selection,
    /// Training items among which `similar` demonstrations are looked for.
    /// Unit: items.
    #[arg(
        long,
        value_name = "ITEMS",
        default_value_t = Self::default().pool,
        help = "Training items among which similar demonstrations are looked for"
    )]
    pub pool: usize,
    /// Whether demonstrations show a chain of thought before their answer, and the model's conclusion is
    /// scored.
    #[arg(long, help = "Demonstrations show a chain of thought, and the model's conclusion is scored")]
    pub chain_of_thought: bool,
    /// Side with which images are encoded, in whole patches: the positions of the model are interpolated. By
    /// default that of its training. Unit: pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    #[arg(
        long,
        value_name = "PIXELS",
        help = "Encode images at PIXELS in place of the size of the training"
    )]
    pub image_size: Option<usize>,
    /// Side with which the demonstrations' images are encoded, in whole patches; without it at full
    /// resolution, as the question's. Unit: pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    #[arg(
        long,
        value_name = "PIXELS",
        help = "Encode the demonstrations' images at PIXELS; the last N at full resolution"
    )]
    pub demonstration_size: Option<usize>,
    /// Whether the demonstrations' images are shown by their overviews alone, where a model's images are
    /// tiled; the question's images have all their tiles.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(extend("default" = false))]
    #[arg(
        long,
        help = "Show the demonstrations' images by their overviews alone; the last N with all their tiles"
    )]
    pub demonstration_overviews: bool,
    /// The last demonstrations that are encoded at full resolution and with all their tiles all the same.
    /// Unit: demonstrations.
    #[serde(alias = "sharp_demonstrations", skip_serializing_if = "is_default")]
    #[schemars(extend("default" = 0))]
    #[arg(
        long,
        value_name = "N",
        default_value_t = Self::default().full_resolution_demonstrations,
        alias = "sharp-demonstrations",
        help = "How many of the last demonstrations are encoded in full all the same; needs \
                --demonstration-size or --demonstration-overviews"
    )]
    pub full_resolution_demonstrations: usize,
    /// Training documents of each source with which test items are compared, from the first, to find what
    /// training has seen; 0 compares with none. Unit: documents.
    #[arg(
        long,
        value_name = "DOCUMENTS",
        default_value_t = Self::default().contamination,
        help = "Training documents of each source that the questions are compared with; 0 compares with none"
    )]
    pub contamination: u64,
    /// The folder of the test sets on disk; without it benchmarks can't be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[arg(
        long,
        value_name = "DIR",
        help = "The folder of the test sets: coco/, vqav2/, … as docs/guide/evaluation.md says"
    )]
    pub data: Option<PathBuf>,
}

/// The paper's 0, 4 and 8 shots (section 3.1).
impl Default for Protocol {
    fn default() -> Self {
        Self {
            tasks: Vec::new(),
            shots: vec![0, 4, 8],
            questions: 1000,
            batch: 64,
            blind: true,
            style: StyleChoice::default(),
            demonstrations: Selection::default(),
            pool: 1000,
            chain_of_thought: false,
            image_size: None,
            demonstration_size: None,
            demonstration_overviews: false,
            full_resolution_demonstrations: 0,
            contamination: 1000,
            data: None,
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The first that was there before.
fn repeated<T: PartialEq>(items: &[T]) -> Option<&T> {
    items.iter().enumerate().find(|(i, item)| items[..*i].contains(item)).map(|(_, item)| item)
}

/// Which training items are demonstrated before a question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Selection {
    /// Others for each question, drawn by the seed and the question's id.
    #[default]
    Random,
    /// The same for all questions; the model reads them once.
    Fixed,
    /// Those with the most similar images, the most similar last (RICES: Yang et al. 2022; Alayrac et al.
    /// 2022).
    Similar,
}

/// In which style a model is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum StyleChoice {
    /// As it was trained: a tuned model in conversations, one that was only pre-trained in running text.
    #[default]
    AsTrained,
    /// As a conversation.
    Chat,
    /// In running text.
    Text,
}

impl StyleChoice {
    /// The style for a model that was trained in `trained`.
    pub fn style(self, trained: Style) -> Style {
        match self {
            Self::AsTrained => trained,
            Self::Chat => Style::Chat,
            Self::Text => Style::Pretrained,
        }
    }
}

impl Protocol {
    /// Checks what can be checked without a model and data.
    ///
    /// # Errors
    /// One line that names the field.
    pub fn check(&self) -> Result<()> {
        ensure!(self.questions > 0, "questions must be at least 1");
        ensure!(self.batch > 0, "batch must be at least 1");
        ensure!(!self.tasks.is_empty(), "tasks is empty");
        ensure!(!self.shots.is_empty(), "shots is empty; for no demonstration write shots = [0]");
        if let Some(shots) = repeated(&self.shots) {
            bail!("shots = {shots} comes twice: one of them is enough");
        }
        if let Some(task) = repeated(&self.tasks) {
            bail!("tasks: \"{task}\" comes twice: one of them is enough");
        }
        let most = self.shots.iter().copied().max().unwrap_or_default();
        ensure!(most <= MAX_SHOTS, "shots = {most}: no context holds more than {MAX_SHOTS} demonstrations");
        for (field, value, most) in [
            ("batch", self.batch, MAX_BATCH),
            ("pool", self.pool, MAX_POOL),
            ("full_resolution_demonstrations", self.full_resolution_demonstrations, MAX_SHOTS),
        ] {
            ensure!(value <= most, "{field} = {value} must be at most {most}");
        }
        let full = self.full_resolution_demonstrations;
        ensure!(
            full == 0 || self.demonstration_size.is_some() || self.demonstration_overviews,
            "full_resolution_demonstrations = {full}: all are shown in full; set demonstration_size or \
             demonstration_overviews (--demonstration-size, --demonstration-overviews) for the others"
        );
        Ok(())
    }

    /// Checks that a model with patches of `patch` pixels a side can encode pictures as it is asked to.
    ///
    /// # Errors
    /// One line that names the field.
    pub fn check_resolution(&self, patch: usize) -> Result<()> {
        for (field, size) in
            [("image_size", self.image_size), ("demonstration_size", self.demonstration_size)]
        {
            let Some(size) = size else { continue };
            ensure!(
                (patch..=MAX_SIDE).contains(&size) && size.is_multiple_of(patch),
                "{field} = {size}: give {patch} to {MAX_SIDE} pixels in whole patches of {patch}"
            );
        }
        Ok(())
    }
}
