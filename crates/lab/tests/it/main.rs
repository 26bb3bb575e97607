//! Tests of the crate from outside.
#![expect(clippy::unwrap_used, reason = "tests")]

mod answers;
mod comparison;
mod events;
mod findings;
mod grid;
mod html;
mod law;
mod law_folders;
mod random;
mod report;
mod study;
mod tensorboard;
