//! [`Balance`]: how the ranks of a stage spend its time, and for which of them the others wait. It is
//! reported, kept in `ranks.json` and shown in the report; no digit depends on it.

use std::time::Instant;

use anyhow::Result;
use mm1_lab::balance::{FILE, LateRank, RankTime, RanksRecord};

use super::{Ranks, Spent};
use crate::output::tell;
use crate::run_folder::RunFolder;

/// Steps after which it is judged whether a rank is late: one of them may have an odd micro-batch.
const JUDGED: u64 = 10;

/// The time of this rank.
pub(crate) struct RankClock {
    read: Instant,
    spent: Spent,
}

impl RankClock {
    /// Begins now.
    pub(crate) fn begin(ranks: &Ranks) -> Self {
        Self { read: Instant::now(), spent: ranks.spent().unwrap_or_default() }
    }

    /// The time since it was last read.
    pub(crate) fn read(&mut self, ranks: &Ranks) -> RankTime {
        let now = Self::begin(ranks);
        let seconds = (now.read - self.read).as_secs_f64();
        let waiting = (now.spent.waiting - self.spent.waiting).as_secs_f64();
        let exchange = (now.spent.all - self.spent.all).as_secs_f64() - waiting;
        *self = now;
        RankTime { work: (seconds - exchange - waiting).max(0.0), exchange, waiting }
    }
}

/// The time of all ranks in a stage, at the rank that speaks.
pub(crate) struct Balance {
    /// By rank; empty of a process alone.
    hosts: Vec<String>,
    all: Vec<RankTime>,
    steps: u64,
    /// Of the steps since it was judged.
    recent: Vec<RankTime>,
    recent_steps: u64,
    /// Who was late then.
    late: Option<usize>,
}

impl Balance {
    /// Of ranks on these `hosts`.
    pub(crate) fn new(hosts: Vec<String>) -> Self {
        let none = vec![RankTime::default(); hosts.len()];
        Self { hosts, all: none.clone(), steps: 0, recent: none, recent_steps: 0, late: None }
    }

    /// Adds a step.
    pub(crate) fn add(&mut self, times: &[RankTime]) {
        for sums in [&mut self.all, &mut self.recent] {
            sums.iter_mut().zip(times).for_each(|(sum, time)| sum.add(time));
        }
        (self.steps, self.recent_steps) = (self.steps + 1, self.recent_steps + 1);
    }

    /// Keeps in `folder` how it is with stage `name`, and tells who is late now and was not before.
    ///
    /// # Errors
    /// A folder that can't be written, a damaged file.
    pub(crate) fn keep(&mut self, folder: &RunFolder, name: &str) -> Result<()> {
        if self.hosts.len() < 2 || self.steps == 0 {
            return Ok(());
        }
        let mut stages: Vec<RanksRecord> = folder.read_json(FILE)?.unwrap_or_default();
        let record = RanksRecord::new(name, self.steps, &self.hosts, &self.all);
        match stages.iter_mut().find(|stage| stage.stage == name) {
            Some(before) => *before = record,
            None => stages.push(record),
        }
        folder.write(FILE, &serde_json::to_vec_pretty(&stages)?)?;
        if let Some(said) = self.judge(name) {
            tell(format_args!("mm1: warning: {name}: {said}"));
        }
        Ok(())
    }

    /// What is to be said of the steps since it was judged.
    fn judge(&mut self, name: &str) -> Option<String> {
        if self.recent_steps < JUDGED {
            return None;
        }
        let recent = RanksRecord::new(name, self.recent_steps, &self.hosts, &self.recent);
        let late = recent.late.map(|LateRank { rank, .. }| rank);
        let said = recent.late_sentence().filter(|_| late != self.late);
        self.late = late;
        (self.recent_steps, self.recent) = (0, vec![RankTime::default(); self.hosts.len()]);
        said
    }

    /// What all ranks did with their time, as the end of a line.
    pub(crate) fn summary(&self) -> String {
        if self.hosts.len() < 2 || self.steps == 0 {
            return String::new();
        }
        format!("; {}", RanksRecord::new("", self.steps, &self.hosts, &self.all).sentence())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_is_named_once_while_it_is_late() {
        let dir = tempfile::tempdir().expect("dir");
        let folder = RunFolder::open(dir.path()).expect("folder");
        let mut balance = Balance::new(vec!["a".to_owned(), "b".to_owned()]);
        let time = |work: f64| RankTime { work, exchange: 0.5, waiting: 4.5 - work };
        let mut steps = |times: [f64; 2]| {
            for _ in 0..JUDGED {
                balance.add(&times.map(time));
            }
            balance.keep(&folder, "pretrain").expect("kept");
            balance.late
        };
        assert_eq!(steps([3.0, 3.1]), None);
        assert_eq!(steps([3.0, 4.0]), Some(1));
        let mut later =
            Balance { recent_steps: JUDGED, ..Balance::new(vec!["a".to_owned(), "b".to_owned()]) };
        later.recent = [3.0, 4.0].map(time).to_vec();
        assert_eq!(later.judge("x").as_deref(), Some("the others wait for rank 1 on b 20 % of the time"));
        later.recent = [3.0, 4.0].map(time).to_vec();
        assert_eq!(later.judge("x"), None, "too few steps");
        later.recent_steps = JUDGED;
        assert_eq!((later.judge("x"), later.late), (None, Some(1)), "it was said");
        let stages: Vec<RanksRecord> = folder.read_json(FILE).expect("read").expect("there");
        assert_eq!((stages.len(), stages[0].steps, stages[0].ranks.len()), (1, 2 * JUDGED, 2));
        // A process alone has no ranks.
        let mut alone = Balance::new(Vec::new());
        alone.add(&[]);
        assert_eq!(alone.summary(), "");
        alone.keep(&folder, "sft").expect("nothing");
        let stages: Vec<RanksRecord> = folder.read_json(FILE).expect("read").expect("there");
        assert_eq!(stages.len(), 1);
    }
}
