//! [`StoreSpec`]: how files are reached and cached, as a recipe writes it.

use std::env;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

/// `$MM1_CACHE`, else `mm1` in `$XDG_CACHE_HOME`, else in `~/.cache`.
pub fn cache_dir() -> PathBuf {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("MM1_CACHE")
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("mm1")))
        .or_else(|| Some(set("HOME")?.join(".cache/mm1")))
        .unwrap_or_else(|| env::temp_dir().join("mm1"))
}
