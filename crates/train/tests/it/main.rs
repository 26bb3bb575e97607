//! Tests of the training crate, in one binary.

mod checkpoint;
mod clip;
mod golden;
mod law;
mod optim;
mod schedule;
mod step;
mod toy;
