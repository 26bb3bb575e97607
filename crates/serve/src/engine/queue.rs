//! [`Queue`]: requests that wait. Clients take turns; of one client the first comes first.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::request::{AnswerRequest, ClientId, Embedding, EmbeddingInput};

/// What is asked of the thread that has the model.
pub(super) enum Job {
    Answer(Box<AnswerRequest>),
    Embed { input: EmbeddingInput, reply: Box<dyn FnOnce(anyhow::Result<Embedding>) + Send> },
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
            Self::Embed { input, .. } => match input {
                EmbeddingInput::Features(picture) | EmbeddingInput::Picture(picture) => {
                    picture.stored_bytes()
                }
                EmbeddingInput::Text(_) => 0,
            },
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
    /// Whose turn it is comes first; each has at least one job.
    clients: VecDeque<WaitingClient>,
    stopping: bool,
}

struct WaitingClient {
    client: ClientId,
    jobs: VecDeque<(Job, Instant)>,
}

impl QueueState {
    fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.clients.iter().flat_map(|waiting| &waiting.jobs).map(|(job, _)| job)
    }

    /// A single one is taken in any case.
    fn has_room(&self, job: &Job) -> bool {
        let waiting: usize = self.jobs().map(Job::picture_bytes).sum();
        waiting == 0 || waiting + job.picture_bytes() <= PICTURE_BYTES
    }

    fn push(&mut self, client: ClientId, job: Job) {
        let job = (job, Instant::now());
        match self.clients.iter_mut().find(|waiting| waiting.client == client) {
            Some(waiting) => waiting.jobs.push_back(job),
            None => self.clients.push_back(WaitingClient { client, jobs: [job].into() }),
        }
    }

    /// Who has left is no longer waited for.
    fn forget_departed(&mut self) {
        self.clients.iter_mut().for_each(|waiting| waiting.jobs.retain(|(job, _)| !job.is_gone()));
        self.clients.retain(|waiting| !waiting.jobs.is_empty());
    }
}

/// Why a job is not taken.
#[derive(Debug, PartialEq)]
pub(super) enum Closed {
    Full,
    Stopping,
}

impl Queue {
    /// For at most `most` jobs that wait; and for a first one of up to as many clients again, so that nobody
    /// shuts out all others.
    pub(super) fn new(most: usize) -> Self {
        Self { state: Mutex::default(), woken: Condvar::new(), most }
    }

    pub(super) fn push(&self, client: ClientId, job: Job) -> Result<(), Closed> {
        let mut state = self.lock();
        state.forget_departed();
        let first = !state.clients.iter().any(|waiting| waiting.client == client);
        let most = if first { self.most.saturating_mul(2) } else { self.most };
        if state.stopping {
            return Err(Closed::Stopping);
        }
        if state.jobs().count() >= most || !state.has_room(&job) {
            return Err(Closed::Full);
        }
        state.push(client, job);
        self.woken.notify_one();
        Ok(())
    }

    /// The next job, if `fits` says so.
    pub(super) fn take(&self, fits: impl FnOnce(&Job) -> bool) -> Option<(Job, Instant)> {
        let mut state = self.lock();
        state.forget_departed();
        let taken = state.clients.front_mut()?.jobs.pop_front_if(|(job, _)| fits(job))?;
        // Then it is the others' turn.
        let client = state.clients.pop_front().filter(|waiting| !waiting.jobs.is_empty());
        state.clients.extend(client);
        Some(taken)
    }

    /// Waits for a job; `false` when none will come.
    pub(super) fn wait(&self) -> bool {
        let idle = |state: &mut QueueState| state.clients.is_empty() && !state.stopping;
        let state = self.woken.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        !state.clients.is_empty()
    }

    /// No further jobs are taken; those that wait are done.
    pub(super) fn stop(&self) {
        self.lock().stopping = true;
        self.woken.notify_all();
    }

    pub(super) fn len(&self) -> usize {
        self.lock().jobs().count()
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(bytes: usize) -> Job {
        let input = EmbeddingInput::Features(vec![0; bytes].into());
        Job::Embed { input, reply: Box::new(drop) }
    }

    const A: ClientId = ClientId(1);
    const B: ClientId = ClientId(2);
    const C: ClientId = ClientId(3);

    #[test]
    fn pictures_that_wait_are_bounded_together() {
        let half = PICTURE_BYTES / 2;
        let queue = Queue::new(9);
        assert!(queue.push(A, job(half)).is_ok() && queue.push(A, job(half)).is_ok());
        assert_eq!(queue.push(A, job(1)), Err(Closed::Full));
        // A single one is taken whatever it has.
        let queue = Queue::new(9);
        assert!(queue.push(A, job(PICTURE_BYTES + 1)).is_ok());
    }

    #[test]
    fn clients_take_turns() {
        let queue = Queue::new(9);
        for (client, bytes) in [(A, 1), (A, 2), (A, 3), (B, 4), (C, 5), (C, 6)] {
            queue.push(client, job(bytes)).unwrap();
        }
        let next = || queue.take(|_| true).map(|(job, _)| job.picture_bytes());
        assert_eq!([next(), next()], [Some(1), Some(4)]);
        // B comes again, behind A and C, who have waited for longer.
        queue.push(B, job(7)).unwrap();
        assert_eq!([next(), next(), next(), next(), next()], [5, 2, 7, 6, 3].map(Some));
        assert!(next().is_none() && queue.len() == 0);
    }

    #[test]
    fn who_does_not_fit_keeps_its_turn() {
        let queue = Queue::new(9);
        queue.push(A, job(1)).unwrap();
        queue.push(B, job(2)).unwrap();
        assert!(queue.take(|job| job.picture_bytes() > 1).is_none());
        assert_eq!(queue.take(|_| true).unwrap().0.picture_bytes(), 1);
    }

    #[test]
    fn nobody_shuts_out_all_others() {
        let queue = Queue::new(2);
        assert!(queue.push(A, job(1)).is_ok() && queue.push(A, job(1)).is_ok());
        assert_eq!(queue.push(A, job(1)), Err(Closed::Full));
        assert!(queue.push(B, job(1)).is_ok());
        assert_eq!(queue.push(B, job(1)), Err(Closed::Full));
        assert!(queue.push(C, job(1)).is_ok());
        assert_eq!(queue.push(ClientId(4), job(1)), Err(Closed::Full));
        assert_eq!(Queue::new(0).push(A, job(1)), Err(Closed::Full));
    }
}
