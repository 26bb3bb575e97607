//! The cache: the folder of indexes, downloaded and unpacked files. A file in it is whole: it is written
//! beside, flushed to the disk and renamed. Its length, time and hash are kept in `sums/`; one that differs
//! from them is made again.
//!
//! Where `files/` is full, the least recently used files are removed, but none
//! that any process of this machine uses. Indexes are small and stay.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::NamedTempFile;
use xxhash_rust::xxh3::xxh3_128;

use super::blob::{Blob, BlobLocation};
use super::lease::{Leases, ended};
use super::sum::FileSum;
use super::version::FileVersion;

/// The share of the limit that is left when files are removed, so that this is done rarely.
// At the limit itself each further file would look through the whole folder.
const LEFT: f64 = 0.9;
/// Bytes of one range request.
const PART: u64 = 4 << 20;
/// How many times its packed size a file may unpack to.
// Ordinary text stays far below; gzip can reach 1,032.
const MAX_RATIO: u64 = 200;
/// A file may unpack to this size whatever the ratio.
const ALWAYS: u64 = 1 << 20;
/// The largest window that a zstd file may ask for, as a power of two: what `zstd` itself takes.
const ZSTD_WINDOW: u32 = 27;

pub(crate) struct FileCache {
    root: PathBuf,
    /// What `files/` may hold.
    limit_gib: f64,
    /// Bytes that it holds; counted with the first file.
    used: Mutex<Option<u64>>,
    leases: Arc<Leases>,
}

impl FileCache {
    pub(crate) fn new(root: PathBuf, limit_gib: f64) -> Self {
        let leases = Arc::new(Leases::new(&root));
        Self { root, limit_gib, used: Mutex::new(None), leases }
    }

    /// A file on disk with the unpacked bytes of `blob`: itself, where it is both already.
    pub(crate) fn unpacked(&self, blob: &Blob) -> Result<Blob> {
        let local = match &blob.location {
            BlobLocation::Disk(_) => blob.clone(),
            BlobLocation::Server(..) => self.keep(blob, "", download)?,
        };
        let name = blob.name.to_lowercase();
        let unpacked = if name.ends_with(".gz") || name.ends_with(".tgz") {
            self.keep(&local, "gz", |packed, out| {
                out.copy(flate2::bufread::MultiGzDecoder::new(std::io::BufReader::new(packed.file()?)))
            })?
        } else if name.ends_with(".zst") {
            self.keep(&local, "zst", |packed, out| {
                let mut decoder = zstd::Decoder::new(packed.file()?)?;
                decoder.window_log_max(ZSTD_WINDOW)?;
                out.copy(decoder)
            })?
        } else {
            return Ok(local);
        };
        if local.lease.is_some() {
            // The download has served.
            self.leases.mark(&self.leases.guard()?, &cache_key("", blob), false)?;
        }
        Ok(unpacked)
    }

    /// The bytes stored under `key`, if they are there.
    pub(crate) fn read_index(&self, key: &str) -> Option<Vec<u8>> {
        fs::read(self.root.join("index").join(key)).ok()
    }

    /// Keeps bytes under `key`.
    pub(crate) fn write_index(&self, key: &str, bytes: &[u8]) -> Result<()> {
        let mut file = self.begin("index")?;
        file.write_all(bytes)?;
        file.persist(self.root.join("index").join(key))?;
        Ok(())
    }

    fn begin(&self, part: &str) -> Result<NamedTempFile> {
        let folder = self.root.join(part);
        let begin = || {
            fs::create_dir_all(&folder)?;
            NamedTempFile::new_in(&folder)
        };
        begin().with_context(|| format!("{}: the cache can't be written; set MM1_CACHE", folder.display()))
    }

    /// What `write` makes of `blob`, made once.
    fn keep(
        &self,
        blob: &Blob,
        how: &str,
        write: impl Fn(&Blob, &mut Filling) -> Result<()>,
    ) -> Result<Blob> {
        let key = cache_key(how, blob);
        let path = self.root.join("files").join(&key);
        if let Some(file) = self.claim(&key)? {
            let ratio = if how.is_empty() { 1 } else { MAX_RATIO };
            let most = blob.size.saturating_mul(ratio).max(ALWAYS);
            let mut filling = Filling { cache: self, file, written: 0, most };
            let written = write(blob, &mut filling).with_context(|| blob.address.clone());
            if let Err(error) = written {
                self.release(filling.written);
                return Err(error);
            }
            self.publish(filling.file, &key)?;
        }
        let unpacked_file = Blob::open(&path, blob.name.clone())?;
        let lease = Some(Arc::clone(&self.leases));
        Ok(Blob { address: blob.address.clone(), version: blob.version.clone(), lease, ..unpacked_file })
    }

    /// Marks a file as in use, from now on; gives a file to write it to, where it is not there.
    fn claim(&self, key: &str) -> Result<Option<NamedTempFile>> {
        let guard = self.leases.guard()?;
        self.leases.mark(&guard, key, true)?;
        if let Some(sum) = self.sum(key) {
            // The time of the last use. Where it can't be set, the file is removed sooner than it should be.
            let _ = sum.set_modified(SystemTime::now());
            return Ok(None);
        }
        let file = self.begin("files")?;
        // So that nobody takes it for one that a process has left behind.
        file.as_file().lock()?;
        Ok(Some(file))
    }

    /// Puts a file that is whole in its place, with its sum.
    fn publish(&self, file: NamedTempFile, key: &str) -> Result<()> {
        let path = self.root.join("files").join(key);
        // Before the rename: else the name may reach the disk and the bytes may not.
        file.as_file().sync_all().with_context(|| path.display().to_string())?;
        let sum = FileSum::of(file.path()).with_context(|| path.display().to_string())?;
        file.persist(&path).with_context(|| path.display().to_string())?;
        let mut beside = self.begin("sums")?;
        beside.write_all(sum.to_string().as_bytes())?;
        beside.as_file().sync_all()?;
        beside.persist(self.root.join("sums").join(key))?;
        Ok(())
    }

    /// The file with the sum of the file `key`, if that one is what was written.
    fn sum(&self, key: &str) -> Option<fs::File> {
        let path = self.root.join("sums").join(key);
        let written = fs::read_to_string(&path).ok()?;
        FileSum::holds(&written, &self.root.join("files").join(key)).then_some(())?;
        fs::File::options().append(true).open(path).ok()
    }

    /// Counts bytes before they are written, and makes room for them.
    fn reserve(&self, bytes: u64) -> Result<()> {
        let limit = self.limit_gib * (1_u64 << 30) as f64;
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let mut now = used.unwrap_or_else(|| size(&self.root.join("files")));
        if (now + bytes) as f64 > limit {
            now = self.shrink(((limit * LEFT) as u64).saturating_sub(bytes))?;
        }
        *used = Some(now);
        ensure!(
            (now + bytes) as f64 <= limit,
            "the cache {} would hold more than store.cache_gib = {}, all of it in use: raise it",
            self.root.display(),
            self.limit_gib
        );
        *used = Some(now + bytes);
        Ok(())
    }

    /// Removes what nobody uses until the files take `goal` bytes or nothing is left to remove; returns what
    /// they take.
    fn shrink(&self, goal: u64) -> Result<u64> {
        let guard = self.leases.guard()?;
        let in_use = self.leases.used(&guard)?;
        let mut files = Vec::new();
        for entry in fs::read_dir(self.root.join("files")).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            let sum = self.root.join("sums").join(entry.file_name());
            let used = sum.metadata().as_ref().unwrap_or(&metadata).modified().ok();
            files.push((used, metadata.len(), entry.path()));
        }
        // By the time of their last use: the least recently used first.
        files.sort();
        let mut used: u64 = files.iter().map(|(_, len, _)| len).sum();
        for (_, len, path) in files {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // A file that is being written has a name of its own, and is locked.
            let free = if name.starts_with('.') { ended(&path) } else { !in_use.contains(&*name) };
            if used > goal && free && fs::remove_file(&path).is_ok() {
                // Without its file a sum is of no use, and of no harm.
                let _ = fs::remove_file(self.root.join("sums").join(&*name));
                used -= len;
            }
        }
        Ok(used)
    }

    fn release(&self, bytes: u64) {
        if let Some(used) = &mut *self.used.lock().unwrap_or_else(PoisonError::into_inner) {
            *used = used.saturating_sub(bytes);
        }
    }
}

/// A file being written, within bounds.
struct Filling<'a> {
    cache: &'a FileCache,
    file: NamedTempFile,
    /// Bytes that were counted in `cache` for it; given back where it fails.
    written: u64,
    /// The most that it may hold.
    most: u64,
}

impl Filling<'_> {
    fn copy(&mut self, mut from: impl Read) -> Result<()> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            match from.read(&mut buffer).context("damaged: it can't be unpacked")? {
                0 => return Ok(()),
                n => self.append(&buffer[..n])?,
            }
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let len = bytes.len() as u64;
        if self.written + len > self.most {
            bail!("unpacks to more than {MAX_RATIO} times its size: refused");
        }
        self.cache.reserve(len)?;
        self.written += len;
        Ok(self.file.write_all(bytes)?)
    }
}

fn download(blob: &Blob, out: &mut Filling) -> Result<()> {
    let mut at = 0;
    while at < blob.size {
        let len = PART.min(blob.size - at);
        out.append(&blob.read(at, len)?)?;
        at += len;
    }
    if matches!(blob.version, FileVersion::Unknown(_)) && blob.size > 0 {
        // Nothing else tells whether the file was replaced in the meantime.
        let first = PART.min(blob.size);
        let again = blob.read(0, first)?;
        let mut kept = vec![0; again.len()];
        let mut file = fs::File::open(out.file.path())?;
        file.read_exact(&mut kept)?;
        ensure!(kept == again, "the file has changed on its server while it was read: open it again");
    }
    Ok(())
}

/// A name that changes with the file and with what is made of it.
pub(crate) fn cache_key(how: &str, blob: &Blob) -> String {
    let text = format!("{how}\n{}\n{}\n{}", blob.address, blob.size, blob.version);
    format!("{:032x}", xxh3_128(text.as_bytes()))
}

fn size(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}
