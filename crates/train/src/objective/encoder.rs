//! Objectives of the image encoder alone, from pictures with captions.

use anyhow::{Result, ensure};
use burn::tensor::{Device, Tensor, TensorData};
use mm1_data::batch::Batch;
use mm1_model::clip::{Captions, Clip};
use mm1_model::superclass::SuperClass;

use crate::step::MicroBatch;

/// Contrast (Radford et al. 2021; MM1's encoders are CLIP's), among the pairs of one batch.
impl MicroBatch<Clip> for Batch {
    /// The SUM over pairs of the symmetric cross-entropy, as `[1]`.
    ///
    /// # Errors
    /// If an example has not one picture and at least one learned token.
    fn loss(&self, model: &Clip) -> Result<Tensor<1>> {
        let (ids, lens) = captions(self)?;
        Ok(model.loss(pixels(self, &model.log_scale.val().device()), Captions { ids: &ids, lens: &lens }))
    }

    fn weight(&self) -> f64 {
        self.spans.len() as f64
    }
}

/// Classification (Huang et al. 2024).
impl MicroBatch<SuperClass> for Batch {
    /// The SUM over pictures of the mean cross-entropy of their captions' tokens, as `[1]`.
    ///
    /// # Errors
    /// If an example has not one picture and at least one learned token.
    fn loss(&self, model: &SuperClass) -> Result<Tensor<1>> {
        let (ids, lens) = captions(self)?;
        Ok(model.loss(pixels(self, &model.head.val().device()), Captions { ids: &ids, lens: &lens }))
    }

    fn weight(&self) -> f64 {
        self.spans.len() as f64
    }
}

/// The learned tokens of all examples one after another, and their number in each.
fn captions(batch: &Batch) -> Result<(Vec<u32>, Vec<usize>)> {
    let (mut ids, mut lens) = (Vec::new(), Vec::new());
    for (span, sample) in batch.spans.iter().zip(&batch.samples) {
        let start = span.row * batch.length + span.start;
        let range = start..start + span.len;
        let pictures = batch.image_slots.iter().filter(|slot| range.contains(slot)).count();
        ensure!(pictures == 1, "{sample} has {pictures} pictures; an encoder needs one with a caption");
        let before = ids.len();
        ids.extend(range.filter(|&i| batch.weights[i] > 0.0).map(|i| batch.targets[i]));
        ensure!(ids.len() > before, "{sample} has no caption that is learned; an encoder needs one");
        lens.push(ids.len() - before);
    }
    Ok((ids, lens))
}

/// `[n, s, s, 3]`
fn pixels(batch: &Batch, device: &Device) -> Tensor<4> {
    let shape = [batch.images(), batch.image_size, batch.image_size, 3];
    Tensor::from_data(TensorData::new(batch.pixels.clone(), shape), device)
}
