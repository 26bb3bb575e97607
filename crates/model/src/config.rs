//! The shape of the network, as a recipe writes it and a checkpoint keeps it.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// The whole network: image encoder, connector, decoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mm1Config {
    /// The image encoder.
    pub vision: VisionConfig,
    /// The vision-language connector.
    pub connector: ConnectorConfig,
    /// The decoder-only language model.
    pub lm: LmConfig,
}

/// How pixels become patch features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stem {
    /// One linear map of each patch (Dosovitskiy et al. 2021).
    Patch,
    /// log2(patch) 3x3 convolutions of stride 2 whose widths double up to `dim` (patch 16: dim/8, dim/4, dim/2, dim),
    /// each with a channel norm and GELU, then a linear map (Xiao et al. 2021, "Early convolutions help transformers
    /// see better"). The patch must be a power of two.
    Conv,
}

/// What is between the two maps of an image encoder's MLP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VisionActivation {
    /// `x * Phi(x)` with the exact error function (Hendrycks and Gimpel 2016): ViT's, DINOv2's.
    #[default]
    Gelu,
    /// `x * sigmoid(1.702 x)`: CLIP's.
    QuickGelu,
    /// With `tanh` instead of the error function: SigLIP's.
    GeluTanh,
}

/// A vision transformer with pre-norm blocks (LayerNorm, a GELU).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VisionConfig {
    /// Where its first weights come from, if not from the seed: a run folder, a Hugging Face folder or an ONNX file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
    /// Side of the square picture in pixels.
    pub image_size: usize,
    /// Side of a patch in pixels; divides `image_size`.
    pub patch: usize,
    /// How pixels become patch features.
    #[serde(default = "default_stem")]
    pub stem: Stem,
    /// Width.
    pub dim: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads; divides `dim`.
    pub heads: usize,
    /// Width of the MLP's hidden layer.
    pub ffn: usize,
    /// Whether a learned class token is put before the patches. The connector never sees it.
    #[serde(default)]
    pub class_token: bool,
    /// LayerNorm's epsilon.
    #[serde(default = "default_norm_eps")]
    pub norm_eps: f64,
    /// What is between the MLP's two maps.
    #[serde(default, skip_serializing_if = "is_default")]
    pub activation: VisionActivation,
    /// Whether a LayerNorm comes after positions and class token, before the first block (CLIP's).
    #[serde(default, skip_serializing_if = "is_default")]
    pub pre_norm: bool,
    /// The block whose output, after the last norm, is the features, counted from 1; 0 is the last of `layers`. The blocks
    /// after it are neither made nor run, so they have no weights either.
    #[serde(default, skip_serializing_if = "is_default")]
    pub feature_block: usize,
}

/// The three connectors of the paper (section 3.1). Each gives `tokens` image tokens of the decoder's width.
///
/// A recipe may set `dim`, `depth` and `heads` whatever the kind, so that an ablation changes `kind` alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "ConnectorFields", into = "ConnectorFields")]
pub enum ConnectorConfig {
    /// n×n adaptive average pooling, then one linear map.
    AveragePool {
        /// Image tokens for a picture; a square number.
        tokens: usize,
    },
    /// Learned queries and one cross-attention layer with its MLP.
    AttentionPool {
        /// Image tokens for a picture: the number of queries.
        tokens: usize,
        /// Attention heads; divides the encoder's width.
        heads: usize,
    },
    /// Honeybee's convolutional abstractor (Cha et al. 2023).
    CAbstractor {
        /// Image tokens for a picture; a square number.
        tokens: usize,
        /// Width of the blocks (1024 in Honeybee).
        dim: usize,
        /// Blocks before and after the pooling, each (3 in Honeybee).
        depth: usize,
    },
}

/// [`ConnectorConfig`] as it is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConnectorFields {
    kind: ConnectorKind,
    tokens: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dim: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    depth: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    heads: Option<usize>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ConnectorKind {
    AveragePool,
    AttentionPool,
    CAbstractor,
}

impl From<ConnectorFields> for ConnectorConfig {
    fn from(written: ConnectorFields) -> Self {
        let ConnectorFields { kind, tokens, dim, depth, heads } = written;
        match kind {
            ConnectorKind::AveragePool => Self::AveragePool { tokens },
            ConnectorKind::AttentionPool => Self::AttentionPool { tokens, heads: heads.unwrap_or(8) },
            ConnectorKind::CAbstractor => {
                Self::CAbstractor { tokens, dim: dim.unwrap_or(1024), depth: depth.unwrap_or(3) }
            }
        }
    }
}

impl From<ConnectorConfig> for ConnectorFields {
    fn from(config: ConnectorConfig) -> Self {
        let plain = |kind| Self { kind, tokens: config.tokens(), dim: None, depth: None, heads: None };
        match config {
            ConnectorConfig::AveragePool { .. } => plain(ConnectorKind::AveragePool),
            ConnectorConfig::AttentionPool { heads, .. } => {
                Self { heads: Some(heads), ..plain(ConnectorKind::AttentionPool) }
            }
            ConnectorConfig::CAbstractor { dim, depth, .. } => {
                Self { dim: Some(dim), depth: Some(depth), ..plain(ConnectorKind::CAbstractor) }
            }
        }
    }
}

impl ConnectorConfig {
    /// Image tokens for a picture.
    pub fn tokens(&self) -> usize {
        match *self {
            Self::AveragePool { tokens }
            | Self::AttentionPool { tokens, .. }
            | Self::CAbstractor { tokens, .. } => tokens,
        }
    }
}

/// A Llama-style decoder: RMSNorm, RoPE (half-split), SwiGLU, grouped-query attention.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LmConfig {
    /// Size of the vocabulary; 0 in a recipe means the tokenizer's.
    #[serde(default)]
    pub vocab: usize,
    /// Width.
    pub dim: usize,
    /// Blocks.
    pub layers: usize,
    /// Query heads; divides `dim`.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of the SwiGLU's hidden layer.
    pub ffn: usize,
    /// RoPE's base.
    #[serde(default = "default_rope_base")]
    pub rope_base: f64,
    /// RMSNorm's epsilon.
    #[serde(default = "default_rms_eps")]
    pub norm_eps: f64,
    /// Whether the output head is the embedding table.
    #[serde(default = "default_true")]
    pub tied: bool,
}

/// A field that stands for nothing is not written: a plan from before there was such a field stays the same.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
fn default_stem() -> Stem {
    Stem::Patch
}
fn default_norm_eps() -> f64 {
    1e-6
}
fn default_rms_eps() -> f64 {
    1e-5
}
fn default_rope_base() -> f64 {
    10_000.0
}
fn default_true() -> bool {
    true
}

impl VisionConfig {
    /// Checks every relation between the sizes.
    ///
    /// # Errors
    /// One line that names the field and what it must be.
    pub fn check(&self) -> Result<()> {
        for (field, value) in [
            ("image_size", self.image_size),
            ("patch", self.patch),
            ("dim", self.dim),
            ("heads", self.heads),
            ("ffn", self.ffn),
        ] {
            ensure!(value > 0, "model.vision.{field} must be at least 1");
        }
        for (field, value, of, whole) in
            [("patch", self.patch, "image_size", self.image_size), ("heads", self.heads, "dim", self.dim)]
        {
            ensure!(whole.is_multiple_of(value), "model.vision.{field} = {value} must divide {of} = {whole}");
        }
        ensure!(
            self.feature_block <= self.layers,
            "model.vision.feature_block = {} must be at most layers = {}",
            self.feature_block,
            self.layers
        );
        if self.stem == Stem::Patch {
            return Ok(());
        }
        let (patch, dim) = (self.patch, self.dim);
        ensure!(
            patch.is_power_of_two() && patch > 1,
            "model.vision.patch = {patch} must be a power of two above 1 for stem = \"conv\""
        );
        ensure!(
            dim.is_multiple_of(patch / 2),
            "model.vision.dim = {dim} must be a multiple of patch / 2 = {} for stem = \"conv\", whose widths double",
            patch / 2
        );
        Ok(())
    }

    /// Patches along a side.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch
    }

    /// Blocks that there are: those up to the feature block.
    pub fn blocks(&self) -> usize {
        if self.feature_block == 0 { self.layers } else { self.feature_block }
    }
}

impl Mm1Config {
    /// Checks every relation between the sizes.
    ///
    /// # Errors
    /// One line that names the field and what it must be.
    pub fn check(&self) -> Result<()> {
        let (v, l) = (&self.vision, &self.lm);
        for (field, value) in [
            ("connector.tokens", self.connector.tokens()),
            ("lm.vocab", l.vocab),
            ("lm.dim", l.dim),
            ("lm.layers", l.layers),
            ("lm.heads", l.heads),
            ("lm.kv_heads", l.kv_heads),
            ("lm.ffn", l.ffn),
        ] {
            ensure!(value > 0, "model.{field} must be at least 1");
        }
        v.check()?;
        ensure!(l.dim.is_multiple_of(l.heads), "model.lm.heads = {} must divide dim = {}", l.heads, l.dim);
        ensure!(
            l.heads.is_multiple_of(l.kv_heads),
            "model.lm.kv_heads = {} must divide heads = {}",
            l.kv_heads,
            l.heads
        );
        ensure!(
            (l.dim / l.heads).is_multiple_of(2),
            "model.lm: the head width dim / heads = {} must be even, for RoPE",
            l.dim / l.heads
        );
        match self.connector {
            ConnectorConfig::AveragePool { tokens } | ConnectorConfig::CAbstractor { tokens, .. } => ensure!(
                tokens.isqrt().pow(2) == tokens,
                "model.connector.tokens = {tokens} must be a square number for this kind"
            ),
            ConnectorConfig::AttentionPool { heads, .. } => ensure!(
                heads > 0 && v.dim.is_multiple_of(heads),
                "model.connector.heads = {heads} must divide model.vision.dim = {}",
                v.dim
            ),
        }
        if let ConnectorConfig::CAbstractor { dim, depth, .. } = self.connector {
            ensure!(dim > 0, "model.connector.dim must be at least 1");
            ensure!(depth > 0, "model.connector.depth must be at least 1");
        }
        Ok(())
    }
}
