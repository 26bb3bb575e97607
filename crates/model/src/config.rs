//! The shape of the whole network, as a recipe writes it and a checkpoint keeps it. The shape of a part
//! stands beside the part: [`VisionConfig`], [`ConnectorConfig`], [`LmConfig`].

use std::path::PathBuf;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::connector::ConnectorConfig;
use crate::lm::LmConfig;
use crate::memory::{self, Activations, Load, TrainedParts, Training};
use crate::vision::{VisionConfig, required_without_origin};

/// The whole network, `[model]`: image encoder, connector, decoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = required_without_origin)]
pub struct Mm1Config {
    /// A folder with a whole model, as `mm1 export --format hf` and `mm1 import` write it: encoder, connector
    /// and decoder begin with its weights, pictures and tokenizer are its own. By default each part has its
    /// own origin, or is drawn from the seed. It settles the other fields, which may then be left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
    /// The image encoder.
    pub vision: VisionConfig,
    /// The vision-language connector.
    pub connector: ConnectorConfig,
    /// The decoder-only language model.
    pub lm: LmConfig,
}

impl Mm1Config {
    /// Checks every relation between the sizes.
    ///
    /// # Errors
    /// One line that names the field and what it must be.
    pub fn check(&self) -> Result<()> {
        self.vision.check()?;
        self.lm.check()?;
        self.connector.check(&self.vision, &self.lm)
    }

    /// Image tokens for a picture of the model's size.
    pub fn image_tokens(&self) -> usize {
        self.connector.tokens([self.vision.grid(); 2])
    }

    /// Image tokens for a picture of this height and width in pixels, whole patches.
    pub fn image_tokens_of(&self, size: [usize; 2]) -> usize {
        self.connector.tokens(size.map(|side| side / self.vision.patch))
    }

    /// Vectors that the connector makes of a picture of this height and width, and their width: its image
    /// tokens, or its latents where the decoder looks at pictures beside its sequence.
    pub(crate) fn connector_output_of(&self, size: [usize; 2]) -> [usize; 2] {
        match &self.connector {
            ConnectorConfig::CrossAttention(config) => [config.latents, self.vision.dim],
            _ => [self.image_tokens_of(size), self.lm.dim],
        }
    }

    /// What a sequence keeps of a picture beside its positions: keys and values of the gated layers.
    /// Unit: bytes.
    pub fn picture_cache_bytes(&self) -> usize {
        match &self.connector {
            ConnectorConfig::CrossAttention(config) => {
                let values = config.gated_layers(self.lm.layers) * config.latents * 2 * self.lm.dim;
                values * size_of::<f32>()
            }
            _ => 0,
        }
    }

    /// Bytes of activations in a training step of the whole model, at its peak.
    ///
    /// # Panics
    /// Where [`Self::check`] fails.
    pub fn activation_bytes(&self, load: Load, trained: TrainedParts<'_>) -> u64 {
        let [vision, connector] = self.picture_activations(load, trained);
        let loss = memory::cross_entropy(load.positions, [self.lm.dim, self.lm.vocab()], trained.lm);
        let gated = match &self.connector {
            ConnectorConfig::CrossAttention(config) => config.position_activations(&self.lm, load),
            _ => Activations { saved: 0, temporary: 0 },
        };
        memory::peak_bytes([vision, connector, gated, self.lm.activations(load, trained.lm), loss])
    }

    /// The same of image encoder and connector beside the embeddings of captions ([`crate::alignment`]).
    ///
    /// # Panics
    /// Where [`Self::check`] fails.
    pub fn alignment_bytes(&self, load: Load, trained: TrainedParts<'_>) -> u64 {
        let [vision, connector] = self.picture_activations(load, trained);
        let image_tokens = load.images * self.connector.caption_tokens([self.vision.grid(); 2]);
        let words = memory::cross_entropy(image_tokens, [self.lm.dim, self.lm.vocab()], trained.lm);
        // Image tokens, those scaled to logits, and their distances from the embeddings.
        let floats = image_tokens * self.lm.dim;
        let distance = Activations { saved: 3 * floats, temporary: floats };
        memory::peak_bytes([vision, connector, words, distance])
    }

    /// Those of the parts that pictures go through before the decoder.
    fn picture_activations(&self, load: Load, trained: TrainedParts<'_>) -> [Activations; 2] {
        let vision = self.vision.activations(load, trained.vision);
        let connector = self.connector.activations(&self.vision, &self.lm).times(load.images, load);
        // Pictures come first: where nothing of a part and before it is trained, no gradient gets there.
        [
            if trained.reach_vision() { vision } else { vision.unsaved() },
            if trained.reach_connector() { connector } else { connector.unsaved() },
        ]
    }

    /// The same of the image encoder and a classifier with an output for each token of the vocabulary.
    ///
    /// # Panics
    /// Where [`Self::check`] fails.
    pub fn encoder_bytes(&self, load: Load) -> u64 {
        let loss = memory::cross_entropy(load.positions, [self.vision.dim, self.lm.vocab()], Training::Whole);
        memory::peak_bytes([self.vision.activations(load, Training::Whole), loss])
    }
}
