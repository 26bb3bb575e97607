//! [`Lines`]: what a person writes, line by line: with editing and history at a terminal, plainly elsewhere.

use std::io::{BufRead, ErrorKind, IsTerminal as _, Result, stdin, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustyline::error::ReadlineError;
use rustyline::{
    Cmd, ConditionalEventHandler, DefaultEditor, Event, EventContext, EventHandler, KeyCode, KeyEvent,
    Modifiers, RepeatCount,
};

/// KiB of a message: far more than a context holds. What is longer is not held in memory.
pub(super) const LONGEST: usize = 1 << 10;

/// KiB of a message that come key by key, as what a terminal pastes without saying so. The editor draws the
/// whole line again with each row of the screen: 1 MiB took minutes.
const LONGEST_TYPED: usize = 64;

/// Where messages come from.
pub(super) enum Lines {
    /// A terminal. The history lives as long as the talk.
    Edited(Box<LineEditor>),
    /// A file or a pipe, or a terminal without its screen.
    Plain,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReadLine {
    /// A message, without its line end.
    Text(String),
    /// Bytes of it were not UTF-8, and are replaced by U+FFFD.
    Damaged(String),
    /// It was longer than this many KiB, and is passed over.
    TooLong(usize),
    /// Ctrl-C.
    Interrupted,
    /// There is no more.
    End,
}

impl Lines {
    /// Of standard input.
    pub(super) fn open() -> Self {
        let both = stdin().is_terminal() && stdout().is_terminal();
        match LineEditor::new() {
            Ok(editor) if both => Self::Edited(Box::new(editor)),
            _ => Self::Plain,
        }
    }

    /// Waits for the next line.
    ///
    /// # Errors
    /// Standard input that can't be read.
    pub(super) fn next(&mut self) -> Result<ReadLine> {
        match self {
            Self::Edited(editor) => editor.next(),
            Self::Plain => plain(&mut stdin().lock()),
        }
    }
}

/// A line of a terminal, while it is written.
pub(super) struct LineEditor {
    inner: DefaultEditor,
    /// Whether keys of this line were passed over.
    full: Arc<AtomicBool>,
}

impl LineEditor {
    fn new() -> rustyline::Result<Self> {
        let (mut inner, full) = (DefaultEditor::new()?, Arc::new(AtomicBool::new(false)));
        let typed = TypedLine { full: Arc::clone(&full) };
        inner.bind_sequence(Event::Any, EventHandler::Conditional(Box::new(typed)));
        Ok(Self { inner, full })
    }

    fn next(&mut self) -> Result<ReadLine> {
        let read = self.inner.readline("> ");
        if self.full.swap(false, Ordering::Relaxed) && read.is_ok() {
            return Ok(ReadLine::TooLong(LONGEST_TYPED));
        }
        match read {
            Ok(text) if text.len() > LONGEST << 10 => Ok(ReadLine::TooLong(LONGEST)),
            Ok(text) => {
                // It fails where the history is full or switched off: the line counts all the same.
                let _ = self.inner.add_history_entry(&text);
                Ok(ReadLine::Text(text))
            }
            Err(ReadlineError::Eof) => Ok(ReadLine::End),
            Err(ReadlineError::Interrupted) => Ok(ReadLine::Interrupted),
            // The editor's word for bytes that are not UTF-8.
            Err(ReadlineError::Io(e)) if e.kind() == ErrorKind::InvalidData => {
                Ok(ReadLine::Damaged(String::new()))
            }
            Err(ReadlineError::Io(e)) => Err(e),
            Err(e) => Err(std::io::Error::other(e)),
        }
    }
}

/// Passes over letters beyond [`LONGEST_TYPED`], and marks the line.
struct TypedLine {
    full: Arc<AtomicBool>,
}

impl ConditionalEventHandler for TypedLine {
    fn handle(&self, event: &Event, _: RepeatCount, _: bool, line: &EventContext<'_>) -> Option<Cmd> {
        let letter =
            matches!(event.get(0), Some(KeyEvent(KeyCode::Char(_), Modifiers::NONE | Modifiers::SHIFT)));
        let over = letter && line.line().len() >= LONGEST_TYPED << 10;
        over.then(|| {
            self.full.store(true, Ordering::Relaxed);
            Cmd::Noop
        })
    }
}

/// The next line of `reader`.
fn plain(reader: &mut impl BufRead) -> Result<ReadLine> {
    let mut line = Vec::new();
    let mut too_long = false;
    loop {
        let buffer = match reader.fill_buf() {
            Ok(buffer) => buffer,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let (more, used) = (end.unwrap_or(buffer.len()), end.map_or(buffer.len(), |end| end + 1));
        let over = buffer.is_empty();
        too_long |= line.len() + more > LONGEST << 10;
        if !too_long {
            line.extend_from_slice(&buffer[..more]);
        }
        reader.consume(used);
        if over || end.is_some() {
            return Ok(match String::from_utf8(line) {
                _ if too_long => ReadLine::TooLong(LONGEST),
                Ok(text) if over && text.is_empty() => ReadLine::End,
                Ok(text) => ReadLine::Text(text),
                Err(e) => ReadLine::Damaged(String::from_utf8_lossy(e.as_bytes()).into_owned()),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read as _, repeat};

    use super::*;

    #[test]
    fn lines_end_at_their_ends_and_damage_ends_none() {
        let mut reader = BufReader::with_capacity(3, &b"one\n\ntwo \xff!\r\nthree"[..]);
        let mut next = || plain(&mut reader).expect("read");
        assert_eq!(next(), ReadLine::Text("one".into()));
        assert_eq!(next(), ReadLine::Text(String::new()));
        assert_eq!(next(), ReadLine::Damaged("two \u{fffd}!\r".into()));
        assert_eq!(next(), ReadLine::Text("three".into()));
        assert_eq!(next(), ReadLine::End);
    }

    #[test]
    fn fault_06_a_line_of_300_mb_is_passed_over() {
        let endless = repeat(b'x').take(300 << 20).chain(&b"\nshort\n"[..]);
        let mut reader = BufReader::with_capacity(1 << 16, endless);
        assert_eq!(plain(&mut reader).expect("read"), ReadLine::TooLong(LONGEST));
        assert_eq!(plain(&mut reader).expect("read"), ReadLine::Text("short".into()));
        let longest = repeat(b'x').take((LONGEST << 10) as u64);
        assert_eq!(
            plain(&mut BufReader::new(longest)).expect("read"),
            ReadLine::Text("x".repeat(LONGEST << 10))
        );
        let longer = repeat(b'x').take((LONGEST << 10) as u64 + 1);
        assert_eq!(plain(&mut BufReader::new(longer)).expect("read"), ReadLine::TooLong(LONGEST));
    }
}
