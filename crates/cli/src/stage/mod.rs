//! The stations of a run.

pub(crate) mod evaluate;
pub(crate) mod model;
mod pair;
pub(crate) mod probe;
pub(crate) mod train;
