//! The two towers of CLIP (Radford et al. 2021) and SigLIP (Zhai et al. 2023) in the shapes of their authors'
//! models, for those that are imported ([`crate::import::towers`]); what is trained here is [`crate::clip`].

use anyhow::{Context as _, Result, bail, ensure};
use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor, TensorData};

use crate::attention::{Attention, NormWeights};
use crate::compute::Compute;
use crate::init::{Init, Initializer};
use crate::mlp::{Block, Mlp};
use crate::ops::{self, Affine, Heads, Layout, Sight, Span};
use crate::vision::Vision;
use crate::vision::{VisionActivation, VisionConfig};

/// Shapes of both towers.
#[derive(Clone, Debug, PartialEq)]
pub struct TowersConfig {
    /// The image encoder, all of whose blocks there are.
    pub vision: VisionConfig,
    /// The text tower.
    pub text: TextConfig,
    /// Width of their common space; for SigLIP that of the encoder.
    pub space: usize,
    /// How a state of each becomes its vector.
    pub family: TowerFamily,
}

/// Shape of a text tower: pre-norm blocks with biases, learned positions.
#[derive(Clone, Debug, PartialEq)]
pub struct TextConfig {
    /// Number of ids.
    pub vocab: usize,
    /// Number of positions.
    pub length: usize,
    /// Width.
    pub dim: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads; divides `dim`.
    pub heads: usize,
    /// Width of an MLP's hidden layer.
    pub ffn: usize,
    /// In the MLPs.
    pub activation: VisionActivation,
    /// LayerNorm's epsilon.
    pub norm_eps: f64,
}

/// Whose towers they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TowerFamily {
    /// A picture is its class token's state, a text that of its end token, which sees what is before it.
    Clip {
        /// The end token's id. Without one it is the largest of a text: files from before the right id was in
        /// them say 2.
        end: Option<u32>,
    },
    /// A picture is pooled by attention; a text is filled up to all positions, which all see each other and
    /// the padding, and is the last one's state.
    Siglip {
        /// What it is filled up with.
        pad: u32,
    },
}

/// An image encoder and a text tower with a common space.
#[derive(Module, Debug)]
pub struct Towers {
    /// Pictures.
    pub vision: Vision,
    /// SigLIP's, behind the encoder's last norm.
    pub pool: Option<MapHead>,
    /// CLIP's, from the class token's state `[d, e]`.
    pub image_projection: Option<Param<Tensor<2>>>,
    /// Texts.
    pub text: TextTower,
}

impl Towers {
    /// `config` has been checked by who imports; parameters beside the blocks' are 0 until they are assigned.
    pub fn new(init: &Init<'_>, config: &TowersConfig) -> Self {
        let (width, clip) = (config.vision.dim, matches!(config.family, TowerFamily::Clip { .. }));
        Self {
            vision: Vision::new(&init.at("vision"), &config.vision),
            pool: (!clip).then(|| MapHead::new(&init.at("pool"), &config.vision)),
            image_projection: clip
                .then(|| init.param("image_projection", [width, config.space], Initializer::Zeros)),
            text: TextTower::new(&init.at("text"), config),
        }
    }

    /// Unit vectors of pictures `[n, h, w, 3] -> [n, e]`.
    ///
    /// # Panics
    /// As [`Vision::grid`].
    pub fn embed_pictures(&self, compute: &Compute, pixels: Tensor<4>) -> Tensor<2> {
        let tokens = self.vision.tokens(compute, pixels);
        let one = match &self.pool {
            Some(pool) => pool.forward(compute, tokens),
            None => self.vision.pooled(&tokens),
        };
        let projected = match &self.image_projection {
            Some(projection) => one.matmul(projection.val()),
            None => one,
        };
        ops::unit(projected, 1)
    }

    /// Unit vectors `[n, e]` of n texts of these ids, with the special tokens that their tokenizer adds. A
    /// text's vector does not depend on the others.
    ///
    /// # Errors
    /// One line when there is no text; when one is empty, longer than the table of positions (who tokenizes
    /// truncates, and keeps the end token), has an id that the table of embeddings has not, or for CLIP no
    /// end token.
    pub fn embed_texts(&self, compute: &Compute, texts: &[Vec<u32>]) -> Result<Tensor<2>> {
        ensure!(!texts.is_empty(), "there are no texts");
        Ok(ops::unit(self.text.forward(compute, texts)?, 1))
    }
}

/// SigLIP's head: a learned query looks at all patches once, then an MLP.
#[derive(Module, Debug)]
pub struct MapHead {
    /// The query as its map has left it `[1, d]`.
    pub query: Param<Tensor<2>>,
    /// Keys and values side by side `[d, 2d]`.
    pub kv: Param<Tensor<2>>,
    /// `[2d]`
    pub kv_bias: Param<Tensor<1>>,
    /// `[d, d]`
    pub out: Param<Tensor<2>>,
    /// `[d]`
    pub out_bias: Param<Tensor<1>>,
    /// On what the query has seen.
    pub mlp: Mlp,
    #[module(skip)]
    heads: usize,
}

impl MapHead {
    /// Of the encoder's width, heads and MLP.
    fn new(init: &Init<'_>, config: &VisionConfig) -> Self {
        let (dim, mlp) = (config.dim, init.at("mlp"));
        let norm = NormWeights::layer(&mlp.at("norm"), dim, config.norm_eps);
        Self {
            query: init.param("query", [1, dim], Initializer::Zeros),
            kv: init.param("kv", [dim, 2 * dim], Initializer::Zeros),
            kv_bias: init.param("kv_bias", [2 * dim], Initializer::Zeros),
            out: init.param("out", [dim, dim], Initializer::Zeros),
            out_bias: init.param("out_bias", [dim], Initializer::Zeros),
            mlp: Mlp::new(&mlp, norm, config.ffn, config.activation.into(), 1),
            heads: config.heads,
        }
    }

    /// `[n, p, d] -> [n, d]`
    fn forward(&self, compute: &Compute, patches: Tensor<3>) -> Tensor<2> {
        let ops = compute.ops();
        let [n, _, d] = patches.dims();
        let kv = ops.linear(patches, Affine::new(&self.kv, &self.kv_bias));
        let seen = ops.cross_attention(self.query.val().unsqueeze::<3>().expand([n, 1, d]), kv, self.heads);
        let seen = ops.linear(seen, Affine::new(&self.out, &self.out_bias));
        self.mlp.forward(compute, seen).squeeze_dim(1)
    }
}

/// Ids to vectors of the common space.
#[derive(Module, Debug)]
pub struct TextTower {
    /// `[v, d]`
    pub embedding: Param<Tensor<2>>,
    /// `[t, d]`
    pub position: Param<Tensor<2>>,
    /// The transformer.
    pub blocks: Vec<Block>,
    /// After the last block.
    pub norm: NormWeights,
    /// To the common space `[d, e]`.
    pub projection: Param<Tensor<2>>,
    /// `[e]`, SigLIP's.
    pub projection_bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    family: TowerFamily,
}

impl TextTower {
    fn new(init: &Init<'_>, config: &TowersConfig) -> Self {
        let TowersConfig { text, space, family, .. } = config;
        let (dim, siglip) = (text.dim, matches!(family, TowerFamily::Siglip { .. }));
        let heads = Heads { heads: text.heads, kv_heads: text.heads, width: dim / text.heads };
        let norm = |init: &Init<'_>| NormWeights::layer(&init.at("norm"), dim, text.norm_eps);
        let block = |layer: usize| {
            let init = init.at("blocks").at(layer);
            let (attention, mlp) = (init.at("attention"), init.at("mlp"));
            Block {
                attention: Attention::new(&attention, norm(&attention), heads, text.layers),
                mlp: Mlp::new(&mlp, norm(&mlp), text.ffn, text.activation.into(), text.layers),
            }
        };
        Self {
            embedding: init.param("embedding", [text.vocab, dim], Initializer::Zeros),
            position: init.param("position", [text.length, dim], Initializer::Zeros),
            blocks: (0..text.layers).map(block).collect(),
            norm: norm(init),
            projection: init.param("projection", [dim, *space], Initializer::Zeros),
            projection_bias: siglip.then(|| init.param("projection_bias", [*space], Initializer::Zeros)),
            family: *family,
        }
    }

    /// The most tokens of a text.
    pub fn length(&self) -> usize {
        self.position.dims()[0]
    }

    /// `[n, e]`, one row for each text.
    fn forward(&self, compute: &Compute, texts: &[Vec<u32>]) -> Result<Tensor<2>> {
        self.check(texts)?;
        let ends = texts.iter().map(|ids| self.end(ids)).collect::<Result<Vec<_>>>()?;
        let (layout, t, fill) = self.layout(texts);
        let (mut ids, n) = (Vec::with_capacity(texts.len() * t), texts.len());
        for text in texts {
            ids.extend_from_slice(text);
            ids.resize(ids.len() + t - text.len(), fill);
        }
        let x = compute.ops().embedding(&self.embedding.val(), &ids, n, t);
        let [_, _, d] = x.dims();
        let x = x + self.position.val().narrow(0, 0, t).unsqueeze::<3>();
        let x = self.blocks.iter().fold(x, |x, block| block.forward(compute, x, &layout, None));
        let ends: Vec<i64> = (0..n).zip(ends).map(|(row, end)| (row * t + end) as i64).collect();
        let ends = Tensor::<1, Int>::from_data(TensorData::new(ends, [n]), &x.device());
        // The norm works on each position alone: only those that are wanted need it.
        let ends = x.reshape([n * t, d]).select(0, ends).unsqueeze::<3>();
        let projection = Affine::with_optional_bias(&self.projection, self.projection_bias.as_ref());
        let vectors = compute.ops().norm_linear(ends, &self.norm.norm(), projection);
        Ok(vectors.squeeze_dim(0))
    }

    /// Which positions see which, the positions of a row, and the id of those behind a text.
    fn layout(&self, texts: &[Vec<u32>]) -> (Layout, usize, u32) {
        let n = texts.len();
        match self.family {
            TowerFamily::Siglip { pad } => (Layout::full(n, self.length(), Sight::All), self.length(), pad),
            TowerFamily::Clip { .. } => {
                let spans = texts.iter().enumerate();
                let spans = spans.map(|(row, ids)| Span { row, start: 0, len: ids.len() }).collect();
                let longest = texts.iter().map(Vec::len).max().unwrap_or_default();
                (Layout { spans, sight: Sight::Causal }, longest, 0)
            }
        }
    }

    fn check(&self, texts: &[Vec<u32>]) -> Result<()> {
        let ([vocab, _], most) = (self.embedding.dims(), self.length());
        for ids in texts {
            let tokens = ids.len();
            ensure!(tokens > 0, "a text without tokens, not even special ones");
            ensure!(tokens <= most, "a text of {tokens} tokens, where the tower has {most} positions");
            if let Some(id) = ids.iter().find(|&&id| id as usize >= vocab) {
                bail!("a text with the token {id}, where the tower knows {vocab}");
            }
        }
        Ok(())
    }

    /// The position whose state is the text's.
    fn end(&self, ids: &[u32]) -> Result<usize> {
        let TowerFamily::Clip { end } = self.family else { return Ok(self.length() - 1) };
        let end = end.or_else(|| ids.iter().copied().max());
        let found = ids.iter().position(|&id| Some(id) == end);
        found.with_context(|| format!("a text without the end token {}", end.unwrap_or_default()))
    }
}
