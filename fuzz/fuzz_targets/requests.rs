//! Requests to the server, with a tiny model: whatever a client sends is answered, or refused in OpenAI's
//! form. The first byte of an input chooses the address, the rest is the body.
#![no_main]

use std::sync::{Arc, OnceLock};

use libfuzzer_sys::fuzz_target;
use mm1_data::image::ImageSpec;
use mm1_data::tokenizer::Tokenizer;
use mm1_model::device::DeviceKind;
use mm1_model::{Compute, Mm1, Mm1Config};
use mm1_serve::engine::{Engine, EngineLimits};
use mm1_serve::generate::Generator;
use mm1_serve::http::{Access, HttpLimits, InProcess, ServedModel, Server};
use serde_json::{Value, json};

const PATHS: [&str; 6] =
    ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/tokenize", "/detokenize", "/picture"];

/// Of a context in which answers are short.
fn server() -> &'static InProcess {
    static SERVER: OnceLock<InProcess> = OnceLock::new();
    SERVER.get_or_init(|| {
        let tokenizer = Tokenizer::train(std::iter::empty(), 262).unwrap();
        let config = json!({
            "vision": { "image_size": 8, "patch": 4, "dim": 8, "layers": 1, "heads": 1, "ffn": 8 },
            "connector": { "kind": "average-pool", "tokens": 4 },
            "lm": { "vocab": tokenizer.vocab(), "dim": 8, "layers": 1, "heads": 1, "kv_heads": 1, "ffn": 8 },
        });
        let config: Mm1Config = serde_json::from_value(config).unwrap();
        let device = DeviceKind::Cpu.open().unwrap();
        let model = Mm1::new(&config, 1, &device).unwrap();
        let generator = Generator::new(&Compute::new(device), model, Arc::new(tokenizer), ImageSpec::new(8));
        let room = EngineLimits { cache_bytes: 1 << 20, picture_bytes: 1 << 12, waiting: 64 };
        let engine = Engine::start(generator.with_context(48), room).unwrap();
        let model = ServedModel { id: "tiny".to_owned(), sees: true, tuned: true, towers: None };
        let access = Access { local: true, ..Access::default() };
        InProcess::new(Server { engine, model, access, limits: HttpLimits::default() }).unwrap()
    })
}

fuzz_target!(|data: &[u8]| {
    let Some((first, body)) = data.split_first() else { return };
    let path = PATHS[usize::from(*first) % PATHS.len()];
    let (status, answer) = server().post(path, body.to_vec()).unwrap();
    if status != 200 {
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        let message = answer["error"]["message"].as_str().unwrap();
        assert!((400..500).contains(&status) && !message.is_empty() && !message.contains('\n'), "{status} {answer}");
    }
});
