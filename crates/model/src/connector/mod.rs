//! The vision-language connectors of the paper (section 3.1), LLaVA's and Flamingo's: patch features in,
//! image tokens of the decoder's width out, or latents that the decoder looks at. The settings, the forward
//! pass and the memory formula of each stand in one file.

mod attention_pool;
mod average_pool;
mod c_abstractor;
mod cross_attention;
mod mlp_connector;

use anyhow::{Result, ensure};
use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::attention_pool::{AttentionPool, AttentionPoolConfig};
pub use self::average_pool::{AveragePool, AveragePoolConfig};
pub use self::c_abstractor::{Abstraction, CAbstractor, CAbstractorConfig, Shortcut};
pub use self::cross_attention::{CrossAttention, CrossAttentionConfig, GatedLayer, ResamplerLayer};
pub use self::mlp_connector::{MlpConnector, MlpConnectorConfig};
use crate::compute::Compute;
use crate::init::Init;
use crate::lm_config::LmConfig;
use crate::memory::{Activations, Load};
use crate::vision::VisionConfig;

/// The vision-language connector, `[model.connector]`: the paper's are in its section 3.1. Each of them gives
/// `tokens` image tokens of the decoder's width; `mlp`, which is LLaVA's, one for each patch. Behind
/// `cross-attention`, which is Flamingo's, the decoder looks at images beside its sequence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ConnectorConfig {
    /// n×n adaptive average pooling, then one linear map.
    AveragePool(AveragePoolConfig),
    /// Learned queries and one cross-attention layer with its MLP.
    AttentionPool(AttentionPoolConfig),
    /// Honeybee's convolutional abstractor (Cha et al. 2023).
    CAbstractor(CAbstractorConfig),
    /// Each patch by itself through two linear maps with a GELU between them: LLaVA-1.5's projector (Liu et
    /// al. 2023). It has no settings: image tokens are as many as patches, `(image_size / patch)²`, and the
    /// hidden layer has the decoder's width.
    Mlp(MlpConnectorConfig),
    /// Flamingo's (Alayrac et al. 2022): a perceiver resampler makes latents of an image, and gated
    /// cross-attention layers between the decoder's blocks look at them. The sequence holds one position for
    /// an image. A position looks at the last image before it. No other program reads such a model.
    CrossAttention(CrossAttentionConfig),
}

impl ConnectorConfig {
    /// Image tokens for a picture of h rows and w columns of patches.
    pub fn tokens(&self, [h, w]: [usize; 2]) -> usize {
        match self {
            Self::AveragePool(config) => config.tokens,
            Self::AttentionPool(config) => config.tokens,
            Self::CAbstractor(config) => config.tokens,
            Self::Mlp(_) => h * w,
            Self::CrossAttention(_) => 1,
        }
    }

    /// Whether pictures become image tokens of the sequence; else the decoder looks at them beside it.
    pub fn fills_the_sequence(&self) -> bool {
        !matches!(self, Self::CrossAttention(_))
    }

    /// Of these image tokens those that say a caption once: where they are patches, each row can.
    pub fn caption_tokens(&self, [h, w]: [usize; 2]) -> usize {
        match self {
            Self::AveragePool(_)
            | Self::AttentionPool(_)
            | Self::CAbstractor(_)
            | Self::CrossAttention(_) => self.tokens([h, w]),
            Self::Mlp(_) => w,
        }
    }

    /// Checks every relation between the sizes.
    ///
    /// # Errors
    /// One line that names the field and what it must be.
    pub fn check(&self, vision: &VisionConfig, lm: &LmConfig) -> Result<()> {
        ensure!(self.tokens([vision.grid(); 2]) > 0, "model.connector.tokens must be at least 1");
        match self {
            Self::AveragePool(config) => config.check(),
            Self::AttentionPool(config) => config.check(vision),
            Self::CAbstractor(config) => config.check(),
            Self::Mlp(MlpConnectorConfig {}) => Ok(()),
            Self::CrossAttention(config) => config.check(vision, lm),
        }
    }

    /// Activations of a training step, before the decoder `lm`.
    pub(crate) fn activations(&self, vision: &VisionConfig, lm: &LmConfig) -> PictureActivations {
        let out = lm.dim;
        match self {
            Self::AveragePool(config) => config.activations(vision, out),
            Self::AttentionPool(config) => config.activations(vision),
            Self::CAbstractor(config) => config.activations(vision, out),
            Self::Mlp(MlpConnectorConfig {}) => MlpConnectorConfig::activations(vision, out),
            Self::CrossAttention(config) => config.activations(vision, lm),
        }
    }
}

/// A connector's activations for one picture, in values.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PictureActivations {
    /// Saved for the backward pass in f32.
    saved: usize,
    /// Saved for the backward pass in the precision of products.
    rounded: usize,
    /// Temporary, in f32.
    temporary: usize,
}

impl PictureActivations {
    /// Those of so many pictures.
    pub(crate) fn times(self, images: usize, load: Load) -> Activations {
        let saved = self.saved + load.rounded(self.rounded);
        Activations { saved: images * saved, temporary: images * self.temporary }
    }
}

/// The parameters of one of them.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a network has one")]
pub enum Connector {
    /// Average pooling.
    AveragePool(AveragePool),
    /// Attention pooling.
    AttentionPool(AttentionPool),
    /// C-Abstractor.
    CAbstractor(CAbstractor),
    /// LLaVA's.
    Mlp(MlpConnector),
    /// Flamingo's.
    CrossAttention(CrossAttention),
}

impl Connector {
    /// Before the decoder `lm`. `config` must have passed its check.
    pub fn new(init: &Init<'_>, config: &ConnectorConfig, vision: &VisionConfig, lm: &LmConfig) -> Self {
        let out = lm.dim;
        match config {
            ConnectorConfig::AveragePool(config) => {
                Self::AveragePool(AveragePool::new(init, config, vision, out))
            }
            ConnectorConfig::AttentionPool(config) => {
                Self::AttentionPool(AttentionPool::new(init, config, vision, out))
            }
            ConnectorConfig::CAbstractor(config) => {
                Self::CAbstractor(CAbstractor::new(init, config, vision, out))
            }
            ConnectorConfig::Mlp(MlpConnectorConfig {}) => Self::Mlp(MlpConnector::new(init, vision, out)),
            ConnectorConfig::CrossAttention(config) => {
                Self::CrossAttention(CrossAttention::new(init, config, vision, lm))
            }
        }
    }

    /// The same with image tokens that are `factor` times as long while the bias behind the last map is 0;
    /// what makes none is as it was.
    // A factor behind the connector would hold back its gradient as well: the first 60 steps were slower.
    pub fn scaled(mut self, factor: f64) -> Self {
        let (Self::AveragePool(AveragePool { project, .. })
        | Self::AttentionPool(AttentionPool { project, .. })
        | Self::CAbstractor(CAbstractor { project, .. })
        | Self::Mlp(MlpConnector { project, .. })) = &mut self
        else {
            return self;
        };
        let values: Vec<f32> = project.val().into_data().iter::<f64>().map(|x| (x * factor) as f32).collect();
        let values = TensorData::new(values, project.lazy_shape());
        let values = Tensor::from_data(values, &project.lazy_device());
        *project = project.clone().transform_for_load(values, project.id);
        self
    }

    /// The same for features of `side` rows and columns of patches: see [`crate::Mm1::with_image_size`].
    pub(crate) fn with_grid(self, side: usize) -> Self {
        match self {
            Self::CAbstractor(connector) => Self::CAbstractor(connector.with_grid(side)),
            without_positions => without_positions,
        }
    }

    /// `[n, h w, d] -> [n, k, D]`, the patches of a `grid` of h rows and w columns, row by row. Flamingo's
    /// gives its latents, `[n, k, d]`.
    pub fn forward(&self, compute: &Compute, features: Tensor<3>, grid: [usize; 2]) -> Tensor<3> {
        match self {
            Self::AveragePool(connector) => connector.forward(compute, features, grid),
            Self::AttentionPool(connector) => connector.forward(compute, features),
            Self::CAbstractor(connector) => connector.forward(compute, features, grid),
            Self::Mlp(connector) => connector.forward(compute, features),
            Self::CrossAttention(connector) => connector.forward(compute, features),
        }
    }

    /// The layers of the decoder that look at pictures, where it has some.
    pub(crate) fn gated(&self) -> Option<&CrossAttention> {
        match self {
            Self::CrossAttention(connector) => Some(connector),
            _ => None,
        }
    }
}

/// Image tokens of a pooled map fill a square.
fn check_square(tokens: usize) -> Result<()> {
    ensure!(
        tokens.isqrt().pow(2) == tokens,
        "model.connector.tokens = {tokens} must be a square number for this kind"
    );
    Ok(())
}

/// Patch features as a map: `[n, h w, d] -> [n, h, w, d]`.
fn map(features: Tensor<3>, [h, w]: [usize; 2]) -> Tensor<4> {
    let [n, _, d] = features.dims();
    features.reshape([n, h, w, d])
}

/// A map as a list: `[n, h, w, d] -> [n, h w, d]`.
fn list(map: Tensor<4>) -> Tensor<3> {
    let [n, h, w, d] = map.dims();
    map.reshape([n, h * w, d])
}
