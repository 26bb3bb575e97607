//! Memory that the operations of training steps leave to one another, so that a step neither clears its memory nor asks the
//! system for it: a page that is new to the process is cleared first, which takes longer than most operations.

use std::sync::{Mutex, MutexGuard, PoisonError};

use burn_flex::FlexTensor;
use mm1_kernels::rows::{self, copy};

use super::floats;
use crate::ops::mode::in_step;

/// Values below which memory is as cheap when it is new.
const SMALL: usize = 4096;

static FREE: Mutex<Free> = Mutex::new(Free { step: 0, vectors: Vec::new() });

/// The vectors that wait for their next user, each with the step that left it.
struct Free {
    step: u64,
    vectors: Vec<(Vec<f32>, u64)>,
}

fn free() -> MutexGuard<'static, Free> {
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `len` values to be overwritten: they are what somebody left there.
pub(super) fn vector(len: usize) -> Vec<f32> {
    if len < SMALL || !in_step() {
        return vec![0.0; len];
    }
    let mut free = free();
    let (step, vectors) = (free.step, &mut free.vectors);
    let capacity = |i: &usize| vectors[*i].0.capacity();
    let fitting = (0..vectors.len()).filter(|i| (len..=len + len / 4).contains(&capacity(i)));
    if let Some(best) = fitting.min_by_key(capacity) {
        let (mut vector, _) = vectors.swap_remove(best);
        vector.resize(len, 0.0);
        return vector;
    }
    // The steps differ in their sizes: what the last one left makes room.
    let mut room = 0;
    while room < len
        && let Some(last) = vectors.iter().position(|&(_, since)| since < step)
    {
        room += vectors.swap_remove(last).0.capacity();
    }
    drop(free);
    rows::zeros(len)
}

/// `len` zeros.
pub(super) fn zeros(len: usize) -> Vec<f32> {
    let mut vector = vector(len);
    vector.fill(0.0);
    vector
}

/// The values of a contiguous tensor as a vector: copied only if somebody else holds them.
pub(super) fn owned(tensor: FlexTensor) -> Vec<f32> {
    if tensor.is_unique() {
        return tensor.into_data().try_into_vec::<f32>().expect("a tensor of f32");
    }
    let mut values = vector(floats(&tensor).len());
    copy(&mut values, floats(&tensor));
    values
}

/// Leaves a vector to the next user.
pub(super) fn leave(vector: Vec<f32>) {
    if vector.capacity() >= SMALL && in_step() {
        let mut free = free();
        let step = free.step;
        free.vectors.push((vector, step));
    }
}

/// Ends a step: what waits since an earlier one found no user and goes back to the system, so that it does not grow where
/// every step has other sizes.
pub(super) fn end_step() {
    let mut free = free();
    let step = free.step;
    free.vectors.retain(|&(_, since)| since == step);
    free.step += 1;
}

/// Gives all back to the system.
pub(in crate::ops) fn give_back() {
    free().vectors.clear();
}

/// Leaves a tensor's memory to the next user, unless somebody else holds it still, or the engine made it for another
/// alignment, so that it would be copied.
pub(super) fn leave_tensor(tensor: FlexTensor) {
    let ours = tensor.data_arc().align() == align_of::<f32>();
    if ours && tensor.is_unique() {
        leave(owned(tensor));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::training_step;

    #[test]
    fn a_step_works_in_what_the_last_one_left() {
        let address = |len| {
            let vector = vector(len);
            let address = vector.as_ptr();
            leave(vector);
            address
        };
        let first = training_step(|| address(2 * SMALL));
        assert_eq!(training_step(|| address(2 * SMALL)), first);
        assert_eq!(training_step(|| address(2 * SMALL - SMALL / 4)), first, "a little smaller");
        assert_ne!(address(2 * SMALL), first, "outside of a step");
        let waiting = || free().vectors.len();
        assert_eq!(waiting(), 1);
        training_step(|| address(8 * SMALL));
        assert_eq!(waiting(), 1, "the other size made room");
        give_back();
        assert_eq!(waiting(), 0);
    }
}
