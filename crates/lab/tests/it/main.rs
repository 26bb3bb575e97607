//! Tests of the crate from outside.
#![expect(clippy::unwrap_used, reason = "tests")]

mod answers;
mod html;
mod law;
mod random;
mod report;
mod study;
