//! [`RanksRecord`]: how several ranks spent the time of a stage, and for which of them the others waited.

use serde::{Deserialize, Serialize};

use crate::number::{duration, grouped};
use crate::plot::escape;

/// The file's name in a run folder.
pub const FILE: &str = "ranks.json";

/// The share of the time that the others wait for a rank, from which on it is named. Ranks that are alike
/// differ by a few hundredths, since their micro-batches do.
pub const LATE: f64 = 0.1;

/// Ranks that are shown, those that work longest; all are in the file.
const SHOWN: usize = 16;

/// A stage, an entry of `ranks.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RanksRecord {
    /// Its name in the recipe.
    pub stage: String,
    /// The steps that the last processes did.
    pub steps: u64,
    /// Each rank, in order.
    pub ranks: Vec<RankRecord>,
    /// For which the others waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<LateRank>,
}

/// The time of a rank.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RankRecord {
    /// The name of its machine.
    pub host: String,
    /// How it spent it.
    #[serde(flatten)]
    pub time: RankTime,
}

/// Seconds of a rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RankTime {
    /// In its own work: data, forward and backward passes, its part of the update, checkpoints.
    pub work: f64,
    /// In exchanges that all had come to.
    pub exchange: f64,
    /// Waiting for others to come.
    pub waiting: f64,
}

/// A rank for which the others wait.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LateRank {
    /// Which one.
    pub rank: usize,
    /// The share of the time that the others would not wait, if it worked as long as they do on average.
    pub share: f64,
}

impl RankTime {
    /// All of it.
    pub fn all(&self) -> f64 {
        self.work + self.exchange + self.waiting
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        self.work += other.work;
        self.exchange += other.exchange;
        self.waiting += other.waiting;
    }
}

impl LateRank {
    /// The rank of `times` that works longest, if the others wait for it at least [`LATE`] of the time.
    pub fn of(times: &[RankTime]) -> Option<Self> {
        let [_, _, ..] = times else { return None };
        let sum = |of: fn(&RankTime) -> f64| times.iter().map(of).sum::<f64>();
        let (rank, longest) =
            times.iter().map(|time| time.work).enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b))?;
        let others = (sum(|time| time.work) - longest) / (times.len() - 1) as f64;
        let share = (longest - others) / (sum(RankTime::all) / times.len() as f64);
        (share >= LATE).then_some(Self { rank, share })
    }
}

impl RanksRecord {
    /// Of a stage whose ranks are on `hosts` and spent these `times` on its `steps`.
    pub fn new(stage: &str, steps: u64, hosts: &[String], times: &[RankTime]) -> Self {
        let rank = |(host, time): (&String, &RankTime)| RankRecord { host: host.clone(), time: *time };
        Self {
            stage: stage.to_owned(),
            steps,
            ranks: hosts.iter().zip(times).map(rank).collect(),
            late: LateRank::of(times),
        }
    }

    /// How all ranks together spent the time, in a sentence.
    pub fn sentence(&self) -> String {
        let mut all = RankTime::default();
        self.ranks.iter().for_each(|rank| all.add(&rank.time));
        let [work, exchange, waiting] = [all.work, all.exchange, all.waiting].map(|of| percent(of, &all));
        format!("{} ranks work {work} of the time, exchange {exchange} and wait {waiting}", self.ranks.len())
    }

    /// For which rank the others wait, in a sentence.
    pub fn late_sentence(&self) -> Option<String> {
        let LateRank { rank, share } = self.late?;
        let host = &self.ranks.get(rank)?.host;
        Some(format!("the others wait for rank {rank} on {host} {:.0} % of the time", 100.0 * share))
    }
}

/// A table of the ranks of each stage; nothing of a process alone.
pub(crate) fn section(stages: &[RanksRecord]) -> String {
    stages.iter().map(of_stage).collect()
}

fn of_stage(stage: &RanksRecord) -> String {
    let mut ranks: Vec<(usize, &RankRecord)> = stage.ranks.iter().enumerate().collect();
    let all = ranks.len();
    if all > SHOWN {
        ranks.sort_by(|(_, a), (_, b)| b.time.work.total_cmp(&a.time.work));
        ranks.truncate(SHOWN);
    }
    let row = |(rank, RankRecord { host, time }): &(usize, &RankRecord)| {
        let RankTime { work, exchange, waiting } = time;
        let shares: String =
            [work, exchange, waiting].iter().map(|of| format!("<td>{}</td>", percent(**of, time))).collect();
        format!(
            "<tr><th scope=\"row\">{rank}</th><td>{}</td><td>{}</td>{shares}</tr>\n",
            escape(host),
            duration(time.all())
        )
    };
    let rows: String = ranks.iter().map(row).collect();
    let heads: String = ["Rank", "Machine", "Time", "Work", "Exchange", "Waiting"]
        .iter()
        .map(|head| format!("<th scope=\"col\">{head}</th>"))
        .collect();
    let late = stage.late_sentence().map_or_else(String::new, |late| format!("; {}", escape(&late)));
    let shown =
        if all > SHOWN { format!(" The {SHOWN} that work longest are shown.") } else { String::new() };
    format!(
        "<h3>Ranks of {}</h3>\n<p>In the last {} steps {}{late}.{shown}</p>\n\
         <div class=\"scroll\"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>\n",
        escape(&stage.stage),
        grouped(stage.steps),
        stage.sentence()
    )
}

fn percent(of: f64, all: &RankTime) -> String {
    if all.all() > 0.0 { format!("{:.0} %", 100.0 * of / all.all()) } else { "–".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(work: f64, waiting: f64) -> RankTime {
        RankTime { work, exchange: 10.0 - work - waiting, waiting }
    }

    #[test]
    fn a_rank_is_named_where_the_others_wait_for_it() {
        // All alike, within what micro-batches differ.
        assert_eq!(LateRank::of(&[time(8.0, 1.0), time(8.4, 0.6), time(8.2, 0.8)]), None);
        let late = LateRank::of(&[time(6.0, 3.0), time(6.2, 2.8), time(8.6, 0.4)]).expect("late");
        assert_eq!(late.rank, 2);
        assert!((late.share - 0.25).abs() < 1e-9, "{late:?}");
        assert_eq!(LateRank::of(&[time(9.0, 0.0)]), None, "nobody waits for one alone");
        assert_eq!(LateRank::of(&[]), None);
        assert_eq!(LateRank::of(&[RankTime::default(); 2]), None, "nothing is known yet");
    }

    #[test]
    fn a_table_names_ranks_and_machines() {
        let hosts = ["a<b".to_owned(), "node2".to_owned()];
        let stage = RanksRecord::new("pretrain", 20, &hosts, &[time(6.0, 3.0), time(8.6, 0.4)]);
        assert_eq!(stage.sentence(), "2 ranks work 73 % of the time, exchange 10 % and wait 17 %");
        assert_eq!(
            stage.late_sentence().as_deref(),
            Some("the others wait for rank 1 on node2 26 % of the time")
        );
        let html = section(std::slice::from_ref(&stage));
        assert!(html.contains("Ranks of pretrain") && html.contains("a&lt;b"), "{html}");
        let text = serde_json::to_string(&stage).expect("json");
        assert_eq!(serde_json::from_str::<RanksRecord>(&text).expect("read"), stage);
        let many = RanksRecord::new("a", 1, &vec!["h".to_owned(); 40], &[time(8.0, 1.0); 40]);
        let html = section(&[many]);
        assert_eq!(html.matches("<tr>").count(), 1 + SHOWN);
        assert!(html.contains("The 16 that work longest"), "{html}");
    }
}
