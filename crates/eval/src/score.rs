//! Metrics, each equal to its reference implementation.

pub mod bootstrap;
pub mod cider;
pub mod exact;
pub mod letter;
pub mod open;
pub mod ptb;
pub mod vqa;
pub mod yes_no;
