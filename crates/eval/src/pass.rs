//! [`EvalPass`]: one pass over the questions of a task.

use serde_json::{Value, json};

use crate::prompt::Style;
use crate::protocol::Protocol;

/// One pass over the questions of a task: with one number of demonstrations, seeing or blind.
#[derive(Clone, Copy)]
pub struct EvalPass<'a> {
    /// The settings of the evaluation.
    pub protocol: &'a Protocol,
    /// How prompts are written: the protocol's style, for the model that is asked.
    pub style: Style,
    /// Demonstrations of each prompt; one of the protocol's numbers.
    pub shots: usize,
    /// Whether every picture, of demonstrations too, is replaced by grey.
    pub blind: bool,
    /// Seed of demonstrations, baselines and intervals.
    pub seed: u64,
    /// Of how many items, from the first, the pictures are kept for the report.
    pub kept_pictures: usize,
    /// Called after each batch with the items done and the items in all.
    pub progress: &'a dyn Fn(u64, u64),
}

impl EvalPass<'_> {
    /// All that an answer depends on: the first line of a log. Answers are taken from a log only where it is
    /// the same, so its keys keep the names that they had first.
    pub fn log_header(&self, model: &str, task: &str) -> Value {
        let Protocol {
            demonstrations,
            pool,
            chain_of_thought,
            demonstration_size,
            full_resolution_demonstrations,
            image_size,
            demonstration_overviews,
            // No answer depends on these: which answers are asked for, how fast, and what stands beside them.
            tasks: _,
            shots: _,
            questions: _,
            batch: _,
            blind: _,
            style: _,
            contamination: _,
            data: _,
        } = self.protocol;
        let mut header = json!({
            "model": model,
            "task": task,
            "shots": self.shots,
            "blind": self.blind,
            "style": self.style,
            "seed": self.seed,
            "demonstrations": demonstrations,
            "pool": pool,
            "chain_of_thought": chain_of_thought,
            "demonstration_size": demonstration_size,
            "sharp_demonstrations": full_resolution_demonstrations,
        });
        // Newer than the first logs: not there where nothing is asked.
        if let Some(size) = image_size {
            header["image_size"] = json!(size);
        }
        if *demonstration_overviews {
            header["demonstration_overviews"] = json!(true);
        }
        header
    }
}
