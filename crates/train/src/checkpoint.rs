//! Checkpoints: folders `step-00000012` that are either whole or not there.
//!
//! A checkpoint is written into a temporary folder beside its place, its files and the folder are flushed to
//! the disk, and only then is it renamed. `manifest.json` holds the length and the xxh3 checksum of every
//! file, so that damage is noticed before anything is read from it. A process may be killed at any moment.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use burn::tensor::TensorData;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::Xxh3;

use crate::tensors;

/// The weights alone, readable by any tool that knows safetensors.
pub const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
const MANIFEST: &str = "manifest.json";

/// All that is needed to go on after `step` steps as if the process had never stopped.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Steps done.
    pub step: u64,
    /// Weights by the path of their parameter.
    pub model: BTreeMap<String, TensorData>,
    /// The optimizer's moments by path of the parameter, with `.m` and `.v` appended.
    pub optimizer: BTreeMap<String, TensorData>,
    /// The caller's own: data cursor, seed, fingerprint of the recipe. Numbers that must come back bit for
    /// bit are integers: JSON's decimals need not.
    pub state: Value,
}

/// A checkpoint whose checksums hold.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Its folder.
    pub path: PathBuf,
    /// Steps done.
    pub step: u64,
    /// One line for each newer checkpoint that was damaged and left out, for the caller to print.
    pub warnings: Vec<String>,
}

impl Checkpoint {
    /// Reads it whole.
    ///
    /// # Errors
    /// If a file can't be read.
    pub fn load(&self) -> Result<Snapshot> {
        Ok(Snapshot {
            step: self.step,
            model: tensors::read(&self.path.join(MODEL))?,
            optimizer: tensors::read(&self.path.join(OPTIMIZER))?,
            state: self.state()?,
        })
    }

    /// Reads the caller's own state alone.
    ///
    /// # Errors
    /// If its file can't be read.
    pub fn state(&self) -> Result<Value> {
        let state = self.path.join(STATE);
        let text = fs::read_to_string(&state).with_context(|| format!("can't read {}", state.display()))?;
        serde_json::from_str(&text).with_context(|| state.display().to_string())
    }

    /// The file with the weights.
    pub fn weights(&self) -> PathBuf {
        self.path.join(MODEL)
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckpointManifest {
    format: u32,
    step: u64,
    files: BTreeMap<String, FileDigest>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileDigest {
    bytes: u64,
    xxh3: String,
}

/// Writes `snapshot` as `dir/step-N` and then removes all but the newest `keep` (at least 1) up to step N.
/// Returns the checkpoint's folder. One that is already there and equal is left as it is; a damaged one is
/// replaced.
///
/// # Errors
/// If the disk is full (an [`io::Error`] of kind `StorageFull` is in the chain), a write fails, or another,
/// good checkpoint of the same step is in the way. The checkpoints that were there stay as they are.
pub fn save(dir: &Path, snapshot: &Snapshot, keep: usize) -> Result<PathBuf> {
    ensure!(keep >= 1, "checkpoint.keep = {keep} must be at least 1");
    fs::create_dir_all(dir).with_context(|| format!("can't make {}", dir.display()))?;
    let path = dir.join(folder_name(snapshot.step));
    let temporary = dir.join(format!("{}.tmp-{}", folder_name(snapshot.step), std::process::id()));
    let placed =
        write(&temporary, snapshot).and_then(|manifest| move_into_place(&temporary, &path, &manifest));
    if let Err(e) = placed {
        // The first error is the one to report; what stays behind is removed by `remove_leftovers`.
        let _ = fs::remove_dir_all(&temporary);
        return Err(explain(e, dir, snapshot));
    }
    sync(dir)?;
    // Only when the new one is in its place: a full disk never costs the last good checkpoint.
    let mut older = steps(dir)?;
    older.retain(|&s| s <= snapshot.step);
    for step in older.iter().rev().skip(keep) {
        let old = dir.join(folder_name(*step));
        fs::remove_dir_all(&old).with_context(|| format!("can't remove {}", old.display()))?;
    }
    Ok(path)
}

/// The newest checkpoint in `dir` whose checksums hold; `None` if there is none at all.
///
/// # Errors
/// If there are checkpoints and every one of them is damaged: training does not silently start again.
pub fn latest(dir: &Path) -> Result<Option<Checkpoint>> {
    let mut warnings = Vec::new();
    for step in steps(dir)?.into_iter().rev() {
        let path = dir.join(folder_name(step));
        match verify(&path, step) {
            Ok(_) => return Ok(Some(Checkpoint { path, step, warnings })),
            Err(e) => warnings.push(format!("checkpoint {} is damaged and not used: {e:#}", path.display())),
        }
    }
    ensure!(
        warnings.is_empty(),
        "no checkpoint in {} can be used: {}. Put a good copy there, \
         or remove the folder to start from step 0",
        dir.display(),
        warnings.join("; ")
    );
    Ok(None)
}

/// Removes what writers that were killed left in `dir`, and returns the paths. To be called before training
/// starts, when no other process writes there.
///
/// # Errors
/// If a folder can't be listed or removed.
pub fn remove_leftovers(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    for file in file_names(dir)? {
        if file.split_once(".tmp-").is_some_and(|(stem, _)| step_of(stem).is_some()) {
            let path = dir.join(file);
            fs::remove_dir_all(&path).with_context(|| format!("can't remove {}", path.display()))?;
            removed.push(path);
        }
    }
    Ok(removed)
}

fn folder_name(step: u64) -> String {
    format!("step-{step:08}")
}

fn step_of(file: &str) -> Option<u64> {
    let step = file.strip_prefix("step-")?.parse().ok()?;
    (folder_name(step) == file).then_some(step)
}

/// File names in `dir`, sorted; empty if there is no such folder.
fn file_names(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(|| format!("can't list {}", dir.display()))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Steps that have a checkpoint, good or not, in rising order.
fn steps(dir: &Path) -> Result<Vec<u64>> {
    let mut steps: Vec<u64> = file_names(dir)?.iter().filter_map(|n| step_of(n)).collect();
    steps.sort_unstable();
    Ok(steps)
}

fn write(dir: &Path, snapshot: &Snapshot) -> Result<CheckpointManifest> {
    fs::create_dir_all(dir)?;
    tensors::write(&dir.join(MODEL), &snapshot.model)?;
    tensors::write(&dir.join(OPTIMIZER), &snapshot.optimizer)?;
    fs::write(dir.join(STATE), serde_json::to_vec_pretty(&snapshot.state)?)?;
    let mut files = BTreeMap::new();
    for file in [MODEL, OPTIMIZER, STATE] {
        let path = dir.join(file);
        sync(&path)?;
        files.insert(file.to_string(), digest(&path)?);
    }
    // Last, when the files that it describes are on the disk.
    let manifest = CheckpointManifest { format: 1, step: snapshot.step, files };
    let path = dir.join(MANIFEST);
    fs::write(&path, serde_json::to_vec_pretty(&manifest)?)?;
    sync(&path)?;
    sync(dir)?;
    Ok(manifest)
}

fn move_into_place(temporary: &Path, path: &Path, manifest: &CheckpointManifest) -> Result<()> {
    if path.exists() {
        match verify(path, manifest.step) {
            Ok(there) if there == *manifest => return Ok(fs::remove_dir_all(temporary)?),
            Ok(_) => bail!("{} is a checkpoint of another run; move it away", path.display()),
            // Damaged: the one that is written now takes its place.
            Err(_) => fs::remove_dir_all(path)?,
        }
    }
    Ok(fs::rename(temporary, path)?)
}

fn verify(path: &Path, step: u64) -> Result<CheckpointManifest> {
    let text =
        fs::read_to_string(path.join(MANIFEST)).with_context(|| format!("{MANIFEST} can't be read"))?;
    let manifest: CheckpointManifest =
        serde_json::from_str(&text).with_context(|| format!("{MANIFEST} can't be read"))?;
    ensure!(manifest.format == 1, "its format is {}, this program reads 1", manifest.format);
    ensure!(manifest.step == step, "{MANIFEST} says step {}", manifest.step);
    for file in [MODEL, OPTIMIZER, STATE] {
        let expected = manifest.files.get(file).ok_or_else(|| anyhow!("{MANIFEST} lacks {file}"))?;
        let found = digest(&path.join(file)).with_context(|| format!("{file} can't be read"))?;
        ensure!(
            found.bytes == expected.bytes,
            "{file} has {} bytes instead of {}",
            found.bytes,
            expected.bytes
        );
        ensure!(found.xxh3 == expected.xxh3, "the checksum of {file} is {found:?}, not {expected:?}");
    }
    Ok(manifest)
}

fn digest(path: &Path) -> io::Result<FileDigest> {
    let (mut file, mut hash, mut bytes) = (File::open(path)?, Xxh3::new(), 0);
    // In pieces: a checkpoint may be larger than memory that is free beside the model.
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(FileDigest { bytes, xxh3: format!("{:016x}", hash.digest()) });
        }
        hash.update(&buffer[..n]);
        bytes += n as u64;
    }
}

/// Waits until the file's or folder's content is on the disk.
fn sync(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|f| f.sync_all())
        .with_context(|| format!("can't flush {} to the disk", path.display()))
}

/// Says what a failed save means for the person; the cause stays in the chain.
fn explain(error: anyhow::Error, dir: &Path, snapshot: &Snapshot) -> anyhow::Error {
    let path = dir.join(folder_name(snapshot.step));
    let full = error
        .chain()
        .filter_map(|e| e.downcast_ref::<io::Error>())
        .any(|e| matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded));
    if !full {
        return error.context(format!("can't save checkpoint {}", path.display()));
    }
    let bytes: usize =
        snapshot.model.values().chain(snapshot.optimizer.values()).map(|t| t.bytes().len()).sum();
    let before = match steps(dir).unwrap_or_default().into_iter().rfind(|&s| s < snapshot.step) {
        Some(step) => format!("{} is intact", folder_name(step)),
        None => "there was none before it".to_string(),
    };
    error.context(format!(
        "the disk is full: checkpoint {} needs {bytes} bytes and was not written; {before}. \
         Make room and run the same command again",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `/dev/full` answers every write as a full disk does.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_named_with_what_is_needed() {
        let dir = tempfile::tempdir().unwrap();
        let one = || BTreeMap::from([("a".to_string(), TensorData::new(vec![0f32; 4000], [4000]))]);
        let snapshot = |step| Snapshot { step, model: one(), optimizer: one(), state: Value::Null };
        save(dir.path(), &snapshot(1), 1).unwrap();
        for file in [MODEL, OPTIMIZER, STATE, MANIFEST] {
            let temporary = dir.path().join("step-00000002.tmp-0");
            fs::create_dir(&temporary).unwrap();
            std::os::unix::fs::symlink("/dev/full", temporary.join(file)).unwrap();
            let error = explain(write(&temporary, &snapshot(2)).unwrap_err(), dir.path(), &snapshot(2));
            let path = dir.path().join("step-00000002");
            assert_eq!(
                error.to_string(),
                format!(
                    "the disk is full: checkpoint {} needs 32000 bytes and was not written; \
                     step-00000001 is intact. Make room and run the same command again",
                    path.display()
                )
            );
            assert!(error.chain().any(|e| e.is::<io::Error>()), "a caller can't see what failed: {error:?}");
            fs::remove_dir_all(&temporary).unwrap();
        }
    }
}
