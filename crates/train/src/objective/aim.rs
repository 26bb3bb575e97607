//! Autoregressive training on pixels (El-Nouby et al. 2024).

use anyhow::Result;
use mm1_data::batch::Batch;
use mm1_model::Compute;
use mm1_model::aim::Aim;

use super::encoder::{pictures, pixels};
use crate::micro_batch::Step;
use crate::step::Objective;
use crate::step_result::StepResult;

impl Objective for Aim {
    type Batch = Batch;

    fn weight(batch: &Batch) -> f64 {
        batch.images() as f64
    }

    fn backward(&self, compute: &Compute, step: &Step<'_, Batch>) -> Result<StepResult> {
        let device = self.paint.val().device();
        let mut first = step.preceding.images;
        StepResult::of_sums(compute, self, step, |batch| {
            pictures(batch)?;
            let count = batch.images();
            let patches = self.vision.position.dims()[0];
            let prefixes: Vec<_> =
                (first..first + count).map(|picture| self.prefix(step.number, picture, patches)).collect();
            first += count;
            Ok(self.loss(compute, pixels(batch, &device), &prefixes))
        })
    }
}
