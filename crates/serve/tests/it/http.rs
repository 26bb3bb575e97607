//! The server, over a real connection, with a tiny random model.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mm1_data::document::Segment;
use mm1_data::show::png;
use mm1_serve::engine::{Engine, EngineLimits};
use mm1_serve::http::{Access, HttpLimits, ServedModel, Server, serve};
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN};
use serde_json::{Value, json};

use crate::case::{Case, picture};

/// A server at a free port, until it is dropped.
struct Running {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    client: Client,
}

impl Running {
    fn new(access: Access, limits: HttpLimits, waiting: usize) -> Self {
        let room = EngineLimits { cache_bytes: 64 << 20, picture_bytes: 1 << 20, waiting };
        Self::with(access, limits, room)
    }

    fn with(access: Access, limits: HttpLimits, room: EngineLimits) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let engine = Engine::start(Case::new(1).generator(), room).unwrap();
        let model = ServedModel { id: "tiny".to_owned(), sees: true, tuned: true, towers: None };
        let stop = Arc::new(AtomicBool::new(false));
        let (server, flag) = (Server { engine, model, access, limits }, Arc::clone(&stop));
        let thread = thread::spawn(move || serve(server, listener, &flag).unwrap());
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().timeout(Duration::from_secs(60)).build().unwrap();
        Self { address, stop, thread: Some(thread), client }
    }

    fn open() -> Self {
        let access = Access { local: true, ..Access::default() };
        Self::new(access, HttpLimits::default(), 64)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        let body = body.to_string();
        self.client.post(self.url(path)).header(CONTENT_TYPE, "application/json").body(body)
    }

    fn ask(&self, path: &str, body: &Value) -> (u16, Value) {
        told(self.post(path, body).send().unwrap())
    }

    fn get(&self, path: &str) -> String {
        self.client.get(self.url(path)).send().unwrap().text().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn told(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    (status, serde_json::from_str(&response.text().unwrap()).unwrap())
}

pub(crate) fn data_url(seed: u32) -> String {
    let Segment::Image(image) = picture(seed) else { panic!("no picture") };
    format!("data:image/png;base64,{}", STANDARD.encode(png(&image).unwrap()))
}

pub(crate) fn about(seed: u32, text: &str) -> Value {
    json!([{ "role": "user", "content": [
        { "type": "image_url", "image_url": { "url": data_url(seed) } },
        { "type": "text", "text": text },
    ] }])
}

fn chat(messages: Value, more: Value) -> Value {
    let mut body = json!({ "messages": messages, "temperature": 0, "max_tokens": 12 });
    more.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
    body
}

const CHAT: &str = "/v1/chat/completions";

/// The data of a stream's events.
fn events(text: &str) -> Vec<&str> {
    text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect()
}

#[test]
fn a_chat_is_answered_whole_and_as_a_stream() {
    let server = Running::open();
    let (status, whole) = server.ask(CHAT, &chat(about(1, "what is this?"), json!({ "model": "tiny" })));
    assert_eq!(status, 200, "{whole}");
    assert_eq!((&whole["object"], &whole["model"]), (&json!("chat.completion"), &json!("tiny")));
    let usage = &whole["usage"];
    let sum = usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"], json!(sum));
    let choice = &whole["choices"][0];
    let content = choice["message"]["content"].as_str().unwrap();
    assert!(!content.is_empty() && choice["message"]["role"] == "assistant", "{whole}");

    let more = json!({ "stream": true, "stream_options": { "include_usage": true } });
    let text = server.post(CHAT, &chat(about(1, "what is this?"), more)).send().unwrap().text().unwrap();
    let mut events = events(&text);
    assert_eq!(events.pop(), Some("[DONE]"));
    let events: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let pieces = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
    assert_eq!(pieces.collect::<String>(), content);
    let finish: Vec<&str> =
        events.iter().filter_map(|event| event["choices"][0]["finish_reason"].as_str()).collect();
    assert_eq!(finish, [choice["finish_reason"].as_str().unwrap()]);
    let last = events.last().unwrap();
    assert_eq!((&last["choices"], &last["usage"]["total_tokens"]), (&json!([]), &json!(sum)));
    // The picture and what stands before it were known.
    assert!(last["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap() >= 4, "{last}");
}

#[test]
fn answers_do_not_depend_on_who_asks_beside() {
    let server = Running::open();
    let bodies: Vec<Value> = (0..8)
        .map(|i| {
            let lead = "the owl is on the left, the cat is on the right. ".repeat(i);
            let sampled = json!({ "temperature": 1, "seed": i, "n": 2, "logprobs": true });
            chat(about(i as u32 % 3, &lead), sampled)
        })
        .collect();
    let choices = |body: &Value| server.ask(CHAT, body).1["choices"].clone();
    let alone: Vec<Value> = bodies.iter().map(choices).collect();
    assert_ne!(alone[0][0]["message"], alone[0][1]["message"], "two answers are two draws");
    let beside: Vec<Value> = thread::scope(|scope| {
        let asked: Vec<_> = bodies.iter().map(|body| scope.spawn(|| choices(body))).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert_eq!(alone, beside);
}

#[test]
fn completions_echo_with_log_probabilities() {
    let server = Running::open();
    let body = json!({
        "prompt": ["the red apple", "the owl"], "max_tokens": 3, "temperature": 0, "echo": true,
        "logprobs": 2,
    });
    let (status, whole) = server.ask("/v1/completions", &body);
    assert_eq!(status, 200, "{whole}");
    let choices = whole["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 2);
    for (choice, prompt) in choices.iter().zip(["the red apple", "the owl"]) {
        assert!(choice["text"].as_str().unwrap().starts_with(prompt), "{choice}");
        let told = &choice["logprobs"];
        let tokens: Vec<&str> = told["tokens"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let log_probs = told["token_logprobs"].as_array().unwrap();
        assert_eq!(tokens.len(), log_probs.len());
        assert!(log_probs[0].is_null() && log_probs[1..].iter().all(|log_prob| log_prob.is_number()));
        assert_eq!(told["top_logprobs"][1].as_object().unwrap().len(), 2, "{told}");
    }
    // Ids in the place of text.
    let (_, ids) = server.ask("/tokenize", &json!({ "prompt": "the owl" }));
    let (_, back) = server.ask("/detokenize", &json!({ "tokens": ids["tokens"] }));
    assert_eq!(back["prompt"], "the owl");
    let body = json!({ "prompt": ids["tokens"], "max_tokens": 3, "temperature": 0, "echo": true });
    assert_eq!(server.ask("/v1/completions", &body).1["choices"][0]["text"], choices[1]["text"]);
}

#[test]
fn a_prompt_is_judged_without_an_answer() {
    let server = Running::open();
    let body = |max_tokens| {
        let prompt = "the é owl";
        json!({ "prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "echo": true, "logprobs": 0 })
    };
    let (status, judged) = server.ask("/v1/completions", &body(0));
    assert_eq!(status, 200, "{judged}");
    let choice = &judged["choices"][0];
    assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!("the é owl"), &json!("length")));
    assert_eq!(judged["usage"]["completion_tokens"], 0);
    let told = &choice["logprobs"];
    let (_, answered) = server.ask("/v1/completions", &body(1));
    let more = &answered["choices"][0]["logprobs"];
    let n = told["tokens"].as_array().unwrap().len();
    assert_eq!(told["token_logprobs"], json!(more["token_logprobs"].as_array().unwrap()[..n]));
    // Offsets are those of characters: é has two bytes, and here each is a token of its own.
    let tokens = told["tokens"].as_array().unwrap().iter().filter_map(Value::as_str);
    let mut at = 0;
    for (offset, token) in told["text_offset"].as_array().unwrap().iter().zip(tokens) {
        assert_eq!(*offset, json!(at), "{told}");
        at += token.chars().count();
    }
}

#[test]
fn a_prompt_ends_as_it_is_asked_to() {
    let server = Running::open();
    let tokens = |body: Value| server.ask("/tokenize", &body).1["tokens"].as_array().unwrap().clone();
    let user = json!({ "role": "user", "content": "what is this?" });
    let asked = tokens(json!({ "messages": [user] }));
    let begun = json!([user, { "role": "assistant", "content": [
        { "type": "text", "text": "the o" }, { "type": "text", "text": "wl" },
    ] }]);
    let more = json!({ "continue_final_message": true, "add_generation_prompt": false, "messages": begun });
    let continued = tokens(more);
    let text = tokens(json!({ "prompt": "the owl" }));
    assert_eq!(continued, [asked.clone(), text.clone()].concat());
    // As it stands, with the end of the answer and without a question.
    let closed = tokens(json!({ "add_generation_prompt": false, "messages": begun }));
    assert_eq!(closed[..continued.len()], continued);
    assert_eq!(closed.len(), continued.len() + 1);
    let open = tokens(json!({ "add_generation_prompt": false, "messages": [user] }));
    assert_eq!(open, asked[..asked.len() - 1]);
    for (more, message) in [
        (json!({ "continue_final_message": true, "add_generation_prompt": true }), "no reply to ask for"),
        (json!({ "continue_final_message": true, "messages": [user] }), "the last one is of another role"),
        (json!({}), "continue_final_message = true goes on with it"),
        (json!({ "prompt_logprobs": 1, "stream": true, "continue_final_message": true }), "streams"),
        (json!({ "logprob_start_len": 3, "continue_final_message": true }), "needs prompt_logprobs"),
        (
            json!({ "logprob_start_len": 300, "prompt_logprobs": 1, "continue_final_message": true }),
            "the prompt has",
        ),
    ] {
        let (status, told) = server.ask(CHAT, &chat(begun.clone(), more));
        let error = told["error"]["message"].as_str().unwrap_or_default();
        assert!(status == 400 && error.contains(message), "{message}: {told}");
    }
}

#[test]
fn the_end_of_a_prompt_is_judged_and_its_beginning_read_once() {
    let server = Running::open();
    let judged = |answer: &str, from: usize| {
        let mut messages = about(1, "what is this?");
        messages.as_array_mut().unwrap().push(json!({ "role": "assistant", "content": answer }));
        let more = json!({ "continue_final_message": true, "add_generation_prompt": false, "max_tokens": 1,
            "prompt_logprobs": 1, "logprob_start_len": from });
        let (status, told) = server.ask(CHAT, &chat(messages, more));
        assert_eq!(status, 200, "{told}");
        told
    };
    let (_, alone) = server.ask(CHAT, &chat(about(1, "what is this?"), json!({ "max_tokens": 1 })));
    let from = alone["usage"]["prompt_tokens"].as_u64().unwrap() as usize;
    let whole = judged("the owl", 0);
    let all = whole["prompt_logprobs"].as_array().unwrap();
    assert_eq!(
        (all.len() as u64, &all[0]),
        (whole["usage"]["prompt_tokens"].as_u64().unwrap(), &Value::Null)
    );
    assert_eq!(whole["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    let end = judged("the owl", from);
    let told = end["prompt_logprobs"].as_array().unwrap();
    assert!(told[..from].iter().all(Value::is_null), "{end}");
    assert_eq!(told[from..], all[from..]);
    let spelt =
        told[from..].iter().filter_map(|one| one.as_object()?.values().next()?["decoded_token"].as_str());
    assert_eq!(spelt.collect::<String>(), "the owl");
    // The picture and what stands before it were known.
    assert!(end["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap() >= 4, "{end}");
}

#[test]
fn an_answer_goes_back_as_it_came() {
    let server = Running::open();
    let answer = json!({ "role": "assistant", "content": "owl", "refusal": null, "annotations": null,
        "audio": null, "function_call": null, "tool_calls": null });
    let user = json!({ "role": "user", "content": "owl" });
    let (status, told) = server.ask(CHAT, &chat(json!([user, answer, user]), json!({})));
    assert_eq!(status, 200, "{told}");
}

#[test]
fn where_an_answer_looks_is_told_for_each_token() {
    let server = Running::open();
    let (_, whole) = server.ask(CHAT, &chat(about(1, "what is this?"), json!({ "attention": true })));
    let attention = whole["choices"][0]["attention"].as_array().unwrap();
    assert_eq!(json!(attention.len()), whole["usage"]["completion_tokens"]);
    for token in attention {
        let weights: Vec<f64> = token.as_array().unwrap().iter().filter_map(Value::as_f64).collect();
        assert_eq!(weights.len(), 4);
        assert!(weights.iter().all(|weight| *weight > 0.0) && weights.iter().sum::<f64>() < 1.0, "{token}");
    }
    let (_, plain) = server.ask(CHAT, &chat(about(1, "what is this?"), json!({})));
    assert_eq!(plain["choices"][0]["message"], whole["choices"][0]["message"]);
    assert!(plain["choices"][0].get("attention").is_none());
}

#[test]
fn an_answer_by_a_schema_is_json_of_it() {
    let server = Running::open();
    let schema = json!({
        "type": "object", "required": ["count", "colour"], "additionalProperties": false,
        "properties": { "count": { "type": "integer", "minimum": 0, "maximum": 9 },
                        "colour": { "enum": ["red", "green"] } },
    });
    let format = json!({ "type": "json_schema", "json_schema": { "name": "scene", "schema": schema } });
    for seed in 0..8 {
        let more = json!({
            "response_format": format, "max_tokens": 200, "temperature": 1, "seed": seed, "n": 2,
        });
        let (status, told) = server.ask(CHAT, &chat(about(1, "how many?"), more));
        assert_eq!(status, 200, "{told}");
        for choice in told["choices"].as_array().unwrap() {
            let content = choice["message"]["content"].as_str().unwrap();
            assert_eq!(choice["finish_reason"], "stop", "{content}");
            let value: Value = serde_json::from_str(content).unwrap();
            assert!((0..=9).contains(&value["count"].as_i64().unwrap()), "{value}");
            assert!(["red", "green"].contains(&value["colour"].as_str().unwrap()), "{value}");
        }
    }
}

#[test]
fn what_is_wrong_is_named() {
    let server = Running::open();
    let user = |content: Value| json!([{ "role": "user", "content": content }]);
    let part = |url: &str| user(json!([{ "type": "image_url", "image_url": { "url": url } }]));
    let plain = || user(json!("owl"));
    for (body, param, message) in [
        (json!({}), "messages", "messages is missing"),
        (chat(json!([]), json!({})), "messages", "1 to 2048"),
        (chat(plain(), json!({ "model": "gpt" })), "model", "ask for \"tiny\""),
        (chat(plain(), json!({ "temperatur": 1 })), "temperatur", "not known here"),
        (chat(plain(), json!({ "tools": [{ "type": "function" }] })), "tools", "not known here"),
        (chat(plain(), json!({ "temperature": -1 })), "temperature", "from 0 to 100"),
        (chat(plain(), json!({ "n": 17 })), "n", "from 1 to 16"),
        (chat(plain(), json!({ "n": "two" })), "n", "n: "),
        (chat(plain(), json!({ "stop": "" })), "stop", "1 to 256 bytes"),
        (chat(plain(), json!({ "stop": 3 })), "stop", "stop: give a text, or a list of texts"),
        (chat(plain(), json!({ "max_tokens": 0 })), "", "give at least 1"),
        (chat(user(json!([{ "type": "audio" }])), json!({})), "messages[0]", "content[0]: unknown variant"),
        (chat(user(json!({ "text": "owl" })), json!({})), "messages[0]", "a text, or a list of parts"),
        (
            chat(json!([{ "role": "user", "content": "owl", "tool_calls": [] }]), json!({})),
            "messages[0]",
            "unknown field `tool_calls`",
        ),
        (chat(plain(), json!({ "top_logprobs": 3 })), "top_logprobs", "needs logprobs"),
        (
            chat(plain(), json!({ "response_format": { "type": "xml" } })),
            "response_format",
            "unknown variant",
        ),
        (
            chat(
                plain(),
                json!({ "response_format": { "type": "json_schema", "json_schema": {
                "name": "a", "schema": { "type": "no such type" } } } }),
            ),
            "response_format",
            "response_format: ",
        ),
        (chat(plain(), json!({ "max_tokens": 5000 })), "", "context of 4096"),
        (chat(user(json!("owl ".repeat(9000))), json!({})), "messages", "context of 4096"),
        (chat(user(json!("owl ".repeat(1 << 20))), json!({})), "messages", "4194304 bytes do not fit"),
        (chat(json!([{ "role": "tool", "content": "x" }]), json!({})), "messages[0]", "role \"tool\""),
        (chat(json!([{ "role": "user" }]), json!({})), "messages[0]", "no content"),
        (chat(json!([{ "role": "assistant", "content": "x" }]), json!({})), "messages", "nothing to answer"),
        (chat(part("https://a.example/b.png"), json!({})), "messages", "--fetch-images-from a.example"),
        (chat(part("data:image/png;base64,@@"), json!({})), "messages[0]", "base64 is damaged"),
        (chat(part("data:image/png;base64,aGVsbG8="), json!({})), "messages[0]", "messages[0]: "),
        (chat(part("/etc/passwd"), json!({})), "messages[0]", "send the picture itself"),
    ] {
        let (status, told) = server.ask(CHAT, &body);
        let error = &told["error"];
        assert!((400..500).contains(&status), "{status} {told}");
        assert!(error["message"].as_str().unwrap().contains(message), "{message}: {told}");
        assert_eq!(error["param"].as_str().unwrap_or_default(), param, "{told}");
        assert_eq!(error["type"], "invalid_request_error");
    }
}

#[test]
fn prompts_that_are_wrong_are_named() {
    let server = Running::open();
    let refused = |body: Value| server.ask("/v1/completions", &body).1["error"]["message"].clone();
    assert!(refused(json!({ "prompt": [9999] })).as_str().unwrap().contains("vocabulary"));
    let form = refused(json!({ "prompt": { "a": 1 } }));
    assert!(form.as_str().unwrap().starts_with("prompt: give a text, a list of texts"), "{form}");
    // More than may wait would be told to come again for ever.
    let many = refused(json!({ "prompt": vec!["owl"; 33], "n": 2 }));
    assert!(many.as_str().unwrap().starts_with("n: 66 answers to one request, and 64 may wait"), "{many}");
}

#[test]
fn bodies_are_bounded() {
    let limits = HttpLimits { body_bytes: 4000, read: Duration::from_secs(1), ..HttpLimits::default() };
    let server = Running::new(Access { local: true, ..Access::default() }, limits, 64);
    let post = |body: String, kind: &str| {
        let request = server.client.post(server.url(CHAT)).header(CONTENT_TYPE, kind).body(body);
        request.send().unwrap().status().as_u16()
    };
    let json = "application/json";
    assert_eq!(post("{".repeat(3000), json), 400);
    assert_eq!(post(format!("{}1{}", "[".repeat(900), "]".repeat(900)), json), 400);
    assert_eq!(post(format!("{{\"a\":{}1{}}}", "[".repeat(900), "]".repeat(900)), json), 400);
    assert_eq!(post("\u{0}".repeat(10), json), 400);
    assert_eq!(post(" ".repeat(4001), json), 413);
    assert_eq!(post("{}".to_owned(), "text/plain"), 415);
    assert_eq!(server.client.get(server.url(CHAT)).send().unwrap().status().as_u16(), 405);
    assert_eq!(server.client.get(server.url("/nothing")).send().unwrap().status().as_u16(), 404);
    // Without a length, and by the byte.
    let head = format!("POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {json}\r\n");
    let first = |more: &str| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        write!(stream, "{head}{more}").unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    let chunk = format!("Transfer-Encoding: chunked\r\n\r\n1388\r\n{}\r\n", " ".repeat(5000));
    assert_eq!(first(&chunk), "HTTP/1.1 413");
    // What is damaged is not said to be too long.
    assert_eq!(first("Transfer-Encoding: chunked\r\n\r\nzz\r\n"), "HTTP/1.1 400");
    assert_eq!(first("Content-Length: 100\r\n\r\n{"), "HTTP/1.1 408");
    // Headers that do not end: the connection is closed.
    let mut silent = TcpStream::connect(server.address).unwrap();
    write!(silent, "POST {CHAT} HTTP/1.1\r\n").unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut rest = Vec::new();
    assert!(silent.read_to_end(&mut rest).is_ok(), "closed by the server");
    assert_eq!(server.ask(CHAT, &chat(json!([{ "role": "user", "content": "owl" }]), json!({}))).0, 200);
}

#[test]
fn a_key_a_name_and_an_origin_are_asked_for() {
    let with_key = Access { api_keys: vec!["secret-key".to_owned()], ..Access::default() };
    let server = Running::new(with_key, HttpLimits::default(), 64);
    let status = |request: RequestBuilder| request.send().unwrap().status().as_u16();
    let models = |server: &Running| server.client.get(server.url("/v1/models"));
    assert_eq!(status(models(&server)), 401);
    assert_eq!(status(models(&server).header(AUTHORIZATION, "Bearer secret-kez")), 401);
    assert_eq!(status(models(&server).header(AUTHORIZATION, "Bearer secret-key")), 200);
    // What says nothing of the model is open: the page asks for the key.
    for open in ["/", "/page.js", "/health"] {
        assert_eq!(status(server.client.get(server.url(open))), 200, "{open}");
    }
    let origins = vec!["https://a.example".to_owned()];
    let local = Access { local: true, origins, ..Access::default() };
    let server = Running::new(local, HttpLimits::default(), 64);
    assert_eq!(status(models(&server).header(HOST, "evil.example")), 403);
    assert_eq!(status(models(&server).header(HOST, "localhost:1")), 200);
    assert_eq!(status(models(&server).header(ORIGIN, "https://evil.example")), 403);
    assert_eq!(status(models(&server).header(ORIGIN, format!("http://{}", server.address))), 200);
    let allowed = models(&server).header(ORIGIN, "https://a.example").send().unwrap();
    assert_eq!(allowed.headers()["access-control-allow-origin"], "https://a.example");
    // A browser asks before, for the headers of OpenAI's client.
    let before = server.client.request(reqwest::Method::OPTIONS, server.url(CHAT));
    let before = before.header(ORIGIN, "https://a.example");
    let before = before.header("access-control-request-headers", "authorization,x-stainless-os");
    let before = before.send().unwrap();
    assert_eq!(before.headers()["access-control-allow-headers"], "authorization,x-stainless-os");
    let plain = models(&server).send().unwrap();
    assert!(!plain.headers().contains_key("access-control-allow-origin"));
    assert!(plain.headers()["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
}

#[test]
fn a_full_queue_asks_to_come_again() {
    let server = Running::new(Access { local: true, ..Access::default() }, HttpLimits::default(), 0);
    let body = chat(json!([{ "role": "user", "content": "owl" }]), json!({}));
    let response = server.post(CHAT, &body).send().unwrap();
    assert_eq!(response.status().as_u16(), 429);
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(told(response).1["error"]["type"], "rate_limit_error");
    assert!(server.get("/metrics").contains("mm1_requests_refused_total 1"));
}

#[test]
fn features_and_cuts_of_pictures_are_told() {
    let server = Running::open();
    let (_, one) = server.ask("/v1/embeddings", &json!({ "input": [data_url(1), data_url(2), data_url(1)] }));
    let features: Vec<&Value> = (0..3).map(|i| &one["data"][i]["embedding"]).collect();
    assert!(features[0] == features[2] && features[0] != features[1], "{one}");
    let base64 = json!({ "input": data_url(1), "encoding_format": "base64" });
    let (_, coded) = server.ask("/v1/embeddings", &base64);
    let bytes = STANDARD.decode(coded["data"][0]["embedding"].as_str().unwrap()).unwrap();
    let first = f32::from_le_bytes(bytes[..4].try_into().unwrap());
    assert!((f64::from(first) - features[0][0].as_f64().unwrap()).abs() < 1e-7);
    let (_, cut) = server.ask("/picture", &json!({ "url": data_url(1) }));
    let told = ["width", "height", "tokens", "views"].map(|field| cut[field].as_u64());
    assert_eq!(told, [20, 12, 4, 1].map(Some), "{cut}");
    let samples: Value = serde_json::from_str(&server.get("/samples")).unwrap();
    assert!(samples["samples"].as_array().unwrap().len() >= 4);
}

#[test]
fn a_client_that_leaves_is_not_answered_any_further() {
    let server = Running::open();
    let body =
        chat(json!([{ "role": "user", "content": "owl" }]), json!({ "max_tokens": 4000, "stream": true }));
    let mut response = server.post(CHAT, &body).send().unwrap();
    let mut some = [0; 200];
    response.read_exact(&mut some).unwrap();
    drop(response);
    let begun = Instant::now();
    while !server.get("/metrics").contains("mm1_requests_left_total 1") {
        assert!(begun.elapsed() < Duration::from_secs(20), "{}", server.get("/metrics"));
        thread::sleep(Duration::from_millis(20));
    }
}

/// Who ends its side of the connection can't be told from who closes it, so it counts as one that has left,
/// as with nginx and Go.
#[test]
fn a_client_that_half_closes_has_left() {
    let server = Running::open();
    let body = chat(json!([{ "role": "user", "content": "owl" }]), json!({ "max_tokens": 4000 })).to_string();
    let mut stream = TcpStream::connect(server.address).unwrap();
    let head = format!("POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n");
    write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let begun = Instant::now();
    let seen = |what: &str| {
        while !server.get("/metrics").contains(what) {
            assert!(begun.elapsed() < Duration::from_secs(20), "{what}: {}", server.get("/metrics"));
            thread::sleep(Duration::from_millis(5));
        }
    };
    seen("mm1_requests_active 1");
    stream.shutdown(Shutdown::Write).unwrap();
    seen("mm1_requests_left_total 1");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
}

/// Each of several keys is a client: its one request does not wait behind all of another's.
#[test]
fn clients_with_keys_of_their_own_take_turns() {
    let keys = ["the-first-key", "the-second-key"].map(str::to_owned);
    // Fourteen blocks of 64 positions: of one answer at a time.
    let room = EngineLimits { cache_bytes: 14 << 14, picture_bytes: 0, waiting: 64 };
    let access = Access { api_keys: keys.to_vec(), ..Access::default() };
    let server = Running::with(access, HttpLimits::default(), room);
    let done = std::sync::Mutex::new(Vec::new());
    let ask = |key: &str, number: u64| {
        let more = json!({ "max_tokens": 800, "temperature": 1, "seed": number });
        let body = chat(json!([{ "role": "user", "content": "owl" }]), more);
        let response =
            server.post(CHAT, &body).header(AUTHORIZATION, format!("Bearer {key}")).send().unwrap();
        assert_eq!(response.status().as_u16(), 200);
        response.text().unwrap();
        done.lock().unwrap().push(key.to_owned());
    };
    thread::scope(|scope| {
        let ask = &ask;
        for number in 0..8 {
            let key = &keys[0];
            scope.spawn(move || ask(key, number));
        }
        let metrics = || {
            let request = server.client.get(server.url("/metrics"));
            request.header(AUTHORIZATION, format!("Bearer {}", keys[0])).send().unwrap().text().unwrap()
        };
        while !metrics().contains("mm1_requests_waiting 7") && done.lock().unwrap().is_empty() {
            thread::sleep(Duration::from_millis(1));
        }
        ask(&keys[1], 9);
    });
    let done = done.lock().unwrap();
    let place = done.iter().position(|key| *key == keys[1]).unwrap();
    assert!(place <= 4, "answered as number {place} of {}", done.len());
}

#[test]
fn what_is_under_way_is_answered_before_the_end() {
    let server = Running::open();
    let more = json!({ "max_tokens": 400, "stream": true });
    let body = chat(json!([{ "role": "user", "content": "owl" }]), more);
    let mut response = server.post(CHAT, &body).send().unwrap();
    let mut some = [0; 50];
    response.read_exact(&mut some).unwrap();
    server.stop.store(true, Ordering::SeqCst);
    let mut rest = String::new();
    response.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("data: [DONE]\n\n"), "{rest}");
    let begun = Instant::now();
    while TcpStream::connect(server.address).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(20), "still listens");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn who_has_asked_nothing_does_not_hold_up_the_end() {
    let server = Running::open();
    // As browsers do, in reserve; and the beginning of a request.
    let silent = TcpStream::connect(server.address).unwrap();
    let mut slow = TcpStream::connect(server.address).unwrap();
    write!(slow, "GET /health").unwrap();
    assert!(server.get("/health").contains("ok"));
    let begun = Instant::now();
    drop(server);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    drop((silent, slow));
}
