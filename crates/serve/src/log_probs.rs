//! [`TokenLogProb`]: how likely a token was, and which others were likely.

use anyhow::Result;

use crate::sampler::highest;

/// A token and the natural logarithm of its probability, by the model's own distribution: before temperature,
/// penalties and cuts.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogProb {
    /// The token.
    pub id: u32,
    /// Unit: nats.
    pub log_prob: f64,
    /// The likeliest tokens at its place, the likeliest first; of equals the lowest id.
    pub top: Vec<(u32, f64)>,
}

impl TokenLogProb {
    /// Of the token `id` in the logits `[v]` of its place, with so many of the likeliest.
    ///
    /// # Errors
    /// A logit that is NaN or +∞, or no logit above -∞.
    pub(crate) fn of(logits: &[f32], id: u32, top: usize) -> Result<Self> {
        let best = highest(logits)?;
        let over = |id: usize| f64::from(logits[id] - logits[best]);
        let sum = (0..logits.len()).map(|id| over(id).exp()).sum::<f64>().ln();
        let mut ids: Vec<usize> = (0..logits.len()).collect();
        let before = |a: &usize, b: &usize| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b));
        if (1..ids.len()).contains(&top) {
            ids.select_nth_unstable_by(top - 1, before);
        }
        ids.truncate(top);
        ids.sort_by(before);
        let top = ids.into_iter().map(|id| (id as u32, over(id) - sum)).collect();
        Ok(Self { id, log_prob: over(id as usize) - sum, top })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_probabilities_are_those_of_the_softmax() {
        // ln of 1 : 2 : 5 : 2.
        let logits = [0.0, 2f32.ln(), 5f32.ln(), 2f32.ln()];
        let found = TokenLogProb::of(&logits, 1, 3).unwrap();
        assert!((found.log_prob - 0.2f64.ln()).abs() < 1e-7);
        assert_eq!(found.top.iter().map(|top| top.0).collect::<Vec<_>>(), [2, 1, 3]);
        assert!((found.top[0].1 - 0.5f64.ln()).abs() < 1e-7);
        assert!(TokenLogProb::of(&logits, 1, 0).unwrap().top.is_empty());
        assert_eq!(TokenLogProb::of(&logits, 1, 9).unwrap().top.len(), 4);
    }
}
