//! The benchmarks, one file each.

pub mod benchmark;
#[cfg(feature = "emoji")]
pub mod scenes;
pub mod source;
