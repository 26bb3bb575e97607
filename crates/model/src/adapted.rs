//! A network with adapters: how it gets them, what of it is trained then, and how they become part of its
//! weights.

use crate::adapter::{AdapterConfig, AdapterPart};
use crate::init::Init;
use crate::mlp::Block;
use crate::mm1::Mm1;
use crate::vision::Vision;
use crate::weights;

/// What the paths of all adapters' parameters have in them, and no others.
const FIELD: &str = ".adapter.";

/// `model` with new adapters in the parts that `config` names, in place of those that it has. They change no
/// result until they are trained. Their first values are a function of `seed` and their path.
pub fn with_adapters(mut model: Mm1, config: &AdapterConfig, seed: u64) -> Mm1 {
    let device = model.device();
    let init = Init::new(seed, &device);
    if config.parts.contains(&AdapterPart::Lm) {
        model.lm.blocks = blocks(model.lm.blocks, &init.at("lm"), config);
    }
    model.vision = encoder_with_adapters(model.vision, config, seed);
    model
}

/// The same of an image encoder alone.
pub fn encoder_with_adapters(mut vision: Vision, config: &AdapterConfig, seed: u64) -> Vision {
    if config.parts.contains(&AdapterPart::Vision) {
        let device = vision.device();
        vision.blocks = blocks(vision.blocks, &Init::new(seed, &device).at("vision"), config);
    }
    vision
}

fn blocks(blocks: Vec<Block>, init: &Init<'_>, config: &AdapterConfig) -> Vec<Block> {
    let init = init.at("blocks");
    blocks.into_iter().enumerate().map(|(i, block)| block.with_adapters(&init.at(i), config)).collect()
}

/// `model` with its adapters as part of its weights: an ordinary model, of the same results but for rounding.
pub fn merged(mut model: Mm1) -> Mm1 {
    model.lm.blocks = model.lm.blocks.into_iter().map(Block::merged).collect();
    model.vision = merged_encoder(model.vision);
    model
}

/// The same of an image encoder alone.
pub fn merged_encoder(mut vision: Vision) -> Vision {
    vision.blocks = vision.blocks.into_iter().map(Block::merged).collect();
    vision
}

/// `model` without its adapters: the weights that they stand beside.
pub fn base(mut model: Mm1) -> Mm1 {
    model.lm.blocks = model.lm.blocks.into_iter().map(Block::without_adapters).collect();
    model.vision.blocks = model.vision.blocks.into_iter().map(Block::without_adapters).collect();
    model
}

/// Whether the parameter at `path` of `model` is trained: in a part with adapters they alone are.
pub fn trains(model: &Mm1, path: &str) -> bool {
    let part = match path.split_once('.') {
        Some(("vision", _)) => &model.vision.blocks,
        Some(("lm", _)) => &model.lm.blocks,
        _ => return true,
    };
    path.contains(FIELD) || !part.iter().any(Block::has_adapters)
}

/// The number of parameters of `model`'s adapters in `part`. No value is drawn for it.
pub fn parameters(model: &Mm1, part: AdapterPart) -> usize {
    let shapes = weights::shapes(model).into_iter();
    let own = shapes.filter(|(path, _)| path.contains(FIELD) && path.split('.').next() == Some(part.name()));
    own.map(|(_, shape)| shape.iter().product::<usize>()).sum()
}
