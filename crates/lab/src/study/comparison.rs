//! [`AxisComparison`]: the values of one axis of a study beside the value that its base has.

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::holm::holm;
use super::scores::{MeanEstimate, SettingScores};

/// A difference counts as found where its corrected p is below.
const FOUND: f64 = 0.05;

/// What a study says of an axis, decided before it runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AxisClaim {
    /// It matters: differences from the base are looked for.
    Differs,
    /// It does not matter: every difference is smaller than this, in the score's unit.
    EquivalentWithin(f64),
}

/// One axis.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AxisComparison {
    /// What is changed, such as `tokens`.
    pub axis: String,
    /// The value of the base.
    pub base: String,
    /// What is claimed.
    pub claim: AxisClaim,
    /// One for each other value.
    pub differences: Vec<SettingDifference>,
}

/// One value of an axis, less the base's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SettingDifference {
    /// The value.
    pub value: String,
    /// Its mean score less the base's, over seeds and examples that both have.
    pub difference: MeanEstimate,
    /// Two-sided p of "no difference", by itself.
    pub p: f64,
    /// The same corrected for all comparisons of the study.
    pub corrected_p: f64,
    /// Comparisons that it was corrected for.
    pub comparisons: usize,
}

impl AxisComparison {
    /// Compares the scores of each of `values` with those of `base`; each has the name of its value.
    ///
    /// # Errors
    /// Settings that answered other examples or share no seed; the line names the axis.
    pub fn new(
        axis: String,
        base: (&str, &SettingScores),
        values: &[(&str, &SettingScores)],
        claim: AxisClaim,
    ) -> Result<Self> {
        let scores: Vec<&SettingScores> = values.iter().map(|(_, scores)| *scores).collect();
        let estimates = SettingScores::differences(base.1, &scores).with_context(|| axis.clone())?;
        let named = values.iter().zip(estimates).map(|(value, difference)| {
            let p = difference.estimate.p_equal(0.0);
            SettingDifference { value: value.0.to_owned(), difference, p, corrected_p: p, comparisons: 1 }
        });
        let differences = named.collect();
        Ok(Self { axis, base: base.0.to_owned(), claim, differences })
    }

    /// Whether every difference is within the claimed margin: each 95% interval lies inside. No correction
    /// for their number is due, since each of them has to (Berger 1982).
    pub fn is_equivalent(&self) -> bool {
        let AxisClaim::EquivalentWithin(margin) = self.claim else { return false };
        !self.differences.is_empty()
            && self.differences.iter().all(|of| of.difference.estimate.p_beyond(margin) < 0.025)
    }
}

impl SettingDifference {
    /// Whether there is a difference, after the correction.
    pub fn is_found(&self) -> bool {
        self.corrected_p < FOUND
    }

    /// Whether it would have been found, had it been the only comparison.
    pub fn is_found_alone(&self) -> bool {
        self.p < FOUND
    }
}

/// Corrects the p of all comparisons of a study together (Holm). A study calls it once, with all its axes.
pub fn correct(axes: &mut [AxisComparison]) {
    let all: Vec<f64> = axes.iter().flat_map(|axis| &axis.differences).map(|of| of.p).collect();
    let of_all = axes.iter_mut().flat_map(|axis| &mut axis.differences);
    for (difference, corrected) in of_all.zip(holm(&all)) {
        (difference.corrected_p, difference.comparisons) = (corrected, all.len());
    }
}
