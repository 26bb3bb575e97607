//! Tests of the training crate, in one binary.

#![expect(clippy::unwrap_used, reason = "a test fails where something is missing")]

mod alignment;
mod checkpoint;
mod encoder;
mod golden;
mod law;
mod layer_decay;
mod optim;
mod ranks;
mod schedule;
mod step;
mod toy;
