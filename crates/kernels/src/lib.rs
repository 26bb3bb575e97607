//! Slices in, slices out: matrix product, attention, norms, activations and the loss on a CPU; the one place with unsafe code.
