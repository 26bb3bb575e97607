//! [`Sorter`]: more records than memory holds, in order: sorted runs in files, merged as they are read.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tempfile::{NamedTempFile, TempPath};

/// What is sorted: by the first number, then by the second and the third.
pub(super) type Record = [u64; 3];

const BYTES: usize = size_of::<Record>();

/// Runs that are merged into one, so that a system's limit of open files is never met.
const RUNS: usize = 128;

/// Takes records in any order.
pub(super) struct Sorter {
    folder: PathBuf,
    /// Records that are held at most.
    limit: usize,
    held: Vec<Record>,
    runs: Vec<TempPath>,
}

fn put(out: &mut BufWriter<File>, record: &Record) -> Result<()> {
    record.iter().try_for_each(|number| Ok(out.write_all(&number.to_le_bytes())?))
}

/// Gives them in order, as often as it is asked.
pub(super) struct Sorted {
    /// All, where they are few.
    held: Vec<Record>,
    runs: Vec<TempPath>,
}

impl Sorter {
    /// Writes what is more than `bytes` into files of `folder`, which go with it.
    pub(super) fn new(folder: &Path, bytes: usize) -> Self {
        let limit = (bytes / BYTES).max(2);
        Self { folder: folder.to_owned(), limit, held: Vec::new(), runs: Vec::new() }
    }

    pub(super) fn push(&mut self, record: Record) -> Result<()> {
        if self.held.len() == self.limit {
            self.spill()?;
        }
        self.held.push(record);
        Ok(())
    }

    fn spill(&mut self) -> Result<()> {
        self.held.sort_unstable();
        let held = std::mem::take(&mut self.held);
        self.runs.push(self.write(|out| held.iter().try_for_each(|record| put(out, record)))?);
        self.held = held;
        self.held.clear();
        if self.runs.len() == RUNS {
            let all = Sorted { held: Vec::new(), runs: std::mem::take(&mut self.runs) };
            let mut records = all.iter()?;
            let merged = self.write(|out| {
                while let Some(record) = records.pull()? {
                    put(out, &record)?;
                }
                Ok(())
            })?;
            self.runs.push(merged);
        }
        Ok(())
    }

    /// A file of the records that `fill` puts there.
    fn write(&self, fill: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<TempPath> {
        let write = || {
            let (file, path) = NamedTempFile::new_in(&self.folder)?.into_parts();
            let mut out = BufWriter::new(file);
            fill(&mut out)?;
            out.flush()?;
            anyhow::Ok(path)
        };
        write().with_context(|| self.folder.display().to_string())
    }

    pub(super) fn sorted(mut self) -> Result<Sorted> {
        if self.runs.is_empty() {
            self.held.sort_unstable();
            self.held.shrink_to_fit();
        } else {
            self.spill()?;
            self.held = Vec::new();
        }
        Ok(Sorted { held: self.held, runs: self.runs })
    }
}

impl Sorted {
    pub(super) fn iter(&self) -> Result<SortedRecords<'_>> {
        let mut readers = Vec::new();
        for run in &self.runs {
            readers.push(BufReader::new(File::open(run).with_context(|| run.display().to_string())?));
        }
        let mut records = SortedRecords { held: self.held.iter(), readers, next: BinaryHeap::new() };
        (0..records.readers.len()).try_for_each(|reader| records.advance(reader))?;
        Ok(records)
    }
}

/// The records in order.
pub(super) struct SortedRecords<'a> {
    held: std::slice::Iter<'a, Record>,
    readers: Vec<BufReader<File>>,
    /// The next record of each run that is not at its end.
    next: BinaryHeap<Reverse<(Record, usize)>>,
}

impl SortedRecords<'_> {
    fn advance(&mut self, reader: usize) -> Result<()> {
        let mut bytes = [0; BYTES];
        match self.readers[reader].read_exact(&mut bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error).context("a sorted run"),
        }
        let number = |i: usize| u64::from_le_bytes(std::array::from_fn(|byte| bytes[8 * i + byte]));
        self.next.push(Reverse((std::array::from_fn(number), reader)));
        Ok(())
    }

    /// The next record; none at the end.
    pub(super) fn pull(&mut self) -> Result<Option<Record>> {
        if let Some(record) = self.held.next() {
            return Ok(Some(*record));
        }
        let Some(Reverse((record, reader))) = self.next.pop() else { return Ok(None) };
        self.advance(reader)?;
        Ok(Some(record))
    }
}

/// Records of which the next one can be looked at.
pub(super) struct SortedCursor<'a> {
    records: SortedRecords<'a>,
    next: Option<Record>,
}

impl<'a> SortedCursor<'a> {
    pub(super) fn new(sorted: &'a Sorted) -> Result<Self> {
        let mut records = sorted.iter()?;
        Ok(Self { next: records.pull()?, records })
    }

    pub(super) fn next(&self) -> Option<Record> {
        self.next
    }

    /// The next record where `wanted` says so.
    pub(super) fn take_if(&mut self, wanted: impl Fn(&Record) -> bool) -> Result<Option<Record>> {
        let taken = self.next.filter(wanted);
        if taken.is_some() {
            self.next = self.records.pull()?;
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_in_order_from_memory_and_from_runs() {
        let folder = tempfile::tempdir().unwrap();
        let records: Vec<Record> = (0..1000_u64).map(|i| [i * 7919 % 101, i % 3, i]).collect();
        let mut expected = records.clone();
        expected.sort_unstable();
        for bytes in [0, 24 * 7, 24 * 999, 24 * 1000, 1 << 20] {
            let mut sorter = Sorter::new(folder.path(), bytes);
            records.iter().for_each(|record| sorter.push(*record).unwrap());
            let sorted = sorter.sorted().unwrap();
            for _ in 0..2 {
                let (mut cursor, mut seen) = (SortedCursor::new(&sorted).unwrap(), Vec::new());
                while let Some(record) = cursor.take_if(|_| true).unwrap() {
                    seen.push(record);
                }
                assert!(seen == expected, "{bytes}");
            }
            drop(sorted);
            assert_eq!(folder.path().read_dir().unwrap().count(), 0, "nothing is left");
        }
    }
}
