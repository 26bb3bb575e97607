//! Self-distillation (Caron et al. 2021), and the alarm where it dies.

use anyhow::{Context as _, Result, bail, ensure};
use burn::tensor::Tensor;
use mm1_data::batch::Batch;
use mm1_model::Compute;
use mm1_model::dino::{Centring, Dino, Masks, Targets, ViewBatch, moved_centre};

use super::encoder::{crops, pictures, pixels};
use crate::micro_batch::{PlacedBatch, Step};
use crate::parameters;
use crate::report::Figures;
use crate::step::Objective;
use crate::step_result::StepResult;
use crate::whole_step::{CombinedStep, Rows, StepFeatures, WholeStep, two_passes};

/// Steps in which a teacher may still be without form.
const BEGINNING: u64 = 20;
/// Share of the largest entropy under which all views have the same class, and its distance from 1 above
/// which a view has all classes alike.
const DEAD: f64 = 0.01;
/// The rank under which all features lie on a line.
const LEAST_RANK: f64 = 1.05;

impl Objective for Dino {
    type Batch = Batch;

    fn weight(batch: &Batch) -> f64 {
        batch.images() as f64
    }

    fn backward(&self, compute: &Compute, step: &Step<'_, Batch>) -> Result<StepResult> {
        two_passes(compute, self, step)
    }

    fn whole_step(&self) -> Option<&dyn WholeStep<Batch>> {
        Some(self)
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

/// The features are the teacher's: its logits of all large views, its features of them and its logits of the
/// masked patches. What a micro-batch needs are its classes, balanced over the whole step, in the places of
/// the logits.
impl WholeStep<Batch> for Dino {
    fn features(&self, compute: &Compute, placed: &PlacedBatch<'_, Batch>) -> Result<Rows> {
        pictures(placed.batch)?;
        let taught = self.teach(compute, pixels(placed.batch, &self.centre.val().device()));
        let masks = masks(self, placed, taught.logits.dims()[0]);
        let patches = (!masks.indices.is_empty()).then(|| self.teach_patches(compute, &taught, &masks));
        Ok(vec![Some(taught.logits.inner()), Some(taught.features.inner()), patches.map(Tensor::inner)])
    }

    fn combine(&self, _: &Compute, all: StepFeatures<'_>) -> Result<CombinedStep> {
        let [Some(logits), Some(features), patch_logits] =
            <[_; 3]>::try_from(all.features).ok().context("the features of a teacher")?
        else {
            bail!("a step without pictures")
        };
        let targets = |logits: &Tensor<2>, centre: Tensor<1>| {
            self.targets(logits.clone().autodiff(), centre, all.number)
        };
        let views = targets(&logits, self.centre.val());
        let mut found = StepResult { figures: figures(&views, features), ..StepResult::default() };
        alarm(&found.figures, all.number)?;
        let patches = patch_logits.as_ref().map(|logits| targets(logits, self.patch_centre.val()));
        if self.config().centring == Centring::Centre {
            let mut keep = |name: &str, centre: Tensor<1>, logits| {
                found.buffers.insert(name.to_owned(), moved_centre(centre.inner(), logits));
            };
            keep("centre", self.centre.val(), logits);
            if let Some(logits) = patch_logits {
                keep("patch_centre", self.patch_centre.val(), logits);
            }
        }
        Ok(CombinedStep { found, needed: vec![Some(views), None, patches] })
    }

    fn backward_batch(
        &self,
        compute: &Compute,
        placed: &PlacedBatch<'_, Batch>,
        needed: Rows,
        found: &mut StepResult,
    ) -> Result<()> {
        let (batch, device) = (placed.batch, self.centre.val().device());
        let (large, small) = (pixels(batch, &device), crops(batch, &device));
        let masks = masks(self, placed, large.dims()[0]);
        let [Some(targets), _, patches] = <[_; 3]>::try_from(needed).ok().context("a teacher's classes")?
        else {
            bail!("views without classes")
        };
        let views = ViewBatch { pictures: batch.images(), large, small };
        let targets = Targets { views: targets, patches };
        let loss = self.loss(compute, views, targets, &masks) / placed.weight;
        found.add_loss(&loss, batch.samples())?;
        found.add_gradients(compute, self, &loss);
        Ok(())
    }
}

/// The masks of a micro-batch with so many large views.
fn masks(model: &Dino, placed: &PlacedBatch<'_, Batch>, views: usize) -> Masks {
    let pictures = placed.batch.images();
    model.masks(placed.number, placed.preceding.images, (pictures, views / pictures))
}

/// How alive the teacher is, from its classes `[m, K]` and features `[m, d]` of all large views:
/// `view_entropy`, of one view's classes, and `class_entropy`, of their mean, both as shares of the largest,
/// ln K; and `rank`, the number of directions in which the features spread: the participation ratio of their
/// covariance's eigenvalues, `(sum l)^2 / sum l^2`.
fn figures(targets: &Tensor<2>, features: Tensor<2>) -> Figures {
    let [rows, prototypes] = targets.dims();
    let entropy = |p: Tensor<2>| {
        let sum: f32 = (p.clone() * p.clamp_min(1e-12).log()).sum().into_scalar();
        -f64::from(sum) / (prototypes as f64).ln()
    };
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
