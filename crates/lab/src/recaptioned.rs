//! [`CaptionRecord`]: what a stage has written anew of the captions of a source, and what became of the rest.

use std::path::Path;

use anyhow::Result;
use serde::Deserialize;

/// Where the captions of stages lie in a run folder.
pub(crate) const FOLDER: &str = "recaptioned";
/// The file beside them that has their counts.
const STATE: &str = ".recaption.json";

/// The counts of one stage.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptionRecord {
    /// The stage's name.
    pub stage: String,
    /// Whether all is written.
    pub done: bool,
    pub(crate) tally: CaptionTally,
}

/// As the stage counts; images, unless the name has words.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct CaptionTally {
    pub(crate) captions: u64,
    pub(crate) words_before: u64,
    pub(crate) words_after: u64,
    pub(crate) gained: u64,
    pub(crate) skipped: u64,
    pub(crate) short: u64,
    pub(crate) cut: u64,
}

#[derive(Deserialize)]
struct CaptionState {
    done: bool,
    tally: CaptionTally,
}

impl CaptionRecord {
    /// The counts of `stage` in the run folder `run`; `None` where it has not begun.
    ///
    /// # Errors
    /// A file that can't be read.
    pub(crate) fn of_stage(run: &Path, stage: &str) -> Result<Option<Self>> {
        let file = run.join(FOLDER).join(stage).join(STATE);
        if !file.exists() {
            return Ok(None);
        }
        let CaptionState { done, tally } = serde_json::from_slice(&std::fs::read(&file)?)?;
        Ok(Some(Self { stage: stage.to_owned(), done, tally }))
    }

    /// Images that are in a count.
    pub(crate) fn images(&self) -> u64 {
        let CaptionTally { captions, short, cut, skipped, .. } = self.tally;
        captions + short + cut + skipped
    }
}

/// The stages of the run in `folder` that have begun to write captions, by their names. One whose counts
/// can't be read is in `notes`.
pub(crate) fn read(folder: &Path, notes: &mut Vec<String>) -> Vec<CaptionRecord> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder.join(FOLDER)).into_iter().flatten().flatten() {
        let stage = entry.file_name().to_string_lossy().into_owned();
        // What a killed process has left of a copy is no stage.
        if stage.contains(".tmp-") {
            continue;
        }
        match CaptionRecord::of_stage(folder, &stage) {
            Ok(record) => found.extend(record),
            Err(e) => notes.push(format!("{FOLDER}/{stage}/{STATE} can't be read: {e}")),
        }
    }
    found.sort_by(|a, b| a.stage.cmp(&b.stage));
    found
}
