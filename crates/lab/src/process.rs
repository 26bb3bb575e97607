//! [`ProcessRecord`]: which programs worked on a run, when, and on which machine.

use serde::{Deserialize, Serialize};

/// One process that worked on a run, an entry of `processes.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRecord {
    /// When it began: date and time in UTC, as RFC 3339 writes them.
    pub started: String,
    /// When it was last heard of: at a checkpoint, or at its end.
    pub last: String,
    /// Processor, cores, memory and system.
    pub machine: String,
    /// Threads that compute.
    pub threads: usize,
    /// The program's version.
    pub version: String,
    /// The commit that it was built from.
    pub commit: String,
    /// The most memory that it has held so far, in MiB; `None` where the system does not say.
    pub peak_mib: Option<u64>,
    /// How it ended: `done`, `interrupted`, or `failed: ` and why. `None` while it runs, and where it was
    /// killed.
    pub end: Option<String>,
}

/// Facts about the processes for the head of a report; none where there is no record of them.
pub(crate) fn facts(processes: &[ProcessRecord]) -> Vec<String> {
    let (Some(first), Some(last)) = (processes.first(), processes.last()) else { return Vec::new() };
    let mut facts = vec![format!("begun {}", plain_time(&first.started))];
    let end = match last.end.as_deref() {
        Some(end) => end.split(':').next().unwrap_or(end),
        None => "last heard of",
    };
    facts.push(format!("{end} {}", plain_time(&last.last)));
    if processes.len() > 1 {
        facts.push(format!("in {} processes", processes.len()));
    }
    let mut machines: Vec<String> =
        processes.iter().map(|p| format!("{}, {}", p.machine, threads(p.threads))).collect();
    machines.dedup();
    facts.append(&mut machines);
    if let Some(peak) = processes.iter().filter_map(|p| p.peak_mib).max() {
        facts.push(format!("at most {peak} MiB of memory"));
    }
    facts.push(format!("mm1 {}", last.version));
    facts
}

/// Why the last process ended before all was done.
pub(crate) fn failure(processes: &[ProcessRecord]) -> Option<String> {
    match processes.last()?.end.as_deref()? {
        "done" => None,
        "interrupted" => Some("The run was interrupted; the same command continues it.".to_owned()),
        end => Some(format!("The run has {end}.")),
    }
}

/// `2026-11-29 07:28 UTC` of `2026-11-29T07:28:15Z`; another text as it is.
fn plain_time(time: &str) -> String {
    match (time.get(..10), time.get(10..11), time.get(11..16)) {
        (Some(date), Some("T"), Some(minute)) => format!("{date} {minute} UTC"),
        _ => time.to_owned(),
    }
}

fn threads(count: usize) -> String {
    if count == 1 { "1 thread".to_owned() } else { format!("{count} threads") }
}
