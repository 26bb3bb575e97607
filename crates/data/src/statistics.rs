//! [`Statistics`]: what is in a source, counted.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::account::Account;
use crate::document::DocumentKind;
use crate::examine::{self, Damaged, Examination, Examined, LISTED};
use crate::image::PictureHeader;
use crate::left_out::LeftOut;
use crate::shard::Provenance;
use crate::source::BesidePictures;
use crate::source::detect::UnusedFile;
use crate::source::stored::StoredSource;
use crate::task::{FilesRecord, SourceRecord, offset};
use crate::tokenizer::Tokenizer;

/// The sums of some documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// Documents that can be used.
    pub documents: u64,
    /// Pictures in them.
    pub images: u64,
    /// Words in them: runs of characters between white space.
    pub words: u64,
    /// Bytes of their content: texts in UTF-8, pictures as they are stored.
    pub bytes: u64,
}

/// Counts in bins that double: 0, 1, 2-3, 4-7, …
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Bin 0 holds zeros, bin `i` values from 2^(i-1) up to 2^i - 1.
    bins: Vec<u64>,
    /// The sum of the bins.
    count: u64,
    sum: u64,
    max: u64,
}

/// What is in a source, or in several.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Statistics {
    /// All documents, as their files list them.
    #[serde(skip)]
    there: u64,
    /// Of all documents that can be used.
    #[serde(flatten)]
    pub sums: Sums,
    /// Tokens of their texts, where a tokenizer is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Documents that can't be used.
    pub skipped: u64,
    /// What is in no document, or in another form, by reason.
    #[serde(skip_serializing_if = "LeftOut::is_empty")]
    pub left_out: LeftOut,
    /// By kind of data.
    pub kinds: BTreeMap<DocumentKind, Sums>,
    /// By origin, where the documents say one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", serialize_with = "origins")]
    pub origins: BTreeMap<Provenance, Sums>,
    /// Words of a document.
    pub words_histogram: Histogram,
    /// Tokens of a document's texts.
    #[serde(skip_serializing_if = "Histogram::is_empty")]
    pub tokens_histogram: Histogram,
    /// The shorter side of a picture in pixels.
    pub short_side_histogram: Histogram,
    /// The longer side of a picture in pixels.
    pub long_side_histogram: Histogram,
    /// Pictures of a document.
    pub images_histogram: Histogram,
    /// Pictures by format.
    pub formats: BTreeMap<String, u64>,
    /// Why documents can't be used, and how many.
    pub reasons: BTreeMap<String, u64>,
}

/// Statistics as a task stores them: all of it, where what is printed has means.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredStatistics {
    there: u64,
    sums: Sums,
    tokens: Option<u64>,
    skipped: u64,
    left_out: LeftOut,
    kinds: BTreeMap<DocumentKind, Sums>,
    origins: Vec<(Provenance, Sums)>,
    /// Bins, count, sum and largest value: words, tokens, short sides, long sides, images.
    histograms: [(Vec<u64>, u64, u64, u64); 5],
    formats: BTreeMap<String, u64>,
    reasons: BTreeMap<String, u64>,
}

impl From<&Statistics> for StoredStatistics {
    fn from(all: &Statistics) -> Self {
        let histograms = [
            &all.words_histogram,
            &all.tokens_histogram,
            &all.short_side_histogram,
            &all.long_side_histogram,
            &all.images_histogram,
        ];
        Self {
            there: all.there,
            sums: all.sums,
            tokens: all.tokens,
            skipped: all.skipped,
            left_out: all.left_out.clone(),
            kinds: all.kinds.clone(),
            origins: all.origins.iter().map(|(origin, sums)| (origin.clone(), *sums)).collect(),
            histograms: histograms.map(|h| (h.bins.clone(), h.count, h.sum, h.max)),
            formats: all.formats.clone(),
            reasons: all.reasons.clone(),
        }
    }
}

impl From<StoredStatistics> for Statistics {
    fn from(stored: StoredStatistics) -> Self {
        let [words, tokens, short, long, images] =
            stored.histograms.map(|(bins, count, sum, max)| Histogram { bins, count, sum, max });
        Self {
            there: stored.there,
            sums: stored.sums,
            tokens: stored.tokens,
            skipped: stored.skipped,
            left_out: stored.left_out,
            kinds: stored.kinds,
            origins: stored.origins.into_iter().collect(),
            words_histogram: words,
            tokens_histogram: tokens,
            short_side_histogram: short,
            long_side_histogram: long,
            images_histogram: images,
            formats: stored.formats,
            reasons: stored.reasons,
        }
    }
}

/// What a task has counted.
#[derive(Serialize, Deserialize)]
pub struct CountedShare {
    /// Its sources.
    pub sources: Vec<SourceRecord>,
    /// What is in each of them.
    pub statistics: Vec<StoredStatistics>,
    /// The first documents that are damaged.
    pub damaged: Vec<Damaged>,
    /// What became of the files.
    pub files: FilesRecord,
}

/// What is in the sources of all tasks.
pub struct Counted {
    /// The sources, each once, with what is in it.
    pub sources: Vec<(SourceRecord, Statistics)>,
    /// The first documents that are damaged, numbered in their source.
    pub damaged: Vec<Damaged>,
    /// What became of the files.
    pub files: Account,
    /// Files of no source.
    pub files_left: Vec<UnusedFile>,
}

impl Counted {
    /// The counts of all tasks, in order.
    ///
    /// # Errors
    /// No task.
    pub fn join(tasks: Vec<CountedShare>) -> Result<Self> {
        let (files, files_left) = FilesRecord::join(tasks.iter().map(|task| &task.files))?;
        let damaged = offset(tasks.iter().map(|task| (task.sources.as_slice(), task.damaged.as_slice())));
        let joined = SourceRecord::join(tasks.iter().map(|task| task.sources.as_slice()));
        let mut sources: Vec<(SourceRecord, Option<Statistics>)> =
            joined.into_iter().map(|source| (source, None)).collect();
        for task in tasks {
            for (record, stored) in task.sources.into_iter().zip(task.statistics) {
                let place = sources.iter_mut().find(|(known, _)| known.name == record.name);
                match place.map(|(_, known)| known) {
                    Some(Some(known)) => known.merge(&stored.into()),
                    Some(none) => *none = Some(stored.into()),
                    None => {}
                }
            }
        }
        let sources = sources.into_iter().map(|(source, all)| (source, all.unwrap_or_default())).collect();
        Ok(Self { sources, damaged, files, files_left })
    }
}

/// What is counted of a document.
struct Measured {
    kind: DocumentKind,
    origin: Provenance,
    sums: Sums,
    tokens: u64,
    pictures: Vec<PictureHeader>,
    left_out: LeftOut,
}

impl Sums {
    /// Adds those of other documents.
    pub fn add(&mut self, other: &Self) {
        self.documents += other.documents;
        self.images += other.images;
        self.words += other.words;
        self.bytes += other.bytes;
    }
}

impl Histogram {
    fn add(&mut self, value: u64) {
        // Bins that double: lengths of documents span six orders of magnitude, and 64 bins hold all of them.
        let bin = (u64::BITS - value.leading_zeros()) as usize;
        if self.bins.len() <= bin {
            self.bins.resize(bin + 1, 0);
        }
        self.bins[bin] += 1;
        (self.count, self.sum, self.max) = (self.count + 1, self.sum + value, self.max.max(value));
    }

    fn merge(&mut self, other: &Self) {
        self.bins.resize(self.bins.len().max(other.bins.len()), 0);
        self.bins.iter_mut().zip(&other.bins).for_each(|(bin, other)| *bin += other);
        (self.count, self.sum, self.max) =
            (self.count + other.count, self.sum + other.sum, self.max.max(other.max));
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The mean of the values; 0 without any.
    pub fn mean(&self) -> f64 {
        self.sum as f64 / self.count.max(1) as f64
    }

    /// The largest value.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The bins from the first that is not empty to the last: the least and the largest value of each, and
    /// the count.
    pub fn bins(&self) -> Vec<(u64, u64, u64)> {
        let first = self.bins.iter().position(|&count| count > 0).unwrap_or(self.bins.len());
        let bin = |(i, &count): (usize, &u64)| match i {
            0 => (0, 0, count),
            i => (1 << (i - 1), u64::MAX >> (64 - i), count),
        };
        self.bins.iter().enumerate().skip(first).map(bin).collect()
    }
}

impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Bin {
            from: u64,
            to: u64,
            count: u64,
        }
        let bins: Vec<Bin> =
            self.bins().into_iter().map(|(from, to, count)| Bin { from, to, count }).collect();
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("mean", &self.mean())?;
        map.serialize_entry("max", &self.max)?;
        map.serialize_entry("bins", &bins)?;
        map.end()
    }
}

/// As a list, since an origin is no key of JSON.
fn origins<S: Serializer>(origins: &BTreeMap<Provenance, Sums>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct ProvenanceSums<'a> {
        #[serde(flatten)]
        origin: &'a Provenance,
        #[serde(flatten)]
        sums: &'a Sums,
    }
    serializer.collect_seq(origins.iter().map(|(origin, sums)| ProvenanceSums { origin, sums }))
}

impl Statistics {
    /// Counts all documents of a source; `progress` is called with the number of those that are done, and
    /// `beside` is given the pictures they have. Gives the first 1,000 damaged ones too.
    ///
    /// # Errors
    /// None of the documents' own: they are counted as skipped.
    pub fn of(
        source: &StoredSource,
        tokenizer: Option<&Tokenizer>,
        how: Examination,
        beside: &mut BesidePictures,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(Self, Vec<Damaged>)> {
        let there = source.documents();
        let mut all = Self { there, tokens: tokenizer.map(|_| 0), ..Self::default() };
        source.left_out()?.iter().for_each(|(_, left)| all.left_out.merge(left));
        let (mut damaged, names) = (Vec::new(), beside.names());
        examine::each(
            source,
            how,
            |examined| (names(&examined.document), measure(examined, tokenizer)),
            |index, result| {
                match result {
                    Ok((names, measured)) => {
                        beside.read(&names);
                        all.add(&measured);
                    }
                    Err(found) => {
                        all.skipped += 1;
                        // By cause and not by message, which names the document: else each would be a reason
                        // of its own.
                        *all.reasons.entry(found.cause().to_owned()).or_default() += 1;
                        if damaged.len() < LISTED {
                            damaged.push(found);
                        }
                    }
                }
                progress(index + 1);
                Ok(())
            },
        )?;
        Ok((all, damaged))
    }

    /// What became of all documents.
    pub fn account(&self) -> Account {
        let skipped = LeftOut::of(self.reasons.iter().map(|(reason, count)| (reason.as_str(), *count)));
        Account { there: self.there, read: self.sums.documents, skipped, left_out: LeftOut::default() }
    }

    fn add(&mut self, of: &Measured) {
        self.sums.add(&of.sums);
        self.left_out.merge(&of.left_out);
        self.kinds.entry(of.kind).or_default().add(&of.sums);
        if of.origin != Provenance::default() {
            self.origins.entry(of.origin.clone()).or_default().add(&of.sums);
        }
        if let Some(tokens) = &mut self.tokens {
            *tokens += of.tokens;
            self.tokens_histogram.add(of.tokens);
        }
        self.words_histogram.add(of.sums.words);
        self.images_histogram.add(of.sums.images);
        for PictureHeader { width, height, format } in &of.pictures {
            self.short_side_histogram.add(u64::from(*width.min(height)));
            self.long_side_histogram.add(u64::from(*width.max(height)));
            *self.formats.entry((*format).to_owned()).or_default() += 1;
        }
    }

    /// Adds what was counted elsewhere.
    pub fn merge(&mut self, other: &Self) {
        self.there += other.there;
        self.sums.add(&other.sums);
        self.skipped += other.skipped;
        self.left_out.merge(&other.left_out);
        self.tokens = match (self.tokens, other.tokens) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or(0) + b.unwrap_or(0)),
        };
        for (kind, sums) in &other.kinds {
            self.kinds.entry(*kind).or_default().add(sums);
        }
        for (origin, sums) in &other.origins {
            self.origins.entry(origin.clone()).or_default().add(sums);
        }
        self.words_histogram.merge(&other.words_histogram);
        self.tokens_histogram.merge(&other.tokens_histogram);
        self.short_side_histogram.merge(&other.short_side_histogram);
        self.long_side_histogram.merge(&other.long_side_histogram);
        self.images_histogram.merge(&other.images_histogram);
        for (format, count) in &other.formats {
            *self.formats.entry(format.clone()).or_default() += count;
        }
        for (reason, count) in &other.reasons {
            *self.reasons.entry(reason.clone()).or_default() += count;
        }
    }
}

fn measure(examined: Examined, tokenizer: Option<&Tokenizer>) -> Measured {
    let Examined { document, origin, pictures, left_out } = examined;
    let tokens = tokenizer
        .map_or(0, |tokenizer| document.texts().map(|text| tokenizer.encode(text).len() as u64).sum());
    let sums = Sums {
        documents: 1,
        images: pictures.len() as u64,
        words: document.words(),
        bytes: document.bytes(),
    };
    Measured { kind: document.kind, origin, sums, tokens, pictures, left_out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_double_and_merge() {
        let mut histogram = Histogram::default();
        for value in [1, 2, 3, 4, 7, 8, 8, 1000] {
            histogram.add(value);
        }
        assert_eq!(histogram.bins()[..4], [(1, 1, 1), (2, 3, 2), (4, 7, 2), (8, 15, 2)]);
        assert_eq!(histogram.bins().last(), Some(&(512, 1023, 1)));
        let mut other = Histogram::default();
        assert!(other.bins().is_empty());
        other.add(0);
        other.add(u64::MAX >> 1);
        assert_eq!((other.bins()[0], other.bins()[63].2), ((0, 0, 1), 1));
        let (sum, mut merged) = (histogram.sum, histogram.clone());
        merged.merge(&Histogram::default());
        assert_eq!(merged, histogram);
        assert_eq!((merged.max(), merged.mean()), (1000, sum as f64 / 8.0));
    }
}
