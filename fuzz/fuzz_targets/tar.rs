//! Archives: WebDataset samples and our own shards.
#![no_main]

mod source;

use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|data: &[u8]| {
    let folder = source::folder("a.tar", data);
    let path = folder.path().join("a.tar");
    source::read(json!({"kind": "webdataset", "caption": "json.caption"}), &path);
    source::read(json!({"kind": "shards"}), &path);
});
