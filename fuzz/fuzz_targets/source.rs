//! A source as a recipe opens it, over one file of the fuzzer's.

use std::path::Path;

use mm1_data::source::SourceConfig;
use mm1_data::store::{Store, StoreSpec};
use serde_json::Value;
use tempfile::TempDir;

/// A folder in memory with one file.
pub fn folder(name: &str, bytes: &[u8]) -> TempDir {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    std::fs::write(folder.path().join(name), bytes).unwrap();
    folder
}

/// Reads every document that the source has; most inputs have none that is whole.
pub fn read(mut config: Value, path: &Path) {
    config["path"] = path.to_str().unwrap().into();
    let cache = path.parent().unwrap().join("cache");
    let store = Store::new(StoreSpec { cache, ..StoreSpec::default() }).unwrap();
    let config: SourceConfig = serde_json::from_value(config).unwrap();
    let Ok(files) = config.open_files("fuzz", 7, &store) else { return };
    for index in 0..files.documents().min(100) {
        let _ = files.stored(index);
    }
}
