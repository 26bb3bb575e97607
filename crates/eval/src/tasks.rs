//! The benchmarks, one file each.

pub mod folder;
#[cfg(feature = "emoji")]
pub mod scenes;
