//! [`RunReport`]: keeps `report.html` of a run up to date, and `processes.json`, which says who worked on it.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Error, Result};
use mm1_data::error_line::error_line;
use mm1_lab::process::ProcessRecord;
use mm1_lab::report::ReportAuthor;

use crate::error::Interrupted;
use crate::run_folder::RunFolder;
use crate::{machine, memory};

const PROCESSES: &str = "processes.json";

/// A report that takes longer than this is not written at every checkpoint: that of a very long run reads
/// hundreds of megabytes.
const LONG: Duration = Duration::from_millis(100);

/// The share of the time that such a report may take, as its inverse.
const SHARE: u32 = 20;

/// The report of a run while this process works on it.
pub(crate) struct RunReport {
    /// The processes before this one.
    before: Vec<ProcessRecord>,
    // Behind a lock, since stages share what they are given.
    state: Mutex<ReportState>,
}

struct ReportState {
    own: ProcessRecord,
    /// When the report was last written, and how long that took.
    written: Instant,
    took: Duration,
}

impl RunReport {
    /// Notes that this process begins to work in `folder`.
    ///
    /// # Errors
    /// A damaged `processes.json`; a folder that can't be written.
    pub(crate) fn begin(folder: &RunFolder, threads: usize) -> Result<Self> {
        let before: Vec<ProcessRecord> = folder.read_json(PROCESSES)?.unwrap_or_default();
        let own = ProcessRecord {
            started: now(),
            last: now(),
            machine: machine::describe(),
            threads,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: env!("MM1_COMMIT").to_owned(),
            peak_mib: memory::peak_mib(),
            end: None,
        };
        let report = Self {
            before,
            state: Mutex::new(ReportState { own, written: Instant::now(), took: Duration::ZERO }),
        };
        report.put(folder, |_| {})?;
        Ok(report)
    }

    /// Brings both files up to date, unless the last report took long and was written not long ago.
    ///
    /// # Errors
    /// A folder that can't be written.
    pub(crate) fn update(&self, folder: &RunFolder) -> Result<()> {
        let begun = Instant::now();
        {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.took > LONG && state.written.elapsed() < SHARE * state.took {
                return Ok(());
            }
        }
        self.put(folder, |own| own.last = now())?;
        mm1_lab::report::write(folder.root(), ReportAuthor::Run)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.written, state.took) = (Instant::now(), begun.elapsed());
        Ok(())
    }

    /// Writes both for the last time: all is done, or `failure` has ended it. Gives the report's path.
    ///
    /// # Errors
    /// A folder that can't be written.
    pub(crate) fn end(&self, folder: &RunFolder, failure: Option<&Error>) -> Result<PathBuf> {
        let end = match failure {
            None => "done".to_owned(),
            Some(e) if e.downcast_ref::<Interrupted>().is_some() => "interrupted".to_owned(),
            Some(e) => format!("failed: {}", error_line(e)),
        };
        self.put(folder, |own| (own.last, own.end) = (now(), Some(end)))?;
        mm1_lab::report::write(folder.root(), ReportAuthor::Run)
    }

    /// The most memory in MiB so far, over all stages, where the system says.
    pub(crate) fn peak_mib(&self) -> Option<u64> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).own.peak_mib
    }

    /// Writes `processes.json` after `change`.
    fn put(&self, folder: &RunFolder, change: impl FnOnce(&mut ProcessRecord)) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state.own);
        state.own.peak_mib = state.own.peak_mib.max(memory::peak_mib());
        let all: Vec<&ProcessRecord> = self.before.iter().chain([&state.own]).collect();
        folder.write(PROCESSES, &serde_json::to_vec_pretty(&all)?)
    }
}

/// Date and time in UTC, to the second.
fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}
