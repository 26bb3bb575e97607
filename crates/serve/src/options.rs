//! [`GenerateOptions`]: what an answer may be.

use anyhow::{Result, ensure};

use crate::sampler::{Sampler, Sampling};

/// What an answer may be.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateOptions {
    /// The most tokens of an answer; at least 1.
    pub max_tokens: usize,
    /// The answer ends before the first of these; it always ends at [`mm1_data::document::Special::End`].
    pub stop: Vec<String>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Answers that are made side by side; at least 1.
    pub batch: usize,
}

impl GenerateOptions {
    /// Checks the ranges.
    ///
    /// # Errors
    /// One line that names the option.
    pub(crate) fn check(&self) -> Result<()> {
        ensure!(self.max_tokens > 0, "max_tokens = 0: give at least 1");
        ensure!(self.batch > 0, "batch = 0: give at least 1");
        ensure!(!self.stop.iter().any(String::is_empty), "a stop string is empty: leave it out");
        Sampler::new(self.sampling, 0)?;
        Ok(())
    }
}
