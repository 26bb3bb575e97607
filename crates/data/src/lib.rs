//! Documents to batches: the four kinds of MM1's data, tokenised, packed and loaded in an exact order.

pub mod augment;
pub mod batch;
pub mod chat;
pub mod document;
pub mod examine;
pub mod filter;
pub mod footprint;
pub mod foreign;
pub mod fusion;
pub mod image;
pub mod import;
pub mod index;
pub mod left_out;
pub mod likelihood;
pub mod loader;
pub mod mixture;
mod order;
pub mod pack;
pub mod packed_page;
pub mod printable;
pub mod question;
pub mod recaption;
pub mod redact;
pub mod regular_file;
pub mod shard;
pub mod show;
pub mod source;
pub mod statistics;
pub mod store;
pub mod text_file;
pub mod tokenizer;
mod tokenizer_file;
pub mod verify;
pub mod whole_file;
#[cfg(feature = "emoji")]
pub mod world;
pub mod wrong_content;
