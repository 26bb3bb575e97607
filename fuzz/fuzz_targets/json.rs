//! JSON: text, MMC4, conversations, and the description of a document in our own shards.
#![no_main]

mod source;

use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|data: &[u8]| {
    let folder = source::folder("a.json", data);
    let path = folder.path().join("a.json");
    for config in [
        json!({"kind": "json-text"}),
        json!({"kind": "mmc4", "pictures": folder.path(), "missing": "leave-out"}),
        json!({"kind": "conversations", "pictures": folder.path()}),
    ] {
        source::read(config, &path);
    }
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in [("0.json", data), ("0.0.jpg", b"picture")] {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, bytes).unwrap();
    }
    let folder = source::folder("a.tar", &archive.into_inner().unwrap());
    source::read(json!({"kind": "shards"}), &folder.path().join("a.tar"));
});
