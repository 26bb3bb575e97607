//! Inputs of the same kinds as the faults that were reported, beside them.

use std::fs;
use std::path::Path;

use mm1_data::examine::{Damaged, examine};
use mm1_data::image::DecodeBudget;
use mm1_data::shard::ShardManifest;
use mm1_data::source::{SourceConfig, Split};

use super::detection::picture;
use super::{read, told_apart};
use crate::commands::{opened, told};
use crate::source::written;

/// Four pictures in a folder.
fn pictures() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    (0..4).for_each(|i| fs::write(folder.path().join(format!("{i}.jpg")), picture(i)).unwrap());
    folder
}

fn text(folder: &tempfile::TempDir) -> &str {
    folder.path().to_str().unwrap()
}

/// The one line that refuses a path.
fn refused(path: &str) -> String {
    let error = told(&[path], None, &[]).and_then(|detected| detected.clear()).err().unwrap();
    format!("{error:#}")
}

/// An archive of these members.
fn archive(folder: &Path, name: &str, members: &[(&str, &[u8])]) -> String {
    let mut archive = tar::Builder::new(fs::File::create(folder.join(name)).unwrap());
    for (name, content) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, *content).unwrap();
    }
    archive.finish().unwrap();
    folder.join(name).to_string_lossy().into_owned()
}

#[test]
fn lists_whose_captions_are_none_are_refused_with_what_they_are() {
    let hash = |i: usize| format!("d41d8cd98f00b20{i}e9800998ecf8427e");
    let label = |i: usize| ["cat", "dog"][i % 2].to_owned();
    let json = |caption: &dyn Fn(usize) -> String| -> String {
        let line = |i| serde_json::json!({"file_name": format!("{}.jpg", i % 4), "text": caption(i)});
        (0..8).map(|i| line(i).to_string() + "\n").collect()
    };
    let csv = |caption: &dyn Fn(usize) -> String| -> String {
        let lines: String = (0..8).map(|i| format!("{}.jpg,{}\n", i % 4, caption(i))).collect();
        format!("file_name,text\n{lines}")
    };
    for (name, list, is) in [
        ("metadata.jsonl", json(&hash), "identifiers"),
        ("metadata.jsonl", json(&label), "labels, one word out of few"),
        ("metadata.csv", csv(&hash), "identifiers"),
        ("metadata.csv", csv(&|i| format!("https://a.org/{i}")), "addresses"),
    ] {
        let folder = pictures();
        written(folder.path(), name, &list);
        let line = refused(text(&folder));
        assert!(line.contains(is) && line.contains("--kind folder"), "{name}: {line}");
        // What a person says goes.
        assert_eq!(opened(&[text(&folder)], Some("folder"), &[]).unwrap()[0].documents(), 8, "{name}");
    }
}

#[test]
fn texts_that_are_none_are_refused_with_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    for (value, is) in
        [("{i:06}", "identifiers"), ("https://a.org/{i}", "addresses"), ("img/{i}.png", "names")]
    {
        let line = |i: usize| {
            let text = value.replace("{i:06}", &format!("{i:06}")).replace("{i}", &i.to_string());
            serde_json::json!({"text": text, "content": "A sentence about things."}).to_string() + "\n"
        };
        let path = written(folder.path(), "a.jsonl", (0..8).map(line).collect::<String>());
        assert!(refused(&path).contains(&format!("`text` holds {is}")), "{}", refused(&path));
        for field in ["content", "text"] {
            assert_eq!(opened(&[&path], None, &[&format!("text={field}")]).unwrap()[0].documents(), 8);
        }
    }
}

#[test]
fn lists_of_other_programs_are_read() {
    for (name, delimiter, mark) in [
        // Flickr8k; a spreadsheet of a system that writes a comma in numbers; one with tabs; with a mark.
        ("captions.txt", ',', ""),
        ("captions.csv", ';', ""),
        ("list.tsv", '\t', ""),
        ("metadata.csv", ',', "\u{feff}"),
    ] {
        let folder = pictures();
        let lines: String = (0..4).map(|i| format!("{i}.jpg{delimiter}a thing, {i}\r\n")).collect();
        let lines = if delimiter == ',' { lines.replace("thing,", "thing") } else { lines };
        written(folder.path(), name, format!("{mark}image{delimiter}caption\r\n{lines}"));
        let (documents, _) = read(text(&folder), &[]);
        assert_eq!(told_apart(&documents), (4, Vec::new()), "{name}: {documents:?}");
        if name != "list.tsv" {
            let config = serde_json::json!({"kind": "folder", "path": folder.path()});
            let source =
                serde_json::from_value::<SourceConfig>(config).unwrap().open("mine", 1, None).unwrap();
            assert_eq!(source.len(Split::Train).unwrap() + source.len(Split::Test).unwrap(), 4, "{name}");
        }
    }
    // A text of that name that is no list is a caption, or a text.
    let folder = pictures();
    written(folder.path(), "captions.txt", "some prose, with a comma\n");
    (0..4).for_each(|i| drop(written(folder.path(), &format!("{i}.txt"), "a thing")));
    assert_eq!(opened(&[text(&folder)], None, &[]).unwrap()[0].documents(), 4);
}

#[test]
fn a_caption_may_be_named_after_the_whole_name_of_its_picture() {
    let folder = pictures();
    for i in 0..4 {
        written(folder.path(), &format!("{i}.JPG.txt"), format!("a thing {i}"));
    }
    written(folder.path(), "0.txt", "the nearer name");
    fs::write(folder.path().join("x.avif"), "avif").unwrap();
    written(folder.path(), "x.avif.txt", "not read");
    let (documents, _) = read(text(&folder), &[]);
    assert_eq!(told_apart(&documents).0, 4, "{documents:?}");
    assert!(documents[0].as_ref().unwrap().contains("the nearer name"), "{documents:?}");
    let left = told(&[text(&folder)], None, &[]).unwrap().left;
    let mut reasons: Vec<&str> = left.iter().map(|left| left.reason.as_str()).collect();
    reasons.sort_unstable();
    let not_read = "a picture of a format that is not read: write JPEG, PNG or WebP";
    assert_eq!(reasons, ["a caption whose picture is not read", not_read, "a second caption of a picture"]);
    let config = serde_json::json!({"kind": "folder", "path": folder.path(), "test_share": 0.0});
    let source = serde_json::from_value::<SourceConfig>(config).unwrap().open("mine", 1, None).unwrap();
    let read = (0..5).filter(|i| source.document(Split::Train, *i).is_ok()).count();
    assert_eq!((source.len(Split::Train), read), (Some(5), 4), "one is damaged: its picture is not read");
}

#[test]
fn a_mark_in_the_json_of_an_archive_is_no_content() {
    let folder = tempfile::tempdir().unwrap();
    let (jpg, json) = (picture(0), "\u{feff}{\"caption\": \"a thing\"}".as_bytes());
    let members: [(&str, &[u8]); 4] =
        [("0.jpg", &jpg), ("0.json", json), ("1.jpg", &jpg), ("1.json", b"{\"caption\": nan}")];
    let (documents, _) = read(&archive(folder.path(), "a.tar", &members), &[]);
    let (whole, reasons) = told_apart(&documents);
    assert_eq!((whole, reasons.len()), (1, 1));
    assert!(reasons[0].contains("1: .json is not JSON: `nan` at its byte 12"), "{}", reasons[0]);
}

#[test]
fn documents_of_shards_are_refused_by_field_and_value() {
    let folder = tempfile::tempdir().unwrap();
    let segment = |segment: &str| format!(r#"{{"id": "a", "kind": "captioned", "segments": [{segment}]}}"#);
    let cases = [
        (segment(r#"{"text": "good"}"#), ""),
        (segment(r#"{"text": "good", "other": 1}, {"token": "end", "learn": false}"#), ""),
        (segment(r#"{"text": 3}"#), "segments[0]: `text` is 3, not a text"),
        (segment(r#"{"text": "x"}, {"txt": "x"}"#), "`segments[1]` has none of `text`, `image` and `token`"),
        (segment(r#"{"text": "x", "token": "end"}"#), "`segments[0]` has text and token of"),
        (
            segment(r#"{"token": "eos"}"#),
            "`token` is \"eos\", not pad, end, image, user, assistant or system",
        ),
        (segment(r#"{"text": "x", "learn": 1}"#), "`segments[0].learn` is 1, not true or false"),
        (segment(r#"{"image": "9.jpg"}"#), "no picture \"9.jpg\" beside it"),
        (segment("7"), "`segments[0]` is 7, not a segment"),
        (segment(""), "a document without segments"),
        (segment("").replace("captioned", "odd"), "a document without segments"),
        (
            segment(r#"{"text": "x"}"#).replace("captioned", "odd"),
            "`kind` is \"odd\", not captioned, synthetic",
        ),
        (segment(r#"{"text": "x"}"#).replace("\"id\"", "\"no\""), "`id` is null, not a text"),
        (segment(r#"{"text": "x"}"#)[..40].to_owned(), "is not JSON: it ends in its middle"),
        ("[]".to_owned(), "it is [], not a document"),
    ];
    let names: Vec<String> = (0..cases.len()).map(|i| format!("{i:02}.json")).collect();
    let members: Vec<(&str, &[u8])> =
        names.iter().zip(&cases).map(|(name, (json, _))| (name.as_str(), json.as_bytes())).collect();
    let path = archive(folder.path(), "a.tar", &members);
    let sources = opened(&[&path], Some("shards"), &[]).unwrap();
    for (i, (json, told)) in cases.iter().enumerate() {
        match sources[0].document(i as u64) {
            Ok(_) => assert_eq!(*told, "", "{json}"),
            Err(error) => {
                let line = format!("{error:#}");
                assert!(line.contains(told) && !told.is_empty(), "{json}: {line}");
                assert!(line.contains(&format!("{i:02}.json")) && !line.contains("line 1 column"), "{line}");
            }
        }
    }
    written(folder.path(), "manifest.json", "{\"shards\": [3]}");
    let error = format!("{:#}", ShardManifest::read(folder.path()).unwrap_err());
    assert!(error.ends_with("manifest.json: not a list of shards that mm1 has written"), "{error}");
}

#[test]
fn members_of_a_shard_that_no_document_names_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let json = br#"{"id": "a", "kind": "captioned", "segments": [{"image": "0.0.jpg"}, {"text": "x"}]}"#;
    let jpg = picture(0);
    let members: [(&str, &[u8]); 4] =
        [("0.json", json), ("0.0.jpg", &jpg), ("0.1.jpg", &jpg), ("0.cls", b"7")];
    let (documents, left_out) = read(&archive(folder.path(), "a.tar", &members), &[]);
    assert_eq!((told_apart(&documents).0, left_out.total()), (1, 2));
}

#[test]
fn files_of_another_kind_than_their_name_says_are_told() {
    let folder = tempfile::tempdir().unwrap();
    for (name, start, told) in [
        ("a.tar", &b"\x1f\x8b\x08\0\0\0\0\0"[..], "packed by gzip, which its name does not say"),
        ("b.jsonl", b"\x28\xb5\x2f\xfd\0\0\0", "packed by zstd"),
        ("c.parquet", b"PK\x03\x04 and more of it", "a ZIP archive"),
        ("d.parquet", b"", "not a Parquet file: it has 0 bytes"),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, start.repeat(100)).unwrap();
        let line = refused(path.to_str().unwrap());
        assert!(line.contains(told), "{name}: {line}");
    }
}

#[test]
fn a_picture_that_is_not_there_is_called_so() {
    let folder = pictures();
    let page = r#"{"text_list": ["A."], "image_info": [{"image_name": "IMAGE", "matched_text_index": 0}]}"#;
    let lines: String = ["0.jpg", "9.jpg", "1.jpg"].map(|name| page.replace("IMAGE", name) + "\n").concat();
    let (documents, _) = read(&written(folder.path(), "pages.jsonl", lines), &[]);
    let (whole, reasons) = told_apart(&documents);
    assert!(whole == 2 && reasons[0].ends_with("9.jpg is not there"), "{reasons:?}");
    written(
        folder.path(),
        "captions.jsonl",
        "{\"path\": \"0.jpg\", \"text\": \"x y z\"}\n{\"path\": \"9.jpg\", \"text\": \"z y x\"}",
    );
    let sources = opened(&[&folder.path().join("captions.jsonl").to_string_lossy()], None, &[]).unwrap();
    let error = format!("{:#}", sources[0].document(1).unwrap_err());
    assert!(error.ends_with("9.jpg: the picture is not there"), "{error}");
}

#[test]
fn mmc4_is_refused_by_field_and_value() {
    let folder = pictures();
    let page =
        |texts: &str, pictures: &str| format!("{{\"text_list\": {texts}, \"image_info\": {pictures}}}\n");
    let good = page("[\"A.\"]", "[{\"image_name\": \"0.jpg\", \"matched_text_index\": 0}]");
    let lines = [
        good.clone(),
        page("[3]", "[]"),
        page("[\"A.\"]", "[{\"image_name\": 4, \"matched_text_index\": 0}]"),
        page("[\"A.\"]", "[{\"image_name\": \"0.jpg\", \"matched_text_index\": -1}]"),
        good.clone(),
        good.clone(),
        good,
    ];
    let (documents, _) = read(&written(folder.path(), "pages.jsonl", lines.concat()), &[]);
    let (whole, reasons) = told_apart(&documents);
    assert_eq!(whole, 4, "{documents:?}");
    for (reason, told) in reasons.iter().zip([
        "`text_list[0]` is 3, not a text",
        "`image_info[0].image_name` is 4, not the name of a file",
        "`image_info[0].matched_text_index` is -1, not the number of a sentence",
    ]) {
        assert!(reason.contains(told), "{reason}");
    }
}

#[test]
fn a_jpeg_that_is_cut_anywhere_is_truncated() {
    let whole = picture(0);
    for end in [20, 100, whole.len() / 2, whole.len() - 40, whole.len() - 2] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.jpg"), &whole[..end]).unwrap();
        written(folder.path(), "a.txt", "a thing");
        let source = &opened(&[text(&folder)], None, &[]).unwrap()[0];
        let error = examine(source, 0, super::PIXELS, &DecodeBudget::default()).err().unwrap();
        assert!(format!("{error:#}").contains("truncated JPEG: "), "{end}: {error:#}");
    }
}

#[test]
fn causes_have_no_names_and_places() {
    for (reason, cause) in [
        ("the value at byte 12 is not JSON: `NaN` at its byte 3", "not JSON: `NaN` at its byte 3"),
        (
            "the value at byte 12: `messages` is 3, not a list of turns",
            "`messages` is 3, not a list of turns",
        ),
        ("a/b.jpg: picture 0 (b.jpg): damaged picture: x", "damaged picture: x"),
        ("0: no turn of the assistant", "no turn of the assistant"),
        ("its text is 3: not a text", "its text is 3: not a text"),
    ] {
        let (source, file, reason) = ("s".to_owned(), "f".to_owned(), reason.to_owned());
        assert_eq!(Damaged { source, file, index: Some(0), reason }.cause(), cause);
    }
}
