//! Next-token prediction on text; image positions are inputs only (paper, section 3.1).

use anyhow::Result;
use mm1_data::batch::{Batch, BatchExample};
use mm1_model::{Compute, Input, Layout, Mm1, Sight, Span, adapted};

use crate::micro_batch::Step;
use crate::step::Objective;
use crate::step_result::StepResult;

impl Objective for Mm1 {
    type Batch = Batch;

    fn weight(batch: &Batch) -> f64 {
        batch.weight()
    }

    fn backward(&self, compute: &Compute, step: &Step<'_, Batch>) -> Result<StepResult> {
        let mut parts = step.preceding.batches..;
        StepResult::of_sums(compute, self, step, |batch| {
            // Dropout draws anew in each micro-batch, the same after a resume.
            let compute = compute.in_micro_batch(step.number, parts.next().unwrap_or_default());
            let spans = batch.examples.iter().map(span).collect();
            let input = Input {
                rows: batch.rows,
                length: batch.length,
                ids: &batch.ids,
                layout: &Layout { spans, sight: Sight::Causal },
                pixels: &batch.pixels,
                image_slots: &batch.image_slots,
            };
            self.loss(&compute, &input, &batch.targets, &batch.weights)
        })
    }

    fn trains(&self, path: &str) -> bool {
        adapted::trains(self, path)
    }
}

/// The positions of an example, which attention does not leave.
fn span(&BatchExample { row, start, len, .. }: &BatchExample) -> Span {
    Span { row, start, len }
}
