//! Contrast of pictures and captions, for the image encoder alone (Radford et al. 2021; MM1's encoders are CLIP's).

use anyhow::{Result, ensure};
use burn::tensor::{Tensor, TensorData};
use mm1_data::batch::Batch;
use mm1_model::clip::{Captions, Clip};

use crate::step::MicroBatch;

/// Each example is a pair: its picture and its learned tokens. The contrast is among the pairs of one batch.
impl MicroBatch<Clip> for Batch {
    /// The SUM over pairs of the symmetric cross-entropy, as `[1]`.
    ///
    /// # Errors
    /// If an example has not one picture and at least one learned token.
    fn loss(&self, model: &Clip) -> Result<Tensor<1>> {
        let (mut ids, mut lens) = (Vec::new(), Vec::new());
        for (span, sample) in self.spans.iter().zip(&self.samples) {
            let start = span.row * self.length + span.start;
            let range = start..start + span.len;
            let pictures = self.image_slots.iter().filter(|slot| range.contains(slot)).count();
            ensure!(pictures == 1, "{sample} has {pictures} pictures; contrast needs one with a caption");
            let before = ids.len();
            ids.extend(range.filter(|&i| self.weights[i] > 0.0).map(|i| self.targets[i]));
            ensure!(ids.len() > before, "{sample} has no caption that is learned; contrast needs one");
            lens.push(ids.len() - before);
        }
        let shape = [self.images(), self.image_size, self.image_size, 3];
        let pixels = TensorData::new(self.pixels.clone(), shape);
        let pixels = Tensor::from_data(pixels, &model.log_scale.val().device());
        Ok(model.loss(pixels, Captions { ids: &ids, lens: &lens }))
    }

    fn weight(&self) -> f64 {
        self.spans.len() as f64
    }

    fn tokens(&self) -> usize {
        self.tokens()
    }

    fn images(&self) -> usize {
        self.images()
    }

    fn samples(&self) -> &[String] {
        &self.samples
    }
}
