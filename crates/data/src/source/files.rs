//! [`Files`]: documents in files of any [`Format`], found by an index, read one by one.

use anyhow::{Context as _, Result, bail, ensure};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::interface::{Source, Split};
use crate::document::Document;
use crate::index::{IndexEntry, MAX_DOCUMENT, index};
use crate::left_out::LeftOut;
use crate::order::{Order, test_bound};
use crate::shard::Provenance;
use crate::store::{Blob, DataStamp, Paths, Store, at_once};

/// How documents lie in a file.
pub trait Format: Send + Sync {
    /// Endings of its files, in lower case; what is looked for in a folder.
    fn endings(&self) -> &'static [&'static str];

    /// Where the documents lie.
    fn layout(&self) -> FileLayout;

    /// Calls `add` for each document of the file, in order. Memory is bounded whatever the file holds. Not
    /// called for [`FileLayout::Whole`].
    ///
    /// # Errors
    /// A file that is not of this format, is damaged, or goes beyond a limit.
    fn scan(&self, file: &Blob, add: &mut dyn FnMut(IndexEntry)) -> Result<()>;

    /// One document. Its id is its name inside the file; empty, where the file is one document. The record's
    /// key is 0: it is dropped once the splits are made. Of `n` forms that a record has, such as captions of
    /// one picture, the one at `visit % n` is read.
    ///
    /// # Errors
    /// A damaged document.
    fn read(&self, file: &Blob, record: &IndexEntry, visit: u64) -> Result<ReadDocument>;

    /// What of a file is in no document, or is there in another form. Only headers are looked at.
    ///
    /// # Errors
    /// As [`Format::scan`].
    fn left_out(&self, _: &Blob) -> Result<LeftOut> {
        Ok(LeftOut::default())
    }

    /// Bytes that it holds between documents at most, of a set of this many.
    fn memory(&self, _documents: u64) -> u64 {
        0
    }
}

/// What a format gives for a record.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadDocument {
    /// The document.
    pub document: Document,
    /// Where it says that it comes from; most formats say nothing.
    pub origin: Provenance,
    /// What of the record is not in the document.
    pub left_out: LeftOut,
}

impl From<Document> for ReadDocument {
    /// A document that lacks nothing and says nothing of its origin.
    fn from(document: Document) -> Self {
        Self { document, origin: Provenance::default(), left_out: LeftOut::default() }
    }
}

/// Where documents lie in their files.
pub enum FileLayout {
    /// A file is a document.
    Whole,
    /// One after the other. The text names the settings on which [`Format::scan`] depends, and the format.
    Records(String),
    /// In groups that are opened as a whole, by range reads. The text is as in `Records`.
    Groups(String),
}

/// A source of files.
pub struct Files {
    name: String,
    seed: u64,
    format: Box<dyn Format>,
    files: Vec<Blob>,
    /// In the order of the files, and in each of its index.
    documents: Vec<DocumentPlace>,
    /// The documents of each split, as places in `documents`.
    train: Vec<u32>,
    test: Vec<u32>,
    /// Of `train`.
    order: Order,
}

/// A document: its file and its place there, as [`IndexEntry`] has it. Millions are held, so it is small.
// Rejected: an `IndexEntry` a document, 40 bytes with the split; this takes 24.
struct DocumentPlace {
    at: u64,
    /// At most [`MAX_DOCUMENT`].
    len: u32,
    /// 0 where documents are opened one by one.
    group: u32,
    /// Its number among the files.
    file: u32,
}

/// What opening takes besides the format.
pub struct Opening<'a> {
    /// The recipe's name of the source.
    pub name: &'a str,
    /// The seed of its order.
    pub seed: u64,
    /// The files.
    pub paths: &'a Paths,
    /// The share of the documents that is held out.
    pub test_share: f64,
    /// Where files come from.
    pub store: &'a Store,
}

impl Files {
    /// Finds the files and makes or loads their indexes.
    ///
    /// # Errors
    /// One line that names the source: no files, files that can't be read or used.
    pub fn open(format: Box<dyn Format>, opening: &Opening) -> Result<Self> {
        let name = opening.name;
        let found = opening.store.files(opening.paths, format.endings());
        let opened = Self::open_found(format, opening, found.with_context(|| format!("source `{name}`"))?)?;
        ensure!(opened.documents() > 0, "source `{name}`: no document in {} files", opened.files.len());
        Ok(opened)
    }

    /// Makes or loads the indexes of files that were found before, which may have no document; the paths of
    /// `opening` are not used.
    ///
    /// # Errors
    /// As [`Files::open`].
    pub(crate) fn open_found(format: Box<dyn Format>, opening: &Opening, files: Vec<Blob>) -> Result<Self> {
        let Opening { name, seed, test_share, store, .. } = *opening;
        ensure!(
            (0.0..1.0).contains(&test_share),
            "source `{name}`: test_share = {test_share} must be from 0 up to, but not including, 1"
        );
        let (files, documents, keys) =
            find(format.as_ref(), store, &files).with_context(|| format!("source `{name}`"))?;
        ensure!(
            u32::try_from(documents.len()).is_ok(),
            "source `{name}` has more than {} documents",
            u32::MAX
        );
        let bound = test_bound(keys.iter().copied(), test_share);
        let all = 0..documents.len() as u32;
        // By a hash of the name and not by position: the split stays when shards are added or come in another
        // order.
        let (test, train): (Vec<u32>, _) = all.partition(|&i| keys[i as usize] < bound);
        let group = |&i: &u32| documents[i as usize].group();
        let order = Order::new(train.iter().map(group));
        Ok(Self { name: name.to_owned(), seed, format, files, documents, train, test, order })
    }

    /// The number of documents of both splits.
    pub fn documents(&self) -> u64 {
        self.documents.len() as u64
    }

    /// The document at `index` in the order of the files, without split or shuffle. Its id has no split in
    /// it.
    ///
    /// # Errors
    /// A damaged document; an index beyond the end.
    pub fn stored(&self, index: u64) -> Result<Document> {
        let place = self.documents.get(index as usize);
        self.read(place.with_context(|| self.beyond(index, self.documents.len()))?, "", 0)
    }

    /// As [`Files::stored`], with the document's id as its file has it, its origin and what it lacks.
    ///
    /// # Errors
    /// As [`Files::stored`].
    pub(crate) fn read_stored(&self, index: u64) -> Result<ReadDocument> {
        let place = self.documents.get(index as usize);
        let place = place.with_context(|| self.beyond(index, self.documents.len()))?;
        let file = &self.files[place.file as usize];
        self.format.read(file, &place.record(), 0).with_context(|| file.address.clone())
    }

    /// For each file of which something is in no document its address, and what that is.
    ///
    /// # Errors
    /// A file that has changed since it was opened.
    pub(crate) fn left_out(&self) -> Result<Vec<(String, LeftOut)>> {
        let looked = at_once(&self.files, |file| {
            let left = self.format.left_out(file).with_context(|| file.address.clone())?;
            Ok((file.address.clone(), left))
        });
        let all = looked.into_iter().collect::<Result<Vec<_>>>()?;
        Ok(all.into_iter().filter(|(_, left)| !left.is_empty()).collect())
    }

    /// The file of the document at `index` in the order of the files.
    pub(crate) fn file(&self, index: u64) -> Option<&Blob> {
        self.files.get(self.documents.get(index as usize)?.file as usize)
    }

    fn beyond(&self, index: u64, len: usize) -> String {
        format!("source `{}` has {len} documents, not one at {index}", self.name)
    }

    fn read(&self, place: &DocumentPlace, split: &str, visit: u64) -> Result<Document> {
        let file = &self.files[place.file as usize];
        let read = self.format.read(file, &place.record(), visit);
        let mut document = read.with_context(|| file.address.clone())?.document;
        let parts = [&self.name, split, &file.name, &document.id];
        document.id = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
        Ok(document)
    }
}

impl Source for Files {
    fn document(&self, split: Split, index: u64) -> Result<Document> {
        let (places, at) = match split {
            Split::Train => (&self.train, self.order.place(index, self.seed)),
            Split::Test => (&self.test, Some((0, index))),
        };
        let found = at.and_then(|(epoch, at)| Some((epoch, *places.get(at as usize)?)));
        let (epoch, place) = found.with_context(|| self.beyond(index, places.len()))?;
        // In turn, so that every form is shown before one comes again; where it begins follows from the seed.
        let first = xxh3_64_with_seed(&place.to_le_bytes(), self.seed);
        self.read(&self.documents[place as usize], split.name(), first.wrapping_add(epoch))
    }

    fn len(&self, split: Split) -> Option<u64> {
        Some(match split {
            Split::Train => self.train.len(),
            Split::Test => self.test.len(),
        } as u64)
    }

    fn stamp(&self) -> Result<Option<DataStamp>> {
        DataStamp::of(&self.files).map(Some)
    }

    fn memory(&self) -> u64 {
        let name = |file: &Blob| size_of::<Blob>() + 2 * file.address.len() + file.name.len();
        let index = self.documents.capacity() * size_of::<DocumentPlace>()
            + (self.train.capacity() + self.test.capacity()) * size_of::<u32>()
            + self.files.iter().map(name).sum::<usize>();
        (index + self.order.bytes()) as u64 + self.format.memory(self.documents())
    }
}

impl DocumentPlace {
    fn new(file: usize, record: &IndexEntry) -> Result<Self> {
        let IndexEntry { at, len, group, .. } = *record;
        ensure!(len <= MAX_DOCUMENT, "a document of {len} bytes at {at}; the limit is {MAX_DOCUMENT}");
        let group = u32::try_from(group).context("more groups than are supported")?;
        Ok(Self { at, len: len as u32, group, file: u32::try_from(file).context("too many files")? })
    }

    fn record(&self) -> IndexEntry {
        IndexEntry { key: 0, at: self.at, len: u64::from(self.len), group: u64::from(self.group) }
    }

    /// All documents that are opened one by one are of one group.
    fn group(&self) -> u64 {
        match self.group {
            0 => 0,
            group => u64::from(self.file) << 32 | u64::from(group),
        }
    }
}

/// The files, on disk where they are read by record, and their documents with the keys of these.
fn find(
    format: &dyn Format,
    store: &Store,
    files: &[Blob],
) -> Result<(Vec<Blob>, Vec<DocumentPlace>, Vec<u64>)> {
    let results = at_once(files, |file| records(format, store, file));
    let failed = results.iter().filter(|result| result.is_err()).count();
    let (mut opened, mut documents, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    for (number, result) in results.into_iter().enumerate() {
        // The first alone would hide that a whole folder is of another format.
        let several = || format!("{failed} of {} files can't be used, the first", files.len());
        let result = if failed > 1 { result.with_context(several) } else { result };
        let (file, records) = result?;
        for record in records {
            documents.push(DocumentPlace::new(number, &record).with_context(|| file.address.clone())?);
            keys.push(record.key);
        }
        opened.push(file);
    }
    // A vector doubles as it grows: up to half of millions of entries would stay unused.
    documents.shrink_to_fit();
    Ok((opened, documents, keys))
}

fn records(format: &dyn Format, store: &Store, file: &Blob) -> Result<(Blob, Vec<IndexEntry>)> {
    let scan = |what: &str, file: &Blob| {
        file.check_content().with_context(|| file.address.clone())?;
        index(store, what, file, |add| format.scan(file, add))
    };
    match format.layout() {
        FileLayout::Groups(what) => Ok((file.clone(), scan(&what, file)?)),
        FileLayout::Records(what) => {
            let file = store.cache.unpacked(file)?;
            let records = scan(&what, &file)?;
            Ok((file, records))
        }
        FileLayout::Whole => {
            let file = store.cache.unpacked(file)?;
            let key = xxh3_64(file.name.as_bytes());
            let record = IndexEntry::new(key, 0, file.size).with_context(|| file.address.clone())?;
            Ok((file, vec![record]))
        }
    }
}

/// The bytes of a record, its length checked again: an index comes from a file.
pub(crate) fn bytes(file: &Blob, record: &IndexEntry) -> Result<Vec<u8>> {
    if record.len > MAX_DOCUMENT {
        bail!("a document of {} bytes", record.len);
    }
    file.read(record.at, record.len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_takes_24_bytes_of_memory() {
        assert_eq!(size_of::<DocumentPlace>(), 24);
    }
}
