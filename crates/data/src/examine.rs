//! Every document of a source, read and looked at by several threads, taken in order.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::document::{Document, Image};
use crate::error_line::error_line;
use crate::image::{DecodeBudget, MAX_SIDE, PictureHeader, open, read_header};
use crate::left_out::LeftOut;
use crate::printable::printable;
use crate::shard::Provenance;
use crate::source::files::ReadDocument;
use crate::source::stored::StoredSource;

/// Documents for each thread that are read before they are taken.
const AHEAD: u64 = 8;

/// Damaged documents that are listed; all are counted.
pub const LISTED: usize = 1000;

/// How well pictures are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PictureCheck {
    /// At their headers.
    Headers,
    /// At every pixel, as training does.
    Pixels,
}

/// A document that could be read, and its pictures.
pub struct Examined {
    /// The document.
    pub document: Document,
    /// Where it says that it comes from.
    pub origin: Provenance,
    /// Its pictures in order.
    pub pictures: Vec<PictureHeader>,
    /// What of its record is not in it.
    pub left_out: LeftOut,
}

/// A document that can't be used, or a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damaged {
    /// The source's name.
    pub source: String,
    /// The path or address of the file.
    pub file: String,
    /// Which document of the source, from 0; none, where the whole file is damaged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// What is wrong with it.
    pub reason: String,
}

/// How documents are looked at.
#[derive(Clone, Copy, Debug)]
pub struct Examination {
    /// How well.
    pub look: PictureCheck,
    /// By how many threads. What is found does not depend on it.
    pub threads: usize,
    /// Whether pictures above [`MAX_SIDE`], which training does not take, are let through: a filter removes
    /// them.
    pub large: bool,
}

/// Reads a document and looks at its pictures.
///
/// # Errors
/// What the loader would skip it for, as far as the look shows it.
pub fn examine(
    source: &StoredSource,
    index: u64,
    how: Examination,
    decoding: &DecodeBudget,
) -> Result<Examined> {
    let ReadDocument { document, origin, left_out } = source.document(index)?;
    let picture = |image: &Image| -> Result<PictureHeader> {
        let seen = read_header(image)?;
        let side = seen.width.max(seen.height);
        ensure!(how.large || side <= MAX_SIDE, "larger than {MAX_SIDE} pixels a side: {side}");
        if how.look == PictureCheck::Pixels && side <= MAX_SIDE {
            let _held = decoding.hold(image);
            open(image)?;
        }
        Ok(seen)
    };
    let named = |(number, image): (usize, &Image)| {
        let name = match image.name() {
            "" => String::new(),
            name => format!(" ({name})"),
        };
        picture(image).with_context(|| format!("picture {number}{name}"))
    };
    let pictures = document.pictures().enumerate().map(named).collect::<Result<_>>()?;
    Ok(Examined { document, origin, pictures, left_out })
}

/// Calls `work` on every document by several threads and `take` on what it gives, in order, by this one. At
/// most a few documents for each thread are held.
///
/// # Errors
/// The first of `take`, which ends the reading.
pub fn each<T: Send>(
    source: &StoredSource,
    how: Examination,
    work: impl Fn(Examined) -> T + Sync,
    take: impl FnMut(u64, Result<T, Damaged>) -> Result<()>,
) -> Result<()> {
    let decoding = DecodeBudget::default();
    let read = |index| {
        examine(source, index, how, &decoding).map(&work).map_err(|error| Damaged {
            source: source.name().to_owned(),
            file: source.file(index),
            index: Some(index),
            reason: reason(&error, source.name(), &source.file(index)),
        })
    };
    in_order(source.documents(), how.threads, read, take)
}

/// An error in one line, without the source and the file, which are named beside it.
pub(crate) fn reason(error: &anyhow::Error, source: &str, file: &str) -> String {
    let text = error_line(error);
    let mut text = text.as_str();
    for known in [format!("source `{source}`:"), format!("{file}:")] {
        // White space in a name is as it is in the line.
        let known = known.split_whitespace().collect::<Vec<_>>().join(" ");
        while let Some(rest) = text.strip_prefix(&known) {
            text = rest.trim_start();
        }
    }
    text.to_owned()
}

impl Damaged {
    /// The reason without what differs from document to document: ids, paths and places at its start.
    pub fn cause(&self) -> &str {
        let mut cause = self.reason.as_str();
        while let Some((first, rest)) = cause.split_once(": ") {
            let (place, what) = first.split_once(" is ").unwrap_or((first, ""));
            let at = place.strip_prefix("the value at byte ");
            let value = at.is_some_and(|at| at.bytes().all(|byte| byte.is_ascii_digit()));
            if value && !what.is_empty() {
                return &cause[place.len() + " is ".len()..];
            }
            if first.contains(' ') && !value && !first.starts_with("picture ") && !first.contains('/') {
                break;
            }
            cause = rest;
        }
        cause
    }
}

impl std::fmt::Display for Damaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // File and member names, ids and what decoders say come from outside.
        let (file, reason) = (printable(&self.file), printable(&self.reason));
        match self.index {
            Some(index) => write!(f, "{file}: document {index} of {}: {reason}", printable(&self.source)),
            None => write!(f, "{file}: {reason}"),
        }
    }
}

/// What one thread has done and another takes.
struct Desk<T> {
    /// The next document that a thread takes; never more than `ahead` above `taken`.
    next: u64,
    /// Documents that were taken, in order.
    taken: u64,
    /// Done and not taken.
    ready: BTreeMap<u64, thread::Result<T>>,
    /// The taking has ended: threads take no further document.
    stopped: bool,
}

struct ReadAhead<T> {
    desk: Mutex<Desk<T>>,
    room: Condvar,
    ready: Condvar,
}

impl<T> ReadAhead<T> {
    fn lock(&self) -> MutexGuard<'_, Desk<T>> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next index, while there are any and not too many are ahead.
    fn claim(&self, len: u64, ahead: u64) -> Option<u64> {
        let mut desk = self.lock();
        while !desk.stopped && desk.next < len {
            if desk.next < desk.taken + ahead {
                desk.next += 1;
                return Some(desk.next - 1);
            }
            desk = self.room.wait(desk).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    fn take(&self, index: u64) -> thread::Result<T> {
        let mut desk = self.lock();
        loop {
            if let Some(done) = desk.ready.remove(&index) {
                desk.taken = index + 1;
                self.room.notify_all();
                return done;
            }
            desk = self.ready.wait(desk).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Ends the threads, however the taking ends.
struct Stop<'a, T>(&'a ReadAhead<T>);

impl<T> Drop for Stop<'_, T> {
    fn drop(&mut self) {
        self.0.lock().stopped = true;
        self.0.room.notify_all();
    }
}

fn in_order<T: Send>(
    len: u64,
    threads: usize,
    work: impl Fn(u64) -> T + Sync,
    mut take: impl FnMut(u64, T) -> Result<()>,
) -> Result<()> {
    let desk = Desk { next: 0, taken: 0, ready: BTreeMap::new(), stopped: false };
    let shared = ReadAhead { desk: Mutex::new(desk), room: Condvar::new(), ready: Condvar::new() };
    // Bounded by documents and not by bytes: these are read one by one, and eight for a thread hide a slow
    // one.
    let ahead = AHEAD * threads as u64;
    thread::scope(|scope| {
        let _stop = Stop(&shared);
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while let Some(index) = shared.claim(len, ahead.max(1)) {
                    let done = catch_unwind(AssertUnwindSafe(|| work(index)));
                    shared.lock().ready.insert(index, done);
                    shared.ready.notify_one();
                }
            });
        }
        for index in 0..len {
            match shared.take(index) {
                Ok(done) => take(index, done)?,
                // A bug in a decoder is the program's, not the document's: it is not counted as damage.
                Err(panic) => resume_unwind(panic),
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_taken_in_order_by_any_number_of_threads() {
        for threads in [1, 2, 7] {
            let mut seen = Vec::new();
            let slow = |i: u64| {
                thread::sleep(std::time::Duration::from_micros(i * 7919 % 300));
                i * i
            };
            in_order(200, threads, slow, |i, square| {
                seen.push((i, square));
                Ok(())
            })
            .expect("no error");
            assert_eq!(seen, (0..200).map(|i| (i, i * i)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_error_ends_the_threads_and_a_panic_comes_through() {
        let stop = |i: u64, _: u64| if i == 5 { Err(anyhow::anyhow!("enough")) } else { Ok(()) };
        assert_eq!(in_order(1 << 40, 3, |i| i, stop).expect_err("stopped").to_string(), "enough");
        let panics = catch_unwind(|| in_order(9, 2, |i| assert!(i < 4, "a bug"), |_, ()| Ok(())));
        assert!(panics.is_err());
        in_order(0, 2, |i| i, |_, _| Err(anyhow::anyhow!("never"))).expect("nothing to do");
    }
}
