//! Kernels of our own for GPUs, written in cubecl: buffers in, buffers out. They run on every device of the
//! engine but the CPU. The crate is empty without its feature `cubecl`, as in the ordinary build.

#[cfg(feature = "cubecl")]
pub mod activation;
#[cfg(feature = "cubecl")]
pub mod adamw;
#[cfg(feature = "cubecl")]
pub mod cross_entropy;
#[cfg(feature = "cubecl")]
pub mod heads;
#[cfg(feature = "cubecl")]
pub mod linear;
#[cfg(feature = "cubecl")]
pub mod norm;
#[cfg(feature = "cubecl")]
mod number;
#[cfg(feature = "cubecl")]
mod rows;

#[cfg(feature = "cubecl")]
pub use cubecl::client::Client;
#[cfg(feature = "cubecl")]
pub use cubecl::prelude::BufferArg;
#[cfg(feature = "cubecl")]
pub use number::Number;
