//! What the tests share: numbers, comparison, threads.

use half::bf16;
use mm1_kernels::cpu::Isa;
use std::io::Write;

/// The instruction sets that this machine has. Those that it lacks are named on standard error, past the
/// harness, which keeps what a passing test prints to itself.
pub(crate) fn instruction_sets() -> impl Iterator<Item = Isa> {
    let best = Isa::detect();
    for isa in Isa::ALL.into_iter().filter(|&isa| isa > best) {
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        // If nobody can read it, there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "{test}: skipped for {}, which is not here", isa.name());
    }
    Isa::ALL.into_iter().filter(move |&isa| isa <= best)
}

/// `n` numbers in `-1 .. 1`, the same for the same `seed`.
pub(crate) fn numbers(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    };
    next();
    (0..n).map(|_| next()).collect()
}

/// Fails unless every value is within `tolerance` times the largest reference.
#[track_caller]
pub(crate) fn assert_near(name: &str, got: &[f32], reference: &[f64], tolerance: f64) {
    assert_eq!(got.len(), reference.len(), "{name}: length");
    let largest = reference.iter().fold(1e-30f64, |m, v| m.max(v.abs()));
    for (i, (&got, &wanted)) in got.iter().zip(reference).enumerate() {
        let error = (f64::from(got) - wanted).abs() / largest;
        assert!(
            error <= tolerance,
            "{name}[{i}] = {got}, reference {wanted}: {error:e} of the largest, {largest}"
        );
    }
}

/// The gradient of `f` at `x` by central differences, in f64.
pub(crate) fn gradient(x: &[f32], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let mut point = wide(x);
    (0..x.len())
        .map(|i| {
            let (at, step) = (point[i], 1e-5);
            point[i] = at + step;
            let above = f(&point);
            point[i] = at - step;
            let below = f(&point);
            point[i] = at;
            (above - below) / (2.0 * step)
        })
        .collect()
}

/// The numbers in f64.
pub(crate) fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| f64::from(v)).collect()
}

/// The numbers rounded to bfloat16.
pub(crate) fn rounded(x: &[f32]) -> Vec<bf16> {
    x.iter().map(|&v| bf16::from_f32(v)).collect()
}

/// The numbers in f32.
pub(crate) fn floats(x: &[bf16]) -> Vec<f32> {
    x.iter().map(|v| v.to_f32()).collect()
}

/// `sum a * b`.
pub(crate) fn inner(a: &[f64], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, &b)| a * f64::from(b)).sum()
}

/// Fails unless `f` gives the same bits on 1, 2 and 7 threads.
#[track_caller]
pub(crate) fn assert_same_on_any_threads(f: impl Fn() -> Vec<f32> + Sync) {
    let bits = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| f().iter().map(|v| v.to_bits()).collect::<Vec<u32>>())
    };
    let one = bits(1);
    assert!(!one.is_empty());
    for threads in [2, 7] {
        assert!(one == bits(threads), "{threads} threads give other bits than 1");
    }
}
