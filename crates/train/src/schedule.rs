//! [`Schedule`]: the learning rate as a pure function of the step.

use std::f64::consts::PI;

/// Linear warm-up to the peak, then a cosine down to [`Schedule::FLOOR`] of it (paper, section 3.3).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The highest learning rate, reached by the last step of the warm-up.
    pub peak: f64,
    /// Steps of the warm-up; 0 for none.
    pub warmup_steps: u64,
    /// Steps in all, warm-up included.
    pub steps: u64,
}

impl Schedule {
    /// What the last step has of the peak.
    pub const FLOOR: f64 = 0.1;

    /// The learning rate of `step`, counted from 0. No step has a rate of 0: the first one has
    /// `peak / warmup_steps`, the last one, and any step after it, `FLOOR * peak`.
    pub fn lr(&self, step: u64) -> f64 {
        let done = (step + 1).min(self.steps.max(1));
        if done <= self.warmup_steps {
            return self.peak * done as f64 / self.warmup_steps as f64;
        }
        let progress = (done - self.warmup_steps) as f64 / (self.steps.max(1) - self.warmup_steps) as f64;
        self.peak * (Self::FLOOR + (1.0 - Self::FLOOR) * 0.5 * (1.0 + (PI * progress).cos()))
    }
}
