//! Next-token prediction on text; image positions are inputs only (paper, section 3.1).

use anyhow::Result;
use burn::tensor::Tensor;
use mm1_data::batch::Batch;
use mm1_model::{Input, Layout, Mm1, Sight, Span};

use crate::step::MicroBatch;

impl MicroBatch<Mm1> for Batch {
    /// The SUM of weight times negative log-likelihood of the targets, as `[1]`.
    fn loss(&self, model: &Mm1) -> Result<Tensor<1>> {
        let spans = self.spans.iter().map(|s| Span { row: s.row, start: s.start, len: s.len }).collect();
        let input = Input {
            rows: self.rows,
            length: self.length,
            ids: &self.ids,
            layout: &Layout { spans, sight: Sight::Causal },
            pixels: &self.pixels,
            image_slots: &self.image_slots,
        };
        model.loss(&input, &self.targets, &self.weights)
    }

    fn weight(&self) -> f64 {
        self.weight()
    }
}
