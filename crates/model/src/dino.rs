//! Self-distillation of the image encoder: DINO (Caron et al. 2021, "Emerging properties in self-supervised
//! vision transformers"), with the patch loss of iBOT (Zhou et al. 2022) and KoLeo (Sablayrolles et al. 2019)
//! as DINOv2 (Oquab et al. 2023) has them.
//!
//! `g` large and `l` small views are cut from each of `n` pictures. Both branches see the large ones, only
//! the student the small ones, and learns to say of each view what the teacher says of another. The teacher's
//! weights follow the student's.

mod config;
mod head;

use burn::module::{Module, Param};
use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Tensor, TensorData};
use rand::seq::index::sample;
use rand::{Rng as _, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub use self::config::{Centring, DinoConfig};
pub use self::head::DinoHead;
use crate::compute::Compute;
use crate::init::{Init, Initializer, STD};
use crate::ops::{self, Layout, Sight};
use crate::vision::Vision;

/// Share of the centre that stays in a step.
const CENTRE_MOMENTUM: f64 = 0.9;
/// Rounds of Sinkhorn and Knopp.
const ROUNDS: usize = 3;

/// Teacher and student.
#[derive(Module, Debug)]
pub struct Dino {
    /// The teacher's encoder, which later stages use.
    pub vision: Vision,
    /// The teacher's head.
    pub head: DinoHead,
    /// The running mean of the teacher's logits `[K]`.
    pub centre: Param<Tensor<1>>,
    /// The same of its patches.
    pub patch_centre: Param<Tensor<1>>,
    /// What the optimizer trains.
    pub student: Student,
    #[module(skip)]
    config: DinoConfig,
    /// The masks' random numbers follow from it and the step.
    #[module(skip)]
    seed: u64,
    /// Length of the training, over which the momentum rises to 1.
    #[module(skip)]
    steps: u64,
}

/// The student.
#[derive(Module, Debug)]
pub struct Student {
    /// As the teacher's.
    pub vision: Vision,
    /// As the teacher's.
    pub head: DinoHead,
    /// In the place of a masked patch's embedding `[1, d]`.
    pub mask: Param<Tensor<2>>,
}

/// The views of n pictures, picture after picture.
#[derive(Clone, Debug)]
pub struct ViewBatch {
    /// Number of pictures.
    pub pictures: usize,
    /// `[n g, s, s, 3]`
    pub large: Tensor<4>,
    /// `[n l, c, c, 3]`, if there are any.
    pub small: Option<Tensor<4>>,
}

/// What the teacher says of large views.
#[derive(Clone, Debug)]
pub struct Taught {
    /// `[n g, K]`
    pub logits: Tensor<2>,
    /// Of their patches `[n g, p, d]`, before the head.
    pub patches: Tensor<3>,
    /// The features under the head `[n g, d]`.
    pub features: Tensor<2>,
}

/// The teacher's classes: what the student is to say.
#[derive(Clone, Debug)]
pub struct Targets {
    /// Of the large views `[n g, K]`.
    pub views: Tensor<2>,
    /// Of the masked patches `[m, K]`, if there are any.
    pub patches: Option<Tensor<2>>,
}

/// The patches of large views that the student does not see: flat indices `view * p + patch`, and the weight
/// of each in the loss, one over their number in the view.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Masks {
    /// In rising order.
    pub indices: Vec<u32>,
    /// As many.
    pub weights: Vec<f32>,
}

impl Dino {
    /// Student and teacher begin as `vision`; `steps` is the length of the training, which the momentum's
    /// schedule spans.
    pub fn new(vision: Vision, config: &DinoConfig, steps: u64, seed: u64) -> Self {
        let device = vision.device();
        let init = Init::new(seed, &device);
        let width = vision.dim();
        // Cloned, not drawn again: both begin with the same values, and `weights::freeze` parts them.
        let head = DinoHead::new(&init.at("head"), width, config);
        Self {
            centre: init.param("centre", [config.prototypes], Initializer::Zeros),
            patch_centre: init.param("patch_centre", [config.prototypes], Initializer::Zeros),
            student: Student {
                vision: vision.clone(),
                head: head.clone(),
                mask: init.param("student.mask", [1, width], Initializer::Normal(STD)),
            },
            vision,
            head,
            config: config.clone(),
            seed,
            steps,
        }
    }

    /// Its settings.
    pub fn config(&self) -> &DinoConfig {
        &self.config
    }

    /// What the teacher says of large views `[n g, s, s, 3]`.
    pub fn teach(&self, compute: &Compute, large: Tensor<4>) -> Taught {
        let tokens = self.vision.tokens(compute, large);
        let features = self.vision.pooled(&tokens);
        Taught {
            logits: self.head.forward(compute, features.clone()),
            patches: self.vision.without_class(tokens),
            features,
        }
    }

    /// The teacher's classes `[m, K] -> [m, K]` in step `step`, with `centre` one of its own two.
    pub fn targets(&self, logits: Tensor<2>, centre: Tensor<1>, step: u64) -> Tensor<2> {
        let [from, to] = self.config.teacher_temperature;
        let done = (step as f64 / self.config.teacher_warmup_steps.max(1) as f64).min(1.0);
        let temperature = if self.config.teacher_warmup_steps == 0 { to } else { from + (to - from) * done };
        match self.config.centring {
            Centring::Centre => softmax((logits - centre.unsqueeze::<2>()) / temperature, 1),
            Centring::Sinkhorn => sinkhorn(logits / temperature),
        }
    }

    /// The SUM over the pictures of the student's loss, as `[1]`: the mean over all pairs of a view and
    /// another large one of the cross-entropy with `targets` (equation 2 of DINO), and with their weights
    /// iBOT's and KoLeo.
    pub fn loss(&self, compute: &Compute, views: ViewBatch, targets: Targets, masks: &Masks) -> Tensor<1> {
        let (n, temperature) = (views.pictures, self.config.student_temperature);
        let student = &self.student;
        let tokens = student.tokens(compute, views.large, masks);
        let features = student.vision.pooled(&tokens);
        let large = student.head.forward(compute, features.clone());
        let [rows, prototypes] = large.dims();
        let g = rows / n;
        let mut logits = large.reshape([n, g, prototypes]);
        if let Some(small) = views.small {
            let tokens = student.vision.tokens(compute, small);
            let small = student.head.forward(compute, student.vision.pooled(&tokens));
            let l = small.dims()[0] / n;
            logits = Tensor::cat(vec![logits, small.reshape([n, l, prototypes])], 1);
        }
        // Logarithms of the student's classes; the teacher's targets carry no gradient.
        let said = log_softmax(logits / temperature, 2);
        let mut loss = cross_entropy(targets.views.reshape([n, g, prototypes]), said);
        if let Some(targets) = targets.patches {
            let patches = select(compute, student.vision.without_class(tokens), &masks.indices);
            let said = log_softmax(student.head.forward(compute, patches) / temperature, 1);
            let each: Tensor<1> = (targets * said).sum_dim(1).squeeze_dim(1);
            let weights = Tensor::from_data(
                TensorData::new(masks.weights.clone(), [masks.weights.len()]),
                &each.device(),
            );
            // As DINOv2: the mean over large views, of which some have no mask.
            loss = loss - (each * weights).sum() * (self.config.ibot / g as f64);
        }
        if self.config.koleo > 0.0 {
            let views = (0..g).map(|view| koleo(&features, n, g, view));
            let spread = views.reduce(|a, b| a + b).unwrap_or_else(|| loss.zeros_like());
            loss = loss + spread * self.config.koleo;
        }
        loss
    }

    /// Masks for the large views of n pictures in step `step`, the first of which is the `first` of the step:
    /// every other view loses a share of its patches, drawn evenly from the setting's range.
    pub fn masks(&self, step: u64, first: usize, (pictures, large): (usize, usize)) -> Masks {
        let mut masks = Masks::default();
        if self.config.ibot == 0.0 {
            return masks;
        }
        let patches = self.vision.position.dims()[0];
        let [least, most] = self.config.masked;
        for view in 0..pictures * large {
            // A stream for each view of the step: how it is cut into micro-batches changes no mask.
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed ^ step);
            rng.set_stream((first * large + view) as u64);
            if rng.random_bool(0.5) {
                continue;
            }
            let count = (rng.random_range(least..=most) * patches as f64).round().max(1.0) as usize;
            let mut chosen = sample(&mut rng, patches, count.min(patches)).into_vec();
            chosen.sort_unstable();
            masks.weights.extend(chosen.iter().map(|_| 1.0 / count as f32));
            masks.indices.extend(chosen.into_iter().map(|patch| (view * patches + patch) as u32));
        }
        masks
    }

    /// Patches of the teacher under `masks` through its head: `[n g, p, d] -> [m, K]`.
    pub fn teach_patches(&self, compute: &Compute, taught: &Taught, masks: &Masks) -> Tensor<2> {
        self.head.forward(compute, select(compute, taught.patches.clone(), &masks.indices))
    }

    /// How much of the teacher stays in update number `step`.
    pub fn momentum(&self, step: u64) -> f64 {
        let done = step as f64 / self.steps.max(1) as f64;
        // A cosine up to 1: in the end the teacher stands still.
        1.0 - (1.0 - self.config.momentum) * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos()) / 2.0
    }
}

/// The running mean after a step whose logits are `logits` `[m, K]` (equation 4 of DINO).
pub fn moved_centre(centre: Tensor<1>, logits: Tensor<2>) -> Tensor<1> {
    centre * CENTRE_MOMENTUM + logits.mean_dim(0).squeeze_dim::<1>(0) * (1.0 - CENTRE_MOMENTUM)
}

impl Student {
    /// All tokens of large views, those of `masks` unseen.
    fn tokens(&self, compute: &Compute, large: Tensor<4>, masks: &Masks) -> Tensor<3> {
        if masks.indices.is_empty() {
            return self.vision.tokens(compute, large);
        }
        let grid = self.vision.grid(&large);
        let patches = self.vision.patches(compute, large);
        let [n, p, d] = patches.dims();
        let mut hidden = vec![0.0f32; n * p];
        masks.indices.iter().for_each(|&i| hidden[i as usize] = 1.0);
        let hidden = Tensor::<3>::from_data(TensorData::new(hidden, [n, p, 1]), &patches.device());
        let seen = hidden.clone() * -1.0 + 1.0;
        let patches = patches * seen + self.mask.val().unsqueeze::<3>().expand([n, p, d]) * hidden;
        let x = self.vision.place(compute, patches, grid);
        let layout = Layout::full(n, x.dims()[1], Sight::All);
        self.vision.encode(compute, x, &layout)
    }
}

/// Rows of `[n, p, d]` as `[m, d]`, by flat index.
fn select(compute: &Compute, x: Tensor<3>, indices: &[u32]) -> Tensor<2> {
    let [n, p, d] = x.dims();
    compute.ops().embedding(&x.reshape([n * p, d]), indices, 1, indices.len()).squeeze_dim(0)
}

/// The sum over pictures of the mean over pairs of a large view and another view: `[n, g, K]` and logarithms
/// `[n, g + l, K]`, large views first -> `[1]`.
fn cross_entropy(targets: Tensor<3>, said: Tensor<3>) -> Tensor<1> {
    let ([_, g, _], [_, views, _]) = (targets.dims(), said.dims());
    let own: Vec<f32> = (0..g * views).map(|i| f32::from(u8::from(i / views != i % views))).collect();
    let others = Tensor::<3>::from_data(TensorData::new(own, [1, g, views]), &said.device());
    let pairs = g * (views - 1);
    (targets.matmul(said.swap_dims(1, 2)) * others).sum() * (-1.0 / pairs as f64)
}

/// Classes of equal weight over the rows: `[m, K] -> [m, K]`, each row of sum 1.
fn sinkhorn(logits: Tensor<2>) -> Tensor<2> {
    let [rows, prototypes] = logits.dims();
    // One factor for all rows changes nothing, and keeps the exponentials finite.
    let largest = logits.clone().max_dim(0).max_dim(1);
    let mut q = (logits - largest).exp();
    q = q.clone() / q.sum().unsqueeze::<2>();
    for _ in 0..ROUNDS {
        q = q.clone() / q.sum_dim(0) / prototypes as f64;
        q = q.clone() / q.sum_dim(1) / rows as f64;
    }
    q * rows as f64
}

/// `-log` of the distance of each unit vector to its nearest, summed over the n pictures' view number `view`
/// (equation in section 4 of DINOv2): `[n g, d] -> [1]`.
fn koleo(features: &Tensor<2>, n: usize, g: usize, view: usize) -> Tensor<1> {
    let d = features.dims()[1];
    let x = ops::unit(features.clone().reshape([n, g, d]).narrow(1, view, 1).squeeze_dim::<2>(1), 1);
    let cosines = x.clone().detach().matmul(x.clone().detach().transpose());
    // A vector is not its own neighbour.
    let nearest = (cosines - Tensor::<2>::eye(n, &x.device()) * 4.0).argmax(1).squeeze_dim::<1>(1);
    let distance = (x.clone() - x.select(0, nearest) + 1e-8).square().sum_dim(1).sqrt();
    -(distance + 1e-8).log().sum()
}
