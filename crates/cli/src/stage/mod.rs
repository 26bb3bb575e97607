//! The stages of a run, one file each.

mod dual_encoder;
pub(crate) mod evaluate;
pub(crate) mod model;
pub(crate) mod probe;
pub(crate) mod train;
