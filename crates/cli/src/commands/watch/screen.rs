//! [`Screen`]: lines that take the place of those before on a terminal, and follow them elsewhere.

use std::io::Write as _;

use anyhow::Result;
use console::{Term, truncate_str};
use mm1_data::printable::printable;

use super::view::Shown;
use crate::output;

/// Clears from the cursor to the end of the line.
const CLEAR_LINE: &str = "\x1b[K";
/// Clears from the cursor to the end of the screen.
const CLEAR_BELOW: &str = "\x1b[J";

/// Where it is shown.
pub(super) struct Screen {
    term: Term,
    on_terminal: bool,
    /// Lines that are there.
    lines: usize,
    /// What was shown last, where lines follow each other.
    last: Vec<String>,
}

impl Screen {
    pub(super) fn new(term: Term, on_terminal: bool) -> Self {
        Self { term, on_terminal, lines: 0, last: Vec::new() }
    }

    /// Shows `shown` in the place of what was there; elsewhere than on a terminal, after it, where it is not
    /// the same.
    ///
    /// # Errors
    /// An output that can't be written.
    pub(super) fn show(&mut self, shown: &Shown) -> Result<()> {
        // Names come from files: no control character of theirs reaches the terminal.
        let lines: Vec<String> = shown.lines.iter().map(|line| printable(line).into_owned()).collect();
        if !self.on_terminal {
            let changed = lines.iter().any(|line| !self.last.contains(line));
            if changed {
                let fresh = lines.iter().filter(|line| !self.last.contains(line));
                let text: String = fresh.map(|line| format!("{line}\n")).collect();
                output::print(text.as_bytes())?;
                self.last = lines;
            }
            return Ok(());
        }
        let (rows, columns) = self.term.size();
        // A line that wraps, or the one below the last, would scroll what is to be written over.
        let most = usize::from(rows).saturating_sub(1).max(1);
        let cut = |line: &String| format!("{}{CLEAR_LINE}\n", truncate_str(line, columns.into(), "…"));
        let kept: Vec<String> = lines.iter().take(most).map(cut).collect();
        let up = if self.lines > 0 { format!("\x1b[{}A\r", self.lines.min(most)) } else { String::new() };
        // In one write, so that nothing flickers.
        let text = format!("{up}{}{CLEAR_BELOW}", kept.concat());
        self.lines = kept.len();
        self.term.write_all(text.as_bytes())?;
        Ok(self.term.flush()?)
    }
}
