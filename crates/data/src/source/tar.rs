//! Tar archives as samples: consecutive members whose paths agree up to the first dot, as WebDataset has it.
//! An archive is only read, never unpacked to disk; members whose names leave it are refused all the same.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, ErrorKind, Read, Seek};
use std::path::{Component, Path};

use anyhow::{Context as _, Result, bail, ensure};
use tar::{EntryType, Header, PaxExtensions};
use xxhash_rust::xxh3::xxh3_64;

use super::files::bytes;
use crate::index::IndexEntry;
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
    let mut open: Option<(String, u64, u64, usize)> = None;
    let mut close = |sample: Option<(String, u64, u64, usize)>| -> Result<()> {
        let Some((key, start, end, count)) = sample else { return Ok(()) };
        ensure!(count <= MAX_MEMBERS, "{key:?}: {count} members in a sample; the limit is {MAX_MEMBERS}");
        let hash = xxh3_64(name(&key).as_bytes());
        add(IndexEntry::new(hash, start, end - start).with_context(|| format!("{key:?}"))?);
        Ok(())
    };
    while let Some(member) = members.next()? {
        let Some((key, _)) = split_name(&member.name) else { continue };
        match &mut open {
            Some((last, _, end, count)) if last == key => (*end, *count) = (member.end, *count + 1),
            _ => close(open.replace((key.to_owned(), member.start, member.end, 1)))?,
        }
    }
    close(open)
}

/// The first sample of an archive; what follows it is not looked at.
///
/// # Errors
/// As [`scan`] up to its end; an archive without samples.
pub(crate) fn first(file: &Blob) -> Result<TarSample> {
    let mut members = members(file)?;
    let mut found: Option<(String, u64, u64)> = None;
    while let Some(member) = members.next()? {
        let Some((key, _)) = split_name(&member.name) else { continue };
        match &mut found {
            None => found = Some((key.to_owned(), member.start, member.end)),
            Some((first, _, end)) if first == key => *end = member.end,
            Some(_) => break,
        }
    }
    let (_, start, end) = found.context("an archive without samples")?;
    read(file, &IndexEntry::new(0, start, end - start)?)
}

fn members(file: &Blob) -> Result<Members<BufReader<File>>> {
    Ok(Members { from: BufReader::with_capacity(1 << 16, file.file()?), at: 0, size: file.size })
}

/// Reads a sample.
///
/// # Errors
/// As [`scan`]; an extension that comes twice.
pub(crate) fn read(file: &Blob, record: &IndexEntry) -> Result<TarSample> {
    let bytes = bytes(file, record)?;
    let mut members = Members { from: Cursor::new(&bytes), at: 0, size: bytes.len() as u64 };
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
}

/// Walks over the headers. Only headers are read; contents are skipped.
struct Members<R> {
    from: R,
    /// The byte that is read next: always the beginning of a block.
    at: u64,
    size: u64,
}

impl<R: SkipRead> Members<R> {
    fn next(&mut self) -> Result<Option<Member>> {
        let mut start = self.at;
        let mut long_name = None;
        loop {
            let begin = self.at;
            let Some(header) = self.header().with_context(|| format!("at byte {begin}"))? else {
                ensure!(long_name.is_none(), "a name without a file at byte {start}");
                return Ok(None);
            };
            let size = header.entry_size().with_context(|| format!("at byte {begin}: a damaged header"))?;
            let padded = size.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX);
            let end = self.at.saturating_add(padded);
            let name = || String::from_utf8_lossy(&header.path_bytes()).into_owned();
            ensure!(
                self.at.saturating_add(size) <= self.size,
                "{:?}: the archive ends in its middle",
                name()
            );
            match header.entry_type() {
                EntryType::GNULongName => long_name = Some(self.long_name(size)?),
                EntryType::XHeader => long_name = self.extended(size)?.or(long_name),
                EntryType::Regular | EntryType::Continuous => {
                    let name = long_name.unwrap_or_else(name);
                    check_name(&name)?;
                    // From its first header on, long names included: so a sample is read again by one range.
                    let member = Member { name, start, data: self.at, size, end: end.min(self.size) };
                    self.skip_to(end)?;
                    return Ok(Some(member));
                }
                EntryType::Directory | EntryType::XGlobalHeader => {
                    self.skip_to(end)?;
                    (start, long_name) = (self.at, None);
                    continue;
                }
                other => bail!("{:?} is {}; only regular files are read", name(), kind(other)),
            }
            self.skip_to(end)?;
        }
    }

    /// The next header; `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>> {
        let mut block = [0; BLOCK as usize];
        if self.at >= self.size {
            return Ok(None);
        }
        match self.from.read_exact(&mut block) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => bail!("the archive ends in a header"),
            other => other?,
        }
        self.at += BLOCK;
        if block == [0; BLOCK as usize] {
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        // Without this, any file of zeros and letters would pass for an archive.
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(i, &b)| u32::from(if (148..156).contains(&i) { b' ' } else { b }))
            .sum();
        ensure!(header.cksum().ok() == Some(sum), "not a tar header: the file is damaged, or no tar archive");
        Ok(Some(header))
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

    fn long_name(&mut self, size: u64) -> Result<String> {
        let mut bytes = self.content(size)?;
        bytes.truncate(bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len()));
        String::from_utf8(bytes).context("a name is not UTF-8")
    }

    /// The name that extended attributes give, if they do.
    fn extended(&mut self, size: u64) -> Result<Option<String>> {
        let bytes = self.content(size)?;
        let mut name = None;
        for attribute in PaxExtensions::new(&bytes) {
            let attribute = attribute.context("damaged extended attributes")?;
            match attribute.key().context("an attribute is not UTF-8")? {
                "path" => name = Some(attribute.value().context("a name is not UTF-8")?.to_owned()),
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
