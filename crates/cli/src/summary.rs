//! A plan as a person reads it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use indicatif::HumanCount;

use crate::memory::MemoryEstimate;
use crate::plan::Plan;
use crate::recipe::Stage;

impl Plan {
    /// The plan with the `memory` of its training stages, as a person reads it.
    pub(crate) fn summary(&self, memory: &BTreeMap<String, MemoryEstimate>) -> String {
        let (d, mut text) = (&self.derived, String::new());
        let p = &d.parameters;
        let _ = writeln!(
            text,
            "{}: {} parameters (vision {}, connector {}, lm {}, embedding {}), {} image tokens a picture, \
             vocabulary {}",
            self.recipe.name,
            HumanCount(p.total() as u64),
            HumanCount(p.vision as u64),
            HumanCount(p.connector as u64),
            HumanCount(p.lm as u64),
            HumanCount(p.embedding as u64),
            d.image_tokens,
            self.tokenizer.vocab()
        );
        for stage in &self.recipe.stage {
            let _ = writeln!(text, "  {}: {}", stage.name(), self.line_of(stage, memory));
        }
        text
    }

    fn line_of(&self, stage: &Stage, memory: &BTreeMap<String, MemoryEstimate>) -> String {
        match stage {
            Stage::Encoder(s) | Stage::Pretrain(s) | Stage::Sft(s) => {
                let MemoryEstimate { images, mib, loader_mib, .. } = memory[&s.name];
                let positions = HumanCount(self.derived.positions_per_step[&s.name]);
                format!(
                    "{} steps of {positions} positions with about {images} pictures, peak lr {:.2e}, \
                     about {mib} MiB of memory, of it loader {loader_mib} MiB",
                    s.steps, self.derived.lr[&s.name]
                )
            }
            Stage::Probe(s) => format!(
                "the encoder's features of {} held-out pictures of {}, judged by {}",
                s.test, s.classes, s.train
            ),
            Stage::Eval(s) => {
                format!(
                    "{} with {:?} shots, {} questions each",
                    s.protocol.tasks.join(", "),
                    s.protocol.shots,
                    s.protocol.questions
                )
            }
        }
    }
}
