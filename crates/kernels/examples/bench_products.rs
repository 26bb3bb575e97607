//! What this machine can do, and how near the matrix product comes: one JSON object.
//!
//!     cargo run --release -p mm1-kernels --example bench_products
//!
//! `MM1_ISA` chooses the instruction set. Of a product, the best of some tries and the median: what else runs
//! on the machine only takes away. Packing of operands is counted in. In bf16, A and the product lie in
//! memory in bfloat16 and B in f32, as activations and a weight do in training.

use half::bf16;
use mm1_kernels::cpu;
use mm1_kernels::gemm::{Elements, ElementsMut, Matrix, MatrixMut, Precision, gemm};
use std::hint::black_box;
use std::time::Instant;

/// Shapes (m, n, k) of a 34M decoder's step: forward, gradient of a weight, vocabulary; of the quickstart; of
/// a ViT; and of a decoder that writes one token.
const SHAPES: [[usize; 3]; 8] = [
    [2048, 1536, 512],
    [2048, 512, 1408],
    [512, 2816, 2048],
    [512, 8192, 512],
    [1536, 704, 128],
    [128, 512, 1024],
    [3136, 1536, 384],
    [1, 1536, 512],
];

/// Floats of the largest array: far more than any cache.
const ARRAY: usize = 1 << 26;
/// Seconds for one product, about.
const SECONDS: f64 = 0.3;

fn main() -> Result<(), String> {
    let isa = cpu::requested()?;
    let mut products = Vec::new();
    for threads in [1, 2] {
        for (name, precision) in [("f32", Precision::F32), ("bf16", Precision::Bf16)] {
            for shape in SHAPES {
                let [best, median] = cpu::with_isa(isa, threads, || rates(precision, shape));
                products.push(format!(
                    r#"{{"threads": {threads}, "precision": "{name}", "shape": {shape:?}, "gflops": {best:.0}, "median": {median:.0}}}"#
                ));
            }
        }
    }
    let [one, two] = [1, 2].map(|threads| cpu::with_isa(isa, threads, read_bandwidth));
    println!(
        r#"{{"isa": "{}", "read_gb_per_second": [{one:.1}, {two:.1}], "products": [{}]}}"#,
        isa.name(),
        products.join(", ")
    );
    Ok(())
}

/// GFLOP/s of one product: the best and the median.
fn rates(precision: Precision, [m, n, k]: [usize; 3]) -> [f64; 2] {
    let values = |len: usize| (0..len).map(|i| (i % 17) as f32 - 8.0).collect::<Vec<_>>();
    let (a, b, mut c) = (values(m * k), values(k * n), vec![0.0; m * n]);
    let a_halves: Vec<bf16> = a.iter().map(|&x| bf16::from_f32(x)).collect();
    let mut c_halves = vec![bf16::ZERO; m * n];
    let seconds = tries(|| {
        let (a, c) = match precision {
            Precision::F32 => (Elements::Floats(&a), ElementsMut::Floats(&mut c)),
            Precision::Bf16 => (Elements::Halves(&a_halves), ElementsMut::Halves(&mut c_halves)),
        };
        gemm(precision, Matrix::of(a, m, k), Matrix::new(&b, k, n), MatrixMut::of(c, m, n), false);
    });
    [seconds[0], seconds[seconds.len() / 2]].map(|seconds| 2e-9 * (m * n * k) as f64 / seconds)
}

/// GB/s of reading memory.
fn read_bandwidth() -> f64 {
    let data = vec![1f32; ARRAY];
    let seconds = tries(|| {
        black_box(cpu::map_rows(ARRAY, ARRAY / 64, |piece| {
            data[piece].as_chunks::<64>().0.iter().fold([0f32; 64], |mut sums, chunk| {
                sums.iter_mut().zip(chunk).for_each(|(sum, x)| *sum += x);
                sums
            })
        }));
    });
    4e-9 * ARRAY as f64 / seconds[0]
}

/// Seconds of some tries, in their order of size.
fn tries(mut f: impl FnMut()) -> Vec<f64> {
    let (mut seconds, start) = (Vec::new(), Instant::now());
    f();
    while seconds.len() < 5 || start.elapsed().as_secs_f64() < SECONDS {
        let started = Instant::now();
        f();
        seconds.push(started.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    seconds
}
