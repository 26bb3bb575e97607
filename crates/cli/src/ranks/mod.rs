//! The ranks of a run: `mpirun -n 4 mm1 run RECIPE --out DIR`, with a program built with the feature `mpi`.
//!
//! Each rank opens the recipe, trains, and answers its part of an evaluation's questions; rank 0 writes the
//! run folder and speaks. What a stage needs of the others it asks by an [`Exchange`].

mod balance;
mod model;
#[cfg(feature = "mpi")]
mod mpi;

use std::env;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mm1_data::loader::{RankShare, SkippedSample};
use mm1_lab::balance::RankTime;
use mm1_train::Exchange;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub(crate) use self::balance::{Balance, RankClock};
pub(crate) use self::model::SharedModel;

use crate::error::{self, InputError, Interrupted};
use crate::network::Network;
use crate::output;

/// Exchanges of each kind and size that are measured.
const MEASURED: usize = 7;
/// Bytes of a long one: as many as cross together in a step.
const MEASURED_BYTES: usize = 1 << 26;

/// How many processes a launcher has started, as Open MPI and MPICH tell them.
const SIZES: [&str; 2] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"];
/// What others tell processes that they start, as Slurm does.
#[cfg(feature = "mpi")]
const LAUNCHED: &str = "PMIX_RANK";
/// Which of the processes on its machine this one is, as Open MPI, MPICH and Slurm tell it.
const LOCAL: [&str; 3] = ["OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"];
/// How the names of all that launchers tell begin.
const TOLD: [&str; 4] = ["OMPI_", "PMI_", "PMIX_", "PRTE_"];

/// The ranks of a run, of which this process is one; none, where it was not started as one of several.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ranks(Option<Arc<dyn RunRanks>>);

/// Ranks as a run needs them.
pub(crate) trait RunRanks: Exchange {
    /// The name of the machine.
    fn host(&self) -> String;

    /// The time in calls of an [`Exchange`] so far.
    fn spent(&self) -> Spent;

    /// Waits until all ranks have come here, with the processor left to others; ends all where `stopped` says
    /// so: nothing is lost then.
    fn meet(&self, stopped: &dyn Fn() -> bool);

    /// Leaves the others, which all leave.
    fn leave(&self);

    /// Ends this process and all others.
    fn abort(&self, code: u8) -> !;

    /// Itself as what training sees of it.
    fn exchange(self: Arc<Self>) -> Arc<dyn Exchange>;
}

/// The time in calls of an [`Exchange`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    /// All of it.
    pub(crate) all: Duration,
    /// Until all others had come.
    pub(crate) waiting: Duration,
}

/// What a rank tells the others in a step.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct StepNote {
    /// Whether it is to stop.
    pub(crate) stop: bool,
    /// The damaged samples that it has met.
    pub(crate) skipped: Vec<SkippedSample>,
    /// Its time since it last told.
    pub(crate) time: RankTime,
}

/// What all ranks have told in a step.
#[derive(Debug, Default)]
pub(crate) struct StepNotes {
    /// Whether one of them is to stop.
    pub(crate) stop: bool,
    /// The damaged samples that they have met.
    pub(crate) skipped: Vec<SkippedSample>,
    /// The time of each.
    pub(crate) times: Vec<RankTime>,
}

impl StepNote {
    /// As it crosses.
    ///
    /// # Errors
    /// Those of JSON.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }
}

impl Ranks {
    /// Finds the others, if this process was started as one of several.
    ///
    /// # Errors
    /// [`InputError`]: a program that was built without.
    pub(crate) fn begin() -> Result<Self> {
        let size = SIZES.iter().find_map(|name| env::var(name).ok()?.parse::<u32>().ok());
        #[cfg(feature = "mpi")]
        if size.is_some() || env::var_os(LAUNCHED).is_some() {
            let ranks = mpi::Mpi::begin()?;
            if ranks.rank() > 0 {
                output::be_silent();
            }
            return Ok(Self(Some(ranks)));
        }
        ensure!(
            size.is_none_or(|size| size == 1),
            InputError::new(
                "started as one of several ranks, and built without them: cargo build --release --features \
                 mpi (it needs Open MPI and libclang), or start it without mpirun"
            )
        );
        Ok(Self(None))
    }

    /// Makes the process that `command` starts one without others.
    pub(crate) fn leave_out(command: &mut Command) {
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(|name| TOLD.iter().any(|begin| name.starts_with(begin))) {
                command.env_remove(name);
            }
        }
    }

    /// What training sees of them.
    pub(crate) fn exchange(&self) -> Option<Arc<dyn Exchange>> {
        self.0.clone().map(|ranks| ranks.exchange())
    }

    /// The share of the micro-batches.
    pub(crate) fn share(&self) -> RankShare {
        let of =
            |ranks: &Arc<dyn RunRanks>| RankShare { rank: ranks.rank() as u32, ranks: ranks.ranks() as u32 };
        self.0.as_ref().map_or_else(RankShare::default, of)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.as_ref().map_or(1, |ranks| ranks.ranks())
    }

    /// Which this is, from 0.
    pub(crate) fn rank(&self) -> usize {
        self.0.as_ref().map_or(0, |ranks| ranks.rank())
    }

    /// Which this is of those on its machine, as the launcher says; of several that don't, which of all.
    pub(crate) fn local(&self) -> usize {
        let told = LOCAL.iter().find_map(|name| env::var(name).ok()?.parse().ok());
        self.0.as_ref().map_or(0, |ranks| told.unwrap_or(ranks.rank()))
    }

    /// Whether this is the rank that writes and speaks.
    pub(crate) fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Micro-batches of this rank in a step of stage `name`, which has `accumulate` in all.
    ///
    /// # Errors
    /// [`InputError`]: a number that the ranks can't share.
    pub(crate) fn share_of(&self, name: &str, accumulate: usize) -> Result<usize> {
        let ranks = self.count();
        ensure!(
            accumulate.is_multiple_of(ranks),
            InputError::new(format!(
                "stage.{name}.accumulate = {accumulate} can't be shared by {ranks} ranks: give a multiple of \
                 {ranks} (with --set stage.{name}.accumulate=… and rows)"
            ))
        );
        Ok(accumulate / ranks)
    }

    /// Waits for all; an interrupt meanwhile ends all.
    pub(crate) fn meet(&self, stop: &AtomicBool) {
        if let Some(ranks) = &self.0 {
            ranks.meet(&|| stop.load(Ordering::Relaxed));
        }
    }

    /// Lets rank 0 do `work` before the others.
    ///
    /// # Errors
    /// As `work`.
    pub(crate) fn first_before_others<T>(
        &self,
        stop: &AtomicBool,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        if !self.is_first() {
            self.meet(stop);
            return work();
        }
        let done = work()?;
        self.meet(stop);
        Ok(done)
    }

    /// What rank 0 gives, at all ranks.
    ///
    /// # Errors
    /// The network's own.
    pub(crate) fn of_first<T: Serialize + DeserializeOwned>(&self, own: T) -> Result<T> {
        let Some(ranks) = &self.0 else { return Ok(own) };
        let all = ranks.gather(&serde_json::to_vec(&own)?)?;
        serde_json::from_slice(all.first().map_or(&[][..], Vec::as_slice)).context("what rank 0 has sent")
    }

    /// Waits until all have come here, with the processor left to others. Whether one of them was `asked` to
    /// stop.
    ///
    /// # Errors
    /// The network's own.
    pub(crate) fn end_together(&self, asked: bool) -> Result<bool> {
        let Some(ranks) = &self.0 else { return Ok(asked) };
        ranks.meet(&|| false);
        let note = StepNote { stop: asked, ..StepNote::default() };
        Ok(self.notes(&ranks.gather(&note.bytes()?)?)?.stop)
    }

    /// The time in exchanges so far; none of a process alone.
    pub(crate) fn spent(&self) -> Option<Spent> {
        self.0.as_ref().map(|ranks| ranks.spent())
    }

    /// The time in exchanges since [`Self::spent`] was `before`.
    pub(crate) fn spent_since(&self, before: Option<Spent>) -> Option<Spent> {
        let (after, before) = self.spent().zip(before)?;
        Some(Spent { all: after.all - before.all, waiting: after.waiting - before.waiting })
    }

    /// The names of the machines, by rank; none of a process alone.
    ///
    /// # Errors
    /// The network's own.
    pub(crate) fn hosts(&self) -> Result<Vec<String>> {
        let Some(ranks) = &self.0 else { return Ok(Vec::new()) };
        let all = ranks.gather(ranks.host().as_bytes())?;
        Ok(all.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect())
    }

    /// Checks that `what` is the same at all ranks.
    ///
    /// # Errors
    /// [`InputError`] with `remedy`.
    pub(crate) fn agree(&self, what: &[u8], remedy: &str) -> Result<()> {
        let Some(ranks) = &self.0 else { return Ok(()) };
        let all = ranks.gather(what)?;
        let other = all.iter().position(|given| *given != all[0]);
        ensure!(
            other.is_none(),
            InputError::new(format!("rank {} and rank 0 differ: {remedy}", other.unwrap_or_default()))
        );
        Ok(())
    }

    /// What `work` makes of `asked`, one by one, in their order, at all ranks: each works on a part. All are
    /// asked the same. An interrupt of one is one of all.
    ///
    /// # Errors
    /// As `work`, the network's own; [`InputError`]: ranks that are asked differently.
    pub(crate) fn divide<T, A: Serialize + DeserializeOwned>(
        &self,
        asked: &[T],
        work: impl FnOnce(&[T]) -> Result<Vec<A>>,
    ) -> Result<Vec<A>> {
        let Some(ranks) = &self.0 else { return work(asked) };
        let bound = |rank: usize| asked.len() * rank / ranks.ranks();
        let own = match work(&asked[bound(ranks.rank())..bound(ranks.rank() + 1)]) {
            Err(error) if error.downcast_ref::<Interrupted>().is_none() => return Err(error),
            done => done.ok(),
        };
        let mut all = Vec::with_capacity(asked.len());
        for (rank, given) in ranks.gather(&serde_json::to_vec(&(asked.len(), own))?)?.iter().enumerate() {
            let (count, part): (usize, Option<Vec<A>>) =
                serde_json::from_slice(given).context("what another rank has sent")?;
            ensure!(
                count == asked.len(),
                InputError::new(format!(
                    "rank {rank} asks {count} and rank {} {}: give --out on a disk that all share",
                    ranks.rank(),
                    asked.len()
                ))
            );
            all.extend(part.ok_or(Interrupted)?);
        }
        Ok(all)
    }

    /// What `work` makes of each of `items`, in their order, at rank 0, and nothing at the others: the ranks
    /// take them in turn. An interrupt of one is one of all.
    ///
    /// # Errors
    /// As `work`, the network's own.
    pub(crate) fn take_turns<T>(
        &self,
        stop: &AtomicBool,
        items: &[T],
        work: impl Fn(&T) -> Result<Vec<f32>>,
    ) -> Result<Vec<Vec<f32>>> {
        let Some(ranks) = &self.0 else { return items.iter().map(work).collect() };
        // The others may wait long for what rank 0 does alone.
        self.meet(stop);
        let mut all = Vec::new();
        for round in items.chunks(ranks.ranks()) {
            let own = match round.get(ranks.rank()).map(&work).transpose() {
                Err(error) if error.downcast_ref::<Interrupted>().is_none() => return Err(error),
                done => done.ok(),
            };
            let interrupted = own.is_none();
            let values = own.flatten().into_iter().flatten().flat_map(f32::to_le_bytes);
            let sent: Vec<u8> = [u8::from(interrupted)].into_iter().chain(values).collect();
            let of_ranks = ranks.gather_at_first(&sent)?.unwrap_or_default();
            ensure!(!interrupted && of_ranks.iter().all(|given| given.starts_with(&[0])), Interrupted);
            let floats =
                |given: Vec<u8>| given[1..].as_chunks().0.iter().map(|&x| f32::from_le_bytes(x)).collect();
            all.extend(of_ranks.into_iter().take(round.len()).map(floats));
        }
        Ok(all)
    }

    /// What all ranks have told, by rank.
    ///
    /// # Errors
    /// What is no note.
    pub(crate) fn notes(&self, told: &[Vec<u8>]) -> Result<StepNotes> {
        let mut all = StepNotes::default();
        for note in told {
            let note: StepNote = serde_json::from_slice(note).context("what another rank has sent")?;
            all.stop |= note.stop;
            all.skipped.extend(note.skipped);
            all.times.push(note.time);
        }
        if self.0.is_some() {
            // In one order, however many ranks there are.
            all.skipped.sort_by(|a, b| a.id.cmp(&b.id));
        }
        Ok(all)
    }

    /// Measures what lies between the ranks: the fastest of some exchanges, of gradients and of weights.
    ///
    /// # Errors
    /// [`InputError`]: not several ranks; the network's own.
    pub(crate) fn network(&self) -> Result<Network> {
        let ranks =
            self.0.as_ref().filter(|ranks| ranks.ranks() > 1).ok_or_else(|| {
                InputError::new("--measure: start it as several ranks: mpirun -n 2 mm1 plan …")
            })?;
        let count = ranks.ranks();
        let fastest = |of_rank: usize| -> Result<f64> {
            let parts: Vec<_> = (0..count).map(|rank| rank * of_rank..(rank + 1) * of_rank).collect();
            let (mut whole, mut given) = (vec![1.0; count * of_rank], vec![0.0; count * of_rank]);
            let mut best = [f64::INFINITY; 2];
            for _ in 0..MEASURED {
                // Begun by all at once.
                ranks.gather(&[])?;
                let begun = Instant::now();
                ranks.scatter(&whole, &parts, &mut given)?;
                best[0] = best[0].min(begun.elapsed().as_secs_f64());
                ranks.gather(&[])?;
                let begun = Instant::now();
                ranks.collect(&given[..of_rank], &parts, &mut whole)?;
                best[1] = best[1].min(begun.elapsed().as_secs_f64());
            }
            Ok(best.iter().sum::<f64>() / 2.0)
        };
        let few = fastest(1)?;
        let values = MEASURED_BYTES / 4 / count;
        let many = fastest(values)?;
        Ok(Network::measured(count as u32, few, ((4 * values * count) as u64, many)))
    }

    /// Ends the run of all ranks as it has ended here: one that has failed ends all, and says why.
    ///
    /// # Errors
    /// Of a process alone, what `done` says.
    pub(crate) fn end(&self, done: Result<()>) -> Result<()> {
        let Some(ranks) = &self.0 else { return done };
        let Err(error) = done else {
            ranks.leave();
            return Ok(());
        };
        if error.downcast_ref::<Interrupted>().is_some() {
            // All have come to it together: rank 0 ends all when its files are whole.
            if self.is_first() {
                output::fail(&error);
                ranks.abort(130);
            }
            ranks.meet(&|| false);
        }
        let code = error::exit_code(&error);
        output::fail(&error.context(format!("rank {} on {}", ranks.rank(), ranks.host())));
        ranks.abort(code)
    }
}
