//! [`AnswerOptions`]: what an answer may be. [`GenerateOptions`]: and how many are made side by side.

use anyhow::{Result, ensure};

use crate::penalties::Penalties;
use crate::sampler::{Sampler, Sampling};

/// What an answer may be.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswerOptions {
    /// The most tokens of an answer; at least 1.
    pub max_tokens: usize,
    /// The answer ends before the first of these; it always ends at [`mm1_data::document::Special::End`].
    pub stop: Vec<String>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// What tokens that the answer already has lose.
    pub penalties: Penalties,
}

impl AnswerOptions {
    /// The likeliest tokens, `max_tokens` at most.
    pub fn greedy(max_tokens: usize) -> Self {
        let (sampling, penalties) = (Sampling::Greedy, Penalties::default());
        Self { max_tokens, stop: Vec::new(), sampling, penalties }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// One line that names the option.
    pub fn check(&self) -> Result<()> {
        ensure!(self.max_tokens > 0, "max_tokens = 0: give at least 1");
        ensure!(!self.stop.iter().any(String::is_empty), "a stop string is empty: leave it out");
        self.penalties.check()?;
        Sampler::new(self.sampling, 0)?;
        Ok(())
    }
}

/// What answers may be, and how they are made.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateOptions {
    /// Of each.
    pub answer: AnswerOptions,
    /// Answers that are made side by side; at least 1.
    pub batch: usize,
}

impl GenerateOptions {
    /// Checks the ranges.
    ///
    /// # Errors
    /// One line that names the option.
    pub(crate) fn check(&self) -> Result<()> {
        ensure!(self.batch > 0, "batch = 0: give at least 1");
        self.answer.check()
    }
}
