//! Ranks that MPI has started.

use std::hint;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
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
/// Bytes of a short message, its length included: what a rank reports in a step fits, mostly.
const LETTER: usize = 512;
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
        let [spent, waited] = [(); 2].map(|()| AtomicU64::new(0));
        Ok(Arc::new(Self { rank, ranks, universe, apart, clock: Clock::begin(), spent, waited }))
    }

    /// [`Exchange::scatter`] of any numbers.
    fn to_all<T: Equivalence>(&self, own: &[T], parts: &[Range<usize>], given: &mut [T]) -> Result<()> {
        self.timed(|world| {
            let len = parts[self.rank].len();
            let (counts, begins) = places(parts.iter().cloned())?;
            let own = Partition::new(own, counts, begins);
            let (counts, begins) = places((0..self.ranks).map(|rank| rank * len..(rank + 1) * len))?;
            let mut given = PartitionMut::new(given, counts, begins);
            request::scope(|scope| {
                self.wait(world.immediate_all_to_all_varcount_into(scope, &own, &mut given));
            });
            Ok(())
        })
    }

    /// [`Exchange::gather_at_first`] of few bytes; nothing elsewhere.
    fn piece_at_first(&self, world: &SimpleCommunicator, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        let parts = in_turn(&lens(world, own.len(), self.ranks)?);
        let first = world.process_at_rank(0);
        if self.rank > 0 {
            first.gather_varcount_into(somewhere(own));
            return Ok(Vec::new());
        }
        let mut all = room(parts.last().map_or(0, |part| part.end));
        let (counts, places) = places(parts.iter().cloned())?;
        first.gather_varcount_into_root(somewhere(own), &mut PartitionMut::new(&mut all[..], counts, places));
        Ok(parts.into_iter().map(|part| all[part].to_vec()).collect())
    }

    /// What `call` gives, once all have come.
    fn timed<T>(&self, call: impl FnOnce(&SimpleCommunicator) -> Result<T>) -> Result<T> {
        let (begun, world) = (self.clock.now(), world());
        // Every call waits for all; so it is known how long.
        self.wait(world.immediate_barrier());
        self.add_to(&self.waited, begun);
        let result = call(&world);
        self.add_to(&self.spent, begun);
        result
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

/// The length of what a rank tells, and its beginning.
type Letter = [u8; LETTER];

fn letter(own: &[u8]) -> Letter {
    let mut letter = [0; LETTER];
    let length = (own.len() as u64).to_le_bytes();
    let all = length.iter().chain(own);
    letter.iter_mut().zip(all).for_each(|(to, &byte)| *to = byte);
    letter
}

fn length(letter: &Letter) -> usize {
    letter.first_chunk().map_or(0, |&length| u64::from_le_bytes(length) as usize)
}

/// All of it, if that is no longer than a letter.
fn short(letter: &Letter) -> Option<Vec<u8>> {
    Some(letter[size_of::<u64>()..].get(..length(letter))?.to_vec())
}

/// What all ranks tell, each a part of it all.
fn gather_long(world: &SimpleCommunicator, own: &[u8], parts: Vec<Range<usize>>) -> Result<Vec<Vec<u8>>> {
    let mut all = room(parts.last().map_or(0, |part| part.end));
    let (counts, places) = places(parts.iter().cloned())?;
    world.all_gather_varcount_into(somewhere(own), &mut PartitionMut::new(&mut all[..], counts, places));
    Ok(parts.into_iter().map(|part| all[part].to_vec()).collect())
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
fn in_turn(counts: &[Count]) -> Vec<Range<usize>> {
    let mut end = 0;
    let of = |&count: &Count| {
        let start = end;
        end += count as usize;
        start..end
    };
    counts.iter().map(of).collect()
}

/// The length of what each rank gives, which may be long.
fn lengths(world: &SimpleCommunicator, own: usize, ranks: usize) -> Vec<usize> {
    let mut all = vec![0_u64; ranks];
    world.all_gather_into(&(own as u64), &mut all[..]);
    all.into_iter().map(|length| length as usize).collect()
}

/// The length of what each rank gives.
fn lens(world: &SimpleCommunicator, own: usize, ranks: usize) -> Result<Vec<Count>> {
    let mut all = vec![0; ranks];
    world.all_gather_into(&count(own)?, &mut all[..]);
    Ok(all)
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
        let (letter, mut letters) = (letter(own), vec![[0; LETTER]; self.ranks]);
        request::scope(|scope| {
            self.wait(world.immediate_all_gather_into(scope, &letter[..], letters.as_flattened_mut()));
        });
        // It has waited for all of them.
        self.add_to(&self.waited, begun);
        let all = match letters.iter().map(short).collect() {
            Some(all) => all,
            None => {
                let lens = letters.iter().map(|letter| count(length(letter))).collect::<Result<Vec<_>>>()?;
                gather_long(&world, own, in_turn(&lens))?
            }
        };
        self.add_to(&self.spent, begun);
        Ok(all)
    }

    fn gather_at_first(&self, own: &[u8]) -> Result<Option<Vec<Vec<u8>>>> {
        self.timed(|world| {
            let longest = lengths(world, own.len(), self.ranks).into_iter().max().unwrap_or(0);
            let mut of_ranks = vec![Vec::new(); self.ranks];
            // What crosses at once is counted in 31 bits.
            let piece = TOGETHER / self.ranks;
            for begin in (0..longest.max(1)).step_by(piece) {
                let own = &own[begin.min(own.len())..(begin + piece).min(own.len())];
                let found = self.piece_at_first(world, own)?;
                of_ranks.iter_mut().zip(found).for_each(|(of_rank, piece)| of_rank.extend(piece));
            }
            Ok((self.rank == 0).then_some(of_ranks))
        })
    }

    fn scatter(&self, own: &[f32], parts: &[Range<usize>], given: &mut [f32]) -> Result<()> {
        self.to_all(own, parts, given)
    }

    fn scatter_halves(&self, own: &[u16], parts: &[Range<usize>], given: &mut [u16]) -> Result<()> {
        self.to_all(own, parts, given)
    }

    fn collect(&self, own: &[f32], parts: &[Range<usize>], whole: &mut [f32]) -> Result<()> {
        self.timed(|world| {
            let (counts, begins) = places(parts.iter().cloned())?;
            world.all_gather_varcount_into(own, &mut PartitionMut::new(whole, counts, begins));
            Ok(())
        })
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
            let letter = letter(&told[..count]);
            assert_eq!(length(&letter), count);
            assert_eq!(short(&letter), (count <= LETTER - 8).then(|| told[..count].to_vec()));
        }
    }
}
