//! AdamW (Loshchilov and Hutter 2019, algorithm 2) in one pass over parameter, gradient and moments.

mod bytes;

use rayon::prelude::*;

pub use bytes::{BLOCK, ByteMoments};

use crate::cpu::tiered;

/// Values in a piece: fixed, so that no sum depends on the number of threads, or of ranks that have a part of
/// a parameter each.
pub const PIECE: usize = 16_384;

/// The numbers of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    /// Learning rate.
    pub lr: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Weight decay; a step shrinks the parameter by `lr * weight_decay` of itself, as PyTorch's AdamW does.
    pub weight_decay: f32,
    /// The step, from 1, for the correction of the moments' bias.
    pub time: u32,
    /// Multiplies the gradient: less than 1 where the gradient is clipped.
    pub grad_scale: f32,
}

/// The moments of one parameter, each as long as it; zeros before the first step.
#[derive(Debug)]
pub struct MomentsMut<'a> {
    /// Running mean of the gradient.
    pub first: &'a mut [f32],
    /// Running mean of its square.
    pub second: &'a mut [f32],
}

impl AdamWStep {
    /// What the step multiplies by.
    ///
    /// # Panics
    /// If [`Self::time`] is 0.
    pub fn factors(&self) -> StepFactors {
        assert!(self.time > 0, "steps count from 1");
        // In f64: near 1 a power of b2 in f32 would lose most of what the correction is made of.
        let correction = |beta: f32| (1.0 - f64::from(beta).powi(self.time.cast_signed())) as f32;
        StepFactors {
            rate: self.lr / correction(self.beta1),
            keep: 1.0 - self.lr * self.weight_decay,
            root: 1.0 / correction(self.beta2).sqrt(),
        }
    }

    /// Takes one step: `param` `[n]` and the moments change in place, by the gradient `grad` `[n]`.
    pub fn step(&self, param: &mut [f32], grad: &[f32], moments: MomentsMut<'_>) {
        let n = param.len();
        assert_eq!(grad.len(), n, "parameter and gradient differ in length");
        assert!(
            moments.first.len() == n && moments.second.len() == n,
            "parameter and moments differ in length"
        );
        let rule = StepRule::of(self);
        let pieces = (param.par_chunks_mut(PIECE), grad.par_chunks(PIECE));
        (pieces.0, pieces.1, moments.first.par_chunks_mut(PIECE), moments.second.par_chunks_mut(PIECE))
            .into_par_iter()
            .for_each(|(p, g, m, v)| step_piece(&rule, p, g, (m, v)));
    }
}

/// What a step multiplies by.
#[derive(Clone, Copy, Debug)]
pub struct StepFactors {
    /// The learning rate over the correction of the first moment.
    pub rate: f32,
    /// What weight decay leaves of a parameter.
    pub keep: f32,
    /// One over the root of the correction of the second moment.
    pub root: f32,
}

/// What a step does to each value.
struct StepRule {
    adam: AdamWStep,
    factors: StepFactors,
}

impl StepRule {
    fn of(adam: &AdamWStep) -> Self {
        Self { adam: *adam, factors: adam.factors() }
    }

    /// Moves `param`, and gives its moments after `[first, second]`, and the root of the second.
    #[inline(always)]
    fn apply(&self, param: &mut f32, grad: f32, [first, second]: [f32; 2]) -> [f32; 3] {
        let AdamWStep { beta1, beta2, eps, grad_scale, .. } = self.adam;
        let StepFactors { rate, keep, root: correction } = self.factors;
        let g = grad * grad_scale;
        let mean = beta1 * first + (1.0 - beta1) * g;
        let square = beta2 * second + (1.0 - beta2) * g * g;
        let root = square.sqrt();
        *param = keep * *param - rate * mean / (root * correction + eps);
        [mean, square, root]
    }
}

tiered! {
    fn step_piece(rule: &StepRule, param: &mut [f32], grad: &[f32], moments: (&mut [f32], &mut [f32])) {
        for (((p, &g), m), v) in param.iter_mut().zip(grad).zip(moments.0).zip(moments.1) {
            [*m, *v, _] = rule.apply(p, g, [*m, *v]);
        }
    }
}

/// Sum of the squares of `x` `[n]`, for the norm of a gradient: in f64, over pieces of a fixed size.
pub fn sum_of_squares(x: &[f32]) -> f64 {
    x.par_chunks(PIECE).map(sum_of_squares_piece).collect::<Vec<f64>>().iter().sum()
}

tiered! {
    fn sum_of_squares_piece(x: &[f32]) -> f64 {
        let mut lanes = [0.0; 16];
        let (chunks, rest) = x.as_chunks::<16>();
        for chunk in chunks {
            for (lane, &v) in lanes.iter_mut().zip(chunk) {
                *lane += f64::from(v) * f64::from(v);
            }
        }
        for (lane, &v) in lanes.iter_mut().zip(rest) {
            *lane += f64::from(v) * f64::from(v);
        }
        lanes.iter().sum()
    }
}
