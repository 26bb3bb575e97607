//! Tokenizers of SentencePiece beside transformers; the files come from scripts/reference/sentence_piece.py.

use std::collections::BTreeMap;

use mm1_data::chat::{self, Turn};
use mm1_data::chat_template::ChatTemplate;
use mm1_data::document::{Segment, Special};
use mm1_data::layout::Laid;
use mm1_data::text_stream::TextStream;
use mm1_data::tokenizer::Tokenizer;
use serde_json::{Value, json};

use crate::{plain, testdata};

/// How files write where a space is put before a text.
const FORMS: [&str; 8] = ["llama2", "zephyr", "phi3", "first", "always", "split", "never", "replace"];

fn read(name: &str) -> Value {
    let path = testdata("import/sentence-piece").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn file(case: &Value) -> Value {
    let mut file = read("tokenizer.json");
    for (field, value) in case["fields"].as_object().unwrap() {
        file[field] = value.clone();
    }
    file
}

fn template(case: &Value) -> ChatTemplate {
    let tokens = [("bos_token", "<s>"), ("eos_token", "</s>")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    ChatTemplate::new(case["template"].as_str().unwrap(), BTreeMap::from(tokens)).unwrap()
}

fn llama2() -> Tokenizer {
    let case = &read("cases.json")["llama2"];
    Tokenizer::from_json(&file(case).to_string(), Some(template(case))).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// The ids of segments, and which of them are learned; a picture is the id 9,999.
fn laid(tokenizer: &Tokenizer, segments: &[Segment]) -> (Vec<u32>, Vec<bool>) {
    let (mut ids, mut learned) = (Vec::new(), Vec::new());
    for laid in tokenizer.lay_out(segments).unwrap() {
        let (new, learn) = match laid {
            Laid::Tokens { ids, learn } => (ids, learn),
            Laid::Picture(_) => (vec![9999], false),
        };
        learned.extend(new.iter().map(|_| learn));
        ids.extend(new);
    }
    (ids, learned)
}

#[test]
fn texts_and_conversations_have_the_ids_of_transformers_in_every_form() {
    let cases = read("cases.json");
    for name in FORMS {
        let case = &cases[name];
        let tokenizer = Tokenizer::from_json(&file(case).to_string(), Some(template(case))).unwrap();
        for text in case["texts"].as_array().unwrap() {
            let (expected, text, again) = (ids(&text["ids"]), &text["text"], &text["again"]);
            let text = text.as_str().unwrap();
            assert_eq!(laid(&tokenizer, &[Segment::text(text)]).0, expected, "{name}: {text:?}");
            assert_eq!(tokenizer.encode(text), expected[1..], "{name}: {text:?}");
            assert_eq!(tokenizer.decode(&expected), again.as_str().unwrap(), "{name}");
        }
        for talk in case["conversations"].as_array().unwrap() {
            let turn = |(number, text): (usize, &Value)| match (number % 2, text.as_str().unwrap()) {
                (0, text) => Turn::user(vec![Segment::prompt(text)]),
                (_, text) => Turn::assistant(text),
            };
            let turns: Vec<Turn> = talk["turns"].as_array().unwrap().iter().enumerate().map(turn).collect();
            let (got, learned) = laid(&tokenizer, &chat::document("", &turns).segments);
            assert_eq!(got, ids(&talk["ids"]), "{name}");
            let expected: Vec<bool> =
                talk["learn"].as_array().unwrap().iter().map(|learn| learn.as_bool().unwrap()).collect();
            assert!(expected.contains(&true) && learned == expected, "{name}: {learned:?}");
            let asked = chat::prompt(&turns[..turns.len() - 1]);
            assert_eq!(laid(&tokenizer, &asked).0, ids(&talk["asked"]), "{name}");
        }
    }
}

#[test]
fn a_text_goes_on_where_one_was_before_it() {
    let tokenizer = llama2();
    let whole = tokenizer.encode("the cat is red");
    let [the, cat] = ["the cat", " is red"].map(Segment::text);
    assert_eq!(laid(&tokenizer, &[the.clone(), cat]).0[1..], whole);
    assert_eq!(tokenizer.encode_after([&the].into_iter(), " is red"), whole[2..]);
    assert_eq!(tokenizer.encode_after([].into_iter(), "the cat is red"), whole);
    // Behind a picture a text begins anew.
    let picture = Segment::Image(plain(8, 8, [9, 9, 9]).into());
    assert_eq!(laid(&tokenizer, &[picture.clone(), the]).0[2..], whole[..2]);
    assert_eq!(tokenizer.encode_after([&picture].into_iter(), "the cat"), whole[..2]);
    // Where a template asks for an answer, it begins as in a conversation.
    let asked = chat::prompt(&[Turn::user(vec![Segment::prompt("what is it")])]);
    assert_eq!(tokenizer.encode_after(asked.iter(), "the cat"), whole[..2]);
    let begun = [&asked[..], &[Segment::prompt("the"), Segment::prompt(" cat")]].concat();
    assert!(laid(&tokenizer, &begun).0.ends_with(&whole[..2]));
}

#[test]
fn long_texts_have_the_tokens_of_their_words() {
    let tokenizer = llama2();
    let words = "the red cat ".repeat(20_000);
    let expected = tokenizer.encode("the red cat").repeat(20_000);
    assert_eq!(tokenizer.encode(words.trim_end()), expected);
    let wide = "ü😀".repeat(30_000);
    assert_eq!(tokenizer.decode(&tokenizer.encode(&wide)), wide);
}

#[test]
fn characters_in_bytes_are_shown_when_they_are_whole() {
    let tokenizer = llama2();
    let mut stream = TextStream::default();
    let text = "a \u{1f600}\u{4f60} cat";
    let pieces: Vec<String> =
        tokenizer.encode(text).iter().map(|&id| stream.push(tokenizer.bytes(id))).collect();
    assert!(pieces.contains(&"\u{1f600}".to_owned()) && pieces.contains(&String::new()), "{pieces:?}");
    assert_eq!(pieces.concat(), format!(" {text}"));
    assert!(tokenizer.strips_first_space() && tokenizer.decode(&tokenizer.encode(text)) == text);
}

#[test]
fn a_run_keeps_the_form_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = llama2();
    tokenizer.save(&folder.path().join("tokenizer.json")).unwrap();
    tokenizer.chat_template().unwrap().save(folder.path()).unwrap();
    let again = Tokenizer::of_run(folder.path()).unwrap();
    assert_eq!(again.fingerprint(), tokenizer.fingerprint());
    let segments = [Segment::text(" the cat"), Segment::text("the mat")];
    assert_eq!(laid(&again, &segments), laid(&tokenizer, &segments));
    assert_eq!(tokenizer.begin(), Some(1));
    assert_eq!(tokenizer.control_name(tokenizer.turn_end()), Some("</s>"));
    let exported: Value = serde_json::from_str(&tokenizer.exported("P", None, 9).unwrap().json).unwrap();
    assert_eq!(exported["normalizer"], file(&read("cases.json")["llama2"])["normalizer"]);
}

#[test]
fn text_spells_neither_special_tokens_nor_bytes() {
    let tokenizer = llama2();
    for text in ["<s></s><unk>", "<0x41><0x0A>", "[INST] </s> [/INST]"] {
        let ids = tokenizer.encode(text);
        assert_eq!(tokenizer.decode(&ids), text);
        assert!(ids.iter().all(|&id| tokenizer.control_name(id).is_none()));
    }
}

#[test]
fn files_that_would_change_texts_are_refused_by_field() {
    let cases = read("cases.json");
    let refuse = |case: &str, change: &dyn Fn(&mut Value), says: &str| {
        let mut file = file(&cases[case]);
        change(&mut file);
        let made = Tokenizer::from_json(&file.to_string(), Some(template(&cases["llama2"])));
        let error = format!("{:#}", made.err().unwrap_or_else(|| panic!("not refused: {says}")));
        assert!(error.contains(says) && !error.contains('\n'), "{error}");
    };
    refuse("llama2", &|file| file["model"]["type"] = json!("Unigram"), "model: Unigram, as of T5 and XLM-R");
    refuse(
        "llama2",
        &|file| file["model"]["byte_fallback"] = json!(false),
        "model.byte_fallback is not true",
    );
    let lost = |file: &mut Value| {
        let vocab = file["model"]["vocab"].as_object_mut().unwrap();
        let id = vocab.remove("<0x0B>").unwrap();
        vocab.insert("a token in its place".to_owned(), id);
    };
    let says = "model.byte_fallback needs a token for each byte: some bytes have no token, such as 0x0b";
    refuse("llama2", &lost, says);
    let lower = json!({"type": "Lowercase"});
    refuse(
        "llama2",
        &|file| file["normalizer"]["normalizers"].as_array_mut().unwrap().push(lower.clone()),
        "normalizer: Lowercase",
    );
    refuse(
        "first",
        &|file| file["pre_tokenizer"]["replacement"] = json!("_"),
        "Metaspace writes spaces as \"_\"",
    );
    let removed = json!({"type": "Sequence", "pretokenizers": [{"type": "Metaspace", "replacement": "▁"},
        {"type": "WhitespaceSplit"}]});
    refuse("first", &|file| file["pre_tokenizer"] = removed.clone(), "pre_tokenizer: WhitespaceSplit");
    refuse("llama2", &|file| file["decoder"]["decoders"][3]["start"] = json!(2), "decoder: Strip");
    refuse("llama2", &|file| file["decoder"] = json!({"type": "WordPiece"}), "decoder: WordPiece");
    refuse(
        "llama2",
        &|file| file["added_tokens"][1]["normalized"] = json!(true),
        "added_tokens: \"<s>\" is `normalized`, so that a chat template can't write it",
    );
    // Without a template the token is no part of a text.
    let mut normalized = file(&cases["llama2"]);
    normalized["added_tokens"][1]["normalized"] = json!(true);
    let own = Tokenizer::from_json(&normalized.to_string(), None).unwrap();
    assert_eq!(own.encode("the cat"), llama2().encode("the cat"));
}

#[test]
fn phi_3_ends_a_text_otherwise_than_a_turn() {
    let case = &read("cases.json")["phi3"];
    let mut file = file(case);
    let next = file["added_tokens"].as_array().unwrap().iter().filter_map(|token| token["id"].as_u64()).max();
    let mut text_end = file["added_tokens"][3].clone();
    (text_end["content"], text_end["id"]) = (json!("<|endoftext|>"), json!(next.unwrap() + 1));
    file["added_tokens"].as_array_mut().unwrap().push(text_end);
    let tokenizer = Tokenizer::from_json(&file.to_string(), Some(template(case))).unwrap();
    assert_eq!(tokenizer.control_name(tokenizer.turn_end()), Some("<|end|>"));
    assert_eq!(tokenizer.control_name(tokenizer.id(Special::End)), Some("<|endoftext|>"));
    assert!(tokenizer.is_end(tokenizer.turn_end()));
}
