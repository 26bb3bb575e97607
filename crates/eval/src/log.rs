//! [`Log`]: the answers of an evaluation as JSON lines, so that it goes on where it was interrupted.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use mm1_data::whole_file;
use serde_json::{Value, json};

use crate::item::ItemResult;
use crate::no_answer::NoAnswer;

/// The answers of a file that [`Log`] wrote.
///
/// # Errors
/// A file that is none, or whose answers have no scores yet.
pub fn read(path: &Path) -> Result<Vec<ItemResult>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let item = |(i, line)| {
        let damaged = || format!("{}: line {} is damaged: evaluate again", path.display(), i + 2);
        serde_json::from_str(line).with_context(damaged)
    };
    text.lines().skip(1).enumerate().map(item).collect()
}

/// The answers that are there. The first line of the file, its header, says what they answer: model, task,
/// shots and all else that an answer depends on.
#[derive(Debug, Default)]
pub struct Log {
    header: Value,
    /// By the test item's id; each is taken out when its item comes up.
    answered: BTreeMap<String, ItemResult>,
    /// Open for appending after the answers; `None` where they are not kept.
    file: Option<(PathBuf, File)>,
}

impl Log {
    /// Of an evaluation that is not kept.
    pub fn none() -> Self {
        Self::default()
    }

    /// Opens or begins the file at `path`. A last line that a kill has cut short is taken off.
    ///
    /// # Errors
    /// A file that answers something else than `header`, or that is damaged.
    pub fn open(path: &Path, header: &Value) -> Result<Self> {
        let (log, whole) = Self::answers(path, header)?;
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| path.display().to_string())?;
        file.set_len(whole as u64)?;
        if whole == 0 {
            // In one call: `writeln!` makes a system call of each brace and number.
            let line = json!({ "about": header }).to_string() + "\n";
            file.write_all(line.as_bytes()).with_context(|| path.display().to_string())?;
        }
        Ok(Self { file: Some((path.to_owned(), file)), ..log })
    }

    /// The same for a process that writes nothing: another one does.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_to_read(path: &Path, header: &Value) -> Result<Self> {
        Ok(Self::answers(path, header)?.0)
    }

    /// The answers of the file, and the length of its whole lines in bytes.
    fn answers(path: &Path, header: &Value) -> Result<(Self, usize)> {
        let mut bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(e).with_context(|| path.display().to_string()),
        };
        // Before they are text: a kill may cut the last line inside of a letter.
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        bytes.truncate(whole);
        let text = String::from_utf8(bytes).with_context(|| format!("{}: not a log", path.display()))?;
        let mut lines = text.lines();
        let mut answered = BTreeMap::new();
        if let Some(first) = lines.next() {
            let there: Value = serde_json::from_str(first).unwrap_or_default();
            ensure!(
                there == json!({ "about": header }),
                "{}: it holds answers to something else ({first}); take another folder, or delete it",
                path.display()
            );
        }
        for (i, line) in lines.enumerate() {
            let item: ItemResult = serde_json::from_str(line)
                .with_context(|| format!("{}: line {} is damaged; delete the file", path.display(), i + 2))?;
            // What failed is asked again.
            if !matches!(item.no_answer, Some(NoAnswer::Failed(_))) {
                answered.insert(item.id.clone(), item);
            }
        }
        Ok((Self { header: header.clone(), answered, file: None }, whole))
    }

    /// The answer to a test item that was answered before.
    pub(crate) fn take(&mut self, id: &str) -> Option<ItemResult> {
        self.answered.remove(id)
    }

    /// Puts the answers with their scores in the place of those without.
    ///
    /// # Errors
    /// A file that can't be written.
    pub fn finish(self, items: &[ItemResult]) -> Result<()> {
        let Some((path, file)) = self.file else { return Ok(()) };
        drop(file);
        let mut text = serde_json::to_string(&json!({ "about": self.header }))? + "\n";
        for item in items {
            text += &(serde_json::to_string(item)? + "\n");
        }
        whole_file::replace(&path, text.as_bytes()).with_context(|| path.display().to_string())
    }

    /// Writes an answer that was answered now.
    pub(crate) fn push(&mut self, item: &ItemResult) -> Result<()> {
        let Some((path, file)) = &mut self.file else { return Ok(()) };
        let line = serde_json::to_string(item)? + "\n";
        file.write_all(line.as_bytes()).with_context(|| path.display().to_string())
    }
}
