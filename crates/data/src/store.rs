//! [`Store`]: the files that a recipe names, on disk or behind `https://`, `s3://` and `gs://`.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cache::{Cache, cache_dir};
use crate::lease::Leases;
use crate::remote::Remote;

/// Names that one pattern may stand for.
const MAX_NAMES: usize = 1_000_000;

/// The ending of all files.
pub(crate) const ANY: &[&str] = &[""];

/// Files that are opened at the same time, so that a slow one delays no other.
const AT_ONCE: usize = 16;

/// How files are reached and kept, `[store]`: on disk, or behind `https://`, `s3://` and `gs://`. No digit of
/// a run depends on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSpec {
    /// The folder for indexes, downloaded and unpacked files. By default `$MM1_CACHE`, else `mm1` in
    /// `$XDG_CACHE_HOME`, else `~/.cache/mm1`.
    #[schemars(extend("default" = "~/.cache/mm1"))]
    pub cache: PathBuf,
    /// What downloaded and unpacked files may take of it. Where it is full, those that no process uses are
    /// removed, the least recently used first.
    /// Unit: GiB.
    #[schemars(range(max = 1e6), extend("exclusiveMinimum" = 0))]
    pub cache_gib: f64,
    /// How long one request may take before it fails.
    /// Unit: seconds.
    #[schemars(range(max = 1e6), extend("exclusiveMinimum" = 0))]
    pub timeout_seconds: f64,
    /// How often a failed request is sent again.
    /// Unit: requests.
    #[schemars(range(max = 100))]
    pub retries: u32,
    /// An address to use in place of the provider's, for `s3://` and `gs://`; empty: the provider's.
    pub endpoint: String,
    /// Whether `s3://` and `gs://` are read without credentials. Else these come from the environment.
    pub anonymous: bool,
}

impl Default for StoreSpec {
    fn default() -> Self {
        Self {
            cache: cache_dir(),
            cache_gib: 100.0,
            timeout_seconds: 20.0,
            retries: 4,
            endpoint: String::new(),
            anonymous: false,
        }
    }
}

/// Opens files. Clones share the cache and its bound.
#[derive(Clone)]
pub struct Store {
    spec: StoreSpec,
    pub(crate) cache: Arc<Cache>,
}

/// A path, a glob (`a/*.tar`), a range (`a-{000..127}.tar`), a folder or an address; or a list of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Paths {
    /// One of them.
    One(String),
    /// Several, in this order.
    Many(Vec<String>),
}

impl Paths {
    /// As a list.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        match self {
            Self::One(path) => std::slice::from_ref(path),
            Self::Many(paths) => paths,
        }
        .iter()
        .map(String::as_str)
    }
}

impl From<&Path> for Paths {
    fn from(path: &Path) -> Self {
        Self::One(path.to_string_lossy().into_owned())
    }
}

/// A file that can be read in ranges.
#[derive(Clone)]
pub struct Blob {
    /// Its path or address.
    pub address: String,
    /// Its name; below the folder, where a folder was named.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// Changes when the file changes: its modification time or its tag.
    pub(crate) version: String,
    pub(crate) place: Place,
    /// Keeps a file of the cache from being removed.
    pub(crate) lease: Option<Arc<Leases>>,
}

#[derive(Clone)]
pub(crate) enum Place {
    Disk(PathBuf),
    Remote(Arc<Remote>, object_store::path::Path),
}

impl Store {
    /// Checks the numbers. Nothing is opened.
    ///
    /// # Errors
    /// One line that names the field.
    pub fn new(spec: StoreSpec) -> Result<Self> {
        let positive = |name, value: f64| {
            ensure!(
                value > 0.0 && value <= 1e6,
                "store.{name} = {value}: give a number above 0, up to 1000000"
            );
            Ok(())
        };
        positive("cache_gib", spec.cache_gib)?;
        positive("timeout_seconds", spec.timeout_seconds)?;
        ensure!(spec.retries <= 100, "store.retries = {}: give at most 100", spec.retries);
        let cache = Arc::new(Cache::new(spec.cache.clone(), spec.cache_gib));
        Ok(Self { spec, cache })
    }

    /// The files that `paths` stand for, in the order written, each pattern's sorted by name. Of a folder
    /// these are the files below it with one of the endings; hidden ones are left out.
    ///
    /// # Errors
    /// A pattern without files, a file that can't be read, a server that does not answer.
    pub fn files(&self, paths: &Paths, endings: &[&str]) -> Result<Vec<Blob>> {
        let mut files = Vec::new();
        for pattern in paths.iter() {
            let before = files.len();
            let mut names = Vec::new();
            expand(pattern, &mut names)?;
            // Connections are shared by the names of one pattern, which are asked for together.
            let mut remote = None;
            let mut addresses = Vec::new();
            for name in names {
                if name.contains("://") {
                    let (remote, path) = Remote::open(&name, &self.spec, &mut remote)?;
                    addresses.push((name, remote, path));
                } else {
                    local(&name, endings, &mut files)?;
                }
            }
            let found = at_once(&addresses, |(name, remote, path)| {
                remote.files(name, path).with_context(|| name.clone())
            });
            for blobs in found {
                files.extend(blobs?);
            }
            let wanted =
                if endings == ANY { String::new() } else { format!("; wanted: {}", endings.join(", ")) };
            ensure!(files.len() > before, "{pattern}: no file found{wanted}");
        }
        Ok(files)
    }
}

impl Blob {
    /// A file on disk.
    ///
    /// # Errors
    /// A path that is not a readable file.
    pub fn open(path: &Path, name: String) -> Result<Self> {
        let about = path.metadata().with_context(|| format!("{}: can't be read", path.display()))?;
        ensure!(about.is_file(), "{} is not a file", path.display());
        let modified = about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Ok(Self {
            address: path.to_string_lossy().into_owned(),
            name,
            size: about.len(),
            version: modified.unwrap_or_default().as_nanos().to_string(),
            place: Place::Disk(path.to_owned()),
            lease: None,
        })
    }

    /// The bytes from `at` on. A file is never read as a whole: the caller has checked `len` against a limit.
    ///
    /// # Errors
    /// A range outside the file, a file that changed, a server that does not answer. They do not name the
    /// file.
    pub fn read(&self, at: u64, len: u64) -> Result<Vec<u8>> {
        let end = at.checked_add(len).filter(|&end| end <= self.size);
        let end = end.with_context(|| format!("{len} bytes at {at} of a file of {}", self.size))?;
        match &self.place {
            Place::Disk(path) => {
                let read = || {
                    let mut file = File::open(path)?;
                    file.seek(SeekFrom::Start(at))?;
                    let mut bytes = vec![0; usize::try_from(len)?];
                    file.read_exact(&mut bytes)?;
                    anyhow::Ok(bytes)
                };
                read().with_context(|| format!("can't be read at {at}"))
            }
            Place::Remote(remote, path) => Ok(remote.range(path, at..end)?.to_vec()),
        }
    }

    /// The file itself, of one on disk.
    pub(crate) fn file(&self) -> Result<File> {
        match &self.place {
            Place::Disk(path) => File::open(path).context("can't be read"),
            Place::Remote(..) => bail!("the file is not on this machine"),
        }
    }
}

/// Brace ranges and lists: `{000..127}` counts with leading zeros, `{a,b}` takes each.
fn expand(pattern: &str, out: &mut Vec<String>) -> Result<()> {
    let Some((head, rest)) = pattern.split_once('{') else {
        ensure!(out.len() < MAX_NAMES, "a pattern stands for more than {MAX_NAMES} files");
        out.push(pattern.to_owned());
        return Ok(());
    };
    let (body, tail) = rest.split_once('}').with_context(|| format!("{pattern}: `{{` without `}}`"))?;
    let items: Vec<String> = match body.split_once("..") {
        Some((first, last)) => {
            let number = |text: &str| {
                text.parse::<usize>().with_context(|| format!("{pattern}: {text:?} is not a number"))
            };
            let (from, to) = (number(first)?, number(last)?);
            ensure!(from <= to && to - from < MAX_NAMES, "{pattern}: the range is empty or too long");
            (from..=to).map(|i| format!("{i:0width$}", width = first.len())).collect()
        }
        None => body.split(',').map(str::to_owned).collect(),
    };
    for item in items {
        expand(&format!("{head}{item}{tail}"), out)?;
    }
    Ok(())
}

fn local(name: &str, endings: &[&str], files: &mut Vec<Blob>) -> Result<()> {
    let path = Path::new(name);
    if path.is_dir() {
        let start = files.len();
        walk(path, path, endings, files)?;
        files[start..].sort_by(|a, b| a.name.cmp(&b.name));
    } else if name.contains(['*', '?', '[']) && !path.exists() {
        for found in glob::glob(name).with_context(|| format!("{name} is not a pattern"))? {
            let found = found?;
            if found.is_file() {
                files.push(Blob::open(&found, file_name(&found.to_string_lossy()))?);
            }
        }
    } else {
        files.push(Blob::open(path, file_name(name))?);
    }
    Ok(())
}

/// Links to folders are not followed.
fn walk(root: &Path, folder: &Path, endings: &[&str], files: &mut Vec<Blob>) -> Result<()> {
    for entry in folder.read_dir().with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().to_lowercase());
        if name.starts_with('.') {
            continue;
        } else if entry.file_type()?.is_dir() {
            walk(root, &path, endings, files)?;
        } else if endings.iter().any(|ending| name.ends_with(ending)) && path.is_file() {
            let parts: Vec<_> = path.strip_prefix(root)?.iter().map(|part| part.to_string_lossy()).collect();
            files.push(Blob::open(&path, parts.join("/"))?);
        }
    }
    Ok(())
}

/// `work` done on all items by a few threads; results in order.
pub(crate) fn at_once<T: Sync, U: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<U> + Sync,
) -> Vec<Result<U>> {
    let next = AtomicUsize::new(0);
    let results: Vec<_> = items.iter().map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(items.len()) {
            scope.spawn(|| {
                while let Some(at) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&at| at < items.len())
                {
                    *results[at].lock().unwrap_or_else(PoisonError::into_inner) = Some(work(&items[at]));
                }
            });
        }
    });
    let taken = results.into_iter().map(|result| result.into_inner().unwrap_or_else(PoisonError::into_inner));
    taken.map(|result| result.unwrap_or_else(|| Err(anyhow!("not opened")))).collect()
}

/// What follows the last `/`.
pub(crate) fn file_name(address: &str) -> String {
    address.rsplit(['/', std::path::MAIN_SEPARATOR]).next().unwrap_or(address).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_are_expanded() {
        let names = |pattern| {
            let mut out = Vec::new();
            expand(pattern, &mut out).map(|()| out).map_err(|e| e.to_string())
        };
        assert_eq!(names("a.tar").unwrap(), ["a.tar"]);
        assert_eq!(names("a-{08..11}.tar").unwrap(), ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]);
        assert_eq!(names("{a,b}/{0..1}").unwrap(), ["a/0", "a/1", "b/0", "b/1"]);
        for wrong in ["a{", "{3..1}", "{a..b}", "{0..99999999999999999999}", "{0..9999999}"] {
            assert!(names(wrong).is_err(), "{wrong}");
        }
    }
}
