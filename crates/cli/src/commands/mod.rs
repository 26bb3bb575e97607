//! One file a command.

pub(crate) mod ablate;
pub(crate) mod chat;
pub(crate) mod data;
pub(crate) mod eval;
pub(crate) mod plan;
pub(crate) mod run;
pub(crate) mod score;
