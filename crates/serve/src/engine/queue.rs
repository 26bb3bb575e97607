//! [`Queue`]: requests that wait, first come, first served.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use mm1_data::document::Image;

use super::request::AnswerRequest;

/// What is asked of the thread that has the model.
pub(super) enum Job {
    Answer(Box<AnswerRequest>),
    Features { picture: Image, reply: Box<dyn FnOnce(anyhow::Result<Vec<f32>>) + Send> },
}

/// What the prepared pictures of all who wait may take, and again those of all who are active. A request of
/// a few kilobytes may have 64 pictures, which take 87 MB when they are prepared for 336 pixels a side.
/// Unit: bytes.
pub(super) const PICTURE_BYTES: usize = 512 << 20;

impl Job {
    fn picture_bytes(&self) -> usize {
        match self {
            // Several answers to one prompt share its pictures.
            Self::Answer(request) if request.stream > 0 => 0,
            Self::Answer(request) => request.prompt.picture_bytes(),
            Self::Features { picture, .. } => picture.stored_bytes(),
        }
    }

    fn is_gone(&self) -> bool {
        matches!(self, Self::Answer(request) if request.listener.is_gone())
    }
}

pub(super) struct Queue {
    state: Mutex<QueueState>,
    woken: Condvar,
    most: usize,
}

#[derive(Default)]
struct QueueState {
    waiting: VecDeque<(Job, Instant)>,
    stopping: bool,
}

impl QueueState {
    /// A single one is taken in any case.
    fn has_room(&self, job: &Job) -> bool {
        let waiting: usize = self.waiting.iter().map(|(job, _)| job.picture_bytes()).sum();
        waiting == 0 || waiting + job.picture_bytes() <= PICTURE_BYTES
    }
}

/// Why a job is not taken.
pub(super) enum Closed {
    Full,
    Stopping,
}

impl Queue {
    /// For at most `most` jobs that wait.
    pub(super) fn new(most: usize) -> Self {
        Self { state: Mutex::default(), woken: Condvar::new(), most }
    }

    pub(super) fn push(&self, job: Job) -> Result<(), Closed> {
        let mut state = self.lock();
        // Who has left is no longer waited for.
        state.waiting.retain(|(job, _)| !job.is_gone());
        match state {
            state if state.stopping => Err(Closed::Stopping),
            state if state.waiting.len() >= self.most || !state.has_room(&job) => Err(Closed::Full),
            mut state => {
                state.waiting.push_back((job, Instant::now()));
                self.woken.notify_one();
                Ok(())
            }
        }
    }

    /// The first job, if `fits` says so.
    pub(super) fn take(&self, fits: impl FnOnce(&Job) -> bool) -> Option<(Job, Instant)> {
        let mut state = self.lock();
        state.waiting.retain(|(job, _)| !job.is_gone());
        state.waiting.pop_front_if(|(job, _)| fits(job))
    }

    /// Waits for a job; `false` when none will come.
    pub(super) fn wait(&self) -> bool {
        let idle = |state: &mut QueueState| state.waiting.is_empty() && !state.stopping;
        let state = self.woken.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        !state.waiting.is_empty()
    }

    /// No further jobs are taken; those that wait are done.
    pub(super) fn stop(&self) {
        self.lock().stopping = true;
        self.woken.notify_all();
    }

    pub(super) fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(bytes: usize) -> Job {
        Job::Features { picture: Image::from(vec![0; bytes]), reply: Box::new(drop) }
    }

    #[test]
    fn pictures_that_wait_are_bounded_together() {
        let half = PICTURE_BYTES / 2;
        let queue = Queue::new(9);
        assert!(queue.push(job(half)).is_ok() && queue.push(job(half)).is_ok());
        assert!(matches!(queue.push(job(1)), Err(Closed::Full)));
        // A single one is taken whatever it has.
        let queue = Queue::new(9);
        assert!(queue.push(job(PICTURE_BYTES + 1)).is_ok());
    }
}
