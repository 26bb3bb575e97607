//! Self-distillation (Caron et al. 2021), and the alarm where it dies.

use anyhow::{Result, ensure};
use burn::tensor::Tensor;
use mm1_data::batch::Batch;
use mm1_model::Compute;
use mm1_model::dino::{Centring, Dino, Masks, Targets, Taught, ViewBatch, moved_centre};

use super::encoder::{crops, pictures, pixels};
use crate::parameters;
use crate::step::{Figures, Objective, Step, StepResult};

/// Steps in which a teacher may still be without form.
const BEGINNING: u64 = 20;
/// Share of the largest entropy under which all views have the same class, and its distance from 1 above
/// which a view has all classes alike.
const DEAD: f64 = 0.01;
/// The rank under which all features lie on a line.
const LEAST_RANK: f64 = 1.05;

impl Objective for Dino {
    type Batch = Batch;

    const OF_WHOLE_STEP: bool = true;

    fn weight(batch: &Batch) -> f64 {
        batch.images() as f64
    }

    fn backward(&self, compute: &Compute, step: &Step<'_, Batch>) -> Result<StepResult> {
        let device = self.centre.val().device();
        let taught = step.batches.iter().map(|batch| {
            pictures(batch)?;
            Ok(self.teach(compute, pixels(batch, &device)))
        });
        let taught = taught.collect::<Result<Vec<_>>>()?;
        // The teacher's classes are balanced over the whole step.
        let logits = Tensor::cat(taught.iter().map(|t| t.logits.clone()).collect(), 0);
        let targets = self.targets(logits.clone(), self.centre.val(), step.number);
        let masks = masks(self, step, &taught);
        let mut found = StepResult { figures: figures(&targets, &taught), ..StepResult::default() };
        alarm(&found.figures, step.number)?;
        let patch_logits = patch_logits(compute, self, &taught, &masks);
        let patch_targets =
            patch_logits.clone().map(|l| self.targets(l, self.patch_centre.val(), step.number));
        let (mut row, mut patch) = (0, 0);
        for (batch, masks) in step.batches.iter().zip(&masks) {
            let (large, small) = (pixels(batch, &device), crops(batch, &device));
            let rows = large.dims()[0];
            let part = |targets: &Tensor<2>, from: usize, len: usize| targets.clone().narrow(0, from, len);
            let count = masks.indices.len();
            let patches = patch_targets.as_ref().filter(|_| count > 0).map(|t| part(t, patch, count));
            let views = ViewBatch { pictures: batch.images(), large, small };
            let targets = Targets { views: part(&targets, row, rows), patches };
            let loss = self.loss(compute, views, targets, masks) / step.weight;
            found.add_loss(&loss, batch.samples())?;
            found.add_gradients(compute, self, &loss);
            (row, patch) = (row + rows, patch + count);
        }
        if self.config().centring == Centring::Centre {
            let mut keep = |name: &str, centre: Tensor<1>, logits| {
                found.buffers.insert(name.to_owned(), moved_centre(centre.inner(), logits));
            };
            keep("centre", self.centre.val(), logits.inner());
            if let Some(logits) = patch_logits {
                keep("patch_centre", self.patch_centre.val(), logits.inner());
            }
        }
        Ok(found)
    }

    fn trains(&self, path: &str) -> bool {
        path.starts_with("student.")
    }

    /// The teacher goes a little towards the student.
    fn follow(self, step: u64) -> Self {
        let momentum = self.momentum(step);
        let student = parameters::collect(&self.student);
        parameters::map(self, |path, _, values| match student.get(path) {
            Some(new) => values * momentum + new.values.clone() * (1.0 - momentum),
            None => values,
        })
    }
}

/// The masks of each micro-batch.
fn masks(model: &Dino, step: &Step<'_, Batch>, taught: &[Taught]) -> Vec<Masks> {
    let mut first = 0;
    let of_batch = |(batch, taught): (&&Batch, &Taught)| {
        let pictures = batch.images();
        let masks = model.masks(step.number, first, (pictures, taught.logits.dims()[0] / pictures));
        first += pictures;
        masks
    };
    step.batches.iter().zip(taught).map(of_batch).collect()
}

/// The teacher's logits of all masked patches, if there are any: `[m, K]`.
fn patch_logits(compute: &Compute, model: &Dino, taught: &[Taught], masks: &[Masks]) -> Option<Tensor<2>> {
    let hidden = taught.iter().zip(masks).filter(|(_, masks)| !masks.indices.is_empty());
    let logits: Vec<_> = hidden.map(|(taught, masks)| model.teach_patches(compute, taught, masks)).collect();
    (!logits.is_empty()).then(|| Tensor::cat(logits, 0))
}

/// How alive the teacher is, from its classes `[m, K]` and features `[m, d]` of all large views:
/// `view_entropy`, of one view's classes, and `class_entropy`, of their mean, both as shares of the largest,
/// ln K; and `rank`, the number of directions in which the features spread: the participation ratio of their
/// covariance's eigenvalues, `(sum l)^2 / sum l^2`.
fn figures(targets: &Tensor<2>, taught: &[Taught]) -> Figures {
    let [rows, prototypes] = targets.dims();
    let entropy = |p: Tensor<2>| {
        let sum: f32 = (p.clone() * p.clamp_min(1e-12).log()).sum().into_scalar();
        -f64::from(sum) / (prototypes as f64).ln()
    };
    let features = Tensor::cat(taught.iter().map(|t| t.features.clone()).collect(), 0).inner();
    let centred = features.clone() - features.mean_dim(0);
    let scalar = |x: Tensor<1>| f64::from(x.into_scalar::<f32>());
    // The Gram matrix has the eigenvalues of the covariance.
    let total = scalar(centred.clone().square().sum());
    let squares = scalar(centred.clone().matmul(centred.transpose()).square().sum());
    let targets = targets.clone().inner();
    Figures::from([
        ("view_entropy", entropy(targets.clone()) / rows as f64),
        ("class_entropy", entropy(targets.mean_dim(0))),
        ("rank", if squares > 0.0 { total * total / squares } else { 0.0 }),
    ])
}

/// Stops a training that can't come back: what the teacher says no longer depends on the picture.
fn alarm(figures: &Figures, step: u64) -> Result<()> {
    let (view, class, rank) = (figures["view_entropy"], figures["class_entropy"], figures["rank"]);
    let state = format!("view_entropy {view:.3}, class_entropy {class:.3}, rank {rank:.2}");
    let remedy = "use centring = \"sinkhorn\", a lower learning rate or a lower teacher_temperature";
    ensure!(
        step < BEGINNING || (view < 1.0 - DEAD && class > DEAD && rank > LEAST_RANK),
        "the teacher has collapsed, all pictures look alike to it ({state}): {remedy}"
    );
    Ok(())
}
