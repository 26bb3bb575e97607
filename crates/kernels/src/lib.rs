//! Slices in, slices out: matrix product, attention, norms, activations and the loss on a CPU; the one place
//! with unsafe code.
//!
//! No result depends on the number of threads: work is split into pieces of a fixed size, and sums are added
//! in a fixed order. One source text is compiled for several instruction sets, and the best is chosen at run
//! time ([`cpu::isa`]).

pub mod allocator;
pub mod arena;
pub mod attention;
mod buffer;
pub mod cpu;
pub mod gemm;
mod math;
mod number;
#[cfg(target_arch = "x86_64")]
mod tile_unit;

pub mod activation;
pub mod adamw;
pub mod conv;
pub mod depthwise;
pub mod dropout;
pub mod embedding;
pub mod gate;
pub mod head_norm;
pub mod loss;
pub mod norm;
pub mod pool;
pub mod rows;

pub use number::Stored;
