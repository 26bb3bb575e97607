//! Chat templates of others with texts of others: rendering, and what is learned of it.
#![no_main]

use std::collections::BTreeMap;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use mm1_data::chat::{self, Turn};
use mm1_data::chat_template::{ChatTemplate, TemplateMessage};
use mm1_data::document::Segment;
use mm1_data::tokenizer::Tokenizer;

/// Bytes that a template may write, whatever it does; the conversations here are short.
const MOST_WRITTEN: usize = 64 << 20;

/// The text of a tokenizer with the bytes alone.
fn tokenizer() -> &'static str {
    static JSON: OnceLock<String> = OnceLock::new();
    JSON.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        Tokenizer::train(std::iter::empty(), 262).unwrap().save(&path).unwrap();
        std::fs::read_to_string(path).unwrap()
    })
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut parts = text.split('\u{1e}');
    let source = parts.next().unwrap_or_default();
    let texts: Vec<&str> = parts.take(20).collect();
    let tokens = [("bos_token", "<|pad|>"), ("eos_token", "<|end|>")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let Ok(template) = ChatTemplate::new(source, BTreeMap::from(tokens)) else { return };
    let message = |(number, text): (usize, &&str)| TemplateMessage {
        role: ["user", "assistant"][number % 2],
        content: (*text).to_owned(),
    };
    let messages: Vec<_> = texts.iter().enumerate().map(message).collect();
    for reply in [false, true] {
        let written = template.render(&messages, reply).unwrap_or_default();
        assert!(written.len() <= MOST_WRITTEN);
    }
    let Ok(tokenizer) = Tokenizer::from_json(tokenizer(), Some(template)) else { return };
    let turn = |(number, text): (usize, &&str)| match number % 2 {
        0 => Turn::user(vec![Segment::prompt(*text)]),
        _ => Turn::assistant(*text),
    };
    let turns: Vec<Turn> = texts.iter().enumerate().map(turn).collect();
    let _ = tokenizer.lay_out(&chat::document("", &turns).segments);
    let _ = tokenizer.lay_out(&chat::prompt(&turns));
});
