//! The benchmarks, one file each.

#[cfg(feature = "emoji")]
pub mod scenes;
pub mod source;
