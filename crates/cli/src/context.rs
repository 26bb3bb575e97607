//! [`Context`]: what every stage of a run is given.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};

use crate::error::{Interrupted, input};
use crate::plan::{Plan, Worker};
use crate::ranks::Ranks;
use crate::run_folder::RunFolder;
use crate::run_report::RunReport;
use crate::sources::Sources;

/// What every stage needs.
pub(crate) struct Context {
    /// The recipe, what follows from it, and the device.
    pub(crate) plan: Plan,
    /// What the run leaves.
    pub(crate) folder: RunFolder,
    /// Its page for people.
    pub(crate) report: RunReport,
    /// Which process of the run this is.
    pub(crate) worker: Worker,
    /// The processes that do the run together.
    pub(crate) ranks: Ranks,
    /// Set by an interrupt; a stage then writes a checkpoint and stops.
    pub(crate) stop: Arc<AtomicBool>,
}

impl Context {
    /// The sources, with the captions that the stages so far have written.
    ///
    /// # Errors
    /// Captions that are missing.
    pub(crate) fn sources(&self) -> Result<Sources> {
        input(self.plan.sources.with_written(&self.plan.recipe, self.folder.root()))
    }

    /// Whether an interrupt has asked the run to stop.
    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Ends a stage that has nothing to save.
    ///
    /// # Errors
    /// [`Interrupted`] after an interrupt.
    pub(crate) fn check_stop(&self) -> Result<()> {
        ensure!(!self.stopped(), Interrupted);
        Ok(())
    }
}
