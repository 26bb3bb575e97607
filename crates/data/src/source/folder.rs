//! A folder of pictures with captions: `x.jpg` beside `x.txt`, or a list of paths and captions
//! (`captions.jsonl`, `metadata.jsonl`, `metadata.csv` or `metadata.parquet` in the folder, or any such
//! file named in the recipe).

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::captioned_file::{self, CaptionedFile};
use super::files::ReadDocument;
use super::interface::{Source, Split};
use super::page::DocumentBuilder;
use crate::document::{Document, DocumentKind, Image, Segment, Special};
use crate::image::{DecodeBudget, open};
use crate::order::{Order, test_bound};
use crate::question::Question;
use crate::regular_file;
use crate::store::{Blob, DataStamp};

/// The largest picture file that is read.
// As much as a document may take in an archive.
const MAX_FILE: u64 = 256 << 20;

/// Captioned pictures on disk. Only the captions are held in memory.
pub struct PictureFolder {
    name: String,
    /// Canonical: no picture outside of it is read.
    root: PathBuf,
    seed: u64,
    /// Sorted by path.
    train: Vec<CaptionedFile>,
    /// Sorted by path; none of them is in `train`.
    test: Vec<CaptionedFile>,
    /// Of a folder of classes.
    classes: Option<Vec<String>>,
}

impl PictureFolder {
    /// Lists the pictures and reads the captions. `test_share` of the pictures, chosen by the hash of their
    /// path, is held out: at least one, and at least one is left for training, where there are two. With a
    /// share of 0 nothing is held out.
    ///
    /// # Errors
    /// A missing or empty folder, pictures without captions, a list that is not valid or leaves its folder.
    pub fn open(name: &str, path: &Path, test_share: f64, seed: u64) -> Result<Self> {
        ensure!(
            (0.0..1.0).contains(&test_share),
            "source `{name}`: test_share = {test_share} must be from 0 up to, but not including, 1"
        );
        let (root, captions) =
            captioned_file::read(path).with_context(|| format!("source `{name}`: {}", path.display()))?;
        let (train, test) = split(captions, test_share);
        Ok(Self { name: name.to_owned(), root, seed, train, test, classes: None })
    }

    /// Opens a folder with a folder for each class: its name, `_` and `-` written as spaces, is the text of
    /// its pictures. What is in `test` or else `val` beside `train` is held out; else `test_share` of the
    /// pictures, as in [`Self::open`].
    ///
    /// # Errors
    /// As [`Self::open`]; a picture that is in no class.
    pub fn of_classes(name: &str, path: &Path, test_share: f64, seed: u64) -> Result<Self> {
        let read = || {
            let root = path.canonicalize()?;
            let of = |part: &str| {
                root.join(part).is_dir().then(|| captioned_file::of_classes(&root, part)).transpose()
            };
            let (train, test) = match (of("train")?, of("test")?, of("val")?) {
                (Some(train), Some(test), _) | (Some(train), None, Some(test)) => (train, test),
                (Some(train), None, None) => split(train, test_share),
                (None, ..) => split(captioned_file::of_classes(&root, "")?, test_share),
            };
            anyhow::Ok((root, train, test))
        };
        let (root, train, test) = read().with_context(|| format!("source `{name}`: {}", path.display()))?;
        let mut classes: Vec<String> = train.iter().chain(&test).flat_map(|e| e.texts().to_vec()).collect();
        classes.sort();
        classes.dedup();
        Ok(Self { name: name.to_owned(), root, seed, train, test, classes: Some(classes) })
    }

    /// The captions of a split, pictures sorted by name.
    pub fn captions(&self, split: Split) -> impl Iterator<Item = &str> {
        self.entries(split).iter().flat_map(|entry| entry.texts()).map(String::as_str)
    }

    /// Every picture with each of its captions, as places for [`PictureFolder::pair`], sorted by name. One
    /// whose caption can't be used has a place too, one of which nothing is said has none. Those that are
    /// held out, as in a folder of classes with `test/`, come last.
    pub(crate) fn pairs(&self) -> Vec<(usize, usize)> {
        let captions = |(i, entry): (usize, &CaptionedFile)| {
            let broken = usize::from(entry.is_broken());
            (0..entry.texts().len().max(broken)).map(move |caption| (i, caption))
        };
        self.train.iter().chain(&self.test).enumerate().flat_map(captions).collect()
    }

    /// A picture with one of its captions. The id of a second caption ends in `#2`.
    ///
    /// # Errors
    /// A picture that can't be read.
    pub(crate) fn pair(&self, (entry, caption): (usize, usize)) -> Result<ReadDocument> {
        let entry =
            self.stored(entry).with_context(|| format!("source `{}` has no such picture", self.name))?;
        let number = if caption == 0 { String::new() } else { format!("#{}", caption + 1) };
        let captions = entry.captions()?;
        let picture = self.picture(entry)?;
        let id = format!("{}/{}{number}", self.name, entry.path);
        DocumentBuilder::captioned(id, picture, &captions[caption])
    }

    /// The path of a pair's picture below the folder, and which of its captions it is.
    pub(crate) fn pair_name(&self, (entry, caption): (usize, usize)) -> String {
        let path = self.stored(entry).map_or("", |entry| &entry.path);
        format!("{path}#{caption}")
    }

    /// The file of a picture.
    pub(crate) fn file(&self, entry: usize) -> PathBuf {
        self.stored(entry).map_or_else(|| self.root.clone(), |entry| self.root.join(&entry.path))
    }

    fn stored(&self, entry: usize) -> Option<&CaptionedFile> {
        let held_out = entry.checked_sub(self.train.len());
        held_out.map_or_else(|| self.train.get(entry), |entry| self.test.get(entry))
    }

    fn entries(&self, split: Split) -> &[CaptionedFile] {
        match split {
            Split::Train => &self.train,
            Split::Test => &self.test,
        }
    }

    /// The picture at `index` of a split as training meets it, and its caption of that epoch.
    fn captioned(&self, split: Split, index: u64) -> Result<(&CaptionedFile, &String)> {
        let order = Order::Free(self.entries(split).len() as u64);
        let (epoch, place) = match split {
            Split::Train => order.place(index, self.seed).unwrap_or((0, index)),
            Split::Test => (0, index),
        };
        let entry = self.entry(split, place)?;
        let captions = entry.captions().with_context(|| self.root.join(&entry.path).display().to_string())?;
        Ok((entry, &captions[(epoch % captions.len() as u64) as usize]))
    }

    fn entry(&self, split: Split, index: u64) -> Result<&CaptionedFile> {
        let entries = self.entries(split);
        entries.get(index as usize).with_context(|| {
            format!(
                "source `{}` has {} pictures in {}, not one at {index}",
                self.name,
                entries.len(),
                split.name()
            )
        })
    }

    fn id(&self, split: Split, entry: &CaptionedFile) -> String {
        format!("{}/{}/{}", self.name, split.name(), entry.path)
    }

    /// The bytes of the picture's file.
    fn picture(&self, entry: &CaptionedFile) -> Result<Image> {
        let read = || {
            // A link is followed, and then has to be inside: a caption list from a stranger must not read
            // other files.
            let path = self.root.join(&entry.path);
            ensure!(path.exists(), "the picture is not there");
            let file = path.canonicalize()?;
            ensure!(file.starts_with(&self.root), "a link that leaves the folder");
            Ok(Image::named(&entry.path, regular_file::read(&file, MAX_FILE)?))
        };
        read().with_context(|| self.root.join(&entry.path).display().to_string())
    }
}

impl Source for PictureFolder {
    fn document(&self, split: Split, index: u64) -> Result<Document> {
        let (entry, caption) = self.captioned(split, index)?;
        Ok(Document {
            id: self.id(split, entry),
            kind: DocumentKind::Captioned,
            segments: vec![
                Segment::Image(self.picture(entry)?),
                Segment::text(caption),
                Segment::Token { token: Special::End, learn: true },
            ],
        })
    }

    fn len(&self, split: Split) -> Option<u64> {
        Some(self.entries(split).len() as u64)
    }

    fn classes(&self) -> Option<Vec<String>> {
        self.classes.clone()
    }

    /// No file is read.
    fn texts(&self, split: Split, index: u64) -> Result<Vec<String>> {
        Ok(vec![self.captioned(split, index)?.1.clone()])
    }

    fn stamp(&self) -> Result<Option<DataStamp>> {
        let mut entries: Vec<&CaptionedFile> = self.train.iter().chain(&self.test).collect();
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        // A picture that can't be opened is met, and counted, when it is read.
        let open = |entry: &CaptionedFile| Blob::open(&self.root.join(&entry.path), entry.path.clone()).ok();
        let pictures: Vec<Blob> = entries.iter().filter_map(|entry| open(entry)).collect();
        let mut stamp = DataStamp::of(&pictures)?;
        // The captions are in memory, wherever they were written.
        let mut captions = Xxh3::new();
        for entry in entries {
            captions.update(entry.path.as_bytes());
            entry.texts().iter().for_each(|caption| captions.update(caption.as_bytes()));
        }
        let captions = format!("{:016x}", captions.digest());
        stamp.dates = format!("{}-{captions}", stamp.dates);
        stamp.content = format!("{}-{captions}", stamp.content);
        Ok(Some(stamp))
    }

    fn memory(&self) -> u64 {
        let text = |text: &String| size_of::<String>() + text.len();
        let entry = |entry: &CaptionedFile| {
            text(&entry.path) + size_of::<Vec<String>>() + entry.texts().iter().map(text).sum::<usize>()
        };
        self.train.iter().chain(&self.test).map(entry).sum::<usize>() as u64
    }

    /// Pictures sorted by name, with all their captions.
    fn question(&self, split: Split, index: u64, decoding: &DecodeBudget) -> Result<Question> {
        let entry = self.entry(split, index)?;
        let id = self.id(split, entry);
        let answers = entry.captions().with_context(|| id.clone())?.to_vec();
        let picture = self.picture(entry)?;
        // A damaged test item is to be found here, where evaluation skips and lists it.
        {
            let _held = decoding.hold(&picture);
            open(&picture).with_context(|| id.clone())?;
        }
        Ok(Question {
            id,
            category: "caption".to_owned(),
            pictures: vec![picture],
            text: String::new(),
            answers,
            ..Question::default()
        })
    }
}

/// Entries for training and held-out entries.
fn split(entries: Vec<CaptionedFile>, test_share: f64) -> (Vec<CaptionedFile>, Vec<CaptionedFile>) {
    // Of the path below the folder: a copy of the folder elsewhere has the same split.
    let hash = |entry: &CaptionedFile| xxh3_64(entry.path.as_bytes());
    let bound = test_bound(entries.iter().map(hash), test_share);
    entries.into_iter().partition(|entry| hash(entry) >= bound)
}
