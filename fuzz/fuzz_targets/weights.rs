//! Folders of weights: `config.json`, an index of parts and safetensors, as an image encoder, as one with its
//! text tower, as a language model and as a whole model.
#![no_main]

mod source;

use libfuzzer_sys::fuzz_target;
use mm1_model::{import, weights};

/// Ends the config and the index in an input; neither has an empty line.
const END: &[u8] = b"\n\n";

/// What is before [`END`], and what is behind it.
fn split(data: &[u8]) -> (&[u8], &[u8]) {
    match data.windows(END.len()).position(|window| window == END) {
        Some(at) => (&data[..at], &data[at + END.len()..]),
        None => (data, &[]),
    }
}

fuzz_target!(|data: &[u8]| {
    let (config, rest) = split(data);
    let (index, tensors) = split(rest);
    let folder = source::folder("config.json", config);
    let path = folder.path();
    let name = if index.is_empty() { "model.safetensors" } else { "model-00001-of-00002.safetensors" };
    std::fs::write(path.join(name), tensors).unwrap();
    if !index.is_empty() {
        std::fs::write(path.join("model.safetensors.index.json"), index).unwrap();
    }
    let _ = import::open(path);
    let _ = import::towers::open(path);
    if let Ok(lm) = import::lm::open(path) {
        let _ = lm.identify(|_| {});
    }
    if let Ok(Some(whole)) = import::exported::open(path) {
        let _ = whole.connector();
    }
    let _ = weights::read_part(&path.join(name), "vision");
});
