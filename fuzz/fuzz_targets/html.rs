//! HTML pages.
#![no_main]

mod source;

use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|data: &[u8]| {
    let folder = source::folder("a.html", data);
    source::read(json!({"kind": "html", "missing": "leave-out"}), &folder.path().join("a.html"));
});
