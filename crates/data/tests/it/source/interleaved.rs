//! OBELICS and MMC4.

use mm1_data::document::DocumentKind;
use serde_json::json;

use super::{open, sample, sketches};

#[test]
fn obelics_with_paths_takes_pictures_of_a_folder() {
    let config = |missing: &str| json!({"kind": "obelics", "path": sample("obelics-paths.parquet"), "pictures": sample("pictures"), "missing": missing});
    let all = ["[0]First page.\n\nIts end[1]<end>", "Second page[2]<end>", "No picture<end>"];
    let refused = sketches(config("refuse"));
    assert_eq!(refused[..3], all);
    assert!(refused[3].contains("missing.jpg"), "{}", refused[3]);
    let left_out = sketches(config("leave-out"));
    assert_eq!(left_out[..3], all);
    assert!(left_out[3].contains("without text and pictures"), "{}", left_out[3]);
    assert_eq!(open(config("refuse")).unwrap().stored(0).unwrap().kind, DocumentKind::Interleaved);
}

#[test]
fn obelics_with_bytes_needs_no_folder() {
    let sketches = sketches(json!({"kind": "obelics", "path": sample("obelics-bytes.parquet")}));
    // The sample numbers pictures by their place in the list.
    assert_eq!(
        sketches[..3],
        ["[0]First page.\n\nIts end[2]<end>", "Second page[1]<end>", "No picture<end>"]
    );
    assert_eq!(sketches[3], "[0]<end>");
    let error = super::sketches(
        json!({"kind": "obelics", "path": sample("captioned.parquet"), "images": "image", "texts": "text"}),
    );
    assert!(error[0].contains("these are a struct and text"), "{}", error[0]);
}

#[test]
fn mmc4_puts_a_picture_before_its_sentence() {
    let config = json!({"kind": "mmc4", "path": sample("mmc4.jsonl"), "pictures": sample("pictures")});
    let sketches = sketches(config);
    assert_eq!(sketches[..2], ["[0]One. Two.[2]Three.<end>", "[0][1]Both here.<end>"]);
    assert!(sketches[2].contains("missing.jpg"), "{}", sketches[2]);
    assert!(sketches[3].contains("0.jpg belongs to sentence 1 of 1"), "{}", sketches[3]);
}
