//! Generation with a tiny random model.
#![expect(clippy::unwrap_used, reason = "tests")]

mod case;
mod engine;
mod generate;
mod http;
mod likelihood;
mod requests;
mod session;
mod tiles;
