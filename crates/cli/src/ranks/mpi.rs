//! Ranks that MPI has started.

use std::hint;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Error, Result, ensure};
use mm1_train::Exchange;
use mpi::datatype::{Partition, PartitionMut};
use mpi::environment::{self, Universe};
use mpi::request::{self, Request, Scope};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator as _, CommunicatorCollectives as _, Equivalence, Root as _};
use mpi::{Count, Threading};

use super::{RunRanks, Spent};
use crate::error::{InputError, Interrupted};
use crate::output;

/// Bytes of all ranks that cross at once to one.
const TOGETHER: usize = 1 << 30;
/// Bytes of a short message, its length included, at first.
const LETTER: usize = 512;
/// Those of all ranks together, at most: what takes about the latency of a message.
const LETTERS: usize = 1 << 14;
/// How long a rank that waits keeps the processor.
const AT_ONCE: Duration = Duration::from_micros(100);
/// How long it leaves it then, before it looks again.
const NAP: Duration = Duration::from_micros(50);
/// The same while it computes beside: a look takes some of its time, and gradients come every few
/// milliseconds.
const NAP_BESIDE: Duration = Duration::from_micros(200);
/// How often a rank that waits without work looks whether the others have come.
const LOOK: Duration = Duration::from_millis(10);

/// The processes of `MPI_COMM_WORLD`.
pub(super) struct Mpi {
    rank: usize,
    ranks: usize,
    universe: Mutex<Option<Universe>>,
    /// Whether some of them are on another machine.
    apart: bool,
    /// Bytes of a letter, the same at all ranks.
    letter: AtomicUsize,
    clock: Clock,
    /// Nanoseconds of the clock in calls, and those until all others had come.
    spent: AtomicU64,
    waited: AtomicU64,
}

impl std::fmt::Debug for Mpi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rank {} of {}", self.rank, self.ranks)
    }
}

impl Mpi {
    /// Starts MPI in this process.
    ///
    /// # Errors
    /// [`InputError`]: an MPI that takes calls of one thread only.
    pub(super) fn begin() -> Result<Arc<Self>> {
        let (universe, threading) = environment::initialize_with_threading(Threading::Serialized)
            .context("MPI was started before")?;
        ensure!(
            threading >= Threading::Serialized,
            InputError::new(
                "this MPI takes calls of its first thread only: take one with MPI_THREAD_SERIALIZED"
            )
        );
        let (rank, ranks) = (world().rank() as usize, world().size() as usize);
        let apart = (world().split_shared(rank as i32).size() as usize) < ranks;
        let universe = Mutex::new(Some(universe));
        let letter = AtomicUsize::new(LETTER);
        let [spent, waited] = [(); 2].map(|()| AtomicU64::new(0));
        Ok(Arc::new(Self { rank, ranks, universe, apart, letter, clock: Clock::begin(), spent, waited }))
    }

    /// [`Exchange::scatter`] of any numbers.
    fn to_all<T: Equivalence>(&self, own: &[T], parts: &[Range<usize>], given: &mut [T]) -> Result<()> {
        let len = parts[self.rank].len();
        let (counts, begins) = places(parts.iter().cloned())?;
        let own = Partition::new(own, counts, begins);
        let (counts, begins) = places((0..self.ranks).map(|rank| rank * len..(rank + 1) * len))?;
        let mut given = PartitionMut::new(given, counts, begins);
        request::scope(|scope| {
            let (come, world) = (self.come(), world());
            self.end(come, world.immediate_all_to_all_varcount_into(scope, &own, &mut given));
        });
        Ok(())
    }

    /// Begins a call of which all ranks take part.
    fn come(&self) -> Come {
        Come { begun: self.clock.now(), all: world().immediate_barrier() }
    }

    /// Waits for the `message` of a call. The barrier crosses beside it, so that nobody waits twice: it tells
    /// when all others had come.
    fn end<'a, D: ?Sized, S: Scope<'a>>(&self, Come { begun, all }: Come, message: Request<'a, D, S>) {
        self.wait(all);
        self.add_to(&self.waited, begun);
        self.wait(message);
        self.add_to(&self.spent, begun);
    }

    /// [`Exchange::gather`] of what is too long for letters.
    fn gather_long(&self, world: &SimpleCommunicator, own: &[u8], lengths: &[usize]) -> Result<Vec<Vec<u8>>> {
        let mut of_ranks: Vec<Vec<u8>> = lengths.iter().map(|&length| Vec::with_capacity(length)).collect();
        for pieces in self.pieces(lengths) {
            let parts = in_turn(pieces.iter().map(Range::len));
            let mut all = room(parts.last().map_or(0, |part| part.end));
            let (counts, places) = places(parts.iter().cloned())?;
            let mut to = PartitionMut::new(&mut all[..], counts, places);
            world.all_gather_varcount_into(somewhere(&own[pieces[self.rank].clone()]), &mut to);
            of_ranks.iter_mut().zip(parts).for_each(|(of_rank, part)| of_rank.extend(&all[part]));
        }
        Ok(of_ranks)
    }

    /// What crosses at once of messages of these lengths, one by rank: it is counted in 31 bits.
    fn pieces(&self, lengths: &[usize]) -> impl Iterator<Item = Vec<Range<usize>>> {
        let (longest, most) = (lengths.iter().copied().max().unwrap_or(0), TOGETHER / self.ranks);
        (0..longest).step_by(most).map(move |begin| {
            lengths.iter().map(|&length| begin.min(length)..(begin + most).min(length)).collect()
        })
    }

    /// Adds the time since `begun`.
    fn add_to(&self, sum: &AtomicU64, begun: Duration) {
        let time = self.clock.now().saturating_sub(begun);
        sum.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }

    /// Waits for a message or for the others: first at the processor, so that what comes soon is there at
    /// once, then with the processor left to others. The ranks of a machine may have as many cores as they
    /// have threads, which compute meanwhile or load data.
    fn wait<'a, D: ?Sized, S: Scope<'a>>(&self, mut request: Request<'a, D, S>) {
        let begun = Instant::now();
        while let Err(still) = request.test() {
            request = still;
            if self.clock.stands() {
                thread::sleep(NAP_BESIDE);
            } else if begun.elapsed() >= AT_ONCE {
                thread::sleep(NAP);
            } else {
                hint::spin_loop();
            }
        }
    }
}

/// A clock that stands while the rank computes beside the calls of another thread: these cost no time then.
struct Clock {
    begun: Instant,
    hidden: Mutex<Hidden>,
}

/// The time for which a [`Clock`] stood.
#[derive(Clone, Copy, Default)]
struct Hidden {
    all: Duration,
    /// It stands since then.
    since: Option<Instant>,
}

impl Clock {
    fn begin() -> Self {
        Self { begun: Instant::now(), hidden: Mutex::default() }
    }

    /// The time for which it went.
    fn now(&self) -> Duration {
        // After the lock: it may stand since a moment ago.
        let Hidden { all, since } = *self.lock();
        let now = Instant::now();
        (now - self.begun).saturating_sub(all + since.map_or(Duration::ZERO, |since| now - since))
    }

    fn stands(&self) -> bool {
        self.lock().since.is_some()
    }

    fn stand(&self, stands: bool) {
        let mut hidden = self.lock();
        if let Some(since) = hidden.since.take() {
            hidden.all += since.elapsed();
        }
        hidden.since = stands.then(Instant::now);
    }

    fn lock(&self) -> MutexGuard<'_, Hidden> {
        self.hidden.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call of which all ranks take part.
struct Come {
    begun: Duration,
    /// Ends when all have come.
    all: Request<'static, ()>,
}

/// The length of what a rank tells, and its beginning, in `size` bytes.
fn letter(own: &[u8], size: usize) -> Vec<u8> {
    let mut letter: Vec<u8> =
        (own.len() as u64).to_le_bytes().into_iter().chain(own.iter().copied()).collect();
    letter.resize(size, 0);
    letter
}

fn length(letter: &[u8]) -> usize {
    letter.first_chunk().map_or(0, |&length| u64::from_le_bytes(length) as usize)
}

/// All of it, if that is no longer than a letter.
fn short(letter: &[u8]) -> Option<Vec<u8>> {
    Some(letter[size_of::<u64>()..].get(..length(letter))?.to_vec())
}

/// The size of a letter for what is as long as this; that at first where the letters of all ranks would take
/// long.
fn letter_size(told: usize, ranks: usize) -> usize {
    let size = (told + size_of::<u64>()).next_power_of_two();
    if size * ranks <= LETTERS { size.max(LETTER) } else { LETTER }
}

/// Where the end of MPI is not asked for the process has failed: in it MPI would wait for the others.
impl Drop for Mpi {
    fn drop(&mut self) {
        std::mem::forget(self.universe.get_mut().unwrap_or_else(PoisonError::into_inner).take());
    }
}

fn world() -> SimpleCommunicator {
    SimpleCommunicator::world()
}

/// A number as MPI has it.
fn count(number: usize) -> Result<Count> {
    Count::try_from(number).with_context(|| format!("a message of {number} values is too long for MPI"))
}

/// Lengths and beginnings of `parts`.
fn places(parts: impl IntoIterator<Item = Range<usize>>) -> Result<(Vec<Count>, Vec<Count>)> {
    parts.into_iter().map(|part| Ok((count(part.len())?, count(part.start)?))).collect()
}

/// Consecutive parts with these numbers of values.
fn in_turn(counts: impl IntoIterator<Item = usize>) -> Vec<Range<usize>> {
    let mut end = 0;
    let of = |count: usize| {
        let start = end;
        end += count;
        start..end
    };
    counts.into_iter().map(of).collect()
}

/// The same bytes. No bytes lie at the address 1, which Open MPI takes for `MPI_IN_PLACE`.
fn somewhere(bytes: &[u8]) -> &[u8] {
    if bytes.is_empty() { &[0][..0] } else { bytes }
}

/// So many bytes to be written, somewhere.
fn room(count: usize) -> Vec<u8> {
    let mut room = Vec::with_capacity(count.max(1));
    room.resize(count, 0);
    room
}

impl Exchange for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.ranks
    }

    /// On one machine an exchange is copies by the cores that compute: hidden, it would only disturb them.
    fn overlaps(&self) -> bool {
        self.apart
    }

    fn computes_beside(&self, computes: bool) {
        self.clock.stand(computes);
    }

    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        let (begun, world) = (self.clock.now(), world());
        // Most reports are short: then one message is all of it.
        let size = self.letter.load(Ordering::Relaxed);
        let (letter, mut letters) = (letter(own, size), vec![0; self.ranks * size]);
        request::scope(|scope| {
            self.wait(world.immediate_all_gather_into(scope, &letter[..], &mut letters[..]));
        });
        // It has waited for all of them.
        self.add_to(&self.waited, begun);
        let letters = || letters.chunks_exact(size);
        let lengths: Vec<usize> = letters().map(length).collect();
        let all = match letters().map(short).collect() {
            Some(all) => all,
            None => self.gather_long(&world, own, &lengths)?,
        };
        // What is reported in a step is as long in the next. All ranks know the lengths of all.
        let longest = lengths.into_iter().max().unwrap_or(0);
        self.letter.fetch_max(letter_size(longest, self.ranks), Ordering::Relaxed);
        self.add_to(&self.spent, begun);
        Ok(all)
    }

    fn gather_at_first(&self, own: &[u8]) -> Result<Option<Vec<Vec<u8>>>> {
        let (begun, world) = (self.clock.now(), world());
        let (length, mut lengths) = (own.len() as u64, vec![0_u64; self.ranks]);
        request::scope(|scope| {
            self.wait(world.immediate_all_gather_into(scope, &length, &mut lengths[..]));
        });
        // It has waited for all of them.
        self.add_to(&self.waited, begun);
        let lengths: Vec<usize> = lengths.into_iter().map(|length| length as usize).collect();
        let mut of_ranks = vec![Vec::new(); self.ranks];
        let first = world.process_at_rank(0);
        for pieces in self.pieces(&lengths) {
            let own = somewhere(&own[pieces[self.rank].clone()]);
            if self.rank > 0 {
                first.gather_varcount_into(own);
                continue;
            }
            let parts = in_turn(pieces.iter().map(Range::len));
            let mut all = room(parts.last().map_or(0, |part| part.end));
            let (counts, places) = places(parts.iter().cloned())?;
            first.gather_varcount_into_root(own, &mut PartitionMut::new(&mut all[..], counts, places));
            of_ranks.iter_mut().zip(parts).for_each(|(of_rank, part)| of_rank.extend(&all[part]));
        }
        self.add_to(&self.spent, begun);
        Ok((self.rank == 0).then_some(of_ranks))
    }

    fn scatter(&self, own: &[f32], parts: &[Range<usize>], given: &mut [f32]) -> Result<()> {
        self.to_all(own, parts, given)
    }

    fn scatter_halves(&self, own: &[u16], parts: &[Range<usize>], given: &mut [u16]) -> Result<()> {
        self.to_all(own, parts, given)
    }

    fn collect(&self, own: &[f32], parts: &[Range<usize>], whole: &mut [f32]) -> Result<()> {
        let (counts, begins) = places(parts.iter().cloned())?;
        let mut whole = PartitionMut::new(whole, counts, begins);
        request::scope(|scope| {
            let (come, world) = (self.come(), world());
            self.end(come, world.immediate_all_gather_varcount_into(scope, own, &mut whole));
        });
        Ok(())
    }
}

impl RunRanks for Mpi {
    fn host(&self) -> String {
        environment::processor_name().unwrap_or_else(|_| "an unnamed machine".to_owned())
    }

    fn spent(&self) -> Spent {
        let [all, waiting] = [&self.spent, &self.waited]
            .map(|nanoseconds| Duration::from_nanos(nanoseconds.load(Ordering::Relaxed)));
        Spent { all, waiting }
    }

    fn meet(&self, stopped: &dyn Fn() -> bool) {
        let mut waiting = world().immediate_barrier();
        while let Err(still) = waiting.test() {
            if stopped() {
                output::fail(&Error::from(Interrupted).context(format!("rank {}", self.rank)));
                self.abort(130);
            }
            thread::sleep(LOOK);
            waiting = still;
        }
    }

    fn leave(&self) {
        // Waits for all.
        drop(self.universe.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn abort(&self, code: u8) -> ! {
        world().abort(i32::from(code))
    }

    fn exchange(self: Arc<Self>) -> Arc<dyn Exchange> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_stands_while_its_rank_computes_beside() {
        let (whole, clock) = (Instant::now(), Clock::begin());
        let time = Duration::from_millis(5);
        clock.stand(true);
        let at = clock.now();
        thread::sleep(2 * time);
        assert_eq!((clock.now(), clock.stands()), (at, true));
        clock.stand(false);
        thread::sleep(time);
        assert!(clock.now() >= at + time && !clock.stands());
        assert!(clock.now() + 2 * time <= whole.elapsed());
    }

    #[test]
    fn what_is_short_fits_into_a_letter() {
        let told: Vec<u8> = (0..=LETTER).map(|i| i as u8).collect();
        for count in [0, 1, LETTER - 8, LETTER - 7, LETTER] {
            let letter = letter(&told[..count], LETTER);
            assert_eq!((letter.len(), length(&letter)), (LETTER, count));
            assert_eq!(short(&letter), (count <= LETTER - 8).then(|| told[..count].to_vec()));
            assert!(short(&super::letter(&told[..count], letter_size(count, 2))).is_some());
        }
        assert_eq!(letter_size(LETTER - 8, 2), LETTER);
        assert_eq!(letter_size(LETTER, 2), 2 * LETTER);
        // Letters that would take long to cross stay small.
        assert_eq!(letter_size(LETTERS / 2 - 8, 2), LETTERS / 2);
        assert_eq!([letter_size(LETTERS / 2, 2), letter_size(LETTER, 64)], [LETTER; 2]);
    }
}
