//! Tests of the network.

#![expect(clippy::unwrap_used, reason = "a test may stop at once")]

mod adapter;
mod case;
mod cross_attention;
mod export;
mod extend;
mod fused;
mod gguf;
mod golden;
mod gradient;
mod hook;
mod import;
mod init;
mod lm;
mod objectives;
mod ops;
mod packing;
mod refuse;
mod sums;
mod towers;
mod vision;
mod weights;
mod whole;
