//! Memory that operations leave to one another, so that a step neither clears its memory nor asks the system for it.
//! What waits is dropped when it has not been wanted for a while, so that it does not grow.

use std::sync::{Mutex, MutexGuard, PoisonError};

use burn_flex::FlexTensor;
use mm1_kernels::rows::copy;

use super::floats;

/// Values below which memory is as cheap when it is new.
const SMALL: usize = 4096;
/// Requests that memory waits for: some steps of a small network, one of a large.
const PATIENCE: u64 = 2000;

/// Vectors that wait for their next user.
struct Free {
    waiting: Vec<Waiting>,
    requests: u64,
}

struct Waiting {
    vector: Vec<f32>,
    /// The request before it came.
    since: u64,
}

static FREE: Mutex<Free> = Mutex::new(Free { waiting: Vec::new(), requests: 0 });

fn free() -> MutexGuard<'static, Free> {
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `len` values to be overwritten: they are what somebody left there.
pub(super) fn vector(len: usize) -> Vec<f32> {
    if len < SMALL {
        return vec![0.0; len];
    }
    let mut free = free();
    free.requests += 1;
    let now = free.requests;
    let capacity = |i: &usize| free.waiting[*i].vector.capacity();
    let fitting = (0..free.waiting.len()).filter(|i| (len..=len + len / 4).contains(&capacity(i)));
    let Some(best) = fitting.min_by_key(capacity) else {
        free.waiting.retain(|waiting| now - waiting.since < PATIENCE);
        return vec![0.0; len];
    };
    let mut vector = free.waiting.swap_remove(best).vector;
    vector.resize(len, 0.0);
    vector
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
        let mut free = free();
        let since = free.requests;
        free.waiting.push(Waiting { vector, since });
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
