//! [`SizeOptimum`]: the best setting of one model size, with its error.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use serde::Serialize;
use statrs::distribution::{ContinuousCDF as _, FisherSnedecor};

use super::observation::{LawAxis, LawObservation, LawTarget};
use crate::estimate::Estimate;
use crate::number::count;

/// Settings that a parabola needs.
const FEWEST: usize = 3;

/// The turning point of a parabola in the setting's logarithm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SizeOptimum {
    /// N: the decoder's parameters without embedding and head.
    pub parameters: u64,
    /// The best setting.
    pub best: f64,
    /// Its logarithm, with the error.
    pub ln: Estimate,
    /// Runs that it was found from.
    pub runs: usize,
    /// Runs that diverged, which are left out.
    pub diverged: usize,
    /// The p of "the curve is a parabola": below 0.01 the settings lie too far apart for one. `None` where
    /// there are no repeats to tell by.
    pub parabola_p: Option<f64>,
}

/// Runs of one size: the logarithm of the setting, the seed, and the result, the lower the better.
struct SizeCurve {
    parameters: u64,
    axis: LawAxis,
    points: Vec<CurvePoint>,
    /// Settings at which all runs diverged.
    diverged: Vec<f64>,
}

#[derive(Clone, Copy)]
struct CurvePoint {
    x: f64,
    seed: u64,
    y: f64,
}

impl SizeOptimum {
    /// Fits a parabola in the logarithm to the runs of one size, by least squares, with a level for each
    /// seed: its data and initial weights are the same at every setting, and what they do to all is no noise.
    /// The error is that of a ratio by the delta method.
    ///
    /// # Errors
    /// One line that names the size and what to add: an optimum at the edge of the settings, a curve
    /// that is flat within its noise, too few settings, or runs that differ in more than one setting.
    pub fn find(axis: LawAxis, target: LawTarget, runs: &[LawObservation]) -> Result<Self> {
        let curve = SizeCurve::new(axis, target, runs)?;
        curve.check_edges()?;
        let fit = curve.parabola();
        ensure!(fit.degrees > 0.0, "{}: {} runs don't tell an error: add seeds", curve.shown(), fit.runs);
        curve.check_turns(&fit)?;
        let (linear, square) = (fit.linear, fit.square);
        let [slope, bend] = [-0.5 / square, 0.5 * linear / square.powi(2)];
        let [var_linear, both, var_square] = fit.covariance;
        let variance = slope * slope * var_linear + 2.0 * slope * bend * both + bend * bend * var_square;
        let ln = Estimate::new(fit.middle - 0.5 * linear / square, variance.sqrt(), fit.degrees);
        let used = curve.points.len();
        Ok(Self {
            parameters: curve.parameters,
            best: ln.value.exp(),
            ln,
            runs: used,
            diverged: runs.len() - used,
            parabola_p: curve.parabola_p(&fit),
        })
    }
}

/// `y = level of the seed + linear (x - middle) + square (x - middle)²`.
struct Parabola {
    middle: f64,
    linear: f64,
    square: f64,
    /// Of `linear`, of both, of `square`.
    covariance: [f64; 3],
    /// Sum of squares that is left.
    left: f64,
    degrees: f64,
    runs: usize,
}

impl SizeCurve {
    fn new(axis: LawAxis, target: LawTarget, runs: &[LawObservation]) -> Result<Self> {
        let parameters = runs.first().map_or(0, |run| run.parameters);
        let sign = if target == LawTarget::Loss { 1.0 } else { -1.0 };
        let (mut points, mut all) = (Vec::new(), BTreeSet::new());
        let mut seen = BTreeSet::new();
        for run in runs {
            let x = axis.of(run).ln();
            all.insert(axis.of(run).to_bits());
            let result = run.result.filter(|result| result.is_finite());
            points.extend(result.map(|y| CurvePoint { x, seed: run.seed, y: sign * y }));
            seen.insert((axis.of(run).to_bits(), run.seed));
        }
        let curve = Self { parameters, axis, points, diverged: Vec::new() };
        let shown = curve.shown();
        ensure!(
            seen.len() == runs.len(),
            "{shown}: two runs have the same {} and seed: give a study whose runs of one size differ in \
             these alone",
            axis.name()
        );
        let other = axis.other();
        let others: BTreeSet<u64> = runs.iter().map(|run| other.of(run).to_bits()).collect();
        ensure!(
            others.len() < 2,
            "{shown}: its runs differ in {} too: fit those of one value at a time",
            other.name()
        );
        ensure!(!all.contains(&0.0_f64.to_bits()), "{shown}: a {} of 0 has no logarithm", axis.name());
        let finite: BTreeSet<u64> = curve.points.iter().map(|point| point.x.to_bits()).collect();
        let diverged = all.into_iter().map(|bits| f64::from_bits(bits).ln());
        let diverged = diverged.filter(|x| !finite.contains(&x.to_bits())).collect();
        Ok(Self { diverged, ..curve })
    }

    /// Refuses an optimum that the settings don't enclose.
    fn check_edges(&self) -> Result<()> {
        let means = self.means();
        let (shown, axis) = (self.shown(), self.axis.name());
        ensure!(
            means.len() >= FEWEST,
            "{shown}: {} values of the {axis} have a result and {FEWEST} are needed: add some",
            means.len()
        );
        let best = (0..means.len()).min_by(|&a, &b| means[a].1.total_cmp(&means[b].1)).unwrap_or(0);
        self.refuse_edge(best == 0, best + 1 == means.len())
    }

    fn check_turns(&self, fit: &Parabola) -> Result<()> {
        let means = self.means();
        let square = Estimate::new(fit.square, fit.covariance[2].sqrt(), fit.degrees);
        let (low, high) = (means[0].0, means[means.len() - 1].0);
        ensure!(
            square.ci95()[0] > 0.0,
            "{}: between {:.3e} and {:.3e} the results are flat within their noise: add seeds, or \
             values further out such as {:.1e} and {:.1e}",
            self.shown(),
            low.exp(),
            high.exp(),
            self.below(),
            self.above()
        );
        let turn = fit.middle - 0.5 * fit.linear / fit.square;
        self.refuse_edge(turn < low, turn > high)
    }

    fn refuse_edge(&self, at_lower: bool, at_upper: bool) -> Result<()> {
        let (shown, axis) = (self.shown(), self.axis.name());
        let refusal = |edge: &str, add: f64| {
            format!("{shown}: the best {axis} is at the {edge} edge of those tried: add {add:.1e}")
        };
        ensure!(!at_lower, "{}", refusal("lower", self.below()));
        ensure!(!at_upper, "{}", refusal("upper", self.above()));
        Ok(())
    }

    /// Each setting with the mean of its runs that did not diverge, in ascending order.
    fn means(&self) -> Vec<(f64, f64)> {
        let mut points = self.points.clone();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        let of_setting = |of: &[CurvePoint]| (of[0].x, of.iter().map(|p| p.y).sum::<f64>() / of.len() as f64);
        points.chunk_by(|a, b| a.x == b.x).map(of_setting).collect()
    }

    /// The next setting below, as far as the lowest two are apart.
    fn below(&self) -> f64 {
        let means = self.means();
        (2.0 * means[0].0 - means[1].0).exp()
    }

    /// The next setting above: halfway to one that diverged, where there is one.
    fn above(&self) -> f64 {
        let means = self.means();
        let [.., before, last] = means.as_slice() else { return f64::NAN };
        let next = self.diverged.iter().copied().filter(|&x| x > last.0).min_by(f64::total_cmp);
        next.map_or(2.0 * last.0 - before.0, |diverged| f64::midpoint(last.0, diverged)).exp()
    }

    fn parabola(&self) -> Parabola {
        let middle = self.points.iter().map(|p| p.x).sum::<f64>() / self.points.len() as f64;
        let mut levels: BTreeMap<u64, (f64, [f64; 3])> = BTreeMap::new();
        let row = |p: &CurvePoint| [p.x - middle, (p.x - middle).powi(2), p.y];
        for point in &self.points {
            let (n, sums) = levels.entry(point.seed).or_default();
            *n += 1.0;
            sums.iter_mut().zip(row(point)).for_each(|(sum, value)| *sum += value);
        }
        // Less its seed's mean: the same as a column of the regression for each seed.
        let rows: Vec<[f64; 3]> = self
            .points
            .iter()
            .map(|point| {
                let (n, sums) = levels[&point.seed];
                let row = row(point);
                std::array::from_fn(|i| row[i] - sums[i] / n)
            })
            .collect();
        let sum = |a: usize, b: usize| rows.iter().map(|row| row[a] * row[b]).sum::<f64>();
        let (xx, xs, ss) = (sum(0, 0), sum(0, 1), sum(1, 1));
        let determinant = xx * ss - xs * xs;
        let linear = (ss * sum(0, 2) - xs * sum(1, 2)) / determinant;
        let square = (xx * sum(1, 2) - xs * sum(0, 2)) / determinant;
        let left: f64 = rows.iter().map(|row| (row[2] - linear * row[0] - square * row[1]).powi(2)).sum();
        let degrees = self.points.len() as f64 - levels.len() as f64 - 2.0;
        let noise = left / degrees;
        let covariance = [ss, -xs, xx].map(|of| of * noise / determinant);
        Parabola { middle, linear, square, covariance, left, degrees, runs: self.points.len() }
    }

    /// The test of lack of fit: what the parabola leaves beside what settings with a level each leave.
    fn parabola_p(&self, fit: &Parabola) -> Option<f64> {
        let means = self.means();
        let seeds: BTreeSet<u64> = self.points.iter().map(|p| p.seed).collect();
        let (settings, repeats) = (means.len() as f64, seeds.len() as f64);
        let lack = settings - FEWEST as f64;
        let pure = (settings - 1.0) * (repeats - 1.0);
        if lack < 1.0 || pure < 1.0 || self.points.len() != means.len() * seeds.len() {
            return None;
        }
        let grand = means.iter().map(|(_, mean)| mean).sum::<f64>() / settings;
        let of_seed = |seed: u64| {
            self.points.iter().filter(|p| p.seed == seed).map(|p| p.y).sum::<f64>() / settings - grand
        };
        let of_setting = |x: f64| means.iter().find(|(at, _)| *at == x).map_or(f64::NAN, |(_, mean)| *mean);
        let noise: f64 =
            self.points.iter().map(|p| (p.y - of_seed(p.seed) - of_setting(p.x)).powi(2)).sum::<f64>() / pure;
        let f = (fit.left - noise * pure) / lack / noise;
        Some(FisherSnedecor::new(lack, pure).ok()?.sf(f.max(0.0)))
    }

    fn shown(&self) -> String {
        format!("size {}", count(self.parameters as f64))
    }
}
