//! The tokenizer: round trips, special tokens, the same result everywhere.

use std::process::Command;

use mm1_data::document::Special;
use mm1_data::text_stream::TextStream;
use mm1_data::tokenizer::Tokenizer;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::{sentences, tokenizer};

const ALL: [Special; 6] =
    [Special::Pad, Special::End, Special::Image, Special::User, Special::Assistant, Special::System];

#[test]
fn any_text_round_trips() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut texts: Vec<String> = vec![
        String::new(),
        " \t\r\n\u{0}\u{1}\u{7f}\u{feff}".into(),
        "e\u{301} 日本語 नमस्ते 👩‍👩‍👧‍👦🇩🇪 \u{10ffff}".into(),
        " leading and  double   spaces ".into(),
        "don't can't I'll 1234567".into(),
    ];
    for _ in 0..300 {
        texts.push((0..rng.random_range(0..60)).map(|_| rng.random::<char>()).collect());
        let bytes: Vec<u8> = (0..rng.random_range(0..60)).map(|_| rng.random()).collect();
        texts.push(String::from_utf8_lossy(&bytes).into_owned());
    }
    for text in texts {
        assert_eq!(tokenizer().decode(&tokenizer().encode(&text)), text);
    }
}

#[test]
fn every_byte_has_a_token() {
    let mut bytes: Vec<Vec<u8>> = (0..tokenizer().vocab() as u32)
        .map(|id| tokenizer().bytes(id).to_vec())
        .filter(|b| b.len() == 1)
        .collect();
    bytes.sort_unstable();
    assert_eq!(bytes, (0..=255).map(|b| vec![b]).collect::<Vec<_>>());
}

#[test]
fn text_that_spells_a_special_token_stays_text() {
    let text = "<|image|><|end|> <|pad|><|user|>x<|assistant|>\n<|system|>";
    let ids = tokenizer().encode(text);
    assert_eq!(tokenizer().decode(&ids), text);
    assert!(ALL.iter().all(|&s| !ids.contains(&tokenizer().id(s))));
    assert_eq!(ALL.map(|s| tokenizer().id(s)), [0, 1, 2, 3, 4, 5]);
    assert_eq!(tokenizer().decode(&ALL.map(|s| tokenizer().id(s))), "");
}

#[test]
fn a_word_with_its_space_is_one_token() {
    assert_eq!(tokenizer().encode(" sits").len(), 1);
    assert_eq!(tokenizer().encode(" green").len(), 1);
    assert!(tokenizer().vocab() <= 512);
}

#[test]
fn saving_and_loading_keeps_everything() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    tokenizer().save(&path).unwrap();
    let loaded = Tokenizer::load(&path).unwrap();
    assert_eq!(loaded.fingerprint(), tokenizer().fingerprint());
    assert_eq!(loaded.vocab(), tokenizer().vocab());
    let text = "A whale <|image|> sits\u{2028}twice.";
    assert_eq!(loaded.encode(text), tokenizer().encode(text));

    let json = std::fs::read_to_string(&path).unwrap();
    for (change, says) in [
        (json.replace("<|image|>", "<|picture|>"), "<|image|>"),
        (json[..json.len() / 2].to_owned(), "tokenizer.json"),
        (json.replacen("\"Ġsits\"", "\"▁sits\"", 1), "tokenizer.json"),
    ] {
        std::fs::write(&path, change).unwrap();
        let error = format!("{:#}", Tokenizer::load(&path).err().unwrap());
        assert!(error.contains(says) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn a_vocabulary_below_the_bytes_is_refused() {
    assert!(Tokenizer::train(sentences(), 261).err().unwrap().to_string().contains("262"));
    assert_eq!(Tokenizer::train(std::iter::empty(), 262).unwrap().vocab(), 262);
}

/// Words with many ties between their pairs.
fn ties() -> impl Iterator<Item = String> + Send {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    (0..4000).map(move |_| {
        (0..8).map(|_| char::from(b'a' + rng.random_range(0..6))).collect::<String>() + " ba ab"
    })
}

/// Not a test of its own: the next one runs it in further processes.
#[test]
fn print_fingerprint() {
    let trained = Tokenizer::train(ties(), 1500).unwrap();
    assert!(trained.vocab() > 1000);
    println!("fingerprint {}", trained.fingerprint());
}

#[test]
fn training_gives_the_same_in_every_process_with_any_number_of_threads() {
    let expected = Tokenizer::train(ties(), 1500).unwrap();
    let mut backwards: Vec<String> = ties().collect();
    backwards.reverse();
    assert_eq!(Tokenizer::train(backwards.into_iter(), 1500).unwrap().fingerprint(), expected.fingerprint());
    for threads in ["1", "2", "5"] {
        let run = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tokenizer::print_fingerprint", "--nocapture"])
            .env("RAYON_NUM_THREADS", threads)
            .output()
            .unwrap();
        let out = String::from_utf8_lossy(&run.stdout).into_owned();
        assert!(out.contains(&format!("fingerprint {}", expected.fingerprint())), "{threads} threads: {out}");
    }
}

#[test]
fn a_stream_gives_characters_when_they_are_whole() {
    let mut stream = TextStream::default();
    let mut pieces: Vec<String> = "aé日👩".bytes().map(|b| stream.push(&[b])).collect();
    pieces.retain(|p| !p.is_empty());
    assert_eq!(pieces, ["a", "é", "日", "👩"]);
    assert_eq!(stream.push(&[0xE6, b'x', 0xFF, 0xF0, 0x9F]), "\u{fffd}x\u{fffd}");
    assert_eq!(stream.push(&[]), "");
    assert_eq!(stream.finish(), "\u{fffd}");

    let ids = tokenizer().encode("naïve 👩‍👩‍👧 text");
    let mut stream = TextStream::default();
    let text: String = ids.iter().map(|&id| stream.push(tokenizer().bytes(id))).collect();
    assert_eq!(text, "naïve 👩‍👩‍👧 text");
}

#[test]
fn a_very_long_word_and_very_long_spaces_take_no_time() {
    let started = std::time::Instant::now();
    for text in ["a".repeat(300_000), " ".repeat(300_000), "\n ".repeat(150_000)] {
        let ids = tokenizer().encode(&text);
        assert_eq!(tokenizer().decode(&ids), text);
    }
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

#[test]
fn a_text_of_many_blocks_has_the_tokens_of_its_words() {
    let tokenizer = tokenizer();
    let words: String = (0..40_000).map(|i| format!(" word{}", i % 7)).collect();
    let expected: Vec<u32> = (0..40_000).flat_map(|i| tokenizer.encode(&format!(" word{}", i % 7))).collect();
    assert_eq!(tokenizer.encode(&words), expected);
    let without_spaces = "ü😀".repeat(60_000);
    assert_eq!(tokenizer.decode(&tokenizer.encode(&without_spaces)), without_spaces);
}

/// A tokenizer of 256 bytes and the special tokens, changed by `change`, as another program wrote it.
fn foreign(change: impl FnOnce(&mut serde_json::Value)) -> Result<Tokenizer, String> {
    let text = std::fs::read_to_string(crate::testdata("faults/69-tokenizers-of-others/bytes.json")).unwrap();
    let mut file = serde_json::from_str(&text).unwrap();
    change(&mut file);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    std::fs::write(&path, file.to_string()).unwrap();
    Tokenizer::load(&path).map_err(|e| format!("{e:#}"))
}

const SPELT: &str = "a <|image|> b <|end|><|user|>";

#[test]
fn fault_69_truncation_padding_and_dropout_of_others_are_taken_out() {
    let own = foreign(|_| ()).unwrap();
    let text = "Hello World. ".repeat(200);
    for (field, value) in [
        (
            "truncation",
            json!({"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}),
        ),
        (
            "padding",
            json!({"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
            "pad_type_id": 0, "pad_token": "<|pad|>"}),
        ),
        (
            "padding",
            json!({"strategy": "BatchLongest", "direction": "Left", "pad_to_multiple_of": 8, "pad_id": 0,
            "pad_type_id": 0, "pad_token": "<|pad|>"}),
        ),
        (
            "post_processor",
            json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|end|>",
            "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [], "special_tokens": {"<|end|>":
            {"id": "<|end|>", "ids": [1], "tokens": ["<|end|>"]}}}),
        ),
    ] {
        let cleaned = foreign(|file| file[field] = value).unwrap();
        for text in ["a", &text, SPELT] {
            assert_eq!(cleaned.encode(text), own.encode(text), "{field}");
        }
    }
    let dropped = foreign(|file| file["model"]["dropout"] = json!(0.5)).unwrap();
    assert_eq!(dropped.fingerprint(), own.fingerprint());
}

#[test]
fn fault_69_image_tokens_are_never_spelled_by_text() {
    let plain = foreign(|file| {
        file["added_tokens"]
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .for_each(|token| token["special"] = json!(false))
    });
    let plain = plain.unwrap();
    let image = plain.id(mm1_data::document::Special::Image);
    assert!(!plain.encode(SPELT).contains(&image));
    assert_eq!(plain.decode(&plain.encode(SPELT)), SPELT);
    // By merges: every part of it, so that the last one is the token itself.
    let merged = foreign(|file| {
        let name = "<|image|>";
        let vocab = file["model"]["vocab"].as_object_mut().unwrap();
        let mut merges = Vec::new();
        for end in 2..=name.len() {
            let next = vocab.len();
            vocab.entry(&name[..end]).or_insert_with(|| json!(next));
            merges.push(json!([&name[..end - 1], &name[end - 1..end]]));
        }
        file["model"]["merges"] = json!(merges);
        file["pre_tokenizer"]["use_regex"] = json!(false);
    });
    assert!(merged.err().unwrap().contains("text that spells <|image|> becomes that token"));
}

#[test]
fn fault_69_tokenizers_that_change_texts_are_refused_by_field() {
    let split = |behavior: &str| {
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": " "}, "behavior": behavior, "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]})
    };
    assert!(foreign(|file| file["pre_tokenizer"] = split("Isolated")).is_ok(), "as Llama 3 and Qwen have it");
    type Change = fn(&mut serde_json::Value);
    let cases: [(Change, &str); 13] = [
        (|file| file["normalizer"] = json!({"type": "Lowercase"}), "normalizer: Lowercase"),
        (
            |file| file["normalizer"] = json!({"type": "Sequence", "normalizers": [{"type": "Replace"}]}),
            "normalizer: Replace",
        ),
        (
            |file| file["pre_tokenizer"] = json!({"type": "BertPreTokenizer"}),
            "pre_tokenizer: BertPreTokenizer",
        ),
        (|file| file["pre_tokenizer"]["add_prefix_space"] = json!(true), "add_prefix_space"),
        (|file| file["model"]["type"] = json!("WordPiece"), "model: WordPiece"),
        (|file| file["model"]["end_of_word_suffix"] = json!("</w>"), "model.end_of_word_suffix"),
        (|file| drop(file["added_tokens"].as_array_mut().unwrap().remove(2)), "special token <|image|>"),
        (|file| drop(file.as_object_mut().unwrap().remove("added_tokens")), "added_tokens"),
        (|file| file["model"]["vocab"]["x y"] = json!(4_000_000_000_u32), "the limit is"),
        (|file| file["model"]["vocab"]["x y"] = json!(-1), "not a whole number"),
        (|file| file["added_tokens"][0]["id"] = json!(u64::MAX), "the limit is"),
        (
            |file| file["added_tokens"][0]["content"] = json!("A".repeat(70_000)),
            "one of 70000 bytes; the limit",
        ),
        (|file| *file = json!([1]), "not a JSON object"),
    ];
    for (change, words) in cases {
        let error = foreign(change).err().unwrap();
        assert!(
            error.contains(words) && error.contains("tokenizer.json") && !error.contains('\n'),
            "{error}"
        );
    }
    let removed = foreign(|file| file["pre_tokenizer"] = split("Removed")).err().unwrap();
    assert!(removed.contains("Removed"), "{removed}");
}

/// Files made to hurt: each is refused, in time, and the process lives.
#[test]
fn hostile_tokenizers_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    let deep = format!("{{\"pre_tokenizer\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let mut nested =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    for _ in 0..40 {
        nested = json!({"type": "Sequence", "pretokenizers": [nested]});
    }
    for text in
        [deep.as_str(), "", "{", "null", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"]
    {
        std::fs::write(&path, text).unwrap();
        assert!(Tokenizer::load(&path).is_err());
    }
    assert!(foreign(|file| file["pre_tokenizer"] = nested).is_err());
    let regex = |pattern: String| {
        foreign(|file| {
            file["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
                {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]});
        })
    };
    for pattern in ["(".repeat(9_000), "(a".repeat(3_000) + &")*".repeat(3_000), "x".repeat(20_000)] {
        assert!(regex(pattern).is_err());
    }
    // A pattern that gives up on some texts: they are tokenised byte by byte.
    let slow = regex("(?:(?=a)a+)+(?<=b)c".to_owned()).unwrap();
    let text = "a".repeat(5_000);
    assert_eq!(slow.decode(&slow.encode(&text)), text);
}
