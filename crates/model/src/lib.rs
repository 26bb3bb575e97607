//! The network: vision encoder, connector, decoder; knows tensors, and no file but weights.
//!
//! Shapes in this crate: `b` rows, `t` positions, `n` pictures, `p` patches, `k` image tokens, `d` width,
//! `h` heads, `g` key-value heads, `c` head width, `f` hidden width, `v` vocabulary.

pub mod config;
