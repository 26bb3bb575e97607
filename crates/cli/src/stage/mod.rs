//! The stages of a run, one file each.

pub(crate) mod dual_encoder;
pub(crate) mod evaluate;
pub(crate) mod measure;
pub(crate) mod model;
mod objective;
pub(crate) mod probe;
pub(crate) mod recaption;
mod step_log;
pub(crate) mod train;
