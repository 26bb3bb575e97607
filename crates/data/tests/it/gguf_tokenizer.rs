//! Tokenizers of GGUF files as `tokenizer.json`, and back.

use std::collections::BTreeMap;

use mm1_data::gguf_tokenizer::GgufTokenizer;
use serde_json::{Value, json};

use crate::tokenizer;

const TEXTS: [&str; 5] = [
    "A cat sits on the red mat, number 1234.",
    "  two  spaces\n\n\ttab, don't I'LL Can't",
    "e\u{301} \u{e9} 日本語 नमस्ते 👩‍👩‍👧 x² ½ ٣٤ №5",
    "<|end|> a",
    "\r\n \r\n...!?(){}[]",
];

fn ids(json: &str, text: &str) -> Vec<u32> {
    let tokenizer = tokenizers::Tokenizer::from_bytes(json).unwrap();
    tokenizer.encode(text, true).unwrap().get_ids().to_vec()
}

/// Our trained tokenizer as a GGUF file has it.
fn stored() -> (String, GgufTokenizer) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    tokenizer().save(&path).unwrap();
    let json = std::fs::read_to_string(&path).unwrap();
    let stored = GgufTokenizer::of_json(&json, BTreeMap::from([("eos".to_owned(), 1)])).unwrap();
    (json, stored)
}

#[test]
fn ours_goes_into_a_file_and_comes_back_with_the_same_ids() {
    let (own, stored) = stored();
    assert_eq!((stored.model.as_str(), stored.pre.as_deref()), ("gpt2", Some("gpt-2")));
    assert_eq!(stored.tokens[1], "<|end|>");
    assert_eq!(stored.token_types[..8], [3, 3, 3, 3, 3, 3, 1, 1]);
    let back = stored.to_json().unwrap();
    for text in TEXTS {
        assert_eq!(ids(&own, text), ids(&back, text), "{text:?}");
    }
    assert_eq!(GgufTokenizer::of_json(&back, stored.special_ids.clone()).unwrap(), stored);
}

#[test]
fn words_are_known_by_every_name_and_told_apart() {
    let own = stored().1;
    let with = |pre: &str| GgufTokenizer { pre: Some(pre.to_owned()), ..own.clone() };
    for (pre, usual) in [
        ("gpt-2", "gpt-2"),
        ("smollm", "smollm"),
        ("llama-bpe", "llama-bpe"),
        ("llama-v3", "llama-bpe"),
        ("qwen2", "qwen2"),
        ("tekken", "tekken"),
        ("default", "default"),
    ] {
        let json = with(pre).to_json().unwrap();
        let back = GgufTokenizer::of_json(&json, BTreeMap::new()).unwrap();
        assert_eq!(back.pre.as_deref(), Some(usual));
    }
    // What is not said is llama.cpp's default.
    let unsaid = GgufTokenizer { pre: None, ..own.clone() };
    assert_eq!(unsaid.to_json().unwrap(), with("default").to_json().unwrap());
    let cut = |pre: &str, text: &str| {
        let json: Value = serde_json::from_str(&with(pre).to_json().unwrap()).unwrap();
        let tokenizer = tokenizers::Tokenizer::from_bytes(serde_json::to_vec(&json).unwrap()).unwrap();
        let ids = tokenizer.encode(text, false).unwrap();
        ids.get_tokens().to_vec()
    };
    // No merge is of digits: each is a token. Words differ by where a space goes.
    assert_eq!(cut("smollm", " 12"), ["\u{120}", "1", "2"]);
    let error = with("gemma4").to_json().unwrap_err();
    assert_eq!(
        format!("{error:#}"),
        "tokenizer.ggml.pre = \"gemma4\": only words of these can be read: gpt-2, smollm, llama-bpe, qwen2, \
         tekken, default"
    );
}

#[test]
fn tokens_around_a_text_are_those_of_the_file() {
    let own = stored().1;
    let special = BTreeMap::from([("bos".to_owned(), 0), ("eos".to_owned(), 1)]);
    let llama = GgufTokenizer { pre: Some("llama-bpe".to_owned()), special_ids: special, ..own };
    let plain = ids(&llama.to_json().unwrap(), "a");
    let with = |switches: &[(&str, bool)]| {
        let switches = switches.iter().map(|&(name, on)| (name.to_owned(), on)).collect();
        ids(&GgufTokenizer { switches, ..llama.clone() }.to_json().unwrap(), "a")
    };
    // Llama 3's words mean a begin token, unless the file says otherwise.
    assert_eq!(with(&[]), [&[0], &*plain].concat());
    assert_eq!(with(&[("add_bos_token", false)]), plain);
    assert_eq!(with(&[("add_eos_token", true)]), [&[0], &*plain, &[1]].concat());
    assert_eq!(ids(&llama.to_json().unwrap(), "<|end|>a")[0], 1, "a special token that is spelled is found");
}

/// A SentencePiece vocabulary: three special tokens, all bytes, and pieces from the best to the worst.
fn sentence_piece(pieces: &[&str]) -> GgufTokenizer {
    let special = ["<unk>", "<s>", "</s>"].map(str::to_owned).into_iter();
    let bytes = (0..=u8::MAX).map(|byte| format!("<0x{byte:02X}>"));
    let tokens: Vec<_> = special.chain(bytes).chain(pieces.iter().map(|&piece| piece.to_owned())).collect();
    let token_types = [2, 3, 3].into_iter().chain([6; 256]).chain(pieces.iter().map(|_| 1)).collect();
    let scores = (0..tokens.len()).map(|id| if id < 259 { 0.0 } else { 259.0 - id as f32 }).collect();
    GgufTokenizer {
        model: "llama".to_owned(),
        tokens,
        token_types,
        scores,
        special_ids: [("bos", 1), ("eos", 2), ("unknown", 0)].map(|(name, id)| (name.to_owned(), id)).into(),
        ..GgufTokenizer::default()
    }
}

#[test]
fn a_sentence_piece_vocabulary_merges_by_scores_and_falls_back_to_bytes() {
    let own = sentence_piece(&["ab", "▁ab", "bc", "abc", "▁", "a", "b", "c", "s>", "</s>x"]);
    let json = own.to_json().unwrap();
    let named = |text: &str| {
        ids(&json, text).into_iter().map(|id| own.tokens[id as usize].as_str()).collect::<Vec<_>>()
    };
    assert_eq!(named("abc"), ["<s>", "▁ab", "c"], "the better score first");
    assert_eq!(named("bc abc"), ["<s>", "▁", "bc", "▁ab", "c"]);
    assert_eq!(named("é"), ["<s>", "▁", "<0xC3>", "<0xA9>"]);
    let without = GgufTokenizer {
        switches: [("add_space_prefix", false), ("add_bos_token", false)]
            .map(|(n, on)| (n.to_owned(), on))
            .into(),
        ..own.clone()
    };
    assert_eq!(ids(&without.to_json().unwrap(), "abc"), [262], "no space before it, so all of it is one");
    let tokenizer = tokenizers::Tokenizer::from_bytes(&json).unwrap();
    assert_eq!(tokenizer.decode(&ids(&json, "abc é"), true).unwrap(), "abc é");
}

#[test]
fn what_a_hostile_file_says_is_refused_by_its_key() {
    let own = stored().1;
    let refuse = |change: &dyn Fn(&mut GgufTokenizer), says: &str| {
        let mut changed = own.clone();
        change(&mut changed);
        let error = format!("{:#}", changed.to_json().unwrap_err());
        assert!(error.contains(says) && !error.contains('\n'), "{error}\nwithout\n{says}");
    };
    let model = "tokenizer.ggml.model = \"bert\": only \"gpt2\" and \"llama\" can be read";
    refuse(&|t| t.model = "bert".to_owned(), model);
    refuse(&|t| t.tokens.clear(), "tokenizer.ggml.tokens: there are 0");
    let (tokens, types) = (own.tokens.len(), own.tokens.len() - 1);
    let fewer = format!("tokenizer.ggml.token_type has {types} values for {tokens} tokens");
    refuse(&|t| t.token_types.truncate(types), &fewer);
    refuse(&|t| t.token_types[7] = 9, "tokenizer.ggml.token_type: 9 of ");
    refuse(&|t| t.tokens[9] = t.tokens[8].clone(), " is number 8 and 9");
    refuse(&|t| t.tokens[9] = "x".repeat(1025), "number 9 is of 1025 bytes; the limit is 1024");
    refuse(&|t| t.tokens[9].clear(), "tokenizer.ggml.tokens: number 9 is empty");
    refuse(&|t| t.merges.push("a".to_owned()), "\"a\" is not of two tokens that become a third");
    refuse(&|t| t.merges.push("a zzz".to_owned()), "\"a zzz\" is not of two tokens");
    refuse(
        &|t| *t.special_ids.entry("eos".to_owned()).or_default() = 9999,
        "eos_token_id = 9999, but there are ",
    );
    refuse(&|t| t.model = "llama".to_owned(), "tokenizer.ggml.scores is missing");
    let mut pieces = sentence_piece(&["a"]);
    pieces.tokens[13] = "x".to_owned();
    assert_eq!(
        pieces.to_json().unwrap_err().to_string(),
        "tokenizer.ggml.tokens: the byte <0x0A> is missing"
    );
    let extra = BTreeMap::from([("remove_extra_whitespaces".to_owned(), true)]);
    refuse(&|t| t.switches = extra.clone(), "tokenizer.ggml.remove_extra_whitespaces = true changes texts");
}

#[test]
fn what_llama_cpp_has_no_words_for_is_not_written() {
    let (json, _) = stored();
    let refuse = |change: &dyn Fn(&mut Value), says: &str| {
        let mut file: Value = serde_json::from_str(&json).unwrap();
        change(&mut file);
        let error = GgufTokenizer::of_json(&file.to_string(), BTreeMap::new()).unwrap_err();
        assert!(format!("{error:#}").starts_with(says), "{error:#}");
    };
    let words = "pre_tokenizer: llama.cpp has no name for these words; known are gpt-2, smollm";
    refuse(&|file| file["pre_tokenizer"] = json!({"type": "Whitespace"}), words);
    refuse(&|file| file["normalizer"] = json!({"type": "Lowercase"}), words);
    refuse(&|file| file["model"]["ignore_merges"] = json!(true), words);
    refuse(&|file| file["model"]["type"] = json!("Unigram"), "model: only a BPE can be written");
    refuse(
        &|file| file["model"]["byte_fallback"] = json!(true),
        "model.byte_fallback: a tokenizer of Sentence",
    );
    refuse(&|file| file["added_tokens"][0]["id"] = json!(1u64 << 40), "the id 1099511627776 is beyond");
}
