//! The vision-language connectors of the paper (section 3.1): patch features in, a fixed number of image tokens of the
//! decoder's width out.

mod attention_pool;
mod avg_pool;
mod c_abstractor;

use burn::module::Module;
use burn::tensor::Tensor;

use crate::config::{ConnectorConfig, Mm1Config};
use crate::init::Init;
pub use attention_pool::AttentionPool;
pub use avg_pool::AvgPool;
pub use c_abstractor::{Abstraction, CAbstractor, Shortcut};

/// One of the three.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a network has one")]
pub enum Connector {
    /// Average pooling.
    AvgPool(AvgPool),
    /// Attention pooling.
    AttentionPool(AttentionPool),
    /// C-Abstractor.
    CAbstractor(CAbstractor),
}

impl Connector {
    /// `config` must have passed its check.
    pub fn new(init: &Init<'_>, config: &Mm1Config) -> Self {
        let (vision, out) = (&config.vision, config.lm.dim);
        match config.connector {
            ConnectorConfig::AveragePool { tokens } => {
                Self::AvgPool(AvgPool::new(init, vision.dim, tokens.isqrt(), out))
            }
            ConnectorConfig::AttentionPool { tokens, heads } => {
                Self::AttentionPool(AttentionPool::new(init, vision, (tokens, heads), out))
            }
            ConnectorConfig::CAbstractor { tokens, dim, depth } => {
                Self::CAbstractor(CAbstractor::new(init, vision, (tokens.isqrt(), dim, depth), out))
            }
        }
    }

    /// `[n, h w, d] -> [n, k, D]`, the patches of a `grid` of h rows and w columns, row by row.
    pub fn forward(&self, features: Tensor<3>, grid: [usize; 2]) -> Tensor<3> {
        match self {
            Self::AvgPool(connector) => connector.forward(features, grid),
            Self::AttentionPool(connector) => connector.forward(features),
            Self::CAbstractor(connector) => connector.forward(features, grid),
        }
    }
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
