//! A model behind an address, played by a small server.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use mm1_eval::log::Log;
use mm1_eval::prompt::Style;
use mm1_eval::protocol::Protocol;
use mm1_eval::remote::RemoteModel;
use mm1_eval::run::{self, EvalPass};
use serde_json::{Value, json};

use crate::toy::{Toy, pass, protocol};

/// Answers each request by `answer`, and counts them.
fn serve(
    answer: impl Fn(usize, &Value) -> (u16, String) + Send + Sync + 'static,
) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/v1", listener.local_addr().unwrap());
    let (count, answer) = (Arc::new(AtomicUsize::new(0)), Arc::new(answer));
    let counted = count.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, count, answer) = (stream.unwrap(), count.clone(), answer.clone());
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                assert_eq!(line, "POST /v1/chat/completions HTTP/1.1\r\n");
                let mut length = 0;
                while line != "\r\n" {
                    line.clear();
                    reader.read_line(&mut line).unwrap();
                    if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let nth = count.fetch_add(1, Ordering::SeqCst);
                let (status, text) = answer(nth, &serde_json::from_slice(&body).unwrap());
                let head = format!(
                    "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    text.len()
                );
                stream.write_all((head + &text).as_bytes()).unwrap();
            });
        }
    });
    (address, counted)
}

fn said(text: &str) -> String {
    json!({"choices": [{"message": {"role": "assistant", "content": text}}]}).to_string()
}

fn ask(address: &str, pass: &EvalPass<'_>) -> anyhow::Result<run::Outcome> {
    run::evaluate(&Toy::vqa(), &mut RemoteModel::new(address, "theirs", 3)?, &mut Log::none(), pass)
}

#[test]
fn a_conversation_is_sent_as_messages_with_pictures() {
    let (address, count) = serve(|_, body| {
        assert_eq!(
            (&body["model"], &body["max_tokens"], &body["temperature"]),
            (&json!("theirs"), &json!(4), &json!(0))
        );
        let messages = body["messages"].as_array().unwrap();
        let roles: Vec<_> = messages.iter().map(|m| m["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["user", "assistant", "user", "assistant", "user"]);
        let [picture, text] = messages[4]["content"].as_array().unwrap().as_slice() else {
            panic!("{messages:?}")
        };
        assert!(picture["image_url"]["url"].as_str().unwrap().starts_with("data:image/png;base64,iVBOR"));
        let index: usize =
            text["text"].as_str().unwrap()["What is thing ".len()..].trim_end_matches('?').parse().unwrap();
        assert!(messages[1]["content"].is_string());
        (200, said(if index % 2 == 1 { "Yes\nand more" } else { ["dog", "cat", "owl"][index % 3] }))
    });
    let outcome = ask(&address, &EvalPass { shots: 2, style: Style::Chat, ..pass() }).unwrap();
    assert_eq!((outcome.score.value, count.load(Ordering::SeqCst)), (100.0, 20));
    assert_eq!(outcome.items[1].output, "Yes");
}

#[test]
fn demonstrations_are_sent_smaller_where_asked() {
    let (address, _) = serve(|_, body| {
        let sides = |message: &Value| {
            let url = message["content"][0]["image_url"]["url"].as_str().unwrap();
            let png = BASE64_STANDARD.decode(url.split_once(',').unwrap().1).unwrap();
            let picture = image::load_from_memory(&png).unwrap();
            [picture.width(), picture.height()]
        };
        let [first, _, last, _, asked] = body["messages"].as_array().unwrap().as_slice() else {
            panic!("{body}")
        };
        assert_eq!([first, last, asked].map(sides), [[2, 1], [3, 2], [3, 2]]);
        (200, said("yes"))
    });
    let small = EvalPass {
        protocol: &Protocol { demonstration_size: Some(2), full_resolution_demonstrations: 1, ..protocol() },
        shots: 2,
        style: Style::Chat,
        ..pass()
    };
    assert_eq!(ask(&address, &small).unwrap().items.len(), 20);
}

#[test]
fn a_busy_server_is_asked_again_and_a_refusal_is_told() {
    let (address, count) = serve(|nth, _| if nth < 2 { (503, "busy".into()) } else { (200, said("yes")) });
    let few = EvalPass { protocol: &Protocol { questions: 3, ..protocol() }, ..pass() };
    assert_eq!(ask(&address, &few).unwrap().score.n, 3);
    assert_eq!(count.load(Ordering::SeqCst), 5);
    let (address, count) = serve(|_, _| (401, "no key".into()));
    let error = format!(
        "{:#}",
        ask(&address, &EvalPass { protocol: &Protocol { questions: 1, ..protocol() }, ..pass() })
            .unwrap_err()
    );
    assert!(error.contains("asked for toy/test/0: it answered 401") && error.contains("no key"), "{error}");
    assert_eq!(count.load(Ordering::SeqCst), 1);
    let (address, _) = serve(|_, _| (200, "{}".into()));
    let error = format!(
        "{:#}",
        ask(&address, &EvalPass { protocol: &Protocol { questions: 1, ..protocol() }, ..pass() })
            .unwrap_err()
    );
    assert!(error.contains("no choices[0].message.content"), "{error}");
    assert!(
        RemoteModel::new("localhost:8000", "x", 1)
            .err()
            .unwrap()
            .to_string()
            .contains("give an address such as")
    );
}
