//! The tokenizer: round trips, special tokens, the same result everywhere.

use std::process::Command;

use mm1_data::document::Special;
use mm1_data::tokenizer::{TextStream, Tokenizer};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

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
