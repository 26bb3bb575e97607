//! [`ShardManifest`]: the shards of a folder, with what is in them, their sizes and hashes.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::lock::FolderLock;
use crate::{regular_file, text_file, whole_file};

/// The name of the list of shards in their folder.
pub const MANIFEST: &str = "manifest.json";

/// Where documents come from; written into each of them and into the manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Provenance {
    /// What they were made from.
    pub source: String,
    /// Under which terms they may be used.
    pub licence: String,
    /// Whom to name.
    pub attribution: String,
}

/// What a manifest says of a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardEntry {
    /// The file, in the manifest's folder.
    pub file: String,
    /// Documents in it.
    pub documents: u64,
    /// Pictures in them.
    pub images: u64,
    /// Words in them: runs of characters between white space.
    pub words: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// SHA-256 of the file in hexadecimal.
    pub sha256: String,
    /// Where the documents come from.
    #[serde(flatten)]
    pub origin: Provenance,
}

/// `manifest.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardManifest {
    /// The shards in the order they were written.
    pub shards: Vec<ShardEntry>,
}

impl ShardManifest {
    /// The manifest of a folder.
    ///
    /// # Errors
    /// No manifest, or another tool's.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let text = text_file::read(&path).with_context(|| path.display().to_string())?;
        let wrong = "not a list of shards that mm1 has written";
        let manifest: Self =
            serde_json::from_str(&text).ok().with_context(|| format!("{}: {wrong}", path.display()))?;
        // A manifest is input: a name with folders in it could name any file of the machine.
        let plain = |file: &str| {
            Path::new(file).file_name().is_some_and(|name| name == file) && !file.contains(['\\', '\0'])
        };
        if let Some(shard) = manifest.shards.iter().find(|shard| !plain(&shard.file)) {
            bail!("{}: {:?} is not the name of a file beside it", path.display(), shard.file);
        }
        Ok(manifest)
    }

    /// Adds shards to the manifest of `folder`, which is locked, and gives it back; one of the same file
    /// takes the place of an older one.
    ///
    /// # Errors
    /// A disk that is full; a manifest that is not ours.
    pub fn add(folder: &Path, mut shards: Vec<ShardEntry>, lock: &FolderLock) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let mut manifest = if path.exists() { Self::read(folder)? } else { Self::default() };
        manifest.shards.retain(|old| shards.iter().all(|new| new.file != old.file));
        manifest.shards.append(&mut shards);
        // Sorted, so that the same shards give the same bytes whichever command added them last.
        manifest.shards.sort_by(|a, b| a.file.cmp(&b.file));
        manifest.write(folder, lock)?;
        Ok(manifest)
    }

    /// Puts it in the place of the manifest of `folder`, which is locked: two never read, change and write
    /// it.
    ///
    /// # Errors
    /// A disk that is full.
    pub fn write(&self, folder: &Path, _: &FolderLock) -> Result<()> {
        let path = folder.join(MANIFEST);
        whole_file::replace(&path, &serde_json::to_vec_pretty(self)?)
            .with_context(|| path.display().to_string())
    }

    /// Compares each shard with its size and SHA-256.
    ///
    /// # Errors
    /// The first shard that is missing or differs.
    pub fn verify(&self, folder: &Path) -> Result<()> {
        self.shards.iter().try_for_each(|shard| shard.verify(folder))
    }
}

impl ShardEntry {
    /// Compares the file in `folder` with its size and SHA-256.
    ///
    /// # Errors
    /// A file that is missing or differs.
    pub fn verify(&self, folder: &Path) -> Result<()> {
        let path = folder.join(&self.file);
        let (bytes, sha256) = digest(&path)?;
        ensure!(
            (bytes, &sha256) == (self.bytes, &self.sha256),
            "{}: {bytes} bytes with SHA-256 {sha256}, but the manifest has {} and {}",
            path.display(),
            self.bytes,
            self.sha256
        );
        Ok(())
    }
}

/// Whether a stem is a plain name, from which no file name can lead elsewhere.
pub(crate) fn is_plain_stem(stem: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    !stem.is_empty() && stem.chars().all(plain)
}

/// Whether a file is named as a shard of this stem: `STEM-000000.tar`.
pub fn is_shard(file: &str, stem: &str) -> bool {
    let number = file.strip_prefix(stem).and_then(|rest| rest.strip_prefix('-')?.strip_suffix(".tar"));
    number.is_some_and(|number| number.len() >= 6 && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Bytes and SHA-256 of a file.
pub(super) fn digest(path: &Path) -> Result<(u64, String)> {
    let mut file = regular_file::open(path).with_context(|| path.display().to_string())?;
    let (mut hasher, mut buffer, mut bytes) = (Sha256::new(), vec![0; 1 << 16], 0);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => {
                hasher.update(&buffer[..n]);
                bytes += n as u64;
            }
        }
    }
    let hex = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((bytes, hex))
}
