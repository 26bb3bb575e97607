//! Each kernel beside its definition in f64.

mod activation;
mod adamw;
mod allocator;
mod arena;
mod attention;
mod check;
mod conv;
mod dropout;
mod embedding;
mod gate;
mod gemm;
mod head_norm;
mod loss;
mod norm;
mod q8_0;
mod rows;
