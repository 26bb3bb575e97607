//! Documents to batches: the four kinds of MM1's data, tokenised, packed and loaded in an exact order.

pub mod batch;
pub mod document;
