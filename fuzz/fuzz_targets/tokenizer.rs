//! Tokenizer files of others.
#![no_main]

mod source;

use libfuzzer_sys::fuzz_target;
use mm1_data::tokenizer::Tokenizer;

fuzz_target!(|data: &[u8]| {
    let folder = source::folder("tokenizer.json", data);
    if let Ok(tokenizer) = Tokenizer::load(&folder.path().join("tokenizer.json")) {
        let ids = tokenizer.encode("A cat, <image> and 你好 \u{1f600}");
        tokenizer.decode(&ids);
    }
});
