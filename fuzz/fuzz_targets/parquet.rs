//! Parquet: footers, pages and rows.
#![no_main]

mod source;

use libfuzzer_sys::fuzz_target;
use serde_json::json;

// The library panics on some damaged files, which the source catches: libFuzzer must not end the process at
// once.
fuzz_target!(init: std::panic::set_hook(Box::new(|_| {})), |data: &[u8]| {
    let folder = source::folder("a.parquet", data);
    let path = folder.path().join("a.parquet");
    for config in [
        json!({"kind": "parquet-captioned", "memory_mib": 4}),
        json!({"kind": "parquet-text", "memory_mib": 4}),
        json!({"kind": "obelics", "missing": "leave-out", "memory_mib": 4}),
    ] {
        source::read(config, &path);
    }
});
