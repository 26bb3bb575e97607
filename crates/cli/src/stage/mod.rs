//! The stages of a run, one file each.

pub(crate) mod evaluate;
pub(crate) mod model;
mod pair;
pub(crate) mod probe;
pub(crate) mod train;
