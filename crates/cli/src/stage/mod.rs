//! The stations of a run.

pub(crate) mod evaluate;
pub(crate) mod model;
pub(crate) mod probe;
pub(crate) mod train;
