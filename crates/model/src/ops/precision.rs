//! In which precision matrix products are done.

use std::cell::Cell;

pub use mm1_kernels::gemm::Precision;

thread_local! {
    static CURRENT: Cell<Precision> = const { Cell::new(Precision::F32) };
}

/// Runs `f` with the matrix products of its operations, and of the way back through them, in `precision` where the
/// backend is the CPU's. Weights, sums, norms, softmax and loss stay f32. Outside of it, products are in f32 too.
pub fn with_precision<R>(precision: Precision, f: impl FnOnce() -> R) -> R {
    /// Goes back to the precision from before, even if `f` panics.
    struct Before(Precision);
    impl Drop for Before {
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }
    let _before = Before(CURRENT.replace(precision));
    f()
}

/// The precision of now.
pub(super) fn precision() -> Precision {
    CURRENT.get()
}
