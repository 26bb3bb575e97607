//! The parts of the network that a recipe can freeze or give a learning rate of their own, and their sizes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::mm1::Mm1;
use crate::weights;

/// A part of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ParameterGroup {
    /// The image encoder.
    Vision,
    /// The vision-language connector.
    Connector,
    /// The decoder, with embedding and head.
    Lm,
}

impl ParameterGroup {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Vision, Self::Connector, Self::Lm];

    /// As a recipe writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vision => "vision",
            Self::Connector => "connector",
            Self::Lm => "lm",
        }
    }

    /// The group of the parameter at `path`; `None` where `path` is not a parameter of the network.
    pub fn of(path: &str) -> Option<Self> {
        let first = path.split('.').next();
        Self::ALL.into_iter().find(|group| first == Some(group.name()))
    }
}

/// Numbers of parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ParameterCounts {
    /// Of the image encoder.
    pub vision: usize,
    /// Of the connector.
    pub connector: usize,
    /// Of the decoder, without embedding and head: the paper's N.
    pub lm: usize,
    /// Of embedding and head.
    pub embedding: usize,
}

impl ParameterCounts {
    /// Those of a network, from its shapes: no value is drawn.
    pub fn of(model: &Mm1) -> Self {
        let mut counts = Self::default();
        for (path, shape) in weights::shapes(model) {
            let count: usize = shape.iter().product();
            // The paper's law of the learning rate counts the decoder without its embedding and its head.
            match ParameterGroup::of(&path) {
                Some(ParameterGroup::Vision) => counts.vision += count,
                Some(ParameterGroup::Connector) => counts.connector += count,
                _ if path == "lm.embedding" || path == "lm.head" => counts.embedding += count,
                _ => counts.lm += count,
            }
        }
        counts
    }

    /// All together.
    pub fn total(&self) -> usize {
        self.vision + self.connector + self.lm + self.embedding
    }
}
