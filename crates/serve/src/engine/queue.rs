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

impl Job {
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
            state if state.waiting.len() >= self.most => Err(Closed::Full),
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
