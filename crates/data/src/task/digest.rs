//! What the global steps need of a document, and what they decide of it, as files.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use crate::document::{Document, Segment};
use crate::filter::{DocumentDigest, FilterRule, PictureDigest};
use crate::image::PictureKey;

/// The longest id or name that a file of ours has.
const MAX_TEXT: u32 = 1 << 20;

/// A file under the name of a part until it is whole.
struct PartFile {
    path: PathBuf,
    out: BufWriter<File>,
}

impl PartFile {
    fn create(path: &Path) -> Result<Self> {
        let part = path.with_extension("part");
        let out = File::create(&part).with_context(|| part.display().to_string())?;
        Ok(Self { path: path.to_owned(), out: BufWriter::new(out) })
    }

    fn finish(mut self) -> Result<()> {
        let path = &self.path;
        let mut finish = || {
            self.out.flush()?;
            self.out.get_ref().sync_all()?;
            fs::rename(path.with_extension("part"), path)
        };
        finish().with_context(|| path.display().to_string())
    }
}

/// Writes the documents of a task, damaged ones as none.
pub(crate) struct DigestWriter(PartFile);

impl DigestWriter {
    pub(crate) fn create(path: &Path) -> Result<Self> {
        PartFile::create(path).map(Self)
    }

    pub(crate) fn push(&mut self, digest: Option<&DocumentDigest>) -> Result<()> {
        let out = &mut self.0.out;
        write_digest(out, digest).context("a file of digests")
    }

    pub(crate) fn finish(self) -> Result<()> {
        self.0.finish()
    }
}

fn write_digest(out: &mut impl Write, digest: Option<&DocumentDigest>) -> std::io::Result<()> {
    let Some(digest) = digest else { return out.write_all(&[0]) };
    let DocumentDigest { id, alone, speaks, text, pictures } = digest;
    let flags = 1 | u8::from(*alone) << 1 | u8::from(*speaks) << 2 | u8::from(text.is_some()) << 3;
    out.write_all(&[flags])?;
    write_text(out, id)?;
    out.write_all(&text.unwrap_or_default().to_le_bytes())?;
    out.write_all(&(pictures.len() as u32).to_le_bytes())?;
    for PictureDigest { hash, rule, key } in pictures {
        out.write_all(&hash.to_le_bytes())?;
        out.write_all(&[rule_byte(*rule), u8::from(key.is_some())])?;
        if let Some(key) = key {
            out.write_all(&key.to_bytes())?;
        }
    }
    Ok(())
}

fn write_text(out: &mut impl Write, text: &str) -> std::io::Result<()> {
    out.write_all(&(text.len() as u32).to_le_bytes())?;
    out.write_all(text.as_bytes())
}

fn rule_byte(rule: Option<FilterRule>) -> u8 {
    rule.map_or(0, |rule| rule as u8 + 1)
}

/// Reads what was written, in order.
pub(super) struct DigestReader(RecordReader);

impl DigestReader {
    pub(super) fn open(path: &Path) -> Result<Self> {
        RecordReader::open(path).map(Self)
    }

    /// The next document, of a damaged one none; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Option<DocumentDigest>>> {
        let Some(flags) = self.0.tag()? else { return Ok(None) };
        if flags == 0 {
            return Ok(Some(None));
        }
        let input = &mut self.0;
        let mut read = || {
            let (id, text, count) = (input.text()?, u64::from_le_bytes(input.array()?), input.count()?);
            let mut pictures = Vec::new();
            for _ in 0..count {
                let hash = u64::from_le_bytes(input.array()?);
                let [rule, keyed] = input.array()?;
                let key = if keyed == 0 { None } else { Some(PictureKey::from_bytes(&input.array()?)) };
                let rule = if rule == 0 { None } else { Some(FilterRule::of_number(rule - 1)?) };
                pictures.push(PictureDigest { hash, rule, key });
            }
            let text = (flags & 8 != 0).then_some(text);
            anyhow::Ok(DocumentDigest { id, alone: flags & 2 != 0, speaks: flags & 4 != 0, text, pictures })
        };
        let digest = read().with_context(|| input_name(&self.0.path))?;
        Ok(Some(Some(digest)))
    }
}

fn input_name(path: &Path) -> String {
    format!("{}: damaged; delete its folder and run the task again", path.display())
}

/// What becomes of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It is damaged.
    Damaged,
    /// A rule removes it.
    Removed,
    /// It stays.
    Kept {
        /// Which of its pictures stay.
        pictures: Vec<bool>,
        /// Its id, where another document had its own before.
        renamed: Option<String>,
    },
}

impl Decision {
    /// What stays of the document.
    pub(crate) fn apply(self, mut document: Document) -> Result<Option<Document>> {
        let Self::Kept { pictures, renamed } = self else { return Ok(None) };
        // Without rules none is decided on.
        if !pictures.is_empty() {
            let count = document.pictures().count();
            ensure!(count == pictures.len(), "{}: changed since it was looked at", document.id);
            let mut stays = pictures.into_iter();
            document.segments.retain(|segment| match segment {
                Segment::Image(_) => stays.next().unwrap_or_default(),
                _ => true,
            });
        }
        document.id = renamed.unwrap_or(document.id);
        Ok(Some(document))
    }
}

/// Writes the decisions on the documents of a task.
pub(super) struct DecisionWriter(PartFile);

impl DecisionWriter {
    pub(super) fn create(path: &Path) -> Result<Self> {
        PartFile::create(path).map(Self)
    }

    pub(super) fn push(&mut self, decision: &Decision) -> Result<()> {
        let out = &mut self.0.out;
        let mut write = || match decision {
            Decision::Damaged => out.write_all(&[0]),
            Decision::Removed => out.write_all(&[1]),
            Decision::Kept { pictures, renamed } => {
                out.write_all(&[2 + u8::from(renamed.is_some())])?;
                renamed.iter().try_for_each(|id| write_text(out, id))?;
                out.write_all(&(pictures.len() as u32).to_le_bytes())?;
                pictures.iter().try_for_each(|&stays| out.write_all(&[u8::from(stays)]))
            }
        };
        write().context("a file of decisions")
    }

    pub(super) fn finish(self) -> Result<()> {
        self.0.finish()
    }
}

/// Reads them.
pub(crate) struct DecisionReader(RecordReader);

impl DecisionReader {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        RecordReader::open(path).map(Self)
    }

    /// The decision on the next document.
    pub(crate) fn next(&mut self) -> Result<Decision> {
        let Some(tag) = self.0.tag()? else {
            bail!("{}: ends before the documents: the input has changed", self.0.path.display())
        };
        let input = &mut self.0;
        let mut read = || {
            anyhow::Ok(match tag {
                0 => Decision::Damaged,
                1 => Decision::Removed,
                _ => {
                    let renamed = if tag == 3 { Some(input.text()?) } else { None };
                    let count = input.count()?;
                    let stays = (0..count).map(|_| anyhow::Ok(input.array::<1>()? == [1]));
                    Decision::Kept { pictures: stays.collect::<Result<_>>()?, renamed }
                }
            })
        };
        read().with_context(|| input_name(&self.0.path))
    }
}

struct RecordReader {
    path: PathBuf,
    input: BufReader<File>,
}

impl RecordReader {
    fn open(path: &Path) -> Result<Self> {
        let input = File::open(path).with_context(|| input_name(path))?;
        Ok(Self { path: path.to_owned(), input: BufReader::new(input) })
    }

    /// The first byte of a record; none at the end.
    fn tag(&mut self) -> Result<Option<u8>> {
        let mut tag = [0];
        match self.input.read_exact(&mut tag) {
            Ok(()) => Ok(Some(tag[0])),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error).with_context(|| self.path.display().to_string()),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn count(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn text(&mut self) -> Result<String> {
        let len = self.count()?;
        if len > MAX_TEXT {
            bail!("a name of {len} bytes");
        }
        let mut bytes = vec![0; len as usize];
        self.input.read_exact(&mut bytes)?;
        Ok(String::from_utf8(bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("digests");
        let key = PictureKey::from_bytes(&std::array::from_fn(|i| i as u8 * 3));
        assert_eq!(PictureKey::from_bytes(&key.to_bytes()), key);
        let pictures = vec![
            PictureDigest { hash: 7, rule: Some(FilterRule::Language), key: Some(key) },
            PictureDigest { hash: u64::MAX, rule: None, key: None },
        ];
        let first = DocumentDigest { id: "a/é".into(), alone: true, speaks: false, text: Some(9), pictures };
        let second = DocumentDigest {
            id: String::new(),
            alone: false,
            speaks: true,
            text: None,
            pictures: Vec::new(),
        };
        let digests = [Some(first), None, Some(second)];
        let mut writer = DigestWriter::create(&path).unwrap();
        digests.iter().for_each(|digest| writer.push(digest.as_ref()).unwrap());
        assert!(!path.exists(), "whole or not there");
        writer.finish().unwrap();
        let mut reader = DigestReader::open(&path).unwrap();
        for digest in digests {
            assert_eq!(reader.next().unwrap(), Some(digest));
        }
        assert_eq!(reader.next().unwrap(), None);
        fs::write(&path, [1, 200, 0, 0, 0, 1]).unwrap();
        let error = DigestReader::open(&path).unwrap().next().unwrap_err().to_string();
        assert!(error.contains("run the task again"), "{error}");
    }

    #[test]
    fn decisions_are_read_as_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("decisions");
        let kept = |renamed: Option<&str>| Decision::Kept {
            pictures: vec![true, false],
            renamed: renamed.map(str::to_owned),
        };
        let decisions = [Decision::Damaged, kept(None), Decision::Removed, kept(Some("a#2"))];
        let mut writer = DecisionWriter::create(&path).unwrap();
        decisions.iter().for_each(|decision| writer.push(decision).unwrap());
        writer.finish().unwrap();
        let mut reader = DecisionReader::open(&path).unwrap();
        for decision in decisions {
            assert_eq!(reader.next().unwrap(), decision);
        }
        assert!(reader.next().unwrap_err().to_string().contains("the input has changed"));
    }
}
