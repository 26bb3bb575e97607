//! Requests of any form: each is answered, or refused in OpenAI's form. `fuzz/fuzz_targets/requests.rs` draws
//! more of them.

use mm1_serve::engine::{Engine, EngineLimits};
use mm1_serve::http::{Access, HttpLimits, InProcess, ServedModel, Server};
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use crate::case::Case;
use crate::http::{about, data_url};

/// Of a context in which answers are short.
fn server() -> InProcess {
    let room = EngineLimits { cache_bytes: 4 << 20, picture_bytes: 1 << 16, waiting: 64 };
    let engine = Engine::start(Case::new(1).generator().with_context(64), room).unwrap();
    let model = ServedModel { id: "tiny".to_owned(), sees: true, tuned: true, towers: None };
    let access = Access { local: true, ..Access::default() };
    InProcess::new(Server { engine, model, access, limits: HttpLimits::default() }).unwrap()
}

/// Requests that are answered, with every field that is known.
fn requests() -> Vec<(&'static str, Value)> {
    let schema =
        json!({ "type": "object", "properties": { "a": { "enum": ["red", 1] } }, "required": ["a"] });
    let format = json!({ "type": "json_schema", "json_schema": { "name": "a", "schema": schema } });
    let turns = json!([
        { "role": "system", "content": "be" }, { "role": "user", "content": [{ "type": "text", "text": "a" }] },
        { "role": "assistant", "content": "owl" },
    ]);
    let sampling = json!({
        "temperature": 1.5, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "seed": 3, "n": 2, "stop": ["ab", "c"],
        "frequency_penalty": 0.5, "presence_penalty": -0.5, "max_completion_tokens": 4,
    });
    let mut chat = sampling.clone();
    let more = json!({ "messages": about(1, "is?"), "model": "tiny", "logprobs": true, "top_logprobs": 2,
        "attention": true, "user": "me" });
    chat.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut text = sampling;
    let more = json!({ "prompt": ["the owl", "a"], "echo": true, "logprobs": 2 });
    text.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    vec![
        ("/v1/chat/completions", chat),
        (
            "/v1/chat/completions",
            json!({ "messages": turns, "continue_final_message": true, "max_tokens": 3,
            "add_generation_prompt": false, "prompt_logprobs": 1, "logprob_start_len": 4 }),
        ),
        (
            "/v1/chat/completions",
            json!({ "messages": about(2, ""), "max_tokens": 9, "response_format": format }),
        ),
        (
            "/v1/chat/completions",
            json!({ "messages": [{ "role": "user", "content": "owl" }], "stream": true,
            "stream_options": { "include_usage": true }, "max_tokens": 5 }),
        ),
        ("/v1/completions", text),
        ("/v1/completions", json!({ "prompt": [[9, 8], [7]], "max_tokens": 3, "prompt_logprobs": 0 })),
        ("/v1/completions", json!({ "prompt": [5, 6, 7], "stream": true, "max_tokens": 3 })),
        ("/v1/embeddings", json!({ "input": [data_url(1)], "encoding_format": "base64" })),
        ("/tokenize", json!({ "prompt": "the é owl" })),
        ("/tokenize", json!({ "messages": about(1, "what?") })),
        ("/detokenize", json!({ "tokens": [5, 6, 7] })),
        ("/picture", json!({ "url": data_url(3) })),
    ]
}

/// Values that break programs more often than others.
fn odd(random: &mut ChaCha8Rng) -> Value {
    let odd = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1),
        json!(2),
        json!(0.5),
        json!(1e308),
        json!(-1e-308),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(""),
        json!("a"),
        json!("\u{0}"),
        json!("\u{202e}\u{1f600}"),
        json!("<|image|>"),
        json!("<|end|>"),
        json!("a".repeat(3000)),
        json!([]),
        json!({}),
        json!([[]]),
        json!([null]),
        json!({ "": {} }),
        json!("data:"),
        json!("data:,"),
        json!("data:image/png;base64,"),
        json!("data:image/png;base64,iVBORw0KGgo="),
        json!("http://a.example/b"),
        json!("/etc/passwd"),
        json!([[1, 2], "a"]),
        json!([1, "a"]),
        json!(4_294_967_296_u64),
        json!({ "type": "object", "$ref": "#" }),
        json!({ "type": "text" }),
        json!({ "url": null }),
        json!({ "role": "user" }),
        json!({ "type": "string", "pattern": "(((a*)*)*)*b" }),
        json!("assistant"),
    ];
    odd.choose(random).unwrap().clone()
}

/// Every place in a value, as a path.
fn places(value: &Value) -> Vec<String> {
    let inside = |name: &str, value: &Value| {
        let name = name.replace('~', "~0").replace('/', "~1");
        places(value).into_iter().map(move |place| format!("/{name}{place}")).collect::<Vec<_>>()
    };
    let mut all = vec![String::new()];
    match value {
        Value::Object(fields) => all.extend(fields.iter().flat_map(|(name, value)| inside(name, value))),
        Value::Array(items) => {
            all.extend(items.iter().enumerate().flat_map(|(i, value)| inside(&i.to_string(), value)));
        }
        _ => {}
    }
    all
}

/// Changes one place: another value, one left out or doubled, one of another request.
fn change(value: &mut Value, others: &Value, random: &mut ChaCha8Rng) {
    let place = places(value).choose(random).unwrap().clone();
    let other = others.pointer(places(others).choose(random).unwrap()).unwrap().clone();
    let Some(at) = value.pointer_mut(&place) else { return };
    match (random.random_range(0..6), &mut *at) {
        (0, Value::Object(fields)) => {
            let name = fields.keys().nth(random.random_range(0..fields.len().max(1))).cloned();
            name.and_then(|name| fields.remove(&name));
        }
        (0, Value::Array(items)) => drop(items.pop()),
        (1, Value::Object(fields)) => {
            let names: Vec<String> = others.as_object().into_iter().flat_map(Map::keys).cloned().collect();
            fields.insert(names.choose(random).cloned().unwrap_or_default(), odd(random));
        }
        (1, Value::Array(items)) if items.len() < 50 => items.extend(items.clone()),
        (1, Value::String(text)) if text.len() < 9000 => *text = text.repeat(2),
        (2, _) => *at = other,
        (3, Value::Number(number)) => {
            let sign = if random.random() { -1.0 } else { 1e6 };
            *at = json!(number.as_f64().unwrap_or(1.0) * sign);
        }
        (_, at) => *at = odd(random),
    }
}

/// Changes bytes.
fn damage(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    for _ in 0..random.random_range(1..5) {
        let at = random.random_range(0..bytes.len().max(1)).min(bytes.len());
        match random.random_range(0..3) {
            0 => bytes.truncate(at),
            1 => drop(bytes.splice(at..at, *b"\\u0000")),
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = random.random()),
        }
    }
}

#[test]
fn any_request_is_answered_or_refused_in_openai_s_form() {
    let (server, requests) = (server(), requests());
    for (path, body) in &requests {
        let (status, answer) = server.post(path, body.to_string().into_bytes()).unwrap();
        assert_eq!(status, 200, "{path} {body}: {}", String::from_utf8_lossy(&answer));
    }
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut statuses = std::collections::BTreeMap::<u16, usize>::new();
    for round in 0..2500 {
        let (path, mut body) = requests.choose(&mut random).unwrap().clone();
        let others = &requests.choose(&mut random).unwrap().1;
        for _ in 0..random.random_range(1..3) {
            change(&mut body, others, &mut random);
        }
        let mut bytes = body.to_string().into_bytes();
        if round % 4 == 0 {
            damage(&mut bytes, &mut random);
        }
        let (status, answer) = server.post(path, bytes.clone()).unwrap();
        *statuses.entry(status).or_default() += 1;
        if status != 200 {
            let told = || format!("{path} {}: {status}", String::from_utf8_lossy(&bytes));
            let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
            let message = answer["error"]["message"].as_str().unwrap_or_default();
            assert!((400..500).contains(&status), "{}: {answer}", told());
            assert!(!message.is_empty() && !message.contains('\n'), "{}: {answer}", told());
            assert_eq!(answer["error"]["type"], "invalid_request_error", "{}", told());
        }
    }
    // Some of both: else the changes are too small, or too large.
    assert!(statuses[&200] > 100 && statuses[&400] > 1000, "{statuses:?}");
    let (path, body) = &requests[0];
    assert_eq!(server.post(path, body.to_string().into_bytes()).unwrap().0, 200);
}
