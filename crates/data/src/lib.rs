//! Documents to batches: the four kinds of MM1's data, tokenised, packed and loaded in an exact order.

pub mod batch;
pub mod cache;
pub mod chat;
pub mod document;
pub mod filter;
pub mod image;
pub mod index;
mod lease;
pub mod loader;
pub mod mixture;
mod order;
pub mod pack;
mod prefetch;
pub mod question;
mod remote;
pub mod shard;
pub mod source;
pub mod store;
pub mod tokenizer;
#[cfg(feature = "emoji")]
pub mod world;
