//! How operations work for a while: in which precision, and what they keep for the way back.

use std::cell::Cell;

pub use mm1_kernels::gemm::Precision;

use super::fused;

/// What holds now, on this thread.
#[derive(Clone, Copy)]
struct Mode {
    precision: Precision,
    recompute: bool,
    /// Whether this is inside of [`training_step`].
    step: bool,
}

thread_local! {
    static CURRENT: Cell<Mode> = const { Cell::new(Mode { precision: Precision::F32, recompute: false, step: false }) };
}

/// Runs `f` with the matrix products of its operations, and of the way back through them, in `precision` where the
/// backend is the CPU's. Weights that are trained and their gradients, sums of a product, norms, softmax, loss, and what goes from block to
/// block stay f32. What lies inside of a block between two operations is in `precision`, and so are its gradients: tensors of bfloat16, which only
/// operations of [`super`] take. What operations keep for the way back is in `precision` too, but of cross-attention and [`super::conv3x3`].
/// Outside of it, all is f32.
pub fn with_precision<R>(precision: Precision, f: impl FnOnce() -> R) -> R {
    with(Mode { precision, ..CURRENT.get() }, f)
}

/// [`with_precision`] on a thread of the pool: one outside would sleep and be woken at every operation.
pub fn on_pool<R: Send>(precision: Precision, f: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| with_precision(precision, f))
}

/// Runs `f` with activation checkpointing by blocks, or without: see [`super::recomputed`]; the decoder's last block is not, being the first on the way back. Outside of it there is none.
pub fn with_recomputation<R>(recompute: bool, f: impl FnOnce() -> R) -> R {
    with(Mode { recompute, ..CURRENT.get() }, f)
}

/// Runs `f`, a step of training: its operations work in memory that those of the step before have left, and leave it to
/// the next step.
pub fn training_step<R>(f: impl FnOnce() -> R) -> R {
    let result = with(Mode { step: true, ..CURRENT.get() }, f);
    fused::end_step();
    result
}

/// The precision of now.
pub(super) fn precision() -> Precision {
    CURRENT.get().precision
}

/// Whether blocks are computed again on the way back.
pub(super) fn recomputes() -> bool {
    CURRENT.get().recompute
}

/// Whether this is a step of training.
pub(super) fn in_step() -> bool {
    CURRENT.get().step
}

fn with<R>(mode: Mode, f: impl FnOnce() -> R) -> R {
    /// Goes back to the mode from before, even if `f` panics.
    struct Before(Mode);
    impl Drop for Before {
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }
    let _before = Before(CURRENT.replace(mode));
    f()
}
