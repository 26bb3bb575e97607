//! [`LayerDecay`]: learning rates that fall from the last layer to the first.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use mm1_model::group::ParameterGroup;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Layer-wise decay of the learning rate, `optimizer.layer_decay` (BEiT, Bao et al. 2021; timm's
/// `layer_decay`). A parameter's rate is multiplied by `decay^(depth + 1 - layer)`: the last norm and the
/// head keep the rate, block i of `depth`, counted from 1, is layer i, and what comes before the first block
/// is layer 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LayerDecay {
    /// Of the image encoder; its layer 0 is the stem, the patch map, the positions and the class token.
    /// Unit: factor.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub vision: f64,
    /// Of the language model; its layer 0 is the embedding.
    /// Unit: factor.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub lm: f64,
}

impl Default for LayerDecay {
    /// The same rate in every layer.
    fn default() -> Self {
        Self { vision: 1.0, lm: 1.0 }
    }
}

/// Where in its part a parameter stands.
#[derive(Clone, Copy)]
enum Depth {
    /// Before the first block.
    Input,
    /// In the block of that number, from 0.
    Block(i32),
    /// After the last block.
    Output,
}

/// What comes before the first block, by the name that follows the part's. All but blocks and these come
/// after the last block.
const INPUTS: [&str; 7] = ["stem", "patch", "patch_bias", "position", "class_token", "pre_norm", "embedding"];

impl LayerDecay {
    /// The factor on the learning rate of each of `paths`, all parameters of a model: the number of blocks
    /// follows from them.
    pub fn factors<'a>(&self, paths: impl IntoIterator<Item = &'a String>) -> BTreeMap<String, f64> {
        let placed: Vec<_> = paths.into_iter().map(|path| (path, placed(path))).collect();
        let blocks = |part| {
            let of_part = placed.iter().filter(|(_, (group, _))| *group == Some(part));
            let ends = of_part.map(|(_, (_, depth))| if let Depth::Block(i) = depth { i + 1 } else { 0 });
            ends.max().unwrap_or_default()
        };
        let (vision, lm) = (blocks(ParameterGroup::Vision), blocks(ParameterGroup::Lm));
        let factor = |(group, depth)| {
            let (decay, blocks) = match group {
                Some(ParameterGroup::Vision) => (self.vision, vision),
                Some(ParameterGroup::Lm) => (self.lm, lm),
                Some(ParameterGroup::Connector) | None => return 1.0,
            };
            match depth {
                Depth::Input => decay.powi(blocks + 1),
                Depth::Block(i) => decay.powi(blocks - i),
                Depth::Output => 1.0,
            }
        };
        placed.iter().map(|&(path, place)| (path.clone(), factor(place))).collect()
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// One line that names the field.
    pub(crate) fn check(&self) -> Result<()> {
        for (field, value) in [("vision", self.vision), ("lm", self.lm)] {
            ensure!(
                value > 0.0 && value <= 1.0,
                "optimizer.layer_decay.{field} = {value} must be above 0 and at most 1; 0.65 to 0.9 are usual"
            );
        }
        Ok(())
    }
}

/// The part of the network that a parameter belongs to, and where in it.
fn placed(path: &str) -> (Option<ParameterGroup>, Depth) {
    let mut names = path.split('.').skip(1);
    let depth = match (names.next(), names.next().and_then(|name| name.parse().ok())) {
        (Some("blocks"), Some(block)) => Depth::Block(block),
        (Some(name), _) if INPUTS.contains(&name) => Depth::Input,
        _ => Depth::Output,
    };
    (ParameterGroup::of(path), depth)
}
