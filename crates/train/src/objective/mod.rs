//! What a step minimises, one file each.

pub mod clip;
pub mod language;
