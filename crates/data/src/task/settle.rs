//! [`settle`]: the steps of an import that need all documents at once, from the digests of all tasks: how
//! often a picture is used, which documents are equal, which ids come twice. The outcome is that of one task,
//! to the bit; memory is bounded, as what grows with the set is sorted in files.
//!
//! Documents and pictures have a number each, in the order of the tasks. What has to meet is given a record
//! with what it has in common first, and sorted.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use super::digest::{Decision, DecisionWriter, DigestReader};
use super::sorter::{Sorted, SortedCursor, Sorter};
use crate::filter::{DocumentDigest, FilterCounts, FilterRule, FilterSpec, Verdict};
use crate::image::{KEY_BYTES, PictureKey, PictureSet};
use crate::import::Ids;

/// Bytes that a picture takes in a [`PictureSet`], and its place in a block.
const PICTURE_BYTES: usize = 512;
/// Sorters that are filled or held at once, at most.
const SORTERS: usize = 6;

/// What is settled.
pub(super) struct Settling<'a> {
    /// The rules; nothing is removed without.
    pub(super) filter: Option<&'a FilterSpec>,
    /// The digests of each task.
    pub(super) digests: Vec<PathBuf>,
    /// Where the decisions on each task's documents go.
    pub(super) decisions: Vec<PathBuf>,
    /// Where records are sorted.
    pub(super) folder: &'a Path,
    /// Bytes of memory that are used, about.
    pub(super) memory: usize,
}

/// Decides on all documents; gives what was removed, where there are rules.
pub(super) fn settle(settling: &Settling) -> Result<FilterCounts> {
    let pictures = settling.filter.map(|filter| settling.pictures(filter)).transpose()?;
    let duplicates = settling.duplicates(pictures.as_ref())?;
    let repeated = settling.repeated(pictures.as_ref(), &duplicates)?;
    settling.decide(pictures.as_ref(), &duplicates, &repeated)
}

impl Settling<'_> {
    fn sorter(&self) -> Sorter {
        Sorter::new(self.folder, self.memory / 2 / SORTERS)
    }

    /// Calls `take` with every document and its number.
    fn each(&self, mut take: impl FnMut(u64, Option<DocumentDigest>) -> Result<()>) -> Result<()> {
        let mut number = 0;
        for path in &self.digests {
            let mut reader = DigestReader::open(path)?;
            while let Some(digest) = reader.next()? {
                take(number, digest)?;
                number += 1;
            }
        }
        Ok(())
    }

    /// For each picture in order: its place, the number of what it shows, and whether that is used too often.
    fn pictures(&self, filter: &FilterSpec) -> Result<Sorted> {
        // File, place.
        let mut places = self.sorter();
        let mut place = 0;
        self.each(|_, digest| {
            for picture in digest.iter().flat_map(|digest| &digest.pictures) {
                places.push([picture.hash, place, 0])?;
                place += 1;
            }
            Ok(())
        })?;
        let places = places.sorted()?;
        // First place, file, uses: a file that comes again is not looked at again.
        let mut files = self.sorter();
        let mut cursor = SortedCursor::new(&places)?;
        while let Some([hash, first, _]) = cursor.take_if(|_| true)? {
            let mut uses = 1;
            while cursor.take_if(|next| next[0] == hash)?.is_some() {
                uses += 1;
            }
            files.push([first, hash, uses])?;
        }
        let shown = self.overused(&self.shown(&files.sorted()?)?, filter.max_uses)?;
        // Place, number, whether too often.
        let mut pictures = self.sorter();
        let (mut places, mut shown) = (SortedCursor::new(&places)?, SortedCursor::new(&shown)?);
        while let Some([hash, number, over]) = shown.take_if(|_| true)? {
            while let Some([_, place, _]) = places.take_if(|next| next[0] == hash)? {
                pictures.push([place, number, over])?;
            }
        }
        pictures.sorted()
    }

    /// The number of what each file shows, the file, and its uses.
    fn shown(&self, files: &Sorted) -> Result<Sorted> {
        let mut numbering = Numbering::new(self)?;
        let mut cursor = SortedCursor::new(files)?;
        let mut place = 0;
        self.each(|_, digest| {
            for picture in digest.into_iter().flat_map(|digest| digest.pictures) {
                if let Some([_, hash, uses]) = cursor.take_if(|next| next[0] == place)? {
                    match picture.key {
                        Some(key) => numbering.push(key, hash, uses)?,
                        // Numbers of pictures are smaller.
                        None => numbering.shown.push([hash | 1 << 63, hash, uses])?,
                    }
                }
                place += 1;
            }
            Ok(())
        })?;
        numbering.finish()
    }

    /// Each file with the number of what it shows, and whether that is used more than `most` times.
    fn overused(&self, shown: &Sorted, most: u32) -> Result<Sorted> {
        let mut files = self.sorter();
        let (mut ahead, mut cursor) = (SortedCursor::new(shown)?, SortedCursor::new(shown)?);
        while let Some([number, ..]) = ahead.next() {
            let mut sum = 0;
            while let Some([.., uses]) = ahead.take_if(|next| next[0] == number)? {
                sum += uses;
            }
            while let Some([_, hash, _]) = cursor.take_if(|next| next[0] == number)? {
                files.push([hash, number, u64::from(sum > u64::from(most))])?;
            }
        }
        files.sorted()
    }

    /// Calls `take` with every document that is whole, its verdict and the numbers of its pictures.
    fn judged(
        &self,
        pictures: Option<&Sorted>,
        mut take: impl FnMut(u64, Option<Judged>) -> Result<()>,
    ) -> Result<()> {
        let mut shown = pictures.map(SortedCursor::new).transpose()?;
        self.each(|number, digest| {
            let Some(digest) = digest else { return take(number, None) };
            let (mut numbers, mut overused) = (Vec::new(), Vec::new());
            for _ in &digest.pictures {
                let next = shown.as_mut().map(|shown| shown.take_if(|_| true)).transpose()?.flatten();
                let Some([_, shows, over]) = next else { bail!("a picture that no one has numbered") };
                numbers.push(shows);
                overused.push(over == 1);
            }
            let verdict = match self.filter {
                Some(filter) => filter.verdict(&digest, &overused),
                None => Verdict { pictures: Vec::new(), rule: None },
            };
            take(number, Some(Judged { digest, verdict, numbers }))
        })
    }

    /// Documents before which an equal one stays, in order.
    fn duplicates(&self, pictures: Option<&Sorted>) -> Result<Sorted> {
        let mut texts = self.sorter();
        if self.filter.is_some_and(|filter| filter.unique_text) {
            self.judged(pictures, |number, judged| match judged.and_then(|judged| judged.text_key()) {
                Some(key) => texts.push([key, number, 0]),
                None => Ok(()),
            })?;
        }
        let (texts, mut duplicates) = (texts.sorted()?, self.sorter());
        let mut cursor = SortedCursor::new(&texts)?;
        while let Some([key, ..]) = cursor.take_if(|_| true)? {
            while let Some([_, number, _]) = cursor.take_if(|next| next[0] == key)? {
                duplicates.push([number, 0, 0])?;
            }
        }
        duplicates.sorted()
    }

    /// Documents that stay, in order, among which an id comes twice.
    fn repeated(&self, pictures: Option<&Sorted>, duplicates: &Sorted) -> Result<Sorted> {
        let (mut ids, mut dropped) = (self.sorter(), SortedCursor::new(duplicates)?);
        self.judged(pictures, |number, judged| {
            let duplicate = dropped.take_if(|next| next[0] == number)?.is_some();
            match judged.filter(|judged| judged.verdict.rule.is_none() && !duplicate) {
                Some(Judged { digest, .. }) => {
                    // A number after `#` is what makes an id unique: only those of one beginning can meet.
                    let begin = digest.id.split('#').next().unwrap_or_default();
                    ids.push([xxh3_64(begin.as_bytes()), xxh3_64(digest.id.as_bytes()), number])
                }
                None => Ok(()),
            }
        })?;
        let (ids, mut repeated) = (ids.sorted()?, self.sorter());
        let (mut ahead, mut cursor) = (SortedCursor::new(&ids)?, SortedCursor::new(&ids)?);
        while let Some([begin, ..]) = ahead.next() {
            let (mut last, mut twice) = (None, false);
            while let Some([_, id, _]) = ahead.take_if(|next| next[0] == begin)? {
                twice |= last.replace(id) == Some(id);
            }
            while let Some([.., number]) = cursor.take_if(|next| next[0] == begin)? {
                if twice {
                    repeated.push([number, 0, 0])?;
                }
            }
        }
        repeated.sorted()
    }

    /// Writes the decisions, and counts them.
    fn decide(
        &self,
        pictures: Option<&Sorted>,
        duplicates: &Sorted,
        repeated: &Sorted,
    ) -> Result<FilterCounts> {
        let (mut dropped, mut repeated) = (SortedCursor::new(duplicates)?, SortedCursor::new(repeated)?);
        let (mut counts, mut ids) = (FilterCounts::default(), Ids::default());
        // One file at a time: there may be more tasks than a system opens files.
        let (ends, mut task) = (self.ends()?, 0);
        let mut decisions = DecisionWriter::create(&self.decisions[task])?;
        self.judged(pictures, |number, judged| {
            let duplicate = dropped.take_if(|next| next[0] == number)?.is_some();
            let twice = repeated.take_if(|next| next[0] == number)?.is_some();
            while ends[task] <= number {
                task += 1;
                let next = DecisionWriter::create(&self.decisions[task])?;
                std::mem::replace(&mut decisions, next).finish()?;
            }
            decisions.push(&match judged {
                None => Decision::Damaged,
                Some(judged) => judged.decision(duplicate, twice.then_some(&mut ids), &mut counts),
            })
        })?;
        decisions.finish()?;
        let mut without_documents = self.decisions[task + 1..].iter();
        without_documents.try_for_each(|path| DecisionWriter::create(path)?.finish())?;
        Ok(counts)
    }

    /// The number behind the last document of each task.
    fn ends(&self) -> Result<Vec<u64>> {
        let (mut ends, mut number) = (Vec::new(), 0);
        for path in &self.digests {
            let mut reader = DigestReader::open(path)?;
            while reader.next()?.is_some() {
                number += 1;
            }
            ends.push(number);
        }
        Ok(ends)
    }
}

/// A document that is whole.
struct Judged {
    digest: DocumentDigest,
    verdict: Verdict,
    /// What its pictures show.
    numbers: Vec<u64>,
}

impl Judged {
    /// What is the same in documents of which the first stays; none, where that is not asked.
    fn text_key(&self) -> Option<u64> {
        let text = self.digest.text.filter(|_| self.verdict.rule.is_none())?;
        let mut key = Xxh3Default::new();
        key.update(&text.to_le_bytes());
        let left = self.numbers.iter().zip(&self.verdict.pictures).filter(|(_, rule)| rule.is_none());
        left.for_each(|(number, _)| key.update(&number.to_le_bytes()));
        Some(key.digest())
    }

    fn decision(self, duplicate: bool, ids: Option<&mut Ids>, counts: &mut FilterCounts) -> Decision {
        let Verdict { pictures, rule } = self.verdict;
        for rule in pictures.iter().flatten() {
            *counts.removed_pictures.entry(*rule).or_default() += 1;
        }
        if let Some(rule) = rule.or(duplicate.then_some(FilterRule::Duplicate)) {
            *counts.removed_documents.entry(rule).or_default() += 1;
            return Decision::Removed;
        }
        let pictures: Vec<bool> = pictures.iter().map(Option::is_none).collect();
        counts.documents += 1;
        counts.pictures += pictures.iter().filter(|stays| **stays).count() as u64;
        let id = self.digest.id;
        let renamed = ids.map(|ids| ids.unique(id.clone())).filter(|unique| *unique != id);
        Decision::Kept { pictures, renamed }
    }
}

/// Numbers pictures in their order, as one [`PictureSet`] does, but holds a block of them only: those that
/// were new before are read again for each block.
struct Numbering<'a> {
    settling: &'a Settling<'a>,
    /// Pictures of a block.
    most: usize,
    /// Those of this block: what they look like, file, uses.
    block: PictureSet,
    files: Vec<[u64; 2]>,
    /// The keys of all that are new, in order.
    new: NewPictures,
    shown: Sorter,
}

/// The keys of pictures, the number of each its place.
struct NewPictures {
    file: tempfile::NamedTempFile,
    count: u64,
}

impl<'a> Numbering<'a> {
    fn new(settling: &'a Settling<'a>) -> Result<Self> {
        let file = tempfile::NamedTempFile::new_in(settling.folder);
        let file = file.with_context(|| settling.folder.display().to_string())?;
        Ok(Self {
            settling,
            most: (settling.memory / 2 / PICTURE_BYTES).max(1),
            block: PictureSet::default(),
            files: Vec::new(),
            new: NewPictures { file, count: 0 },
            shown: settling.sorter(),
        })
    }

    fn push(&mut self, key: PictureKey, hash: u64, uses: u64) -> Result<()> {
        if self.files.len() == self.most {
            self.number_block()?;
        }
        self.block.insert(key);
        self.files.push([hash, uses]);
        Ok(())
    }

    fn number_block(&mut self) -> Result<()> {
        let (block, files) = (std::mem::take(&mut self.block), std::mem::take(&mut self.files));
        let mut numbers: Vec<Option<u64>> = vec![None; files.len()];
        // In their order, so that the first that matches is kept.
        self.new.each(|number, key| {
            block.candidates(key, |at, other| {
                let first = &mut numbers[at as usize];
                if first.is_none() && other.matches(key) {
                    *first = Some(number);
                }
            });
        })?;
        let (before, mut own) = (self.new.count, PictureSet::default());
        let mut out = BufWriter::new(self.new.file.as_file_mut());
        for ((key, [hash, uses]), earlier) in block.into_keys().into_iter().zip(files).zip(numbers) {
            let number = match earlier {
                Some(number) => number,
                None => {
                    let (known, bytes) = (own.len(), key.to_bytes());
                    let number = own.number(key);
                    if own.len() > known {
                        out.write_all(&bytes).context("a file of pictures")?;
                    }
                    before + u64::from(number)
                }
            };
            self.shown.push([number, hash, uses])?;
        }
        out.flush().with_context(|| self.settling.folder.display().to_string())?;
        drop(out);
        self.new.count += own.len() as u64;
        Ok(())
    }

    fn finish(mut self) -> Result<Sorted> {
        self.number_block()?;
        self.shown.sorted()
    }
}

impl NewPictures {
    fn each(&self, mut look: impl FnMut(u64, &PictureKey)) -> Result<()> {
        let open = || -> std::io::Result<BufReader<File>> { Ok(BufReader::new(self.file.reopen()?)) };
        let mut input = open().context("a file of pictures")?;
        let mut bytes = [0; KEY_BYTES];
        for number in 0..self.count {
            input.read_exact(&mut bytes).context("a file of pictures")?;
            look(number, &PictureKey::from_bytes(&bytes));
        }
        Ok(())
    }
}
