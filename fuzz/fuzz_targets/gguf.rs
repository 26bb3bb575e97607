//! GGUF files: the container, its tensors, a language model, and the tokenizer inside.
#![no_main]

mod source;
#[path = "../../crates/cli/src/stored_tokenizer.rs"]
mod stored_tokenizer;

use libfuzzer_sys::fuzz_target;
use mm1_data::gguf_tokenizer::GgufTokenizer;
use mm1_model::gguf::{GgufFile, StoredTokenizer};
use mm1_model::import::lm;

fuzz_target!(|data: &[u8]| {
    let folder = source::folder("a.gguf", data);
    let path = folder.path().join("a.gguf");
    if let Ok(lm) = lm::open(&path) {
        lm.identify(|_| {}).unwrap();
    }
    let Ok(file) = GgufFile::open(&path) else { return };
    for tensor in file.tensors.values() {
        tensor.read().unwrap();
    }
    // As the program reads it, and back.
    let Ok(stored) = stored_tokenizer::of_file(&path) else { return };
    let found = StoredTokenizer::of(&file).unwrap();
    let back = stored_tokenizer::for_file(stored.clone());
    assert!(StoredTokenizer { chat_templates: back.chat_templates.clone(), ..found } == back);
    // A file that is made of it is one that the library reads.
    let Ok(json) = stored.to_json() else { return };
    let byte_level = stored.model == "gpt2";
    assert!(!byte_level || GgufTokenizer::of_json(&json, stored.special_ids.clone()).is_ok());
});
