//! A format is recognised by what it is: by the names, types and values of all of its columns or fields.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use mm1_data::document::DocumentKind;
use mm1_data::source::{SourceConfig, Split};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::{from_value, json};

use super::{case, documents, read, told_apart};
use crate::commands::{opened, told};
use crate::source::written;

/// The cells of a column.
pub(super) enum Cells<'a> {
    Texts(Vec<&'a str>),
    Bytes(Vec<Vec<u8>>),
    Lists(Vec<Vec<&'a str>>),
    /// Lists of pictures.
    Pictures(Vec<Vec<Vec<u8>>>),
}

/// Writes a Parquet file.
pub(super) fn table(folder: &Path, name: &str, columns: &[(&str, Cells)]) -> String {
    let field = |(name, cells): &(&str, Cells)| match cells {
        Cells::Texts(_) => format!("required binary {name} (UTF8);"),
        Cells::Bytes(_) => format!("required binary {name};"),
        Cells::Lists(_) => {
            format!(
                "required group {name} (LIST) {{ repeated group list {{ required binary element (UTF8); }} }}"
            )
        }
        Cells::Pictures(_) => {
            format!("required group {name} (LIST) {{ repeated group list {{ required binary element; }} }}")
        }
    };
    let schema = format!("message schema {{ {} }}", columns.iter().map(field).collect::<String>());
    let path = folder.join(name);
    let file = File::create(&path).unwrap();
    let schema = Arc::new(parse_message_type(&schema).unwrap());
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(WriterProperties::default())).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for (_, cells) in columns {
        let lists: Vec<Vec<Vec<u8>>> = match cells {
            Cells::Texts(texts) => texts.iter().map(|text| vec![text.as_bytes().to_vec()]).collect(),
            Cells::Bytes(bytes) => bytes.iter().map(|bytes| vec![bytes.clone()]).collect(),
            Cells::Lists(lists) => {
                lists.iter().map(|list| list.iter().map(|text| text.as_bytes().to_vec()).collect()).collect()
            }
            Cells::Pictures(lists) => lists.clone(),
        };
        let values: Vec<ByteArray> = lists.iter().flatten().map(|value| value.clone().into()).collect();
        let repeats: Vec<i16> =
            lists.iter().flat_map(|list| (0..list.len()).map(|i| i16::from(i > 0))).collect();
        let (defined, repeated) = match cells {
            Cells::Texts(_) | Cells::Bytes(_) => (None, None),
            Cells::Lists(_) | Cells::Pictures(_) => (Some(vec![1; values.len()]), Some(repeats)),
        };
        let mut column = group.next_column().unwrap().unwrap();
        let typed = column.typed::<ByteArrayType>();
        typed.write_batch(&values, defined.as_deref(), repeated.as_deref()).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    path.to_string_lossy().into_owned()
}

/// The pictures of a case.
pub(super) fn picture(number: usize) -> Vec<u8> {
    fs::read(case(&format!("44-openai-parts/{number}.jpg"))).unwrap()
}

/// The kind of the one source of a path.
fn kind(path: &str) -> &'static str {
    let found = told(&[path], None, &[]).unwrap().clear().unwrap();
    assert_eq!(found.sources.len(), 1, "{path}");
    found.sources[0].kind
}

/// The one line that refuses a path.
fn refused(path: &str) -> String {
    let error = told(&[path], None, &[]).and_then(|detected| detected.clear()).err().unwrap();
    format!("{error:#}")
}

#[test]
fn fault_25_conversations_in_parquet_have_their_pictures() {
    let path = case("25-llava-recap-parquet/recap.parquet");
    assert_eq!(kind(&path), "parquet-conversations");
    let (talks, left_out) = read(&path, &[]);
    let (whole, reasons) = told_apart(&talks);
    assert!(whole >= 2 && reasons.is_empty() && left_out.is_empty(), "{talks:?}");
    for talk in talks.into_iter().map(Result::unwrap) {
        assert!(talk.starts_with("<user>[") && talk.contains("What is it?<assistant>Thing"), "{talk}");
    }
}

#[test]
fn fault_26_a_list_of_pictures_beside_a_text_keeps_them() {
    let sources = opened(&[&case("26-images-list-and-text/list.parquet")], None, &[]).unwrap();
    assert_eq!(sources[0].kind(), "parquet-captioned");
    let read: Vec<_> = documents(&sources[0]).into_iter().map(Result::unwrap).collect();
    assert_eq!(read.len(), 4);
    assert_eq!(read.iter().map(|read| read.document.pictures().count()).sum::<usize>(), 8);
    assert!(read.iter().all(|read| read.document.kind == DocumentKind::Interleaved));
}

#[test]
fn fault_28_conversations_are_no_text_and_no_source() {
    for (file, pictures) in [("messages", false), ("json-string", false), ("json-string-image", true)] {
        let path = case(&format!("28-messages-and-source-parquet/{file}.parquet"));
        assert_eq!(kind(&path), "parquet-conversations", "{file}");
        let (talks, _) = read(&path, &[]);
        for talk in talks.into_iter().map(Result::unwrap) {
            assert!(talk.contains("Name it.<assistant>Thing"), "{file}: {talk}");
            assert_eq!(talk.starts_with("<user>["), pictures, "{file}: {talk}");
        }
    }
}

#[test]
fn fault_71_lists_of_the_imagefolder_layout_are_captions() {
    for folder in ["metadata", "csv", "image-text"] {
        let sources = opened(&[&case(&format!("71-imagefolder-metadata/{folder}"))], None, &[]).unwrap();
        assert_eq!((sources.len(), sources[0].kind(), sources[0].documents()), (1, "folder", 3), "{folder}");
        for read in documents(&sources[0]) {
            assert_eq!(read.unwrap().document.pictures().count(), 1, "{folder}");
        }
    }
    let path = case("71-imagefolder-metadata/unlisted");
    let detected = told(&[&path], None, &[]).unwrap();
    assert_eq!((detected.sources.len(), detected.left.len()), (1, 1));
    assert!(detected.left[0].file.ends_with("2.jpg"));
    assert_eq!(detected.left[0].reason, "a picture that captions.jsonl does not name");
}

#[test]
fn a_recipe_reads_the_lists_that_a_command_finds() {
    for (folder, list) in [("metadata", "metadata.jsonl"), ("csv", "metadata.csv")] {
        for path in [folder.to_owned(), format!("{folder}/{list}")] {
            let config = json!({"kind": "folder", "path": case(&format!("71-imagefolder-metadata/{path}"))});
            let source = from_value::<SourceConfig>(config).unwrap().open("mine", 1, None).unwrap();
            assert_eq!(source.len(Split::Train).unwrap() + source.len(Split::Test).unwrap(), 3, "{path}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("0.jpg"), picture(0)).unwrap();
    table(
        folder.path(),
        "metadata.parquet",
        &[("file_name", Cells::Texts(vec!["0.jpg"])), ("text", Cells::Texts(vec!["a thing"]))],
    );
    let path = folder.path().to_string_lossy().into_owned();
    assert_eq!(read(&path, &[]).0.len(), 1);
    // Two lists of one folder: which of them is meant?
    written(folder.path(), "captions.jsonl", r#"{"path": "0.jpg", "caption": "x"}"#);
    let config = json!({"kind": "folder", "path": path});
    let error = from_value::<SourceConfig>(config).unwrap().open("mine", 1, None).err().unwrap();
    assert!(format!("{error:#}").contains("captions.jsonl, metadata.parquet"), "{error:#}");
}

#[test]
fn columns_that_are_never_captions_are_refused_with_what_they_hold() {
    let folder = tempfile::tempdir().unwrap();
    let pictures = || ("image", Cells::Bytes((0..4).map(picture).collect()));
    for (name, texts, told) in [
        ("id", vec!["00000", "00001", "00002", "00003"], "id (identifiers)"),
        ("md5", vec!["d41d8cd98f00b204e9800998ecf8427e"; 4], "md5 (identifiers)"),
        ("file", vec!["a/0.jpg", "a/1.jpg", "b/2.PNG", "3.webp"], "file (names of files)"),
        (
            "url",
            vec!["https://example.org/0", "https://example.org/1", "x", "http://b.org"],
            "url (addresses)",
        ),
        ("caption", vec!["{\"en\": \"a\"}", "{\"en\": \"b\"}", "{}", "[1]"], "caption (JSON)"),
        ("text", vec!["cat", "cat", "cat", "cat"], "text (labels, one word out of few)"),
        ("source", vec!["own-set"; 4], "source (labels, one word out of few)"),
        ("by", vec!["Jane Doe", "John Doe", "Ann Lee", "Bo Li"], "by (texts)"),
    ] {
        let path = table(
            folder.path(),
            &format!("{name}.parquet"),
            &[pictures(), (name, Cells::Texts(texts.clone()))],
        );
        let line = refused(&path);
        assert!(line.contains(told) && line.contains("--set text=COLUMN"), "{line}");
        // What a person says goes.
        assert_eq!(read(&path, &[&format!("text={name}")]).0.len(), 4, "{name}");
        // Without pictures it is no text either.
        let path = table(folder.path(), "alone.parquet", &[(name, Cells::Texts(texts))]);
        assert!(refused(&path).contains(told), "{}", refused(&path));
    }
}

#[test]
fn a_name_or_else_the_values_say_what_is_a_caption() {
    let folder = tempfile::tempdir().unwrap();
    let pictures = || ("jpg", Cells::Bytes((0..3).map(picture).collect()));
    let ids = || ("id", Cells::Texts(vec!["0", "1", "2"]));
    let prose =
        |name| (name, Cells::Texts(vec!["a red ball lies there", "two dogs run about", "the sea by night"]));
    let short = |name| (name, Cells::Texts(vec!["ball", "dogs", "sea"]));
    let write = |columns: &[(&str, Cells)]| table(folder.path(), "x.parquet", columns);
    for (columns, text) in [
        (vec![pictures(), ids(), short("TEXT")], "TEXT"),
        (vec![pictures(), ids(), prose("blip2")], "blip2"),
        (vec![pictures(), prose("title"), short("Caption")], "Caption"),
    ] {
        let found = told(&[&write(&columns)], None, &[]).unwrap();
        assert_eq!(serde_json::to_value(&found.sources[0].config).unwrap()["text"], text);
    }
    for columns in [
        vec![pictures(), prose("text"), prose("caption")],
        vec![pictures(), prose("question"), prose("answer")],
    ] {
        let line = refused(&write(&columns));
        assert!(line.contains("2 columns fit `text` (") && line.contains("add --set text=COLUMN"), "{line}");
    }
}

#[test]
fn of_a_list_of_captions_each_visit_shows_one() {
    let folder = tempfile::tempdir().unwrap();
    let captions: Vec<Vec<&str>> = vec![vec!["red", "a red one", "ball"], vec!["blue", "a blue one"]];
    let path = table(
        folder.path(),
        "coco.parquet",
        &[
            ("image", Cells::Bytes(vec![picture(0), picture(1)])),
            ("captions", Cells::Lists(captions.clone())),
        ],
    );
    assert_eq!(kind(&path), "parquet-captioned");
    let (_, left_out) = read(&path, &[]);
    assert_eq!(left_out.total(), 3);
    let texts = |seed: u64| -> Vec<String> {
        let config =
            json!({"kind": "parquet-captioned", "path": path, "text": "captions", "test_share": 0.0});
        let source = from_value::<SourceConfig>(config).unwrap().open("mine", seed, None).unwrap();
        (0..12).map(|i| source.document(Split::Train, i).unwrap().texts().collect()).collect()
    };
    let seen = texts(1);
    assert_eq!(seen, texts(1), "the same seed shows the same");
    assert!((2..20).any(|seed| texts(seed) != seen), "another seed another order");
    for all in captions {
        let shown: Vec<&str> = seen.iter().map(String::as_str).filter(|text| all.contains(text)).collect();
        assert_eq!(shown.len(), 6);
        assert_eq!(shown[..all.len()].iter().collect::<std::collections::BTreeSet<_>>().len(), all.len());
    }
}

#[test]
fn one_picture_in_a_list_and_lists_beside_lists() {
    let folder = tempfile::tempdir().unwrap();
    let pictures = || ("images", Cells::Pictures(vec![vec![picture(0)], vec![picture(1)]]));
    let captions = Cells::Lists(vec![vec!["one a", "one b"], vec!["two a", "two b", "two c"]]);
    let path = table(folder.path(), "a.parquet", &[pictures(), ("captions", captions)]);
    assert_eq!(kind(&path), "parquet-captioned");
    let path = table(
        folder.path(),
        "b.parquet",
        &[pictures(), ("texts", Cells::Lists(vec![vec!["one"], vec!["two"]]))],
    );
    assert_eq!(kind(&path), "obelics");
}

#[test]
fn pairs_of_the_cauldron_and_pictures_that_are_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("0.jpg"), picture(0)).unwrap();
    let turns = r#"[{"user": "What?", "assistant": "A thing."}]"#;
    let path = table(
        folder.path(),
        "a.parquet",
        &[
            ("images", Cells::Pictures(vec![vec![picture(0), picture(1)]])),
            ("texts", Cells::Texts(vec![turns])),
        ],
    );
    let (talks, _) = read(&path, &[]);
    assert_eq!(talks[0].as_ref().unwrap().matches('[').count(), 2, "{talks:?}");
    let turns = r#"[{"from": "human", "value": "<image>What?"}, {"from": "gpt", "value": "A thing."}]"#;
    let path = table(
        folder.path(),
        "b.parquet",
        &[("image", Cells::Texts(vec!["0.jpg"])), ("conversations", Cells::Texts(vec![turns]))],
    );
    let (talks, _) = read(&path, &[]);
    assert!(talks[0].as_ref().unwrap().starts_with("<user>["), "{talks:?}");
}

#[test]
fn fields_of_json_are_told_by_their_values() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("0.jpg"), picture(0)).unwrap();
    let file = |name: &str, text: &str| written(folder.path(), name, text);
    assert_eq!(kind(&file("a.jsonl", r#"{"file_name": "0.jpg", "caption": "x"}"#)), "folder");
    assert_eq!(kind(&file("b.jsonl", r#"{"image": "0.jpg", "captions": ["x", "y"]}"#)), "folder");
    assert_eq!(kind(&file("c.json", r#"[{"path": "0.jpg", "text": "x"}]"#)), "folder");
    assert_eq!(kind(&file("d.jsonl", r#"{"path": "src/main.rs", "text": "x"}"#)), "json-text");
    assert_eq!(kind(&file("e.jsonl", r#"{"messages": 3, "text": "x"}"#)), "json-text");
    assert!(refused(&file("f.jsonl", r#"{"image": "9.jpg", "text": "x"}"#)).contains("9.jpg, are not in"));
    assert!(refused(&file("g.jsonl", r#"{"text": "[{\"role\": \"user\"}]"}"#)).contains("`text` holds JSON"));
    let line = refused(&file("h.jsonl", "{\"text\": \"x\"}\n{\"messages\": []}\n"));
    assert!(line.contains("of several kinds (1 conversations, 1 json-text)"), "{line}");
}

#[test]
fn a_folder_of_img2dataset_is_its_shards() {
    let folder = tempfile::tempdir().unwrap();
    let archive = case("20-upper-case-endings/upper.tar");
    fs::copy(archive, folder.path().join("00000.tar")).unwrap();
    table(
        folder.path(),
        "00000.parquet",
        &[("url", Cells::Texts(vec!["https://a.org"])), ("caption", Cells::Texts(vec!["a thing"]))],
    );
    written(folder.path(), "00000_stats.json", r#"{"count": 1, "text": "no data"}"#);
    written(folder.path(), "README.md", "about this set");
    let detected = told(&[folder.path().to_str().unwrap()], None, &[]).unwrap().clear().unwrap();
    assert_eq!(detected.sources.iter().map(|source| source.kind).collect::<Vec<_>>(), ["webdataset"]);
    let mut reasons: Vec<&str> = detected.left.iter().map(|left| left.reason.as_str()).collect();
    reasons.sort_unstable();
    assert_eq!(reasons, ["a text about the data", "statistics of 00000.tar", "the table of 00000.tar"]);
}
