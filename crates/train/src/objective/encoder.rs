//! Objectives of the image encoder, and of the connector behind it, from pictures with captions.

use anyhow::{Context as _, Result, bail, ensure};
use burn::tensor::{Device, Tensor, TensorData};
use mm1_data::batch::{Batch, BatchExample};
use mm1_model::Compute;
use mm1_model::alignment::Alignment;
use mm1_model::clip::{Clip, PackedCaptions};
use mm1_model::superclass::SuperClass;

use crate::micro_batch::{PlacedBatch, Step};
use crate::report::Figures;
use crate::step::Objective;
use crate::step_result::{Loss, StepResult};
use crate::whole_step::{CombinedStep, Rows, StepFeatures, WholeStep, two_passes};

/// Contrast (Radford et al. 2021; MM1's encoders are CLIP's), among all pairs of a step.
impl Objective for Clip {
    type Batch = Batch;

    fn weight(batch: &Batch) -> f64 {
        batch.examples.len() as f64
    }

    /// Pairs in several micro-batches are contrasted as one batch.
    fn backward(&self, compute: &Compute, step: &Step<'_, Batch>) -> Result<StepResult> {
        let [batch] = step.batches else { return two_passes(compute, self, step) };
        let (pictures, texts) = embed(compute, self, batch)?;
        let loss = self.contrast(pictures, texts) / step.weight;
        let mut found = StepResult { figures: figures(self), ..StepResult::default() };
        found.add_loss(&loss, batch.samples())?;
        found.add_gradients(compute, self, &loss);
        Ok(found)
    }

    fn whole_step(&self) -> Option<&dyn WholeStep<Batch>> {
        Some(self)
    }

    fn follow(self, _: u64) -> Self {
        self.clamped()
    }
}

/// The features are the vectors of pictures and captions, one after the other `[n, 2 e]`; what a micro-batch
/// needs are the loss's gradients by them.
impl WholeStep<Batch> for Clip {
    fn features(&self, compute: &Compute, placed: &PlacedBatch<'_, Batch>) -> Result<Rows> {
        Ok(vec![Some(features(compute, self, placed.batch)?.inner())])
    }

    fn combine(&self, compute: &Compute, all: StepFeatures<'_>) -> Result<CombinedStep> {
        let features = all.features.into_iter().flatten().next().context("a step without pairs")?;
        let features = features.autodiff().require_grad();
        let [_, width] = features.dims();
        let [pictures, texts] = [0, width / 2].map(|first| features.clone().narrow(1, first, width / 2));
        let loss = self.contrast(pictures, texts) / all.weight;
        let mut found = StepResult { figures: figures(self), ..StepResult::default() };
        found.add_loss(&loss, all.samples)?;
        let grads = found.add_gradients(compute, self, &loss);
        let gradient = features.grad(&grads).context("features without a gradient")?;
        Ok(CombinedStep { found, needed: vec![Some(gradient)] })
    }

    fn backward_batch(
        &self,
        compute: &Compute,
        placed: &PlacedBatch<'_, Batch>,
        needed: Rows,
        found: &mut StepResult,
    ) -> Result<()> {
        let features = features(compute, self, placed.batch)?;
        let gradient = needed.into_iter().flatten().next().context("features without a gradient")?;
        let value = (features * gradient.autodiff()).sum();
        found.add_gradients(compute, self, &value);
        Ok(())
    }
}

fn figures(model: &Clip) -> Figures {
    Figures::from([("scale", f64::from(model.log_scale.val().into_scalar::<f32>()).exp())])
}

/// The vectors of the pictures and of their captions, one after the other `[n, 2 e]`.
fn features(compute: &Compute, model: &Clip, batch: &Batch) -> Result<Tensor<2>> {
    let (pictures, texts) = embed(compute, model, batch)?;
    Ok(Tensor::cat(vec![pictures, texts], 1))
}

/// Unit vectors of the pictures and the captions of a micro-batch.
fn embed(compute: &Compute, model: &Clip, batch: &Batch) -> Result<(Tensor<2>, Tensor<2>)> {
    let captions = BatchCaptions::of(batch)?;
    let pictures = model.embed_pictures(compute, pixels(batch, &model.log_scale.val().device()));
    Ok((pictures, model.embed_captions(compute, captions.packed())))
}

/// Classification (Huang et al. 2024).
impl Objective for SuperClass {
    type Batch = Batch;

    fn weight(batch: &Batch) -> f64 {
        batch.examples.len() as f64
    }

    fn backward(&self, compute: &Compute, step: &Step<'_, Batch>) -> Result<StepResult> {
        StepResult::of_sums(compute, self, step, |batch| {
            let captions = BatchCaptions::of(batch)?;
            Ok(self.loss(compute, pixels(batch, &self.head.val().device()), captions.packed()))
        })
    }
}

/// Alignment of image tokens with token embeddings.
impl Objective for Alignment {
    type Batch = Batch;

    fn weight(batch: &Batch) -> f64 {
        batch.examples.len() as f64
    }

    fn backward(&self, compute: &Compute, step: &Step<'_, Batch>) -> Result<StepResult> {
        StepResult::of_sums(compute, self, step, |batch| {
            let captions = BatchCaptions::of(batch)?;
            let pixels = pixels(batch, &self.lm.embedding.lazy_device());
            let parts = self.loss(compute, pixels, captions.packed());
            Ok(Loss { main: parts.words, auxiliary: vec![("distance", parts.distance)] })
        })
    }
}

/// Refuses an example that has not one picture.
pub(super) fn pictures(batch: &Batch) -> Result<()> {
    for BatchExample { sample, slots, .. } in &batch.examples {
        let pictures = slots.len();
        ensure!(pictures == 1, "{sample} has {pictures} pictures; this objective needs one");
    }
    Ok(())
}

/// The captions of all examples one after another, and the number of tokens in each.
struct BatchCaptions {
    ids: Vec<u32>,
    lens: Vec<usize>,
}

impl BatchCaptions {
    /// Of examples with one picture each.
    fn of(batch: &Batch) -> Result<Self> {
        pictures(batch)?;
        let without = batch.examples.iter().find(|example| example.caption.is_empty());
        if let Some(BatchExample { sample, .. }) = without {
            bail!("{sample} has no caption that is learned; this objective needs one");
        }
        let ids = batch.examples.iter().flat_map(|example| &example.caption).copied().collect();
        Ok(Self { ids, lens: batch.examples.iter().map(|example| example.caption.len()).collect() })
    }

    fn packed(&self) -> PackedCaptions<'_> {
        PackedCaptions { ids: &self.ids, lens: &self.lens }
    }
}

/// The large views `[n g, s, s, 3]`.
pub(super) fn pixels(batch: &Batch, device: &Device) -> Tensor<4> {
    squares(&batch.pixels, batch.image_size, device)
}

/// The small views `[n l, c, c, 3]`, if there are any.
pub(super) fn crops(batch: &Batch, device: &Device) -> Option<Tensor<4>> {
    (!batch.crops.is_empty()).then(|| squares(&batch.crops, batch.crop_size, device))
}

fn squares(pixels: &[f32], side: usize, device: &Device) -> Tensor<4> {
    let shape = [pixels.len() / (side * side * 3), side, side, 3];
    Tensor::from_data(TensorData::new(pixels.to_vec(), shape), device)
}
