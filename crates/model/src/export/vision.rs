//! The image encoder in other programs: what its parameters become.

use anyhow::{Context as _, Result, bail};

use super::part::{ExportedPart, ParameterPart, columns, joined, whole};
use crate::block_names::{self, BlockNames};
use crate::vision::{Stem, VisionConfig};

/// How a file calls the tensors of an image encoder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VisionNames {
    /// Before everything.
    pub(crate) prefix: &'static str,
    pub(crate) patch: &'static str,
    pub(crate) position: PositionTable,
    pub(crate) class_token: &'static str,
    /// Before the first block.
    pub(crate) pre_norm: &'static str,
    pub(crate) block: BlockNames,
    /// After the last block.
    pub(crate) norm: &'static str,
}

/// The table of positions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PositionTable {
    pub(crate) name: &'static str,
    /// Whether it is one of twice the side ([`ParameterPart::Doubled`]).
    pub(crate) doubled: bool,
}

/// Those of SigLIP's image encoder at Hugging Face. Class token and norm before the blocks are CLIP's, which
/// has the same names otherwise; that one is misspelled there.
pub(crate) const SIGLIP: VisionNames = VisionNames {
    prefix: "vision_model.",
    patch: "embeddings.patch_embedding",
    position: PositionTable { name: "embeddings.position_embedding.weight", doubled: false },
    class_token: "embeddings.class_embedding",
    pre_norm: "pre_layrnorm",
    block: block_names::CLIP,
    norm: "post_layernorm",
};

/// Those of DINOv2's.
pub(crate) const DINOV2: VisionNames = VisionNames {
    prefix: "",
    patch: "embeddings.patch_embeddings.projection",
    position: PositionTable { name: "embeddings.position_embeddings", doubled: false },
    class_token: "embeddings.cls_token",
    block: block_names::DINOV2,
    norm: "layernorm",
    ..SIGLIP
};

impl VisionNames {
    /// What the encoder's parameter at `path` of this shape becomes.
    ///
    /// # Errors
    /// A parameter that has no place.
    pub(crate) fn places(
        &self,
        path: &str,
        shape: &[usize],
        config: &VisionConfig,
    ) -> Result<Vec<ExportedPart>> {
        if let Some((layer, rest)) = path.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) {
            return self.places_in_block(&format!("{}.{layer}", self.block.blocks), rest, shape);
        }
        if let Some((stage, rest)) = path.strip_prefix("stem.").and_then(|rest| rest.split_once('.')) {
            return self.places_in_stem(&format!("stem.{stage}"), rest, shape);
        }
        let name = |name: &str| format!("{}{name}", self.prefix);
        Ok(match path {
            "patch" if config.stem == Stem::Patch => {
                let shape = vec![shape[1], 3, config.patch, config.patch];
                vec![kernel(name(&format!("{}.weight", self.patch)), shape)]
            }
            "patch" => columns(shape[0], vec![(name(&format!("{}.weight", self.patch)), shape[1], None)]),
            "patch_bias" => whole(name(&format!("{}.bias", self.patch)), shape),
            "position" if self.position.doubled => {
                let (name, shape) = (name(self.position.name), vec![4 * shape[0], shape[1]]);
                vec![ExportedPart { name, shape, part: ParameterPart::Doubled }]
            }
            "position" => whole(name(self.position.name), shape),
            "class_token" => whole(name(self.class_token), shape),
            "norm.gamma" | "norm.beta" => self.norm(self.norm, path, shape)?,
            "pre_norm.gamma" | "pre_norm.beta" => self.norm(self.pre_norm, path, shape)?,
            _ => bail!("it has no place in the file"),
        })
    }

    fn places_in_block(&self, block: &str, path: &str, shape: &[usize]) -> Result<Vec<ExportedPart>> {
        let name = |part: &str, kind: &str| format!("{}{block}.{part}.{kind}", self.prefix);
        let part = match path.trim_end_matches("_bias") {
            "attention.norm.gamma" | "attention.norm.beta" => {
                return self.norm(&format!("{block}.{}", self.block.norms[0]), path, shape);
            }
            "mlp.norm.gamma" | "mlp.norm.beta" => {
                return self.norm(&format!("{block}.{}", self.block.norms[1]), path, shape);
            }
            "attention.qkv" if path.ends_with("_bias") => {
                let vector = |part| (name(part, "bias"), shape[0] / 3);
                return Ok(joined(self.block.qkv.map(vector).into()));
            }
            "attention.qkv" => {
                let map = |part| (name(part, "weight"), shape[1] / 3, None);
                return Ok(columns(shape[0], self.block.qkv.map(map).into()));
            }
            "attention.out" => self.block.out,
            "mlp.up" => self.block.up,
            "mlp.down" => self.block.down,
            _ => bail!("it has no place in the file"),
        };
        Ok(match path.ends_with("_bias") {
            true => whole(name(part, "bias"), shape),
            false => columns(shape[0], vec![(name(part, "weight"), shape[1], None)]),
        })
    }

    fn places_in_stem(&self, stage: &str, path: &str, shape: &[usize]) -> Result<Vec<ExportedPart>> {
        match path {
            "weight" => {
                let name = format!("{}{stage}.conv.weight", self.prefix);
                Ok(vec![kernel(name, vec![shape[1], shape[0] / 9, 3, 3])])
            }
            _ => self.norm(&format!("{stage}.norm"), path, shape),
        }
    }

    /// A LayerNorm's part at `path`.
    fn norm(&self, theirs: &str, path: &str, shape: &[usize]) -> Result<Vec<ExportedPart>> {
        let kind = norm_part(path).context("it is no part of a norm")?;
        Ok(whole(format!("{}{theirs}.{kind}", self.prefix), shape))
    }
}

/// How PyTorch calls the part of a norm at `path`.
pub(crate) fn norm_part(path: &str) -> Option<&'static str> {
    match path.rsplit('.').next()? {
        "gamma" => Some("weight"),
        "beta" => Some("bias"),
        _ => None,
    }
}

/// A convolution of this shape: `[out, in, y, x]`.
pub(crate) fn kernel(name: String, shape: Vec<usize>) -> ExportedPart {
    ExportedPart { name, shape, part: ParameterPart::Kernel }
}
