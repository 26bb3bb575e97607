//! [`Prefetch`]: threads that prepare the examples of each source ahead of their use, handed out in order of
//! index.
//!
//! All threads may be held up by one slow source. Whoever takes the examples of another then does not wait
//! for them: a document that no thread has begun is prepared by the taker, as soon as the threads have
//! stalled.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::config::{LoaderConfig, ROWS_AHEAD, prefetch_cost};
use crate::augment;
use crate::error_line::error_line;
use crate::mixture::MixturePart;
use crate::pack::Example;
use crate::source::interface::Split;

/// The threads have stalled when for so long none of them has finished a document.
const STALL: Duration = Duration::from_millis(100);

/// Why a document gave no example.
#[derive(Debug)]
pub(super) enum Failure {
    /// It is skipped.
    Damaged(String),
    /// A bug: the run stops.
    Panicked(String),
}

/// The examples of a document: several of a long text.
type Prepared = Result<Vec<Example>, Failure>;

/// The threads and what they have prepared.
pub(super) struct Prefetch {
    shared: Arc<PrefetchPool>,
    workers: Vec<JoinHandle<()>>,
}

struct PrefetchPool {
    config: LoaderConfig,
    state: Mutex<PrefetchState>,
    /// A queue has room, or it is over.
    room: Condvar,
    /// An example is ready.
    ready: Condvar,
}

struct PrefetchState {
    /// One for each part of the mixture, in its order.
    queues: Vec<Queue>,
    /// When a thread last finished a document.
    finished: Instant,
    /// Threads end as soon as they see it.
    stopped: bool,
}

/// The examples of one source that are ready or being prepared.
struct Queue {
    /// Whether any row is taken from it.
    drawn: bool,
    /// The next index to prepare.
    next: u64,
    /// Documents that threads prepare now: indices below `next` that are not in `ready` and were not taken.
    working: usize,
    /// Prepared and not taken, by index.
    ready: BTreeMap<u64, Prepared>,
    /// Tokens in `ready`.
    tokens: usize,
}

impl Prefetch {
    /// Starts the threads; `starts` are the first indices, one for each part of the mixture.
    pub(super) fn start(config: &LoaderConfig, starts: &[u64]) -> Result<Self> {
        let queue = |(part, &next): (&MixturePart, _)| Queue {
            drawn: part.weight > 0.0,
            next,
            working: 0,
            ready: BTreeMap::new(),
            tokens: 0,
        };
        let queues = config.mixture.parts().iter().zip(starts).map(queue).collect();
        let shared = Arc::new(PrefetchPool {
            config: config.clone(),
            state: Mutex::new(PrefetchState { queues, finished: Instant::now(), stopped: false }),
            room: Condvar::new(),
            ready: Condvar::new(),
        });
        let mut prefetch = Self { shared, workers: Vec::new() };
        for i in 0..config.threads {
            let shared = Arc::clone(&prefetch.shared);
            prefetch.workers.push(Builder::new().name(format!("data-{i}")).spawn(move || shared.work())?);
        }
        Ok(prefetch)
    }

    /// The examples at `index` of a part, waiting for them. Each index is to be taken once, in order.
    pub(super) fn take(&self, part: usize, index: u64) -> Prepared {
        let mut state = self.shared.lock();
        loop {
            let queue = &mut state.queues[part];
            if let Some(prepared) = queue.ready.remove(&index) {
                queue.tokens -= self.shared.cost(&prepared);
                self.shared.room.notify_all();
                return prepared;
            }
            // What is taken next and not claimed is the next to claim. A taker that always prepared it would
            // take work from the threads; one that never did would wait for the slowest source of the
            // mixture.
            if index == queue.next && state.finished.elapsed() >= STALL {
                state.queues[part].next += 1;
                drop(state);
                return self.shared.prepare(part, index);
            }
            (state, _) = self.shared.ready.wait_timeout(state, STALL).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.room.notify_all();
        for worker in self.workers.drain(..) {
            // A worker's panic has already been reported as a `Failure`.
            let _ = worker.join();
        }
    }
}

impl PrefetchPool {
    fn lock(&self) -> MutexGuard<'_, PrefetchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In tokens, at least a document's part of a row.
    fn cost(&self, prepared: &Prepared) -> usize {
        let tokens = |examples: &Vec<Example>| examples.iter().map(|e| e.ids.len()).sum();
        prefetch_cost(self.config.fill, prepared.as_ref().map_or(0, tokens), self.config.packing.length)
    }

    fn work(&self) {
        while let Some((part, index)) = self.claim() {
            let prepared = self.prepare(part, index);
            let cost = self.cost(&prepared);
            let mut state = self.lock();
            let queue = &mut state.queues[part];
            queue.working -= 1;
            queue.tokens += cost;
            queue.ready.insert(index, prepared);
            state.finished = Instant::now();
            self.ready.notify_one();
        }
    }

    /// The next document to prepare, of the source with the least in store; sleeps while all have enough.
    /// `None` when it is over.
    fn claim(&self) -> Option<(usize, u64)> {
        let length = self.config.packing.length;
        let mut state = self.lock();
        while !state.stopped {
            let held =
                |queue: &Queue| queue.tokens + queue.working * prefetch_cost(self.config.fill, 0, length);
            let parts = state.queues.iter_mut().enumerate().filter(|(_, queue)| queue.drawn);
            // The source with the least in store first: a rare one would else wait behind the frequent ones,
            // whose rows the mixture draws more often.
            match parts.min_by_key(|(_, queue)| held(queue)) {
                Some((part, queue)) if held(queue) < ROWS_AHEAD * length => {
                    queue.working += 1;
                    queue.next += 1;
                    return Some((part, queue.next - 1));
                }
                _ => state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
        None
    }

    fn prepare(&self, part: usize, index: u64) -> Prepared {
        let examples = || {
            let LoaderConfig { mixture, packing, seed, share, .. } = &self.config;
            let MixturePart { name, source, .. } = &mixture.parts()[part];
            let document = source.document(Split::Train, index)?;
            let key = augment::key(*seed, name, index);
            // Of several ranks, the row that a document is packed into tells which of them decodes its
            // pictures.
            let examples = match share.is_whole() {
                true => packing.examples(&document, key)?,
                false => packing.lay_out(&document, key)?,
            };
            ensure!(
                examples.iter().any(Example::teaches),
                "{}: nothing to learn in the first {} tokens",
                document.id,
                packing.length
            );
            Ok(examples)
        };
        // A panic is a bug of a source or decoder: reported with its document, not lost with the thread.
        match catch_panic(examples) {
            Ok(result) => result.map_err(|e| Failure::Damaged(error_line(&e))),
            Err(panic) => Err(Failure::Panicked(panic)),
        }
    }
}

/// What `work` gives, or the text of its panic.
pub(super) fn catch_panic<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        text.unwrap_or("a panic without a message").to_owned()
    })
}
