//! [`ShardWriter`]: documents of every kind as WebDataset archives, which other tools can read too. The same
//! documents give the same bytes.
//!
//! A document is `NAME.json` and its pictures' files `NAME.0.jpg`, `NAME.1.png`, …, where NAME is its number
//! in the shard and a hash of its id; `manifest.json` lists the shards.

pub(crate) mod lock;
mod manifest;

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use image::{ExtendedColorType, ImageEncoder as _, codecs::png::PngEncoder};
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

pub use self::lock::FolderLock;
pub(crate) use self::manifest::is_plain_stem;
pub use self::manifest::{MANIFEST, Provenance, ShardEntry, ShardManifest, is_shard};

use self::manifest::digest;
use crate::document::{Document, DocumentKind, Image, Picture, Segment, Special};
use crate::index::MAX_DOCUMENT;

/// A document as its `.json` holds it; `source/shard.rs` reads it.
#[derive(Debug, Serialize)]
struct StoredDocument {
    id: String,
    kind: DocumentKind,
    segments: Vec<StoredSegment>,
    #[serde(flatten)]
    origin: Provenance,
    /// The caption that a synthetic one was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    original: Option<String>,
}

/// A segment as JSON: `{"text": …}`, `{"image": FILE}` or `{"token": …}`; `"learn": false` where it is not
/// learned.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum StoredSegment {
    Text {
        text: String,
        #[serde(skip_serializing_if = "is_yes")]
        learn: bool,
    },
    Image {
        image: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        name: String,
    },
    Token {
        token: Special,
        #[serde(skip_serializing_if = "is_yes")]
        learn: bool,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_yes(learn: &bool) -> bool {
    *learn
}

/// Writes `STEM-000000.tar`, … and the manifest. A shard appears under its name when it is whole.
pub struct ShardWriter {
    folder: PathBuf,
    /// A plain name.
    stem: String,
    /// Of the documents that follow; a shard has one.
    origin: Provenance,
    /// A shard is closed when it holds this many bytes.
    bytes: u64,
    /// The shard being written, under the name of a part, and what is in it so far.
    open: Option<(tar::Builder<BufWriter<File>>, ShardEntry)>,
    /// Those that are closed.
    written: ShardManifest,
}

impl ShardWriter {
    /// Begins to write into `folder`, which is made; shards are closed at `bytes`.
    ///
    /// # Errors
    /// A stem that is not a plain name; a folder that can't be written or has shards of this stem.
    pub fn new(folder: &Path, stem: &str, origin: Provenance, bytes: u64) -> Result<Self> {
        ensure!(is_plain_stem(stem), "{stem:?}: give letters, digits, `-` and `_`");
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let writer = Self {
            folder: folder.to_owned(),
            stem: stem.to_owned(),
            origin,
            bytes,
            open: None,
            written: ShardManifest::default(),
        };
        let first = folder.join(writer.file_name(0));
        ensure!(!first.exists(), "{} exists: choose another folder, or delete it", first.display());
        Ok(writer)
    }

    /// The documents that follow come from `origin`. A shard has documents of one origin.
    ///
    /// # Errors
    /// A disk that is full.
    pub(crate) fn come_from(&mut self, origin: Provenance) -> Result<()> {
        if origin != self.origin {
            self.close()?;
            self.origin = origin;
        }
        Ok(())
    }

    /// Goes on after the shards that an earlier writer has closed. What else it left of this stem is removed:
    /// a shard that was being written, or was closed and not noted.
    ///
    /// # Errors
    /// A shard that is missing or differs from its entry; a folder that can't be written.
    pub fn resume(folder: &Path, stem: &str, bytes: u64, closed: Vec<ShardEntry>) -> Result<Self> {
        let written = ShardManifest { shards: closed };
        written.verify(folder)?;
        let noted = |name: &str| written.shards.iter().any(|shard| shard.file == name);
        for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if is_shard(name.strip_suffix(".part").unwrap_or(&name), stem) && !noted(&name) {
                fs::remove_file(folder.join(&name)).with_context(|| name.clone())?;
            }
        }
        let origin = written.shards.last().map(|last| last.origin.clone()).unwrap_or_default();
        Ok(Self { folder: folder.to_owned(), stem: stem.to_owned(), origin, bytes, open: None, written })
    }

    /// The shards that are closed.
    pub fn closed(&self) -> &[ShardEntry] {
        &self.written.shards
    }

    /// Closes the shard if it is full.
    ///
    /// # Errors
    /// A disk that is full.
    pub(crate) fn close_full(&mut self) -> Result<()> {
        if self.open.as_ref().is_some_and(|(_, entry)| entry.bytes >= self.bytes) {
            self.close()?;
        }
        Ok(())
    }

    /// Adds a document.
    ///
    /// # Errors
    /// A disk that is full; a picture without pixels; more pictures than a shard's document can hold.
    pub fn push(&mut self, document: &Document) -> Result<()> {
        self.push_with(document, None)
    }

    /// Adds a document that is from elsewhere than the others, or has another licence.
    ///
    /// # Errors
    /// As [`ShardWriter::push`].
    pub fn push_from(&mut self, document: &Document, origin: Provenance) -> Result<()> {
        self.write(document, origin, None)
    }

    /// Adds a document with the caption that it was made from.
    ///
    /// # Errors
    /// As [`ShardWriter::push`].
    pub(crate) fn push_with(&mut self, document: &Document, original: Option<String>) -> Result<()> {
        self.write(document, self.origin.clone(), original)
    }

    fn write(&mut self, document: &Document, origin: Provenance, original: Option<String>) -> Result<()> {
        self.close_full()?;
        let (archive, entry) = match &mut self.open {
            Some(open) => open,
            none => {
                let file = format!("{}-{:06}.tar", self.stem, self.written.shards.len());
                // Under another name until it is whole, so that nobody reads half a shard.
                let part = self.folder.join(format!("{file}.part"));
                let out = File::create(&part).with_context(|| part.display().to_string())?;
                let entry = ShardEntry { file, origin: self.origin.clone(), ..ShardEntry::default() };
                none.insert((tar::Builder::new(BufWriter::new(out)), entry))
            }
        };
        let name = format!("{:08}-{:016x}", entry.documents, id_hash(&document.id));
        let (segments, pictures) = stored_segments(document, &name)?;
        let written =
            StoredDocument { id: document.id.clone(), kind: document.kind, segments, origin, original };
        let bytes: u64 = pictures.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        ensure!(
            // Half, because names, padding and the text come on top, and a reader refuses more than the
            // whole.
            bytes < MAX_DOCUMENT / 2,
            "{}: pictures of {bytes} bytes are too many for a shard",
            document.id
        );
        // The system's words for a full disk name no file.
        let text = serde_json::to_vec(&written)?;
        entry.bytes += append(archive, &format!("{name}.json"), &text).with_context(|| entry.file.clone())?;
        for (file, bytes) in &pictures {
            entry.bytes += append(archive, file, bytes).with_context(|| entry.file.clone())?;
        }
        entry.documents += 1;
        entry.images += pictures.len() as u64;
        entry.words += document.words();
        Ok(())
    }

    /// Closes the last shard and adds all to the folder's manifest, which is given back. Waits for another
    /// process that writes there.
    ///
    /// # Errors
    /// A disk that is full; a manifest that is not ours.
    pub fn finish(self) -> Result<ShardManifest> {
        let lock = FolderLock::wait(&self.folder)?;
        self.finish_under(&lock)
    }

    /// The same for a caller that has locked the folder.
    ///
    /// # Errors
    /// As [`ShardWriter::finish`].
    pub(crate) fn finish_under(mut self, lock: &FolderLock) -> Result<ShardManifest> {
        self.close()?;
        ShardManifest::add(&self.folder, self.written.shards, lock)
    }

    /// Closes the last shard and gives all back, for a folder that gets no manifest.
    ///
    /// # Errors
    /// A disk that is full.
    pub(crate) fn finish_unlisted(mut self) -> Result<Vec<ShardEntry>> {
        self.close()?;
        Ok(self.written.shards)
    }

    fn file_name(&self, number: usize) -> String {
        format!("{}-{number:06}.tar", self.stem)
    }

    fn close(&mut self) -> Result<()> {
        let Some((archive, mut entry)) = self.open.take() else { return Ok(()) };
        let flush = || {
            let mut out = archive.into_inner()?;
            out.flush()?;
            // Before the rename: a shard under its name is whole, also after a loss of power.
            out.get_ref().sync_all()
        };
        flush().with_context(|| entry.file.clone())?;
        let path = self.folder.join(&entry.file);
        let part = self.folder.join(format!("{}.part", entry.file));
        (entry.bytes, entry.sha256) = digest(&part)?;
        fs::rename(&part, &path).with_context(|| path.display().to_string())?;
        self.written.shards.push(entry);
        Ok(())
    }
}

/// The part of a sample's name that decides whether its document is held out. What [`ShardWriter`] writes is
/// the hash of the document's id, so that the split outlives other shards, filters and orders; the whole name
/// of others.
pub(crate) fn split_name(name: &str) -> &str {
    let hash = name.split_once('-').filter(|(number, hash)| {
        number.len() == 8 && hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    hash.map_or(name, |(_, hash)| hash)
}

/// Of what stands before a `#`: the captions of one picture, which differ after it, are held out together.
fn id_hash(id: &str) -> u64 {
    xxh3_64(id.split('#').next().unwrap_or_default().as_bytes())
}

/// A picture's file: its name in the shard, and its bytes.
type PictureFile = (String, Arc<[u8]>);

/// The segments of a document that is called `name` in its shard, and the files of its pictures.
fn stored_segments(document: &Document, name: &str) -> Result<(Vec<StoredSegment>, Vec<PictureFile>)> {
    let (mut segments, mut pictures) = (Vec::new(), Vec::new());
    for segment in &document.segments {
        segments.push(match segment.clone() {
            Segment::Text { text, learn } => StoredSegment::Text { text, learn },
            Segment::Token { token, learn } => StoredSegment::Token { token, learn },
            Segment::Image(image) => {
                let source_name = match &image {
                    Image::File { name, .. } => name.to_string(),
                    Image::Pixels(_) => String::new(),
                };
                let (bytes, extension) = encode(image)?;
                let file = format!("{name}.{}.{extension}", pictures.len());
                pictures.push((file.clone(), bytes));
                StoredSegment::Image { image: file, name: source_name }
            }
        });
    }
    Ok((segments, pictures))
}

/// A file's bytes and extension; a drawn picture becomes a PNG.
fn encode(image: Image) -> Result<(Arc<[u8]>, &'static str)> {
    Ok(match image {
        Image::File { bytes, .. } => {
            let extension = extension(&bytes);
            (bytes, extension)
        }
        Image::Pixels(picture) => (png(&picture)?.into(), "png"),
    })
}

pub(crate) fn png(picture: &Picture) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let encoder = PngEncoder::new(&mut bytes);
    encoder.write_image(&picture.rgb, picture.width, picture.height, ExtendedColorType::Rgb8)?;
    Ok(bytes)
}

/// By the first bytes; `bin` for what is no picture that we know, which shows when it is decoded.
fn extension(bytes: &[u8]) -> &'static str {
    match image::guess_format(bytes) {
        Ok(format) => format.extensions_str().first().copied().unwrap_or("bin"),
        Err(_) => "bin",
    }
}

/// Adds a file with a header that says nothing of the machine or the day; returns the bytes it takes.
fn append(archive: &mut tar::Builder<BufWriter<File>>, name: &str, bytes: &[u8]) -> Result<u64> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, name, bytes)?;
    Ok(512 + (bytes.len() as u64).next_multiple_of(512))
}
