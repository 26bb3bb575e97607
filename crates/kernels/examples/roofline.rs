//! What this machine can do, and how near the matrix product comes: one JSON object.
//!
//!     cargo run --release -p mm1-kernels --example roofline
//!
//! Each figure is the best of several tries: what else runs on the machine only takes away from it.

use std::hint::black_box;
use std::time::Instant;

use mm1_kernels::cpu::{self, Isa};
use mm1_kernels::gemm::{Matrix, MatrixMut, Precision, gemm};

/// Shapes (m, n, k) of a 34M decoder's step: forward, gradient of a weight, vocabulary; of the quickstart; of a ViT.
const SHAPES: [[usize; 3]; 7] = [
    [2048, 1536, 512],
    [2048, 512, 1408],
    [512, 2816, 2048],
    [512, 8192, 512],
    [1536, 704, 128],
    [128, 512, 1024],
    [3136, 1536, 384],
];

/// Floats of the largest array: far more than any cache.
const ARRAY: usize = 1 << 26;

fn main() {
    let mut rates = Vec::new();
    for threads in [1, 2] {
        for (name, precision) in [("f32", Precision::F32), ("bf16", Precision::Bf16)] {
            for [m, n, k] in SHAPES {
                let rate = cpu::with_isa(Isa::fastest(), threads, || product(precision, [m, n, k]));
                rates.push(format!(
                    r#"{{"threads": {threads}, "precision": "{name}", "shape": [{m}, {n}, {k}], "gflops": {rate:.0}}}"#
                ));
            }
        }
    }
    let bandwidth = [1, 2].map(|threads| cpu::with_isa(Isa::fastest(), threads, read_bandwidth));
    println!(
        r#"{{"isa": "{}", "read_gb_per_second": [{:.1}, {:.1}], "products": [{}]}}"#,
        Isa::fastest().name(),
        bandwidth[0],
        bandwidth[1],
        rates.join(", ")
    );
}

/// GFLOP/s of one product.
fn product(precision: Precision, [m, n, k]: [usize; 3]) -> f64 {
    let values = |len: usize| (0..len).map(|i| (i % 17) as f32 - 8.0).collect::<Vec<_>>();
    let (a, b, mut c) = (values(m * k), values(k * n), vec![0.0; m * n]);
    best(9, || {
        let c = MatrixMut::new(&mut c, m, n);
        gemm(precision, Matrix::new(&a, m, k), Matrix::new(&b, k, n), c, false);
    })
    .recip()
        * 2e-9
        * (m * n * k) as f64
}

/// GB/s of reading memory.
fn read_bandwidth() -> f64 {
    let data = vec![1f32; ARRAY];
    let seconds = best(5, || {
        black_box(cpu::map_rows(ARRAY, ARRAY / 64, |piece| {
            data[piece].as_chunks::<64>().0.iter().fold([0f32; 64], |mut sums, chunk| {
                sums.iter_mut().zip(chunk).for_each(|(sum, x)| *sum += x);
                sums
            })
        }));
    });
    4e-9 * ARRAY as f64 / seconds
}

/// The least seconds of some tries.
fn best(tries: usize, mut f: impl FnMut()) -> f64 {
    let seconds = (0..tries).map(|_| {
        let started = Instant::now();
        f();
        started.elapsed().as_secs_f64()
    });
    seconds.fold(f64::INFINITY, f64::min)
}
