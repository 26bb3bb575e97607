//! GGUF, the file of llama.cpp and of programs that are built on it: metadata, and tensors of numbers or of
//! blocks of numbers (docs/gguf.md of ggml).
//!
//! [`GgufFile::open`] reads a file, [`write()`] makes one, [`write_language_model`] one that llama.cpp loads,
//! [`write_projector`] the encoder beside it.
//! A file is little-endian:
//!
//! | what | as |
//! |---|---|
//! | magic, version | `GGUF`, u32 |
//! | number of tensors, of metadata | u64, u64 |
//! | each of the metadata | key, u32 type, value |
//! | each tensor | name, u32 sides, each side as u64 (the innermost first), u32 type, u64 offset |
//! | the tensors | from the next multiple of the alignment on, each at one |
//!
//! A text is its length as u64 and UTF-8, a list its u32 type, its length as u64 and its values.
//
// Rejected: `ggus` and `gguf-rs-lib` read containers but no block; `ggml-quants` has no K-quants;
// `candle-core` has them all, inside of a second tensor engine.

mod blocks;
mod dequantise;
mod file;
mod header;
mod k_blocks;
mod language_model;
mod metadata;
mod projector;
mod quantise;
mod tensor_type;
mod tokenizer;
mod writer;

pub use file::{GgufFile, GgufTensor};
pub use language_model::{GgufLanguageModel, write_language_model};
pub use metadata::{MetadataValue, NumberType, PackedNumbers};
pub use projector::{GgufProjector, ProjectorForm, write_projector};
pub use tensor_type::TensorType;
pub use tokenizer::StoredTokenizer;
pub use writer::{TensorSpec, TensorWriter, write};

/// The first bytes of a file.
pub(crate) const MAGIC: [u8; 4] = *b"GGUF";

/// Where tensors begin by default.
/// Unit: bytes.
const ALIGNMENT: u64 = 32;
