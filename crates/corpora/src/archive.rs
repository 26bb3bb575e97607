//! Packages as files: `.tgz`, `.whl` (a zip) and `.deb` (`ar` of a packed tar), read in one pass and never
//! unpacked as they ask for. A name that leaves the archive is refused, links and devices are left out, sizes
//! are bounded.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::{Component, Path};

use anyhow::{Context as _, Result, bail, ensure};
use flate2::read::GzDecoder;
use lzma_rust2::XzReader;
use zip::ZipArchive;

/// Memory that an xz dictionary may take, in KiB.
const XZ_MEMORY_KIB: u32 = 256 << 10;
/// The largest window of zstd, as a power of two.
const ZSTD_WINDOW: u32 = 27;

/// What a package may unpack to.
#[derive(Clone, Copy, Debug)]
pub struct UnpackLimits {
    /// Bytes of one file in it.
    pub file: u64,
    /// Bytes in all, files that are not wanted included.
    pub total: u64,
    /// Files.
    pub files: u64,
}

impl Default for UnpackLimits {
    fn default() -> Self {
        Self { file: 128 << 20, total: 4 << 30, files: 200_000 }
    }
}

/// Whether the file with this name is wanted. The name has no `./` before it.
pub type Wanted<'a> = &'a dyn Fn(&str) -> bool;

/// Calls `take` with the name and the bytes of each wanted file of a package.
///
/// # Errors
/// An unknown ending; a damaged package; a name that leaves it; more than `limits` allow; an error of `take`.
pub fn unpack(
    package: &Path,
    limits: UnpackLimits,
    wanted: Wanted,
    take: &mut dyn FnMut(&str, Vec<u8>) -> Result<()>,
) -> Result<()> {
    let open = || File::open(package).map(BufReader::new);
    let name = package.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let mut files = Unpacking { limits, left: limits.total, seen: 0, wanted, take };
    let unpacked = if name.ends_with(".tgz") || name.ends_with(".tar.gz") {
        files.tar(GzDecoder::new(open()?))
    } else if name.ends_with(".whl") || name.ends_with(".zip") {
        files.zip(open()?)
    } else if name.ends_with(".deb") {
        files.deb(open()?)
    } else {
        bail!("{}: not a .tgz, .whl or .deb", package.display())
    };
    unpacked.with_context(|| package.display().to_string())
}

/// The wanted files of a zip that is itself a file of a package.
pub(crate) fn unzip(
    bytes: &[u8],
    wanted: Wanted,
    take: &mut dyn FnMut(&str, Vec<u8>) -> Result<()>,
) -> Result<()> {
    let limits = UnpackLimits::default();
    Unpacking { limits, left: limits.total, seen: 0, wanted, take }.zip(std::io::Cursor::new(bytes))
}

struct Unpacking<'a> {
    limits: UnpackLimits,
    /// Bytes that may still be unpacked.
    left: u64,
    /// Entries that were met, wanted or not.
    seen: u64,
    wanted: Wanted<'a>,
    take: &'a mut dyn FnMut(&str, Vec<u8>) -> Result<()>,
}

impl Unpacking<'_> {
    fn deb(&mut self, file: impl Read) -> Result<()> {
        let mut members = ar::Archive::new(file);
        while let Some(member) = members.next_entry() {
            let member = member.context("a damaged .deb")?;
            let name = String::from_utf8_lossy(member.header().identifier()).into_owned();
            match name.trim_end_matches('/') {
                "data.tar.xz" => return self.tar(XzReader::new_mem_limit(member, true, XZ_MEMORY_KIB)),
                "data.tar.gz" => return self.tar(GzDecoder::new(member)),
                "data.tar.zst" => {
                    let mut decoder = zstd::Decoder::new(member)?;
                    decoder.window_log_max(ZSTD_WINDOW)?;
                    return self.tar(decoder);
                }
                other => ensure!(!other.starts_with("data."), "{other}: this packing is not read"),
            }
        }
        bail!("a .deb without data")
    }

    fn tar(&mut self, packed: impl Read) -> Result<()> {
        // Headers count too: without the bound an endless archive of empty files would be read for ever.
        let bounded = packed.take(self.limits.total + 1);
        let mut archive = tar::Archive::new(bounded);
        for entry in archive.entries()? {
            let mut entry = entry.context("damaged, or it unpacks to more than the limit")?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let size = entry.size();
            let regular = entry.header().entry_type().is_file();
            self.file(&name, size, regular, &mut entry)?;
        }
        Ok(())
    }

    fn zip(&mut self, file: impl Read + Seek) -> Result<()> {
        let mut archive = ZipArchive::new(file).context("a damaged zip")?;
        for index in 0..archive.len() {
            let mut entry = archive.by_index(index).context("a damaged zip")?;
            let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
            let (size, regular) = (entry.size(), entry.is_file() && !entry.is_symlink());
            self.file(&name, size, regular, &mut entry)?;
        }
        Ok(())
    }

    /// One entry: checked, counted and, where it is wanted, taken.
    fn file(&mut self, name: &str, size: u64, regular: bool, from: &mut dyn Read) -> Result<()> {
        let UnpackLimits { file, total, files } = self.limits;
        self.seen += 1;
        ensure!(self.seen <= files, "more than {files} files: refused");
        let inside =
            Path::new(name).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        // Checked although nothing is written to disk: names become ids, and others may unpack what we write.
        ensure!(inside && !name.contains(['\\', '\0']), "the name {name:?} leaves the package: refused");
        ensure!(size <= self.left, "it unpacks to more than {total} bytes: refused");
        let name = name.trim_start_matches("./");
        if !regular || !(self.wanted)(name) {
            self.left -= size;
            return Ok(());
        }
        ensure!(size <= file, "{name}: {size} bytes; the limit is {file}");
        let mut bytes = Vec::new();
        // What a header says of the size is not believed.
        from.take(file.min(self.left) + 1).read_to_end(&mut bytes).with_context(|| name.to_owned())?;
        let read = bytes.len() as u64;
        ensure!(read <= file.min(self.left), "{name}: it unpacks to more than the limit: refused");
        self.left -= read;
        (self.take)(name, bytes)
    }
}
