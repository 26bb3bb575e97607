//! Documents to batches: the four kinds of MM1's data, tokenised, packed and loaded in an exact order.

pub mod batch;
pub mod chat;
pub mod document;
pub mod image;
pub mod loader;
pub mod mixture;
pub mod pack;
mod prefetch;
pub mod question;
pub mod source;
pub mod tokenizer;
#[cfg(feature = "emoji")]
pub mod world;
