//! Qt's compiled resources (`.rcc`, versions 1 to 3): a tree of named files in one, some of them packed.

use std::collections::BTreeMap;
use std::io::Read;

use anyhow::{Context as _, Result, bail, ensure};
use flate2::read::ZlibDecoder;

/// The most files of a tree; a hostile one could name the same node for ever.
const MAX_NODES: usize = 20_000;
/// The most bytes of a file in it.
const MAX_FILE: u64 = 64 << 20;

/// Flags of a node.
const ZLIB: u16 = 1;
const FOLDER: u16 = 2;
const ZSTD: u16 = 4;

/// The files of `bytes` by their paths, of which `wanted` says which are unpacked.
///
/// # Errors
/// One line: no compiled resource; an offset outside of it; more than 20,000 files; a file of more than
/// 64 MiB.
pub(crate) fn read_rcc(bytes: &[u8], wanted: &dyn Fn(&str) -> bool) -> Result<BTreeMap<String, Vec<u8>>> {
    ensure!(bytes.starts_with(b"qres"), "not a compiled resource of Qt: it does not begin with \"qres\"");
    let resource = Resource { bytes, version: number(bytes, 4)? };
    ensure!((1..=3).contains(&resource.version), "version {} is not read; 1 to 3 are", resource.version);
    let mut files = BTreeMap::new();
    let mut open = vec![(0, String::new())];
    let mut seen = 0;
    while let Some((node, folder)) = open.pop() {
        seen += 1;
        ensure!(seen <= MAX_NODES, "more than {MAX_NODES} files, or folders in a circle");
        match resource.node(node)? {
            Node::Folder { name, first, count } => {
                // The root has no name.
                let path = if node == 0 { String::new() } else { format!("{folder}{name}/") };
                let known = open.len() + count as usize;
                ensure!(known <= MAX_NODES, "more than {MAX_NODES} files, or folders in a circle");
                open.extend((first..first.saturating_add(count)).map(|child| (child, path.clone())));
            }
            Node::File { name, flags, at } => {
                let path = format!("{folder}{name}");
                if wanted(&path) {
                    let data = resource.data(flags, at).with_context(|| path.clone())?;
                    files.insert(path, data);
                }
            }
        }
    }
    Ok(files)
}

struct Resource<'a> {
    bytes: &'a [u8],
    version: u32,
}

/// A node of the tree.
enum Node {
    Folder { name: String, first: u32, count: u32 },
    File { name: String, flags: u16, at: u32 },
}

impl Resource<'_> {
    fn node(&self, index: u32) -> Result<Node> {
        // From version 2 on a node has a date.
        let size = if self.version == 1 { 14 } else { 22 };
        let at = number(self.bytes, 8)? as usize + index as usize * size;
        let flags = half(self.bytes, at + 4)?;
        let name = self.name(number(self.bytes, at)?)?;
        Ok(if flags & FOLDER != 0 {
            Node::Folder { name, count: number(self.bytes, at + 6)?, first: number(self.bytes, at + 10)? }
        } else {
            // Between them are a country and a language.
            Node::File { name, flags, at: number(self.bytes, at + 10)? }
        })
    }

    /// Length, hash and UTF-16 of a name.
    fn name(&self, at: u32) -> Result<String> {
        let at = number(self.bytes, 16)? as usize + at as usize;
        let length = half(self.bytes, at)? as usize;
        let units: Vec<u16> = (0..length).map(|i| half(self.bytes, at + 6 + 2 * i)).collect::<Result<_>>()?;
        String::from_utf16(&units).ok().context("a name that is not UTF-16")
    }

    fn data(&self, flags: u16, at: u32) -> Result<Vec<u8>> {
        let at = number(self.bytes, 12)? as usize + at as usize;
        let length = number(self.bytes, at)? as usize;
        let stored = self.bytes.get(at + 4..).and_then(|rest| rest.get(..length)).context(OUTSIDE)?;
        let mut out = Vec::new();
        match flags & (ZLIB | ZSTD) {
            0 => out.extend_from_slice(stored),
            // Before zlib's own bytes is the size, which they say as well.
            ZLIB => bounded(ZlibDecoder::new(stored.get(4..).context(OUTSIDE)?), &mut out)?,
            ZSTD => bounded(zstd::Decoder::new(stored)?, &mut out)?,
            _ => bail!("packed in two ways at once"),
        }
        Ok(out)
    }
}

fn bounded(from: impl Read, out: &mut Vec<u8>) -> Result<()> {
    from.take(MAX_FILE + 1).read_to_end(out).context("damaged")?;
    ensure!(out.len() as u64 <= MAX_FILE, "it unpacks to more than {MAX_FILE} bytes: refused");
    Ok(())
}

const OUTSIDE: &str = "an offset outside of the file: it is cut short";

fn number(bytes: &[u8], at: usize) -> Result<u32> {
    Ok(u32::from(half(bytes, at)?) << 16 | u32::from(half(bytes, at + 2)?))
}

fn half(bytes: &[u8], at: usize) -> Result<u16> {
    match bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(&pair) => Ok(u16::from_be_bytes(pair)),
        None => bail!(OUTSIDE),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write as _;

    use super::*;

    /// A version 3 resource of one folder `a` with these files, packed where that is said.
    pub(crate) fn rcc(files: &[(&str, &[u8], bool)]) -> Vec<u8> {
        let (mut names, mut data, mut tree) = (Vec::new(), Vec::new(), Vec::new());
        let mut name = |text: &str| -> u32 {
            let (at, units) = (names.len() as u32, text.encode_utf16().collect::<Vec<_>>());
            names.extend((units.len() as u16).to_be_bytes());
            names.extend([0; 4]);
            units.iter().for_each(|unit| names.extend(unit.to_be_bytes()));
            at
        };
        let mut node = |name: u32, flags: u16, [a, b]: [u32; 2]| {
            tree.extend(name.to_be_bytes());
            tree.extend(flags.to_be_bytes());
            tree.extend(a.to_be_bytes());
            tree.extend(b.to_be_bytes());
            tree.extend([0; 8]);
        };
        node(0, FOLDER, [1, 1]);
        node(name("a"), FOLDER, [files.len() as u32, 2]);
        for (file, bytes, packed) in files {
            let mut stored = bytes.to_vec();
            if *packed {
                stored = (bytes.len() as u32).to_be_bytes().to_vec();
                let mut encoder =
                    flate2::write::ZlibEncoder::new(&mut stored, flate2::Compression::default());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap();
            }
            node(name(file), u16::from(*packed), [0, data.len() as u32]);
            data.extend((stored.len() as u32).to_be_bytes());
            data.extend(stored);
        }
        let places = [24, 24 + tree.len(), 24 + tree.len() + data.len()];
        let mut out = b"qres".to_vec();
        out.extend(3u32.to_be_bytes());
        places.iter().for_each(|&place| out.extend((place as u32).to_be_bytes()));
        out.extend([0; 4]);
        [tree, data, names].into_iter().for_each(|part| out.extend(part));
        out
    }

    #[test]
    fn plain_and_packed_files_are_read_by_their_paths() {
        let long = b"long ".repeat(100);
        let bytes =
            rcc(&[("b.txt", b"short", false), ("\u{e9}.txt", &long, true), ("c.svg", b"not wanted", false)]);
        let files = read_rcc(&bytes, &|name| name.ends_with(".txt")).unwrap();
        assert_eq!(files.keys().collect::<Vec<_>>(), ["a/b.txt", "a/\u{e9}.txt"]);
        assert_eq!((files["a/b.txt"].as_slice(), &files["a/\u{e9}.txt"]), (&b"short"[..], &long));
    }

    /// Each cut is an error or the same files, and no byte makes it read outside of itself or for ever.
    #[test]
    fn what_is_damaged_is_refused_in_a_line() {
        let bytes = rcc(&[("b.txt", b"short", false), ("c.txt", &b"long ".repeat(50), true)]);
        for cut in 0..bytes.len() {
            if let Err(error) = read_rcc(&bytes[..cut], &|_| true) {
                assert!(!format!("{error:#}").contains('\n'));
            }
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0xFF;
            let _ = read_rcc(&changed, &|_| true);
        }
        let error = read_rcc(b"<html>", &|_| true).unwrap_err().to_string();
        assert!(error.contains("not a compiled resource of Qt"), "{error}");
        let mut circle = bytes;
        // The folder's first child is the folder itself.
        circle[24 + 22 + 10..][..4].copy_from_slice(&1u32.to_be_bytes());
        let error = read_rcc(&circle, &|_| true).unwrap_err().to_string();
        assert!(error.contains("in a circle"), "{error}");
    }
}
