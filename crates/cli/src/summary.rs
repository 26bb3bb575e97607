//! A plan as a person reads it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use indicatif::HumanCount;
use mm1_data::source::Split;
use mm1_eval::counted::counted;
use mm1_lab::record::ENOUGH_QUESTIONS;
use mm1_model::device::{self, DeviceMemory};
use mm1_model::ops::Precision;

use crate::memory::MemoryEstimate;
use crate::plan::Plan;
use crate::recipe::{ProbeStage, Stage};
use crate::tasks;

impl Plan {
    /// The plan with the `memory` of its training stages, as a person reads it.
    pub(crate) fn summary(&self, memory: &BTreeMap<String, MemoryEstimate>) -> String {
        let (d, mut text) = (&self.derived, String::new());
        let p = &d.parameters;
        let _ = writeln!(
            text,
            "{}: {} parameters (vision {}, connector {}, lm {}, embedding {}),\n  {} image {} a picture, \
             vocabulary {}",
            self.recipe.name,
            HumanCount(p.total() as u64),
            HumanCount(p.vision as u64),
            HumanCount(p.connector as u64),
            HumanCount(p.lm as u64),
            HumanCount(p.embedding as u64),
            d.image_tokens,
            if d.image_tokens == 1 { "token" } else { "tokens" },
            self.tokenizer.vocab()
        );
        if let Some(hardware) = device::hardware(self.compute.device()) {
            let _ = writeln!(text, "  on {}: {hardware}", self.recipe.device);
        }
        let room = device::memory(self.compute.device());
        if let Some(DeviceMemory { total, largest }) = room {
            let total = total.map_or("its memory is not known".to_owned(), |total| {
                format!("{} MiB of memory", total >> 20)
            });
            let _ = writeln!(text, "    {total}, a tensor of at most {} MiB", largest >> 20);
        }
        if self.recipe.precision == Precision::Bf16 && !device::has_bf16(self.compute.device()) {
            let device = self.recipe.device;
            let _ = writeln!(text, "    warning: {device} has no bfloat16: precision \"bf16\" is f32 there");
        }
        for stage in &self.recipe.stage {
            let _ = writeln!(text, "  {}: {}", stage.name(), self.line_of(stage, memory));
            let warnings: Vec<String> = match stage {
                Stage::Eval(s) => s.protocol.tasks.iter().filter_map(|task| self.few_items(task)).collect(),
                Stage::Probe(s) => self.few_pictures(s).into_iter().collect(),
                Stage::Recaption(_) => Vec::new(),
                Stage::Encoder(s) | Stage::Pretrain(s) | Stage::Sft(s) => {
                    let there = room.and_then(|room| room.total).map(|total| total >> 20);
                    let wanted = memory[&s.name].mib;
                    let more = there.filter(|&there| there < wanted);
                    let more = more.map(|there| format!("{} has {there} MiB", self.recipe.device));
                    more.into_iter().collect()
                }
            };
            for warning in warnings {
                let _ = writeln!(text, "    warning: {warning}");
            }
        }
        text
    }

    /// Pictures of a `split` that the probe takes.
    fn probed(&self, stage: &ProbeStage, split: Split) -> u64 {
        let wanted = if split == Split::Test { stage.test } else { stage.train };
        self.sources.named(&stage.classes).len(split).map_or(wanted, |there| there.min(wanted))
    }

    /// What is said of a probe with too few held-out pictures to tell encoders apart.
    fn few_pictures(&self, stage: &ProbeStage) -> Option<String> {
        (self.probed(stage, Split::Test) < ENOUGH_QUESTIONS)
            .then(|| format!("with fewer than {ENOUGH_QUESTIONS} held-out pictures a score is a rough guess"))
    }

    /// What is said of a task whose source holds out too little to tell runs apart.
    fn few_items(&self, task: &str) -> Option<String> {
        let held_out = self.sources.named(tasks::held_out(task)?).len(Split::Test)?;
        (held_out < ENOUGH_QUESTIONS).then(|| {
            format!(
                "{task} has {held_out} test {};\n    with fewer than {ENOUGH_QUESTIONS} a score is a rough \
                 guess",
                if held_out == 1 { "item" } else { "items" }
            )
        })
    }

    /// Size and tiles of a stage's pictures, where they are not those of the model at first.
    fn pictures_line(&self, stage: &str, memory: &BTreeMap<String, MemoryEstimate>) -> String {
        let Some(of) = self.derived.stage_pictures.get(stage) else { return String::new() };
        let (size, most, MemoryEstimate { images, views, .. }) =
            (of.image_size, of.most_tokens, memory[stage]);
        if !of.tiled {
            let tokens = match of.image_tokens {
                same if same == self.derived.image_tokens => String::new(),
                other => format!(" ({other} image tokens)"),
            };
            return format!("{size} pixels a side{tokens},\n    ");
        }
        // The memory is reckoned with a step of more views than there are on average.
        let most_views = most / of.image_tokens.max(1);
        let mean = (views as f64 / images.max(1) as f64).min(most_views as f64);
        let tokens = mean * of.image_tokens as f64;
        format!(
            "{mean:.1} views of {size} pixels a picture ({tokens:.0} image tokens; with most views {most} \
             tokens),\n    "
        )
    }

    fn line_of(&self, stage: &Stage, memory: &BTreeMap<String, MemoryEstimate>) -> String {
        match stage {
            Stage::Encoder(s) | Stage::Pretrain(s) | Stage::Sft(s) => {
                let MemoryEstimate { images, mib, loader_mib, .. } = memory[&s.name];
                let pictures = self.pictures_line(&s.name, memory);
                let positions = HumanCount(self.derived.positions_per_step[&s.name]);
                let adapters = self.derived.adapters.get(&s.name).map_or(String::new(), |counts| {
                    format!(
                        "adapters of {} parameters,\n    ",
                        HumanCount((counts.vision + counts.lm) as u64)
                    )
                });
                let after = s
                    .after
                    .as_ref()
                    .map_or(String::new(), |after| format!("begins with the model of {after},\n    "));
                format!(
                    "{} {} of up to {positions} tokens with about {images} {}, peak lr {:.2e},\n    \
                     {after}{pictures}{adapters}about {mib} MiB of memory, of it loader {loader_mib} MiB",
                    s.steps,
                    if s.steps == 1 { "step" } else { "steps" },
                    if images == 1 { "picture" } else { "pictures" },
                    self.derived.lr[&s.name]
                )
            }
            Stage::Probe(s) => format!(
                "the encoder's features of {} of data.{}, judged by {}",
                counted(self.probed(s, Split::Test), "held-out picture"),
                s.classes,
                counted(self.probed(s, Split::Train), "training picture")
            ),
            Stage::Recaption(s) => format!(
                "captions of {} of data.{} written anew{},\n    at most {} each; mixtures of later stages \
                 name them {}",
                counted(s.images, "training image"),
                s.source,
                self.recipe
                    .trained_before(&s.name)
                    .map_or(String::new(), |last| format!(" by the model of {}", last.name())),
                counted(s.max_tokens as u64, "token"),
                s.name
            ),
            Stage::Eval(s) => {
                format!(
                    "{} with {} shots, at most {} {} each",
                    s.protocol.tasks.join(", "),
                    listed(&s.protocol.shots),
                    s.protocol.questions,
                    if s.protocol.questions == 1 { "question" } else { "questions" }
                )
            }
        }
    }
}

/// `0, 4 and 8`.
fn listed(numbers: &[usize]) -> String {
    let texts: Vec<String> = numbers.iter().map(usize::to_string).collect();
    match texts.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} and {last}", before.join(", ")),
        _ => texts.concat(),
    }
}
