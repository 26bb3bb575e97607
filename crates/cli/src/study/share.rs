//! [`JobShare`]: the jobs of a study among the ranks that do it.
//!
//! Who does which is known to all before the first begins. How far a rank is with its own it says in a file
//! beside the study's: a rank may be in the middle of hours of work when another would hear of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use mm1_data::whole_file;
use mm1_lab::study::record::RunState;
use serde::{Deserialize, Serialize};

use super::job::Jobs;
use crate::ranks::Ranks;

/// Whose each job is, and what the ranks say of theirs.
pub(super) struct JobShare {
    rank: usize,
    ranks: usize,
    /// The rank of each job.
    owners: Vec<usize>,
    /// Where the ranks say how far they are.
    folder: PathBuf,
    /// When these ranks began: what others have left is not theirs.
    begun: u128,
}

/// What a rank says.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RankNews {
    begun: u128,
    /// Whether it was asked to stop.
    pub(super) stopped: bool,
    /// Of all jobs; only its own count.
    states: Vec<RunState>,
}

impl JobShare {
    /// Of `jobs`, for all `ranks`, which must see the same.
    ///
    /// # Errors
    /// [`crate::error::InputError`]: ranks that see other folders; the network's own.
    pub(super) fn of(ranks: &Ranks, jobs: &Jobs, folder: &Path) -> Result<Self> {
        let states = jobs.states();
        let after: Vec<Option<usize>> = jobs.all.iter().map(|job| job.after).collect();
        let folders: Vec<&Path> = jobs.all.iter().map(|job| job.folder.as_path()).collect();
        ranks.agree(
            &serde_json::to_vec(&(folders, &after, &states))?,
            "give all ranks the same recipe, and --out on a disk that all share",
        )?;
        let begun = ranks.of_first(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?;
        Ok(Self {
            rank: ranks.rank(),
            ranks: ranks.count(),
            owners: owners(&after, &states, ranks.count()),
            folder: folder.to_owned(),
            begun,
        })
    }

    /// Whether this rank does the job in `place`.
    pub(super) fn is_own(&self, place: usize) -> bool {
        self.owners[place] == self.rank
    }

    /// Whether this rank does all jobs.
    pub(super) fn is_all(&self) -> bool {
        self.ranks == 1
    }

    /// Says how far this rank is.
    ///
    /// # Errors
    /// A folder that can't be written.
    pub(super) fn say(&self, stopped: bool, states: &[RunState]) -> Result<()> {
        if self.is_all() {
            return Ok(());
        }
        let news = RankNews { begun: self.begun, stopped, states: states.to_vec() };
        let path = self.file(self.rank);
        whole_file::replace(&path, &serde_json::to_vec(&news)?).with_context(|| path.display().to_string())
    }

    /// What the other ranks have said last.
    pub(super) fn hear(&self) -> impl Iterator<Item = (usize, RankNews)> {
        (0..self.ranks).filter(|rank| *rank != self.rank).filter_map(|rank| {
            // Not there yet, or of ranks that were killed.
            let news: RankNews = serde_json::from_slice(&fs::read(self.file(rank)).ok()?).ok()?;
            (news.begun == self.begun).then_some((rank, news))
        })
    }

    /// Takes over what rank `rank` says of its jobs. Those that are other than before.
    pub(super) fn take_over(&self, rank: usize, news: RankNews, states: &mut [RunState]) -> Vec<usize> {
        let own = news.states.into_iter().enumerate().filter(|(place, _)| self.owners[*place] == rank);
        let other = own.filter_map(|(place, state)| {
            (states[place] != state).then(|| {
                states[place] = state;
                place
            })
        });
        other.collect()
    }

    /// Removes what this rank has said, when nobody listens any more.
    pub(super) fn forget(&self) {
        if !self.is_all() {
            // What stays is known as that of others.
            let _ = fs::remove_file(self.file(self.rank));
        }
    }

    fn file(&self, rank: usize) -> PathBuf {
        self.folder.join(format!(".rank-{rank}.json"))
    }
}

/// The rank of each job: those that are to be done go to the ranks in turn, first those that begin with none,
/// then those that begin with one of these, and so on. So ranks wait for shared stages together, and not for
/// each other.
fn owners(after: &[Option<usize>], states: &[RunState], ranks: usize) -> Vec<usize> {
    // How many jobs a job begins with, and how many to be done there are of each such number.
    let (mut depths, mut counts) = (Vec::<usize>::new(), vec![0; after.len() + 1]);
    let owner = |(after, state): (&Option<usize>, &RunState)| {
        let depth = after.map_or(0, |after| depths[after] + 1);
        depths.push(depth);
        let owner = counts[depth] % ranks;
        counts[depth] += usize::from(*state != RunState::Done);
        owner
    };
    after.iter().zip(states).map(owner).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_of_one_depth_go_to_the_ranks_in_turn() {
        // Two encoders, three runs behind each, and one run alone.
        let after = [None, Some(0), Some(0), Some(0), None, Some(4), Some(4), Some(4), None];
        let waiting = vec![RunState::Waiting; 9];
        assert_eq!(owners(&after, &waiting, 1), [0; 9]);
        assert_eq!(owners(&after, &waiting, 2), [0, 0, 1, 0, 1, 1, 0, 1, 0]);
        // What is done is nobody's work.
        let mut some = waiting.clone();
        some[0] = RunState::Done;
        some[2] = RunState::Done;
        assert_eq!(owners(&after, &some, 2), [0, 0, 1, 1, 0, 0, 1, 0, 1]);
        // The first stages of first stages.
        assert_eq!(owners(&[None, Some(0), Some(1), Some(1)], &waiting[..4], 4), [0, 0, 0, 1]);
    }

    #[test]
    fn ranks_hear_of_each_other_and_of_nobody_before() {
        let dir = tempfile::tempdir().expect("dir");
        let share = |rank, begun| JobShare {
            rank,
            ranks: 2,
            owners: vec![0, 1],
            folder: dir.path().to_owned(),
            begun,
        };
        let (first, second) = (share(0, 7), share(1, 7));
        share(1, 6).say(true, &[RunState::Waiting, RunState::Done]).expect("of ranks that were killed");
        assert_eq!(first.hear().count(), 0);
        second.say(false, &[RunState::Running, RunState::Failed("why".to_owned())]).expect("said");
        let mut states = vec![RunState::Done, RunState::Waiting];
        for (rank, news) in first.hear().collect::<Vec<_>>() {
            assert!(!news.stopped);
            assert_eq!(first.take_over(rank, news, &mut states), [1]);
        }
        assert_eq!(states, [RunState::Done, RunState::Failed("why".to_owned())]);
        second.forget();
        assert_eq!(first.hear().count(), 0);
    }
}
