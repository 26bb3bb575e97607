//! Autoregressive training on pixels (El-Nouby et al. 2024).

use anyhow::Result;
use mm1_data::batch::Batch;
use mm1_model::aim::Aim;

use super::encoder::{pictures, pixels};
use crate::step::{Backward, Objective, Step};

impl Objective for Aim {
    type Batch = Batch;

    fn weight(batch: &Batch) -> f64 {
        batch.images() as f64
    }

    fn backward(&self, step: &Step<'_, Batch>) -> Result<Backward> {
        let device = self.paint.val().device();
        let mut first = 0;
        Backward::of_sums(self, step, |batch| {
            pictures(batch)?;
            let count = batch.images();
            let patches = self.vision.position.dims()[0];
            let prefixes: Vec<_> =
                (first..first + count).map(|picture| self.prefix(step.number, picture, patches)).collect();
            first += count;
            Ok(self.loss(pixels(batch, &device), &prefixes))
        })
    }
}
