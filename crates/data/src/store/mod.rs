//! [`Store`]: the files that a recipe names, on disk or behind `https://`, `s3://` and `gs://`.

mod blob;
mod cache;
mod lease;
mod listing;
mod server;
mod spec;
mod stamp;
mod sum;
mod version;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::blob::Blob;
pub(crate) use self::blob::file_name;
pub(crate) use self::cache::cache_key;
pub(crate) use self::listing::{Listing, PassedOver};
pub use self::spec::{StoreSpec, cache_dir};
pub use self::stamp::DataStamp;

use self::cache::FileCache;
use self::server::Server;

/// Names that one pattern may stand for.
const MAX_NAMES: usize = 1_000_000;

/// The ending of all files.
pub(crate) const ANY: &[&str] = &[""];

/// Files that are opened at the same time, so that a slow one delays no other.
const AT_ONCE: usize = 16;

/// Opens files. Clones share the cache and its bound.
#[derive(Clone)]
pub struct Store {
    spec: StoreSpec,
    pub(crate) cache: Arc<FileCache>,
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
        let cache = Arc::new(FileCache::new(spec.cache.clone(), spec.cache_gib));
        Ok(Self { spec, cache })
    }

    /// The files that `paths` stand for, in the order written, each pattern's sorted by name. Of a folder
    /// these are the files below it with one of the endings; hidden ones are left out.
    ///
    /// # Errors
    /// A pattern without files, a file that can't be read or is no regular one, a server that does not
    /// answer.
    pub fn files(&self, paths: &Paths, endings: &[&str]) -> Result<Vec<Blob>> {
        let Listing { files, passed_over } = self.list(paths, endings)?;
        match passed_over.iter().find(|other| other.cause.is_in_place_of_a_file()) {
            Some(PassedOver { path, cause }) => bail!("{}: {}", path.display(), cause.reason()),
            None => Ok(files),
        }
    }

    /// As [`Store::files`], with what is there and is not read.
    ///
    /// # Errors
    /// As [`Store::files`], but for what is no regular file.
    pub(crate) fn list(&self, paths: &Paths, endings: &[&str]) -> Result<Listing> {
        let mut all = Listing::default();
        for pattern in paths.iter() {
            let before = all.files.len();
            let mut names = Vec::new();
            expand(pattern, &mut names)?;
            // Connections are shared by the names of one pattern, whose requests are sent together.
            let mut remote = None;
            let mut addresses = Vec::new();
            for name in names {
                if name.contains("://") {
                    let (remote, path) = Server::open(&name, &self.spec, &mut remote)?;
                    addresses.push((name, remote, path));
                } else {
                    local(&name, endings, &mut all)?;
                }
            }
            let found = at_once(&addresses, |(name, remote, path)| {
                let files = remote.files(name, path).with_context(|| name.clone())?;
                Ok(files.into_iter().map(|file| Blob::of_server(remote, file)).collect::<Vec<_>>())
            });
            for blobs in found {
                all.files.extend(blobs?);
            }
            let wanted =
                if endings == ANY { String::new() } else { format!("; wanted: {}", endings.join(", ")) };
            let other = all.passed_over.first().map_or_else(String::new, |PassedOver { path, cause }| {
                format!("; there is {}: {}", path.display(), cause.reason())
            });
            ensure!(all.files.len() > before, "{pattern}: no file found{wanted}{other}");
        }
        Ok(all)
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

/// Adds what a path or pattern on this machine stands for.
fn local(name: &str, endings: &[&str], all: &mut Listing) -> Result<()> {
    let path = Path::new(name);
    let mut found = if path.is_dir() {
        Listing::of_folder(path)?
    } else if name.contains(['*', '?', '[']) && !path.exists() {
        Listing::of_pattern(name)?
    } else {
        all.files.push(Blob::open(path, file_name(name))?);
        return Ok(());
    };
    if path.is_dir() {
        let wanted = |name: &str| endings.iter().any(|ending| name.to_lowercase().ends_with(ending));
        found.files.retain(|file| wanted(&file.name));
        found.passed_over.retain(|other| wanted(&other.path.to_string_lossy()));
    }
    all.files.append(&mut found.files);
    all.passed_over.append(&mut found.passed_over);
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
