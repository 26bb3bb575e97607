//! [`CaptionRecord`]: what a stage has written anew of the captions of a source, and what became of the rest.

use std::path::Path;

use anyhow::Result;
use serde::Deserialize;

use crate::number::grouped;
use crate::plot::escape;
use crate::run::RunRecords;
use crate::section::table;

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
    tally: CaptionTally,
}

/// As the stage counts; images, unless the name has words.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct CaptionTally {
    captions: u64,
    words_before: u64,
    words_after: u64,
    gained: u64,
    skipped: u64,
    short: u64,
    cut: u64,
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

/// A table with a line for each stage; nothing, where none writes captions.
pub(crate) fn section(run: &RunRecords) -> String {
    if run.captions.is_empty() {
        return String::new();
    }
    let heads = [
        "Stage",
        "Images",
        "Captions",
        "Too short",
        "Did not end",
        "Damaged",
        "Words before",
        "after",
        "Gain",
    ];
    let heads = heads.map(str::to_owned);
    let row = |record: &CaptionRecord| {
        let CaptionRecord { stage, done, tally: of } = record;
        let mean = |sum: u64| sum as f64 / of.captions.max(1) as f64;
        let name = if *done { stage.clone() } else { format!("{stage} (so far)") };
        let counts = [record.images(), of.captions, of.short, of.cut, of.skipped].map(grouped);
        let words = [of.words_before, of.words_after].map(|sum| format!("{:.1}", mean(sum)));
        let gain = format!("{:.1}%", 100.0 * mean(of.gained));
        [vec![escape(&name)], counts.to_vec(), words.to_vec(), vec![gain]].concat()
    };
    let rows: Vec<Vec<String>> = run.captions.iter().map(row).collect();
    let table = table("id", &heads, 1, &rows);
    format!(
        "{table}<p class=\"caption\">Every image is in one count. Words are those of a caption on average; \
         the gain is the share of captions with a content word that the alt-text lacks.</p>\n"
    )
}
