//! The law of a best setting over model sizes: ln η = a ln N + b, fitted to runs of several sizes at several
//! learning rates, as in the paper (section 3.3, figure 6).
//!
//! First the best rate of each size, the turning point of a parabola in ln η ([`optimum`]), then the line
//! through them. Weight decay follows from the rate, λ = c η, and c has an optimum of its own that is looked
//! for in the same way.

pub mod observation;
pub mod optimum;
pub mod page;
pub mod reading;

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use serde::Serialize;

use self::observation::{LawAxis, LawObservation, LawTarget};
use self::optimum::SizeOptimum;
use crate::estimate::Estimate;

/// Sizes that a line with an error needs.
const FEWEST_SIZES: usize = 3;

/// A power law over the decoder's size: `exp(a ln N + b)`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PowerLaw {
    /// What follows the size.
    pub axis: LawAxis,
    /// The exponent.
    pub a: Estimate,
    /// The logarithm of the factor before it.
    pub b: Estimate,
    /// What the law says for the middle of the sizes, as a logarithm: where it is known best.
    pub centre: Estimate,
    /// The sizes' logarithmic mean by their weights, in parameters: where `centre` is.
    pub centre_parameters: f64,
    /// χ² of the optima around the line over its degrees of freedom: about 1 where their errors explain it.
    pub scatter: f64,
    /// The best setting of each size, in ascending order of sizes.
    pub optima: Vec<SizeOptimum>,
}

impl PowerLaw {
    /// Fits the law to all `observations`.
    ///
    /// # Errors
    /// Every size whose optimum can't be found, with what to add, in one line; or fewer than three sizes.
    pub fn fit(axis: LawAxis, target: LawTarget, observations: &[LawObservation]) -> Result<Self> {
        let mut sizes: BTreeMap<u64, Vec<LawObservation>> = BTreeMap::new();
        for observation in observations {
            observation.check()?;
            sizes.entry(observation.parameters).or_default().push(*observation);
        }
        let (mut optima, mut refused) = (Vec::new(), Vec::new());
        for of_size in sizes.values() {
            match SizeOptimum::find(axis, target, of_size) {
                Ok(optimum) => optima.push(optimum),
                Err(e) => refused.push(format!("{e:#}")),
            }
        }
        if !refused.is_empty() {
            bail!("{}", refused.join("; "));
        }
        Self::through(axis, optima)
    }

    /// The line through optima by least squares in logarithms, weighted by the inverse of their variances.
    ///
    /// Its errors are the larger of two. From the optima's errors alone, as if all lay on a line but for
    /// noise; and from how they scatter around the line, with Student's t. The first alone held the truth in
    /// 79% of simulated laws from four sizes that lie off the line by as much as their errors, in place of
    /// 95% (docs/LOG.md); the second alone is too narrow where four points happen to lie on a line.
    ///
    /// # Errors
    /// Fewer than three sizes.
    pub fn through(axis: LawAxis, optima: Vec<SizeOptimum>) -> Result<Self> {
        ensure!(
            optima.len() >= FEWEST_SIZES,
            "a law needs runs of {FEWEST_SIZES} sizes at least, better 4 or more; there {}: add sizes",
            if optima.len() == 1 { "is 1".to_owned() } else { format!("are {}", optima.len()) }
        );
        let points: Vec<[f64; 3]> = optima
            .iter()
            .map(|of| [(of.parameters as f64).ln(), of.ln.value, of.ln.standard_error.powi(-2)])
            .collect();
        ensure!(
            points.iter().all(|[_, _, weight]| weight.is_finite()),
            "an optimum without an error can't be weighed: the runs of a size don't vary at all"
        );
        let weight: f64 = points.iter().map(|[_, _, w]| w).sum();
        let mean = |of: fn(&[f64; 3]) -> f64| points.iter().map(|p| p[2] * of(p)).sum::<f64>() / weight;
        let (x, y) = (mean(|p| p[0]), mean(|p| p[1]));
        let spread: f64 = points.iter().map(|p| p[2] * (p[0] - x).powi(2)).sum();
        let a = points.iter().map(|p| p[2] * (p[0] - x) * (p[1] - y)).sum::<f64>() / spread;
        let degrees = (points.len() - 2) as f64;
        let chi: f64 = points.iter().map(|p| p[2] * (p[1] - y - a * (p[0] - x)).powi(2)).sum();
        let scatter = chi / degrees;
        let of_optima: f64 = optima.iter().map(|of| of.ln.degrees_of_freedom).sum();
        let with_error = |value: f64, variance: f64| {
            let propagated = Estimate::new(value, variance.sqrt(), of_optima);
            let scattered = Estimate::new(value, (variance * scatter).sqrt(), degrees);
            if scattered.half_width() > propagated.half_width() { scattered } else { propagated }
        };
        Ok(Self {
            axis,
            a: with_error(a, 1.0 / spread),
            b: with_error(y - a * x, 1.0 / weight + x * x / spread),
            centre: with_error(y, 1.0 / weight),
            centre_parameters: x.exp(),
            scatter,
            optima,
        })
    }

    /// The law and its intervals in a sentence, beside the paper's exponent.
    pub fn sentence(&self) -> String {
        let Self { a, b, .. } = self;
        let [low, high] = a.ci95();
        let of_paper = self.axis.paper()[0];
        let what = if self.axis == LawAxis::LearningRate { "η" } else { "c" };
        let place = if (low..=high).contains(&of_paper) { "inside" } else { "outside" };
        let sign = if b.value < 0.0 { '-' } else { '+' };
        let text = format!(
            "ln {what} = {:.4} ln N {sign} {:.4}: the exponent is {:.3} ± {:.3}; the paper's {of_paper} lies \
             {place} of [{low:.3}, {high:.3}]",
            a.value,
            b.value.abs(),
            a.value,
            a.half_width()
        );
        // The sign that is no hyphen.
        text.replace('-', "−")
    }

    /// The setting that it says for `parameters` = N, the decoder's parameters without embedding and head.
    pub fn at(&self, parameters: f64) -> f64 {
        (self.a.value * parameters.ln() + self.b.value).exp()
    }
}
