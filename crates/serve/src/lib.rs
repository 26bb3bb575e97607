//! Generation: prompts of text and pictures in, text out, over a key-value cache.
//!
//! [`generate::Generator`] answers many prompts side by side, [`session::Session`] talks with one person,
//! [`engine::Engine`] answers whoever asks, whenever they come.
//! What comes out is a pure function of the prompt, its index and the options: it depends on no neighbour in
//! the batch.

mod answer;
pub mod engine;
pub mod generate;
pub mod grammar;
pub mod http;
mod input;
pub mod likelihood;
pub mod log_probs;
mod options;
pub mod penalties;
pub mod prompts;
pub mod sampler;
pub mod session;
pub mod towers;
