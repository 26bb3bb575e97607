//! Formats told from names and content.

use std::fs;

use serde_json::{Value, json, to_value};

use super::{opened, png, samples, told};
use crate::source::{sample, written};

/// The one source of a path, as a recipe writes it.
fn config(path: &str, edits: &[&str]) -> Value {
    let detected = told(&[path], None, edits).unwrap().clear().unwrap();
    assert_eq!(detected.sources.len(), 1, "{path}");
    to_value(&detected.sources[0].config).unwrap()
}

/// The one line that refuses a path.
fn refused(path: &str, kind: Option<&str>, edits: &[&str]) -> String {
    let error = told(&[path], kind, edits).and_then(|detected| detected.clear()).err().unwrap();
    let line = format!("{error:#}");
    assert!(!line.contains('\n'), "{line}");
    line
}

#[test]
fn every_sample_is_told_by_its_content() {
    let pictures = sample("pictures");
    for (name, expected) in [
        ("pairs.tar", json!({"kind": "webdataset", "caption": "txt"})),
        ("pairs.tar.gz", json!({"kind": "webdataset", "caption": "txt"})),
        ("pairs.tar.zst", json!({"kind": "webdataset", "caption": "txt"})),
        ("long-names-gnu.tar", json!({"kind": "webdataset", "caption": "txt"})),
        ("long-names-pax.tar", json!({"kind": "webdataset", "caption": "txt"})),
        ("captioned.parquet", json!({"kind": "parquet-captioned", "image": "image", "text": "text"})),
        ("obelics-bytes.parquet", json!({"kind": "obelics", "images": "images", "texts": "texts"})),
        ("obelics-paths.parquet", json!({"kind": "obelics", "images": "images", "pictures": pictures})),
        ("text.parquet", json!({"kind": "parquet-text", "text": "text"})),
        ("text.jsonl", json!({"kind": "json-text", "text": "text"})),
        ("text.jsonl.gz", json!({"kind": "json-text"})),
        ("text.jsonl.zst", json!({"kind": "json-text"})),
        ("mmc4.jsonl", json!({"kind": "mmc4", "pictures": pictures})),
        ("llava.json", json!({"kind": "conversations", "pictures": pictures})),
        ("messages.jsonl", json!({"kind": "conversations", "pictures": pictures})),
    ] {
        let found = config(&sample(name), &[]);
        for (field, value) in expected.as_object().unwrap() {
            assert_eq!(&found[field], value, "{name}: {field}");
        }
        assert_eq!(found["path"], sample(name));
    }
}

#[test]
fn what_a_person_says_goes_before_what_is_found() {
    assert_eq!(config(&sample("pairs.tar"), &["caption=json.caption"])["caption"], "json.caption");
    assert_eq!(config(&sample("mmc4.jsonl"), &["missing=leave-out"])["missing"], "leave-out");
    let text = told(&[&sample("messages.jsonl")], Some("json-text"), &["text=id"]).unwrap();
    assert_eq!(to_value(&text.sources[0].config).unwrap()["text"], "id");
    assert!(refused(&sample("pairs.tar"), None, &["captions=txt"]).contains("--set captions"));
    assert!(refused(&sample("pairs.tar"), None, &["caption"]).contains("field=value"));
    assert!(refused(&sample("pairs.tar"), Some("tarball"), &[]).contains("webdataset, parquet-captioned"));
    assert!(refused(&sample("pairs.tar"), Some("webdataset"), &["text=x"]).contains("unknown field `text`"));
    assert!(refused(&sample("pairs.tar"), None, &["path=x"]).contains("SOURCE"));
}

#[test]
fn a_folder_of_all_formats_gives_each_a_source_and_names_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let root = samples(folder.path());
    let path = |name: &str| root.join(name).to_string_lossy().into_owned();
    png(&root, "pairs/a.png", [20, 20], [1, 2, 3]);
    written(&root, "pairs/a.txt", "a caption");
    png(&root, "list/x/b.png", [20, 20], [3, 2, 1]);
    written(&root, "list/mine.jsonl", r#"{"path": "x/b.png", "caption": "listed"}"#);
    written(&root, "prose.txt", "some prose");
    written(&root, "config.json", r#"{"name": "no data"}"#);
    written(&root, "LICENSE", "free");
    png(&root, "lonely.png", [20, 20], [3, 2, 1]);
    let detected = told(&[root.to_str().unwrap()], None, &[]).unwrap().clear().unwrap();
    let mut kinds: Vec<&str> = detected.sources.iter().map(|source| source.kind).collect();
    kinds.sort_unstable();
    assert_eq!(
        kinds,
        [
            "conversations",
            "folder",
            "folder",
            "json-text",
            "mmc4",
            "obelics",
            "obelics",
            "parquet-captioned",
            "parquet-text",
            "text",
            "webdataset"
        ]
    );
    let mut left: Vec<String> = detected.left.iter().map(|left| left.file.clone()).collect();
    left.sort();
    assert_eq!(left, [path("LICENSE"), path("config.json"), path("lonely.png")]);
    let names: std::collections::BTreeSet<&str> = detected.sources.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names.len(), detected.sources.len(), "names are unique: {names:?}");
    let documents: u64 =
        opened(&[root.to_str().unwrap()], None, &[]).unwrap().iter().map(|source| source.documents()).sum();
    assert_eq!(documents, 3 * 6 + 2 * 2 + 10 + 2 * 4 + 7 + 3 * 5 + 4 + 4 + 5 + 1 + 1 + 1 + (1 + 1 + 3));
}

#[test]
fn pages_keep_the_pictures_of_folders_beside_them() {
    let folder = tempfile::tempdir().unwrap();
    png(folder.path(), "images/a.png", [20, 20], [1, 2, 3]);
    written(folder.path(), "en/page.html", "text <img src='../images/a.png'>");
    let sources = opened(&[folder.path().to_str().unwrap()], None, &[]).unwrap();
    assert_eq!((sources.len(), sources[0].kind()), (1, "html"));
    let document = sources[0].document(0).unwrap().document;
    assert_eq!(document.pictures().count(), 1);
    assert!(document.id.ends_with("/en/page.html"), "{}", document.id);
}

#[test]
fn missing_and_ambiguous_evidence_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| written(folder.path(), name, text);
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    for (path, words) in [
        (path("none.tar"), &["none.tar", "can't be read"][..]),
        (path("*.none"), &["no file found"]),
        (file("a.xyz", "x"), &["a.xyz", "--kind"]),
        (file("a.tar", "no archive"), &["a.tar", "header"]),
        (file("a.parquet", "no table"), &["a.parquet", "not a Parquet file"]),
        (file("a.jsonl", "{\"title\": \"x\", \"n\": 1}\n"), &["a.jsonl", "--set text=FIELD", "title"]),
        (file("b.jsonl", "{\"text\": \"x\", \"messages\": []}\n"), &["b.jsonl", "conversations, json-text"]),
        (
            file("c.jsonl", "{\"text\": \n"),
            &["c.jsonl", "the value at byte 0 is not JSON: it ends in its middle"],
        ),
        (file("d.jsonl", "\n"), &["d.jsonl", "no value"]),
        (
            file(
                "e.jsonl",
                r#"{"text_list": ["x"], "image_info": [{"image_name": "none.jpg", "matched_text_index": 0}]}"#,
            ),
            &["e.jsonl", "none.jpg", "images", "--set pictures=DIR"],
        ),
        (
            png(folder.path(), "only.png", [9, 9], [1, 2, 3]).to_string_lossy().into_owned(),
            &["only.png", "--kind"],
        ),
    ] {
        let line = refused(&path, None, &[]);
        words.iter().for_each(|word| assert!(line.contains(word), "`{word}` is not in: {line}"));
    }
    let empty = tempfile::tempdir().unwrap();
    assert!(refused(empty.path().to_str().unwrap(), None, &[]).contains("no file found"));
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(1);
    archive.append_data(&mut header, "0.cls", &b"1"[..]).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_size(1);
    archive.append_data(&mut header, "0.jpg", &b"x"[..]).unwrap();
    let labels = written(folder.path(), "labels.tar", archive.into_inner().unwrap());
    let line = refused(&labels, None, &[]);
    assert!(line.contains("labels.tar") && line.contains("--set caption=MEMBER"), "{line}");
    // The same file in a folder of good ones is not left out in silence.
    written(empty.path(), "bad.tar", "no archive");
    fs::copy(sample("pairs.tar"), empty.path().join("good.tar")).unwrap();
    assert!(refused(empty.path().to_str().unwrap(), None, &[]).contains("bad.tar"));
}
