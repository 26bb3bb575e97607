//! Probes: classifiers of pictures by features that stay as they are. The linear probe is multinomial
//! logistic regression on one vector a picture; the attentive probe lets a learned query choose among its
//! patches first (El-Nouby et al. 2024, section 4; with the norm behind it that Bardes et al. 2024 have).
//!
//! A probe measures, so it is fitted and asked in f32, whatever the precision of the network that it
//! measures.

use anyhow::Result;
use burn::module::{Module, Param};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor, TensorData};
use mm1_kernels::allocator::TrainingMemory;
use mm1_model::Compute;
use mm1_model::attention::NormWeights;
use mm1_model::init::{Init, Initializer, STD};
use mm1_model::ops::{Affine, Precision};
use rand::SeedableRng;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

use crate::config::OptimizerConfig;
use crate::micro_batch::{MicroBatch, Step};
use crate::schedule::Schedule;
use crate::step::{Objective, Trainer};
use crate::step_result::StepResult;

/// Features of pictures of known classes.
#[derive(Clone, Debug)]
pub struct Labelled {
    /// Vectors of a picture: 1, or one for each patch.
    pub tokens: usize,
    /// Values of a vector.
    pub dim: usize,
    /// `[n, tokens, dim]`
    pub features: Vec<f32>,
    /// `[n]`
    pub labels: Vec<usize>,
}

/// A classifier.
#[derive(Module, Debug)]
pub struct Probe {
    /// From a picture's vectors to one; none where there is one.
    pub pool: Option<QueryPool>,
    /// `[d, c]`
    pub weight: Param<Tensor<2>>,
    /// `[c]`
    pub bias: Param<Tensor<1>>,
    /// Mean and deviation of each feature, in training.
    #[module(skip)]
    scale: Vec<[f32; 2]>,
}

/// Attention of one learned query to all vectors of a picture.
#[derive(Module, Debug)]
pub struct QueryPool {
    /// `[1, d]`
    pub query: Param<Tensor<2>>,
    /// Keys and values side by side `[d, 2d]`.
    pub kv: Param<Tensor<2>>,
    /// Of what was seen.
    pub norm: NormWeights,
    #[module(skip)]
    heads: usize,
}

impl MicroBatch for Labelled {
    fn tokens(&self) -> usize {
        0
    }
    fn images(&self) -> usize {
        self.labels.len()
    }
    fn samples(&self) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }
}

impl Labelled {
    /// These pictures of it, in this order.
    fn choose(&self, pictures: &[usize]) -> Self {
        let size = self.tokens * self.dim;
        Self {
            features: pictures.iter().flat_map(|&i| &self.features[i * size..][..size]).copied().collect(),
            labels: pictures.iter().map(|&i| self.labels[i]).collect(),
            ..*self
        }
    }
}

impl QueryPool {
    fn new(init: &Init<'_>, dim: usize) -> Self {
        let divides = |heads: &usize| dim.is_multiple_of(*heads);
        Self {
            query: init.param("query", [1, dim], Initializer::Normal(STD)),
            kv: init.param("kv", [dim, 2 * dim], Initializer::fan_in(dim)),
            norm: NormWeights::layer(&init.at("norm"), dim, 1e-6),
            // Pixels of a patch may be a number that four does not divide.
            heads: [4, 3, 2].into_iter().find(divides).unwrap_or(1),
        }
    }

    /// `[n, t, d] -> [n, 1, d]`
    fn forward(&self, compute: &Compute, x: Tensor<3>) -> Tensor<3> {
        let ([n, _, d], ops) = (x.dims(), compute.ops());
        let query = self.query.val().unsqueeze::<3>().expand([n, 1, d]);
        let seen = ops.cross_attention(query, ops.linear(x, (&self.kv).into()), self.heads);
        ops.norm(seen, &self.norm.norm())
    }
}

impl Probe {
    /// Fits a linear probe of `classes` classes to one vector a picture: 300 steps of `AdamW` (1e-2, cosine,
    /// decay 0.1) go over all of them, each feature at mean 0 and variance 1. It is in f32, on the device of
    /// `compute`.
    ///
    /// # Errors
    /// A feature that is not finite.
    pub fn linear(compute: &Compute, train: &Labelled, classes: usize) -> Result<Self> {
        let schedule = Schedule { peak: 1e-2, warmup_steps: 10, steps: 300 };
        let compute = measuring(compute);
        let probe = Self::new(&compute, train, classes, |_| None);
        let all = [probe.scaled(train)];
        let _memory = TrainingMemory::new();
        let mut trainer = Trainer::new(&compute, probe, OptimizerConfig::default())?;
        for step in 0..schedule.steps {
            trainer.step(&all, schedule.lr(step))?;
        }
        Ok(trainer.into_model())
    }

    /// Fits an attentive probe: 60 times over the pictures, 128 of them a step, in an order drawn anew (1e-3,
    /// cosine, decay 0.1). It is in f32, on the device of `compute`.
    ///
    /// # Errors
    /// A feature that is not finite.
    pub fn attentive(compute: &Compute, train: &Labelled, classes: usize) -> Result<Self> {
        const EPOCHS: usize = 60;
        const ROWS: usize = 128;
        let steps = (EPOCHS * train.labels.len().div_ceil(ROWS)) as u64;
        let schedule = Schedule { peak: 1e-3, warmup_steps: steps / 20, steps };
        let compute = measuring(compute);
        let probe = Self::new(&compute, train, classes, |init| Some(QueryPool::new(init, train.dim)));
        let train = probe.scaled(train);
        let _memory = TrainingMemory::new();
        let mut trainer = Trainer::new(&compute, probe, OptimizerConfig::default())?;
        let mut pictures: Vec<usize> = (0..train.labels.len()).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        for _ in 0..EPOCHS {
            pictures.shuffle(&mut rng);
            for chosen in pictures.chunks(ROWS) {
                trainer.step(&[train.choose(chosen)], schedule.lr(trainer.steps_done()))?;
            }
        }
        Ok(trainer.into_model())
    }

    fn new(
        compute: &Compute,
        train: &Labelled,
        classes: usize,
        pool: impl Fn(&Init<'_>) -> Option<QueryPool>,
    ) -> Self {
        let device = compute.training_device();
        let init = Init::new(0, &device);
        Self {
            // An initial value follows from its path: with another name here, scores would be others.
            pool: pool(&init.at("look")),
            weight: init.param("weight", [train.dim, classes], Initializer::Zeros),
            bias: init.param("bias", [classes], Initializer::Zeros),
            scale: moments(train),
        }
    }

    /// The class of each picture: `[n]`. Their labels are not looked at.
    pub fn classify(&self, compute: &Compute, pictures: &Labelled) -> Vec<usize> {
        let classes = self.bias.dims()[0];
        let logits = self.logits(&measuring(compute), &self.scaled(pictures));
        let logits: Vec<f32> = logits.into_data().iter::<f32>().collect();
        let largest =
            |row: &[f32]| (0..classes).rev().max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(0);
        logits.chunks_exact(classes).map(largest).collect()
    }

    fn scaled(&self, pictures: &Labelled) -> Labelled {
        let scaled = |(x, [mean, std]): (&f32, &[f32; 2])| (x - mean) / std;
        let rows = pictures.features.chunks_exact(pictures.dim);
        let features = rows.flat_map(|row| row.iter().zip(&self.scale).map(scaled)).collect();
        Labelled { features, labels: pictures.labels.clone(), ..*pictures }
    }

    /// `[n, c]`
    fn logits(&self, compute: &Compute, pictures: &Labelled) -> Tensor<2> {
        let shape = [pictures.labels.len(), pictures.tokens, pictures.dim];
        let data = TensorData::new(pictures.features.clone(), shape);
        let mut x = Tensor::<3>::from_data(data, &self.weight.val().device());
        if let Some(pool) = &self.pool {
            x = pool.forward(compute, x);
        }
        compute.ops().linear(x.swap_dims(0, 1), Affine::new(&self.weight, &self.bias)).squeeze_dim(0)
    }
}

impl Objective for Probe {
    type Batch = Labelled;

    fn weight(batch: &Labelled) -> f64 {
        batch.labels.len() as f64
    }

    fn backward(&self, compute: &Compute, step: &Step<'_, Labelled>) -> Result<StepResult> {
        StepResult::of_sums(compute, self, step, |batch| {
            let logits = self.logits(compute, batch);
            let labels: Vec<i64> = batch.labels.iter().map(|&label| label as i64).collect();
            let labels = TensorData::new(labels, [batch.labels.len(), 1]);
            let labels = Tensor::<2, Int>::from_data(labels, &logits.device());
            Ok(-log_softmax(logits, 1).gather(1, labels).sum())
        })
    }
}

/// How a measurement is computed.
fn measuring(compute: &Compute) -> Compute {
    compute.with_precision(Precision::F32)
}

/// Mean and standard deviation of each feature; 1 where it never changes.
fn moments(train: &Labelled) -> Vec<[f32; 2]> {
    let n = (train.features.len() / train.dim).max(1) as f64;
    let mut sums = vec![[0.0f64; 2]; train.dim];
    for row in train.features.chunks_exact(train.dim) {
        for (sum, &x) in sums.iter_mut().zip(row) {
            sum[0] += f64::from(x);
            sum[1] += f64::from(x).powi(2);
        }
    }
    let moment = |[sum, squares]: [f64; 2]| {
        let mean = sum / n;
        let variance = squares / n - mean * mean;
        [mean as f32, if variance > 1e-12 { variance.sqrt() as f32 } else { 1.0 }]
    };
    sums.into_iter().map(moment).collect()
}
