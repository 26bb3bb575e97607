//! GGUF files: the container, its tensors, a language model, and the tokenizer inside.
#![no_main]

mod source;

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
    let Ok(found) = StoredTokenizer::of(&file) else { return };
    let StoredTokenizer { model, pre, tokens, token_types, scores, .. } = found;
    let StoredTokenizer { merges, special_ids, switches, chat_template, .. } = found;
    let stored = GgufTokenizer {
        model,
        pre,
        tokens,
        token_types,
        scores,
        merges,
        special_ids,
        switches,
        chat_template,
    };
    // A file that is made of it is one that the library reads.
    let Ok(json) = stored.to_json() else { return };
    let byte_level = stored.model == "gpt2";
    assert!(!byte_level || GgufTokenizer::of_json(&json, stored.special_ids.clone()).is_ok());
});
