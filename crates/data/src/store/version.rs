//! [`FileVersion`]: what tells a file from the one that takes its place.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use object_store::{GetOptions, ObjectMeta};

/// What is said where the parts of a file would be of two versions.
pub(super) const CHANGED: &str = "the file has changed on its server since it was opened: open it again";

/// The version of a file. Two files of one address and one version have the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FileVersion {
    /// When a file on disk was written, in nanoseconds of Unix time.
    Written(u128),
    /// What the server calls it: its entity tag, or a bucket's own number.
    Tag(String),
    /// When the server says that it was changed.
    Changed(String),
    /// The server says neither. The number is of this opening alone, so that nothing is taken from the cache
    /// that another opening has put there.
    Unknown(String),
}

impl FileVersion {
    /// What a server says of a file.
    pub(super) fn of(object: &ObjectMeta) -> Self {
        // The client gives the beginning of time where there is no date.
        let dated = object.last_modified.timestamp() != 0;
        match object.e_tag.clone().or_else(|| object.version.clone()) {
            Some(tag) => Self::Tag(tag),
            None if dated => Self::Changed(object.last_modified.to_rfc3339()),
            None => Self::unknown(),
        }
    }

    fn unknown() -> Self {
        static OPENED: AtomicU64 = AtomicU64::new(0);
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        Self::Unknown(format!("{started}-{}-{}", std::process::id(), OPENED.fetch_add(1, Ordering::Relaxed)))
    }

    /// The same request, for this version alone where the server can be asked for it.
    pub(super) fn ask(&self, request: GetOptions) -> GetOptions {
        match self {
            // A weak tag never matches.
            Self::Tag(tag) if !tag.starts_with("W/") => GetOptions { if_match: Some(tag.clone()), ..request },
            _ => request,
        }
    }

    /// Compares the version of a part with that of the file.
    pub(super) fn check(&self, part: &Self) -> Result<()> {
        let unknown = matches!((self, part), (Self::Unknown(_), Self::Unknown(_)));
        ensure!(unknown || self == part, CHANGED);
        Ok(())
    }
}

impl fmt::Display for FileVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Written(time) => write!(f, "{time}"),
            Self::Tag(text) | Self::Changed(text) | Self::Unknown(text) => f.write_str(text),
        }
    }
}
