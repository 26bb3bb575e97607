//! Generation with a tiny random model.
#![expect(clippy::unwrap_used, reason = "tests")]

mod case;
mod generate;
mod likelihood;
mod session;
mod tiles;
