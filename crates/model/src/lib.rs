//! The network: vision encoder, connector, decoder; knows tensors, and no file but weights.
//!
//! Shapes in this crate: `b` rows, `t` positions, `n` pictures (or new tokens in one row), `p` patches, `k`
//! image tokens, `d` width, `h` heads, `g` key-value heads, `c` head width, `f` hidden width, `v` vocabulary,
//! `s` the side of a picture in pixels. Weight matrices are stored `[in, out]`; pictures and maps are
//! channels last.

pub mod adapted;
pub mod adapter;
pub mod aim;
pub mod alignment;
pub mod attention;
mod block_names;
pub mod cache;
pub mod clip;
pub mod compute;
pub mod config;
pub mod connector;
pub mod device;
pub mod dino;
pub mod export;
pub mod gguf;
mod glances;
pub mod group;
pub mod import;
pub mod init;
pub mod lm;
mod lm_config;
pub mod memory;
pub mod mlp;
pub mod mm1;
pub mod ops;
pub mod peft;
pub mod positions;
pub mod rope;
mod rope_factors;
mod sight;
pub mod superclass;
mod tensor_file;
pub mod towers;
pub mod verify;
pub mod vision;
pub mod walk;
pub mod weight;
mod weight_file;
pub mod weights;

pub use cache::{Cache, CachedSequence};
pub use compute::Compute;
pub use config::Mm1Config;
pub use mm1::{Input, Mm1, PictureContent, Piece, Placed};
pub use ops::{Layout, Sight, Span};
