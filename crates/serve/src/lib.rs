//! Generation: prompts of text and pictures in, text out, over a key-value cache.
//!
//! [`generate::Generator`] answers many prompts side by side, [`session::Session`] talks with one person.
//! What comes out is a pure function of the prompt, its index and the options: it depends on no neighbour in
//! the batch.

mod answer;
pub mod generate;
mod input;
pub mod likelihood;
mod options;
pub mod prompts;
pub mod sampler;
pub mod session;
