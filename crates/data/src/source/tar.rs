//! Tar archives as samples: consecutive members whose paths agree up to the first dot, as WebDataset has it.
//! An archive is only read, never unpacked to disk; members whose names leave it are refused all the same.
//! Archives that were joined (`cat a.tar b.tar`) are read one after the other.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read, Seek};
use std::path::{Component, Path};

use anyhow::{Context as _, Result, bail, ensure};
use tar::{EntryType, Header, PaxExtensions};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::files::bytes;
use crate::index::IndexEntry;
use crate::left_out::LeftOut;
use crate::store::Blob;

const BLOCK: u64 = 512;
/// Bytes that a header of extended attributes or a long name may take.
const MAX_HEADER: u64 = 64 << 10;
/// Members of one sample.
const MAX_MEMBERS: usize = 10_000;

/// The members of one sample by extension: what follows the first dot of the name, in lower case.
pub(crate) struct TarSample {
    /// The path up to the first dot.
    pub(crate) key: String,
    /// No extension comes twice.
    members: Vec<(String, Vec<u8>)>,
}

impl TarSample {
    /// The member with this extension.
    pub(crate) fn member(&self, extension: &str) -> Option<&[u8]> {
        self.members.iter().find(|(name, _)| name == extension).map(|(_, bytes)| bytes.as_slice())
    }

    /// Takes the members with one of these extensions, in order.
    pub(crate) fn take(&mut self, wanted: impl Fn(&str) -> bool) -> Vec<(String, Vec<u8>)> {
        self.members.extract_if(.., |(name, _)| wanted(name)).collect()
    }

    /// Its extensions in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|(name, _)| name.as_str())
    }

    /// The extensions, for messages.
    pub(crate) fn extensions(&self) -> String {
        let names: Vec<String> = self.members.iter().map(|(name, _)| format!(".{name}")).collect();
        names.join(", ")
    }
}

/// Calls `add` for each sample of an archive. `name` is the part of a sample's key that decides whether it is
/// held out.
///
/// # Errors
/// A damaged or truncated archive, members that are no files, names that leave the archive, a sample beyond
/// the limits.
pub(crate) fn scan(file: &Blob, name: fn(&str) -> &str, add: &mut dyn FnMut(IndexEntry)) -> Result<()> {
    let mut members = members(file)?;
    let mut closed = ClosedSamples::default();
    let mut open: Option<(String, u64, u64, usize)> = None;
    let mut archive = 0;
    let mut close = |sample: Option<(String, u64, u64, usize)>| -> Result<()> {
        let Some((key, start, end, count)) = sample else { return Ok(()) };
        ensure!(count <= MAX_MEMBERS, "{key:?}: {count} members in a sample; the limit is {MAX_MEMBERS}");
        let hash = xxh3_64(name(&key).as_bytes());
        add(IndexEntry::new(hash, start, end - start).with_context(|| format!("{key:?}"))?);
        Ok(())
    };
    while let Some(member) = members.next()? {
        let Some((key, extension)) = split_name(&member.name) else { continue };
        closed.check(key, extension, &member)?;
        // The last sample of one archive and the first of the next are two, also of one key.
        let joined = std::mem::replace(&mut archive, member.archive) != member.archive;
        match &mut open {
            Some((last, _, end, count)) if last == key && !joined => {
                (*end, *count) = (member.end, *count + 1);
            }
            _ => close(open.replace((key.to_owned(), member.start, member.end, 1)))?,
        }
    }
    close(open)
}

/// The names of the members so far, to find samples whose members are apart.
#[derive(Default)]
struct ClosedSamples {
    /// Of the sample that is open.
    open: u64,
    /// Hashes of the keys of all samples before it, with where they began, and of all members' names.
    // Hashes and not names: the archive may have millions.
    keys: HashMap<u64, u64>,
    names: HashSet<u64>,
}

impl ClosedSamples {
    /// Takes the next member.
    ///
    /// # Errors
    /// A member of a sample that came before and had no such member. One that had is another sample of the
    /// same key, as in archives that were joined.
    fn check(&mut self, key: &str, extension: &str, member: &Member) -> Result<()> {
        let (hash, start) = (xxh3_64(key.as_bytes()), member.start);
        let name = xxh3_64_with_seed(extension.to_lowercase().as_bytes(), hash);
        let known = !self.names.insert(name);
        if self.open != hash {
            let first = *self.keys.entry(hash).or_insert(start);
            ensure!(
                known || first == start,
                "the members of sample {key:?} are not adjacent (one is at byte {first}, {:?} at byte \
                 {start}): sort the archive by name, as with `tar --sort=name`",
                member.name
            );
            self.open = hash;
        }
        Ok(())
    }
}

fn members(file: &Blob) -> Result<Members<BufReader<File>>> {
    Ok(Members::new(BufReader::with_capacity(1 << 16, file.file()?), file.size))
}

/// What of an archive is in no sample, or is there in another form.
///
/// # Errors
/// As [`scan`].
pub(crate) fn left_out(file: &Blob) -> Result<LeftOut> {
    let (mut members, mut left) = (members(file)?, LeftOut::default());
    while let Some(member) = members.next()? {
        left.add(NO_SAMPLE, u64::from(split_name(&member.name).is_none()));
        left.add(
            "a member whose name is not UTF-8, with % and two digits for each such byte",
            u64::from(member.renamed),
        );
    }
    left.add(NOT_CLOSED, u64::from(!members.closed));
    left.add(BEHIND, members.behind);
    Ok(left)
}

/// Members that belong to no sample.
pub(crate) const NO_SAMPLE: &str =
    "a member that is hidden, without an ending, or of WebDataset's own (__…__)";
/// An archive without the zeros that end it.
pub(crate) const NOT_CLOSED: &str = "an archive without its end marker: it may have been cut";
/// Bytes that are in no archive.
pub(crate) const BEHIND: &str = "a byte behind the archive's end";

/// Reads a sample.
///
/// # Errors
/// As [`scan`]; an extension that comes twice.
pub(crate) fn read(file: &Blob, record: &IndexEntry) -> Result<TarSample> {
    let bytes = bytes(file, record)?;
    let mut members = Members::new(Cursor::new(&bytes), bytes.len() as u64);
    let mut sample = TarSample { key: String::new(), members: Vec::new() };
    while let Some(member) = members.next()? {
        let Some((key, extension)) = split_name(&member.name) else { continue };
        let extension = extension.to_lowercase();
        ensure!(sample.member(&extension).is_none(), "{key:?} has two members .{extension}");
        let content = &bytes[member.data as usize..][..member.size as usize];
        sample.members.push((extension, content.to_vec()));
        sample.key = key.to_owned();
    }
    Ok(sample)
}

/// The key and the extension; `None` for hidden files, files without an extension and WebDataset's `__meta__`
/// members.
fn split_name(name: &str) -> Option<(&str, &str)> {
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = base + name[base..].find('.').filter(|&dot| dot > 0)?;
    let meta = name.starts_with("__") && name.ends_with("__");
    (!meta).then(|| (&name[..dot], &name[dot + 1..]))
}

/// A regular file in an archive.
struct Member {
    /// Inside of the archive: neither absolute nor with `..`.
    name: String,
    /// Where its first header begins.
    start: u64,
    /// Where its content begins.
    data: u64,
    size: u64,
    /// Where its last block ends.
    end: u64,
    /// Which of several archives that were joined it is in, from 0.
    archive: u64,
    /// Whether bytes of its name are no UTF-8.
    renamed: bool,
}

/// Walks over the headers. Only headers are read; contents are skipped.
struct Members<R> {
    from: R,
    /// The byte that is read next: always the beginning of a block.
    at: u64,
    size: u64,
    /// Which of several archives is being read, from 0.
    archive: u64,
    /// Whether its end marker was read.
    closed: bool,
    /// Bytes behind the last end marker that are no archive.
    behind: u64,
}

impl<R: SkipRead> Members<R> {
    fn new(from: R, size: u64) -> Self {
        Self { from, at: 0, size, archive: 0, closed: false, behind: 0 }
    }

    fn next(&mut self) -> Result<Option<Member>> {
        let mut first = None;
        let mut long_name = None;
        loop {
            let (before, archive) = (self.at, self.archive);
            let header = self.header().with_context(|| format!("at byte {before}"))?;
            let named = long_name.is_some() && (header.is_none() || self.archive != archive);
            ensure!(!named, "a name without a file at byte {before}");
            let Some(header) = header else { return Ok(None) };
            let begin = self.at - BLOCK;
            let start = *first.get_or_insert(begin);
            let size = header.entry_size().with_context(|| format!("at byte {begin}: a damaged header"))?;
            let padded = size.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX);
            let end = self.at.saturating_add(padded);
            let name = || utf8_name(&header.path_bytes());
            ensure!(
                self.at.saturating_add(size) <= self.size,
                "{:?}: the archive ends in its middle",
                name().0
            );
            match header.entry_type() {
                EntryType::GNULongName => long_name = Some(self.long_name(size)?),
                EntryType::XHeader => long_name = self.extended(size)?.or(long_name),
                EntryType::Regular | EntryType::Continuous => {
                    let (name, renamed) = long_name.unwrap_or_else(name);
                    check_name(&name)?;
                    let (data, end_inside, archive) = (self.at, end.min(self.size), self.archive);
                    // From its first header on, long names included: so a sample is read again by one range.
                    let member = Member { name, start, data, size, end: end_inside, archive, renamed };
                    self.skip_to(end)?;
                    return Ok(Some(member));
                }
                EntryType::Directory | EntryType::XGlobalHeader => {
                    self.skip_to(end)?;
                    (first, long_name) = (None, None);
                    continue;
                }
                other => bail!("{:?} is {}; only regular files are read", name().0, kind(other)),
            }
            self.skip_to(end)?;
        }
    }

    /// The next header; `None` at the end of the last archive.
    fn header(&mut self) -> Result<Option<Header>> {
        let mut block = [0; BLOCK as usize];
        let mut zeros = false;
        loop {
            let left = self.size - self.at.min(self.size);
            if left == 0 {
                return Ok(None);
            }
            if left < BLOCK {
                ensure!(self.closed, "the archive ends in a header");
                (self.behind, self.at) = (left, self.size);
                return Ok(None);
            }
            self.from.read_exact(&mut block)?;
            self.at += BLOCK;
            if block == [0; BLOCK as usize] {
                (self.closed, zeros) = (true, true);
                continue;
            }
            let header = valid_header(&block);
            if header.is_none() && self.closed {
                (self.behind, self.at) = (left, self.size);
                return Ok(None);
            }
            (self.archive, self.closed) = (self.archive + u64::from(zeros), false);
            return Ok(Some(header.context("not a tar header: the file is damaged, or no tar archive")?));
        }
    }

    fn content(&mut self, size: u64) -> Result<Vec<u8>> {
        ensure!(
            size <= MAX_HEADER,
            "a header of {size} bytes at byte {}; the limit is {MAX_HEADER}",
            self.at
        );
        let mut bytes = vec![0; size as usize];
        self.from.read_exact(&mut bytes)?;
        self.at += size;
        Ok(bytes)
    }

    fn long_name(&mut self, size: u64) -> Result<(String, bool)> {
        let mut bytes = self.content(size)?;
        bytes.truncate(bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len()));
        Ok(utf8_name(&bytes))
    }

    /// The name that extended attributes give, if they do.
    fn extended(&mut self, size: u64) -> Result<Option<(String, bool)>> {
        let bytes = self.content(size)?;
        let mut name = None;
        for attribute in PaxExtensions::new(&bytes) {
            let attribute = attribute.context("damaged extended attributes")?;
            match attribute.key().context("an attribute is not UTF-8")? {
                "path" => name = Some(utf8_name(attribute.value_bytes())),
                key if key == "size" || key.starts_with("GNU.sparse") => {
                    bail!("sparse files and files of 8 GiB are not read (attribute {key})")
                }
                _ => {}
            }
        }
        Ok(name)
    }

    fn skip_to(&mut self, end: u64) -> Result<()> {
        // The last file may lack its padding.
        let end = end.min(self.size);
        self.from.skip(end - self.at)?;
        self.at = end;
        Ok(())
    }
}

/// A header, if it is one: without its sum, any file of zeros and letters would pass for an archive.
fn valid_header(block: &[u8; BLOCK as usize]) -> Option<Header> {
    let header = Header::from_byte_slice(block).clone();
    let byte = |(i, &b): (usize, &u8)| u32::from(if (148..156).contains(&i) { b' ' } else { b });
    let sum: u32 = block.iter().enumerate().map(byte).sum();
    (header.cksum().ok() == Some(sum)).then_some(header)
}

/// A name, and whether it had bytes that are no UTF-8. These are written as `%E9`: so two names stay two.
fn utf8_name(bytes: &[u8]) -> (String, bool) {
    let (mut name, mut renamed) = (String::new(), false);
    for chunk in bytes.utf8_chunks() {
        name.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| name.push_str(&format!("%{byte:02X}")));
        renamed |= !chunk.invalid().is_empty();
    }
    (name, renamed)
}

/// A reader that can leave bytes out.
trait SkipRead: BufRead {
    fn skip(&mut self, bytes: u64) -> std::io::Result<()>;
}

impl<R: Read + Seek> SkipRead for BufReader<R> {
    fn skip(&mut self, bytes: u64) -> std::io::Result<()> {
        self.seek_relative(bytes.cast_signed())
    }
}

impl<B: AsRef<[u8]>> SkipRead for Cursor<B> {
    fn skip(&mut self, bytes: u64) -> std::io::Result<()> {
        self.set_position(self.position() + bytes);
        Ok(())
    }
}

fn check_name(name: &str) -> Result<()> {
    let inside =
        Path::new(name).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    ensure!(inside && !name.contains(['\\', '\0']), "the name {name:?} leaves the archive");
    Ok(())
}

fn kind(entry: EntryType) -> &'static str {
    match entry {
        EntryType::Symlink | EntryType::Link | EntryType::GNULongLink => "a link",
        EntryType::GNUSparse => "a sparse file",
        EntryType::Char | EntryType::Block | EntryType::Fifo => "a device",
        _ => "of an unknown type",
    }
}
