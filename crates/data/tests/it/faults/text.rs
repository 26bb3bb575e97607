//! Text as editors on other systems save it, and characters that steer a terminal.

use std::fs;

use mm1_data::image::ImageSpec;
use mm1_data::printable::{printable, printable_lines};
use mm1_data::question::normalised_question;
use mm1_data::source::stored;
use mm1_data::text_file;
use mm1_data::tokenizer::Tokenizer;

use super::{detected, fault, store};
use crate::{testdata, tokenizer};

/// The texts of all documents at a path.
fn texts(path: &std::path::Path) -> Vec<String> {
    let cache = tempfile::tempdir().unwrap();
    let store = store(&cache);
    let found = detected(path, &store).clear().unwrap();
    let sources = stored::open(&found.sources, &store).unwrap();
    let read = |source: &stored::StoredSource, index| {
        let document = source.document(index).unwrap().document;
        document.texts().collect::<String>()
    };
    sources.iter().flat_map(|source| (0..source.documents()).map(move |i| read(source, i))).collect()
}

#[test]
fn fault_35_a_byte_order_mark_is_no_content() {
    let three = ["document 0", "document 1", "document 2"];
    for file in ["bom-array.json", "bom.jsonl"] {
        assert_eq!(texts(&fault("35-byte-order-mark-json").join(file)), three, "{file}");
    }
    assert_eq!(texts(&fault("35-byte-order-mark-json/pictures")).len(), 3);
}

/// A folder with one file.
fn folder(name: &str, content: &[u8]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join(name), content).unwrap();
    root
}

#[test]
fn a_byte_order_mark_and_crlf_are_read_in_every_format_of_text() {
    for (name, content) in [
        ("a.txt", "\u{feff}one\r\ntwo"),
        ("a.md", "\u{feff}one\r\ntwo"),
        ("a.html", "\u{feff}<html><body><pre>one\r\ntwo</pre></body></html>"),
        ("a.jsonl", "\u{feff}{\"text\": \"one\\r\\ntwo\"}\r\n"),
        ("a.json", "\u{feff}\r\n[{\"text\": \"one\\r\\ntwo\"}]\r\n"),
    ] {
        let read = texts(folder(name, content.as_bytes()).path());
        assert_eq!(read.len(), 1, "{name}");
        assert_eq!(read[0].replace("\r\n", "\n"), "one\ntwo", "{name}");
    }
    let root = folder("0.txt", "\u{feff}a caption\r\n".as_bytes());
    fs::copy(testdata("image/rgb.jpg"), root.path().join("0.jpg")).unwrap();
    assert_eq!(texts(root.path()), ["a caption"]);
}

#[test]
fn utf16_is_refused_by_name_and_other_bytes_with_their_place() {
    let utf16 = |text: &str, mark: &[u8]| {
        [mark.to_vec(), text.encode_utf16().flat_map(u16::to_le_bytes).collect()].concat()
    };
    let big: Vec<u8> = "{\"a\": 1}".encode_utf16().flat_map(u16::to_be_bytes).collect();
    for bytes in [utf16("hello", &[0xFF, 0xFE]), utf16("{\"a\": 1}", &[]), big, vec![0xFE, 0xFF, 0, 65]] {
        let error = text_file::text(bytes).unwrap_err().to_string();
        assert!(error.contains("UTF-16") && error.contains("save it as UTF-8"), "{error}");
    }
    let error = text_file::text(b"caf\xe9".to_vec()).unwrap_err().to_string();
    assert!(error.contains("not UTF-8 at byte 3") && error.contains("Latin-1"), "{error}");
    let root = folder("a.jsonl", &utf16("{\"text\": \"x\"}\n", &[0xFF, 0xFE]));
    let cache = tempfile::tempdir().unwrap();
    let found = detected(root.path(), &store(&cache));
    assert!(found.unclear[0].1.contains("UTF-16"), "{:?}", found.unclear);
    for whole in ["", "\u{feff}", "a", "\u{feff}é", "日本語"] {
        assert_eq!(text_file::text(whole.into()).unwrap(), whole.trim_start_matches('\u{feff}'));
    }
}

#[test]
fn a_byte_order_mark_is_read_in_settings_and_tokenizers() {
    let root = tempfile::tempdir().unwrap();
    let marked = |name: &str, text: &[u8]| {
        let path = root.path().join(name);
        fs::write(&path, [&[0xEF, 0xBB, 0xBF], text].concat()).unwrap();
        path
    };
    let plain = root.path().join("plain.json");
    tokenizer().save(&plain).unwrap();
    let path = marked("tokenizer.json", &fs::read(plain).unwrap());
    assert_eq!(Tokenizer::load(&path).unwrap().fingerprint(), tokenizer().fingerprint());
    let settings = br#"{"size": {"height": 8, "width": 8}, "resample": 2, "image_mean": [0, 0, 0],
        "image_std": [1, 1, 1]}"#;
    assert_eq!(ImageSpec::from_preprocessor(&marked("preprocessor_config.json", settings)).unwrap().size, 8);
    let error = ImageSpec::from_preprocessor(root.path()).unwrap_err();
    assert!(format!("{error:#}").contains("a folder, not a regular file"), "{error:#}");
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_are_refused_where_text_is_expected() {
    let root = tempfile::tempdir().unwrap();
    let pipe = root.path().join("pipe.json");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    for (path, what) in [(pipe.as_path(), "a named pipe"), (std::path::Path::new("/dev/zero"), "a device")] {
        let error = format!("{:#}", text_file::read(path).unwrap_err());
        assert!(error.contains(what), "{error}");
        assert!(Tokenizer::load(path).is_err() && ImageSpec::from_preprocessor(path).is_err());
    }
}

#[test]
fn what_steers_a_terminal_is_escaped() {
    for (text, shown) in [
        ("plain, zwj 👨‍👩‍👧 and עברית", "plain, zwj 👨‍👩‍👧 and עברית"),
        ("\u{1b}[31mred\u{7}", "\\u{1b}[31mred\\u{7}"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\u{9b}2J", "\\u{9b}2J"),
        ("gpj.\u{202e}exe\u{2066}", "gpj.\\u{202e}exe\\u{2066}"),
        ("\u{2028}\u{feff}", "\\u{2028}\\u{feff}"),
    ] {
        assert_eq!(printable(text), shown);
    }
    assert_eq!(printable_lines("a\n\tb\u{1b}c\r\n"), "a\n\tb\\u{1b}c\\r\n");
}

#[test]
fn questions_are_the_same_without_case_space_and_punctuation() {
    let same =
        ["What colour is it?", "what  colour is it", "<image>\nWhat colour is it ?", "“What colour is it?”"];
    for question in same {
        assert_eq!(normalised_question(question), "what colour is it", "{question}");
    }
    assert_eq!(normalised_question("図は何？"), "図は何");
    assert_ne!(normalised_question("Is it 3.5?"), normalised_question("Is it 35?"));
    assert_eq!(normalised_question(" \n"), "");
}
