//! The linear probe: multinomial logistic regression on features that stay as they are.

use anyhow::Result;
use burn::module::{Module, Param};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use mm1_model::init::{Fill, Init};
use mm1_model::ops;

use crate::optim::OptimizerConfig;
use crate::schedule::Schedule;
use crate::step::{Backward, Counts, Objective, Step, Trainer};

/// Full-batch steps of a fit.
const STEPS: u64 = 300;
/// Its peak learning rate.
const LR: f64 = 1e-2;

/// Features of known classes.
#[derive(Clone, Debug)]
pub struct Labelled {
    /// Values of a feature vector.
    pub dim: usize,
    /// `[n, dim]`
    pub features: Vec<f32>,
    /// `[n]`
    pub labels: Vec<usize>,
}

/// A linear classifier.
#[derive(Module, Debug)]
pub struct LinearProbe {
    /// `[d, c]`
    pub weight: Param<Tensor<2>>,
    /// `[c]`
    pub bias: Param<Tensor<1>>,
    /// Of each feature, in training.
    #[module(skip)]
    scale: Vec<[f32; 2]>,
}

impl Counts for Labelled {
    fn tokens(&self) -> usize {
        0
    }
    fn images(&self) -> usize {
        self.labels.len()
    }
    fn samples(&self) -> &[String] {
        &[]
    }
}

impl LinearProbe {
    /// Fits a classifier of `classes` classes: features are brought to mean 0 and variance 1, then 300 steps of AdamW
    /// (1e-2, cosine, decay 0.1) go over all of them.
    ///
    /// # Errors
    /// A feature that is not finite.
    pub fn fit(train: &Labelled, classes: usize) -> Result<Self> {
        let (device, dim) = (Device::flex().autodiff(), train.dim);
        let init = Init::new(0, &device);
        let probe = Self {
            weight: init.param("weight", [dim, classes], Fill::Zeros),
            bias: init.param("bias", [classes], Fill::Zeros),
            scale: moments(train),
        };
        let features = probe.scaled(&train.features);
        let batch = [Labelled { features, ..train.clone() }];
        let schedule = Schedule { peak: LR, warmup_steps: 10, steps: STEPS };
        let mut trainer = Trainer::new(probe, OptimizerConfig::default())?;
        for step in 0..STEPS {
            trainer.step(&batch, schedule.lr(step))?;
        }
        Ok(trainer.into_model())
    }

    /// The class of each feature vector: `[n, d] -> [n]`.
    pub fn classify(&self, features: &[f32]) -> Vec<usize> {
        let classes = self.bias.dims()[0];
        let logits: Vec<f32> = self.logits(self.scaled(features)).into_data().iter::<f32>().collect();
        let largest =
            |row: &[f32]| (0..classes).rev().max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(0);
        logits.chunks_exact(classes).map(largest).collect()
    }

    fn scaled(&self, features: &[f32]) -> Vec<f32> {
        let scaled = |(x, [mean, std]): (&f32, &[f32; 2])| (x - mean) / std;
        features
            .chunks_exact(self.scale.len())
            .flat_map(|row| row.iter().zip(&self.scale).map(scaled))
            .collect()
    }

    /// `[n, d] -> [n, c]`
    fn logits(&self, features: Vec<f32>) -> Tensor<2> {
        let [d, _] = self.weight.dims();
        let shape = [1, features.len() / d, d];
        let x = Tensor::<3>::from_data(TensorData::new(features, shape), &self.weight.val().device());
        ops::linear(x, &self.weight.val(), Some(&self.bias.val())).squeeze_dim(0)
    }
}

impl Objective for LinearProbe {
    type Batch = Labelled;

    fn weight(batch: &Labelled) -> f64 {
        batch.labels.len() as f64
    }

    fn backward(&self, step: &Step<'_, Labelled>) -> Result<Backward> {
        Backward::of_sums(self, step, |batch| {
            let logits = self.logits(batch.features.clone());
            let labels: Vec<i64> = batch.labels.iter().map(|&label| label as i64).collect();
            let labels = TensorData::new(labels, [batch.labels.len(), 1]);
            let labels = Tensor::<2, Int>::from_data(labels, &logits.device());
            Ok(-log_softmax(logits, 1).gather(1, labels).sum())
        })
    }
}

/// Mean and standard deviation of each feature; 1 where it never changes.
fn moments(train: &Labelled) -> Vec<[f32; 2]> {
    let n = train.labels.len().max(1) as f64;
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
