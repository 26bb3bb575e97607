//! Text without pictures.

use std::collections::BTreeSet;

use mm1_data::document::DocumentKind;
use mm1_data::source::{Source as _, Split};
use serde_json::json;

use super::{open, refusal, sample, sketches, written};

#[test]
fn a_file_is_a_document_or_blank_lines_part_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(folder.path(), "a.txt", "\n One\ntwo.\n \t\n\n\nThree ünï.\r\n\r\nFour");
    written(folder.path(), "deeper/b.md", "Five");
    written(folder.path(), "c.rs", "not text");
    let whole = json!({"kind": "text", "path": folder.path()});
    assert_eq!(sketches(whole.clone()), ["One\ntwo.\n \t\n\n\nThree ünï.\r\n\r\nFour<end>", "Five<end>"]);
    let document = open(whole).unwrap().stored(1).unwrap();
    assert_eq!((document.id.as_str(), document.kind), ("mine/deeper/b.md", DocumentKind::TextOnly));
    let parts = json!({"kind": "text", "path": path, "documents": "blank-lines"});
    assert_eq!(sketches(parts.clone()), ["One\ntwo.<end>", "Three ünï.<end>", "Four<end>"]);
    assert_eq!(open(parts).unwrap().stored(0).unwrap().id, "mine/a.txt/1");
}

#[test]
fn text_that_cannot_be_used_says_why() {
    let folder = tempfile::tempdir().unwrap();
    for (bytes, reason) in
        [(b"\xff\xfd", "a.txt: not UTF-8 at byte 0"), (b"\xff\xfe", "a.txt: text in UTF-16")]
    {
        let path = written(folder.path(), "a.txt", bytes);
        let found = sketches(json!({"kind": "text", "path": path}));
        assert!(found[0].contains(reason), "{}", found[0]);
    }
    let path = written(folder.path(), "b.txt", "");
    assert!(sketches(json!({"kind": "text", "path": path}))[0].contains("without text"));
    let path = written(folder.path(), "c.txt", "\n \n");
    assert!(
        refusal(json!({"kind": "text", "path": path, "documents": "blank-lines"})).contains("no document")
    );
    assert!(refusal(json!({"kind": "text", "path": folder.path().join("none")})).contains("none"));
    assert!(refusal(json!({"kind": "text", "path": path, "test_share": 1.0})).contains("test_share"));
}

#[test]
fn json_lines_are_read_packed_or_not() {
    for name in ["text.jsonl", "text.jsonl.gz", "text.jsonl.zst"] {
        let sketches = sketches(json!({"kind": "json-text", "path": sample(name)}));
        let expected: Vec<_> =
            (0..5).map(|i| format!("Text {i} with \"quotes\" and ünïcode\n.<end>")).collect();
        assert_eq!(sketches, expected, "{name}");
    }
    let wrong = sketches(json!({"kind": "json-text", "path": sample("text.jsonl"), "text": "n"}));
    assert!(wrong[0].contains("text.jsonl: no text in the field \"n\" at byte 0"), "{}", wrong[0]);
}

#[test]
fn values_of_an_array_and_of_lines_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let values = [
        r#"{"text": "a]},[{\"\\"}"#,
        r#"{"x": [[1], {"y": []}], "text": "b\n"}"#,
        r#"{"text": "c", "z": "\\\\"}"#,
    ];
    // Longer than the buffer, so that a value lies across two chunks.
    let long = format!("{{\"text\": \"{}\"}}", "d ".repeat(300_000));
    for (between, first, last) in
        [("\n", "", "\n"), ("\n\n\r\n", "\n", ""), (",", "[", "]"), (" ,\n ", "\n [\n", " \n]\n")]
    {
        let text = [first, &values.join(between), between, &long, last].concat();
        let path = written(folder.path(), "values.json", text);
        let sketches = sketches(json!({"kind": "json-text", "path": path}));
        assert_eq!(sketches[..3], ["a]},[{\"\\<end>", "b<end>", "c<end>"], "{between:?}");
        assert_eq!((sketches.len(), sketches[3].len()), (4, 599_999 + 5));
    }
    for (text, reason) in
        [("[{\"text\": \"a\"}", "does not end"), ("[\"a\"] x", "after the end"), ("[]", "no document")]
    {
        let path = written(folder.path(), "wrong.json", text);
        let error = refusal(json!({"kind": "json-text", "path": path}));
        assert!(error.contains(reason), "{text}: {error}");
    }
    let path = written(folder.path(), "half.jsonl", "{\"text\": \"fine\"}\n{\"text\": \"bro");
    let sketches = sketches(json!({"kind": "json-text", "path": path}));
    assert!(sketches[0] == "fine<end>" && sketches[1].contains("the value at byte 17"), "{sketches:?}");
}

#[test]
fn the_same_text_is_on_the_same_side_of_the_split() {
    let folder = tempfile::tempdir().unwrap();
    let text: String = (0..200).map(|i| format!("{{\"text\": \"number {}\"}}\n", i % 50)).collect();
    let path = written(folder.path(), "twice.jsonl", text);
    let files = open(json!({"kind": "json-text", "path": path, "test_share": 0.3})).unwrap();
    let side = |split| -> BTreeSet<String> {
        let texts = (0..files.len(split).unwrap()).map(|i| files.document(split, i).unwrap());
        texts.map(|d| d.texts().collect()).collect()
    };
    let (train, test) = (side(Split::Train), side(Split::Test));
    assert!(train.is_disjoint(&test) && test.len() > 5 && train.len() + test.len() == 50);
}
