//! Memory that operations leave to one another, so that a step neither clears its memory nor asks the system for it.
//! Where nothing that waits fits, what has waited longest makes room for the new: together it does not grow.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn_flex::FlexTensor;
use mm1_kernels::rows::copy;

use super::floats;

/// Values below which memory is as cheap when it is new.
const SMALL: usize = 4096;

/// Vectors that wait for their next user, the oldest first.
static FREE: Mutex<VecDeque<Vec<f32>>> = Mutex::new(VecDeque::new());

fn free() -> MutexGuard<'static, VecDeque<Vec<f32>>> {
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `len` values to be overwritten: they are what somebody left there.
pub(super) fn vector(len: usize) -> Vec<f32> {
    if len < SMALL {
        return vec![0.0; len];
    }
    let mut free = free();
    let capacity = |i: &usize| free[*i].capacity();
    let fitting = (0..free.len()).filter(|i| (len..=len + len / 4).contains(&capacity(i)));
    if let Some(mut vector) = fitting.min_by_key(capacity).and_then(|best| free.remove(best)) {
        vector.resize(len, 0.0);
        return vector;
    }
    let mut room = 0;
    while room < len
        && let Some(oldest) = free.pop_front()
    {
        room += oldest.capacity();
    }
    vec![0.0; len]
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
    if vector.capacity() >= SMALL {
        free().push_back(vector);
    }
}

/// Leaves a tensor's memory to the next user, unless somebody else holds it still, or the engine made it for another
/// alignment, so that it would be copied.
pub(super) fn leave_tensor(tensor: FlexTensor) {
    let ours = tensor.data_arc().align() == align_of::<f32>();
    if ours && tensor.is_unique() {
        leave(owned(tensor));
    }
}
