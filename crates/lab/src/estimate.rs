//! [`Estimate`]: a number with its standard error, and what follows from both by Student's t.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF as _, StudentsT};

/// With so many degrees of freedom t's intervals are wider than the normal distribution's by a thousandth.
const MOST_DEGREES: f64 = 1000.0;

/// The share of intervals that hold the truth.
const LEVEL: f64 = 0.95;

/// A number that was estimated from noisy data.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// How well the standard error is known: the degrees of freedom of Student's t.
    pub degrees_of_freedom: f64,
}

impl Estimate {
    /// More than 1,000 `degrees_of_freedom`, infinity too, count as 1,000: no interval gets narrower by it.
    pub fn new(value: f64, standard_error: f64, degrees_of_freedom: f64) -> Self {
        Self { value, standard_error, degrees_of_freedom: degrees_of_freedom.min(MOST_DEGREES) }
    }

    /// Half of the 95% interval, which lies around the value.
    pub fn half_width(&self) -> f64 {
        match self.distribution() {
            Some(t) => t.inverse_cdf(f64::midpoint(1.0, LEVEL)) * self.standard_error,
            None => self.standard_error,
        }
    }

    /// The 95% interval.
    pub fn ci95(&self) -> [f64; 2] {
        let half = self.half_width();
        [self.value - half, self.value + half]
    }

    /// The two-sided p of "it is `other`".
    pub fn p_equal(&self, other: f64) -> f64 {
        let apart = (self.value - other).abs();
        match self.distribution() {
            Some(t) => 2.0 * t.sf(apart / self.standard_error),
            None if apart > 0.0 => 0.0,
            None => 1.0,
        }
    }

    /// The p of "it lies `margin` or more from 0": the larger of two one-sided tests (TOST, Schuirmann 1987).
    /// Below 0.025 the 95% interval lies within the margin.
    pub fn p_beyond(&self, margin: f64) -> f64 {
        let room = margin - self.value.abs();
        match self.distribution() {
            Some(t) => t.sf(room / self.standard_error),
            None if room > 0.0 => 0.0,
            None => 1.0,
        }
    }

    /// `None` where nothing varies.
    fn distribution(&self) -> Option<StudentsT> {
        (self.standard_error > 0.0).then(|| StudentsT::new(0.0, 1.0, self.degrees_of_freedom).ok())?
    }
}
