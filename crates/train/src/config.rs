//! [`OptimizerConfig`]: the optimizer's settings, as a recipe writes them.

use anyhow::{Result, ensure};
use mm1_model::group::ParameterGroup;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::exchange::ExchangePrecision;
use crate::law::{self, HIGHEST_RATE, LearningRateLaw};
use crate::layer_decay::LayerDecay;
use crate::moments::MomentFormat;
use crate::schedule::Schedule;

/// AdamW and its learning-rate schedule, `optimizer`, in every stage that trains.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// Peak learning rate: a number, or `"law"` for that of `[law]`, by default the paper's (section 3.3).
    /// Unit: none.
    pub lr: LearningRate,
    /// Linear warm-up; a cosine to a tenth of the peak follows.
    /// Unit: steps.
    pub warmup_steps: u64,
    /// Decay of the running mean of gradients, AdamW's first moment.
    /// Unit: factor.
    #[serde(skip_serializing_if = "is_beta1")]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1, "default" = BETA1))]
    pub beta1: f64,
    /// Decay of the running mean of squared gradients, AdamW's second moment.
    /// Unit: factor.
    #[serde(skip_serializing_if = "is_beta2")]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1, "default" = BETA2))]
    pub beta2: f64,
    /// Added to the root of the second moment.
    /// Unit: none.
    #[serde(skip_serializing_if = "is_eps")]
    #[schemars(extend("exclusiveMinimum" = 0, "default" = EPS))]
    pub eps: f64,
    /// Decoupled weight decay, as in PyTorch's `AdamW`: a step shrinks a weight by `lr * weight_decay` of
    /// itself. It applies to tensors of two or more dimensions (linear maps, convolutions, embeddings,
    /// position tables) and not to norms and biases, as in nanoGPT and OpenCLIP; 0.1 is the paper's λ = 0.1
    /// η.
    /// Unit: factor.
    #[schemars(range(min = 0))]
    pub weight_decay: f64,
    /// Largest norm of all gradients together; a larger one is scaled down to it.
    /// Unit: none.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub clip_norm: f64,
    /// How AdamW's moments are stored. With `"8bit"` a trained parameter takes 10 bytes, with `"f32"` 16.
    #[serde(skip_serializing_if = "is_f32")]
    #[schemars(extend("default" = MomentFormat::default()))]
    pub moments: MomentFormat,
    /// In which precision gradients cross between the ranks of an `mpirun`. With `"bf16"` that of each
    /// micro-batch is rounded before it is added, on any number of ranks, and half as many bytes cross. A
    /// process without `mpirun` exchanges nothing, and rounds nothing.
    #[serde(skip_serializing_if = "crosses_in_f32")]
    #[schemars(extend("default" = ExchangePrecision::default()))]
    pub exchange: ExchangePrecision,
    /// Factors on the learning rate, for each part of the model.
    pub scale: GroupScale,
    /// Layer-wise decay of the learning rate: the first layers learn the slowest.
    #[serde(skip_serializing_if = "is_flat")]
    #[schemars(extend("default" = LayerDecay::default()))]
    pub layer_decay: LayerDecay,
    /// Frozen parts of the model: they get no gradient, no update and no moments.
    pub freeze: Vec<ParameterGroup>,
}

impl Default for OptimizerConfig {
    /// The paper's (section 3.3 and appendix B).
    fn default() -> Self {
        Self {
            lr: LearningRate::Law(Law::Law),
            warmup_steps: 100,
            beta1: BETA1,
            beta2: BETA2,
            eps: EPS,
            weight_decay: law::WEIGHT_DECAY,
            clip_norm: 1.0,
            moments: MomentFormat::F32,
            exchange: ExchangePrecision::F32,
            scale: GroupScale::default(),
            layer_decay: LayerDecay::default(),
            freeze: Vec::new(),
        }
    }
}

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.95;
const EPS: f64 = 1e-8;

// A field that has its default is not written, where plans from before there was such a field stay the same.
fn is_beta1(beta1: &f64) -> bool {
    *beta1 == BETA1
}
fn is_beta2(beta2: &f64) -> bool {
    *beta2 == BETA2
}
fn is_eps(eps: &f64) -> bool {
    *eps == EPS
}
fn is_f32(moments: &MomentFormat) -> bool {
    *moments == MomentFormat::F32
}
fn crosses_in_f32(exchange: &ExchangePrecision) -> bool {
    *exchange == ExchangePrecision::F32
}
fn is_flat(layer_decay: &LayerDecay) -> bool {
    *layer_decay == LayerDecay::default()
}

/// A learning rate: a number or `"law"`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "optimizer.lr is a number or \"law\"")]
pub enum LearningRate {
    /// The number itself.
    Value(#[schemars(extend("exclusiveMinimum" = 0))] f64),
    /// From the number of parameters.
    Law(Law),
}

/// The one word that [`LearningRate`] knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Law {
    /// η = exp(a ln N + b), with a and b of `[law]`.
    Law,
}

/// Factors on the learning rate, `optimizer.scale`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GroupScale {
    /// Factor of the image encoder: parameters under `vision.`.
    /// Unit: factor.
    #[schemars(range(min = 0))]
    pub vision: f64,
    /// Factor of the connector: parameters under `connector.`.
    /// Unit: factor.
    #[schemars(range(min = 0))]
    pub connector: f64,
    /// Factor of the language model, or of what is trained beside an encoder: all other parameters.
    /// Unit: factor.
    #[schemars(range(min = 0))]
    pub lm: f64,
}

impl Default for GroupScale {
    fn default() -> Self {
        Self { vision: 1.0, connector: 1.0, lm: 1.0 }
    }
}

impl OptimizerConfig {
    /// The peak learning rate for so many trained `parameters`, by `law` where it is not a number.
    ///
    /// # Errors
    /// As [`LearningRateLaw::learning_rate`].
    pub fn peak(&self, parameters: usize, law: &LearningRateLaw) -> Result<f64> {
        match self.lr {
            LearningRate::Value(lr) => Ok(lr),
            LearningRate::Law(Law::Law) => law.learning_rate(parameters),
        }
    }

    /// The learning rate of each of `steps` steps, with the peak `peak`.
    pub fn schedule(&self, peak: f64, steps: u64) -> Schedule {
        Schedule { peak, warmup_steps: self.warmup_steps, steps }
    }

    /// The factor that the part of the parameter at `path` has on the learning rate.
    pub fn scale_of(&self, path: &str) -> f64 {
        match ParameterGroup::of(path).unwrap_or(ParameterGroup::Lm) {
            ParameterGroup::Vision => self.scale.vision,
            ParameterGroup::Connector => self.scale.connector,
            ParameterGroup::Lm => self.scale.lm,
        }
    }

    /// Whether the parameter at `path` stays as it is.
    pub fn freezes(&self, path: &str) -> bool {
        self.freeze.contains(&ParameterGroup::of(path).unwrap_or(ParameterGroup::Lm))
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// One line that names the field.
    pub fn check(&self) -> Result<()> {
        if let LearningRate::Value(lr) = self.lr {
            ensure!(lr.is_finite() && lr > 0.0, "optimizer.lr = {lr} must be above 0, or \"law\"");
            ensure!(
                lr <= HIGHEST_RATE,
                "optimizer.lr = {lr} must be {HIGHEST_RATE} at most: AdamW moves every weight by about that \
                 much in a step, and 1e-5 to 1e-2 are usual"
            );
        }
        for (field, value) in [
            ("weight_decay", self.weight_decay),
            ("scale.vision", self.scale.vision),
            ("scale.connector", self.scale.connector),
            ("scale.lm", self.scale.lm),
        ] {
            ensure!(
                value.is_finite() && value >= 0.0,
                "optimizer.{field} = {value} must be a finite number of at least 0"
            );
        }
        for (field, value) in [("clip_norm", self.clip_norm), ("eps", self.eps)] {
            ensure!(value.is_finite() && value > 0.0, "optimizer.{field} = {value} must be above 0");
        }
        for (field, value) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            ensure!(
                (0.0..1.0).contains(&value),
                "optimizer.{field} = {value} must be at least 0 and below 1"
            );
        }
        self.layer_decay.check()
    }
}
