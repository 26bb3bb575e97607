//! [`Penalties`]: what tokens that an answer already has lose.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

/// What the logits of tokens lose that the answer already has; a prompt's do not count (OpenAI's).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Penalties {
    /// For each time that the answer has the token, -2 to 2.
    pub frequency: f64,
    /// Once, -2 to 2.
    pub presence: f64,
}

impl Penalties {
    /// Checks the ranges.
    ///
    /// # Errors
    /// One line that names the field.
    pub(crate) fn check(&self) -> Result<()> {
        for (field, value) in [("frequency_penalty", self.frequency), ("presence_penalty", self.presence)] {
            ensure!((-2.0..=2.0).contains(&value), "{field} = {value}: give a number from -2 to 2");
        }
        Ok(())
    }

    /// Whether nothing is lost.
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The logits `[v]` after an answer that has each token as often as `counts` says.
    pub(crate) fn apply(&self, logits: &[f32], counts: &BTreeMap<u32, usize>) -> Vec<f32> {
        let mut logits = logits.to_vec();
        for (&id, &count) in counts {
            logits[id as usize] -= (self.frequency * count as f64 + self.presence) as f32;
        }
        logits
    }
}
