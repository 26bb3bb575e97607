//! Tokenizers of other models beside Python's; the files come from scripts/reference/encoders.py.

use std::fs;

use mm1_data::foreign::ForeignTokenizer;
use serde_json::Value;

use crate::testdata;

/// Byte-level BPE with an end-of-word mark, and Unigram; both lower their letters.
const NAMES: [&str; 2] = ["clip", "siglip-pair"];

fn tokenizer(name: &str, most: usize) -> anyhow::Result<ForeignTokenizer> {
    ForeignTokenizer::load(&testdata("import").join(name).join("tokenizer.json"), most)
}

/// Texts and their ids.
fn expected(name: &str) -> Vec<(String, Vec<u32>)> {
    let file = testdata("import").join(format!("{name}.json"));
    let cases: Vec<Value> = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let case = |case: &Value| {
        let ids = case["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        (case["text"].as_str().unwrap().to_owned(), ids)
    };
    cases.iter().map(case).collect()
}

#[test]
fn ids_are_those_of_python() {
    for name in NAMES {
        let (tokenizer, cases) = (tokenizer(name, 12).unwrap(), expected(name));
        assert!(cases.iter().any(|(_, ids)| ids.len() == 12), "{name}: no text is cut");
        for (text, ids) in cases {
            assert_eq!(tokenizer.encode(&text).unwrap(), ids, "{name}: {text:?}");
        }
    }
}

#[test]
fn a_long_text_keeps_what_is_added() {
    let text = "a photo of a cat ".repeat(500);
    // Start and end alone, and one more.
    assert_eq!(tokenizer("clip", 2).unwrap().encode(&text).unwrap(), [529, 530]);
    assert_eq!(tokenizer("clip", 3).unwrap().encode(&text).unwrap(), [529, 320, 530]);
    assert_eq!(tokenizer("siglip-pair", 1).unwrap().encode(&text).unwrap(), [1]);
}

#[test]
fn files_that_can_not_be_used() {
    let refused = |error: anyhow::Error, says: &str| {
        let line = format!("{error:#}");
        assert!(line.contains(says) && !line.contains('\n'), "{line}");
    };
    refused(tokenizer("clip", 1).err().unwrap(), "clip/tokenizer.json: it adds 2 tokens to every text");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokenizer.json");
    refused(ForeignTokenizer::load(&file, 9).err().unwrap(), "tokenizer.json: can't be read: No such file");
    fs::write(&file, "{}").unwrap();
    refused(ForeignTokenizer::load(&file, 9).err().unwrap(), "tokenizer.json: ");
}
