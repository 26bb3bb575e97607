//! A model behind an address, played by a small server.

mod answers;
mod likelihoods;
mod limits;
mod server;

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use mm1_eval::log::Log;
use mm1_eval::prompt::Style;
use mm1_eval::protocol::Protocol;
use mm1_eval::remote::{RemoteModel, RemoteSettings};
use mm1_eval::run::{self, EvalPass, Outcome};
use serde_json::{Value, json};

use self::server::{Response, Server, said};
use crate::toy::{Toy, pass, protocol};

/// The model at an address, three questions at a time, with its messages in `tell`.
fn model(address: &str, timeout: Duration, tell: fn(&str)) -> anyhow::Result<RemoteModel> {
    RemoteModel::new(RemoteSettings {
        address,
        model: Some("theirs"),
        key: None,
        parallel: 3,
        timeout,
        tell: Box::new(tell),
    })
}

/// The model of a server that gives none its name.
fn only_model(address: &str) -> anyhow::Result<RemoteModel> {
    RemoteModel::new(RemoteSettings {
        address,
        model: None,
        key: None,
        parallel: 1,
        timeout: Duration::from_secs(5),
        tell: Box::new(|_| {}),
    })
}

fn ask(address: &str, pass: &EvalPass<'_>) -> anyhow::Result<Outcome> {
    let mut model = model(address, Duration::from_secs(20), |_| {})?;
    run::evaluate(&Toy::vqa(), &mut model, &mut Log::none(), pass)
}

#[test]
fn without_a_name_the_only_model_of_a_server_is_asked() {
    let listing = |body: &'static str| {
        Server::start(move |asked| {
            if asked.path.ends_with("/models") {
                return Response { body: body.into(), ..Response::default() };
            }
            assert_eq!(asked.body["model"], json!("theirs"));
            said("yes")
        })
    };
    let one = listing(r#"{"object": "list", "data": [{"id": "theirs", "object": "model"}]}"#);
    let mut model = only_model(&one.address).unwrap();
    assert_eq!(model.name(), "theirs");
    let pass = EvalPass { protocol: &some(1), ..pass() };
    let outcome = run::evaluate(&Toy::vqa(), &mut model, &mut Log::none(), &pass).unwrap();
    assert_eq!(outcome.items[0].output, "yes");
    for (body, says) in [
        (r#"{"data": [{"id": "a"}, {"id": "b"}]}"#, "it has 2 models (a, b); give --model-name NAME"),
        (r#"{"data": []}"#, "it lists no model; give --model-name NAME"),
        (r#"{"data": [{}]}"#, "a model of its list has no id"),
        ("<html>", "its list of models is no JSON"),
        ("{}", "its list of models has no data"),
    ] {
        let refused = only_model(&listing(body).address).err().unwrap().to_string();
        assert!(refused.contains(says) && refused.ends_with("give --model-name NAME"), "{refused}");
    }
    let without = Server::start(|_| Response { status: 404, ..Response::default() });
    let refused = only_model(&without.address).err().unwrap().to_string();
    assert!(refused.contains("its models: it answered 404"), "{refused}");
}

fn some(questions: usize) -> Protocol {
    Protocol { questions, ..protocol() }
}

#[test]
fn a_conversation_is_sent_as_messages_with_pictures() {
    let server = Server::start(|asked| {
        let body = &asked.body;
        assert_eq!(
            (&body["model"], &body["max_tokens"], &body["temperature"]),
            (&json!("theirs"), &json!(4), &json!(0))
        );
        let messages = body["messages"].as_array().unwrap();
        let roles: Vec<_> = messages.iter().map(|m| m["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["user", "assistant", "user", "assistant", "user"]);
        let [picture, _] = messages[4]["content"].as_array().unwrap().as_slice() else {
            panic!("{messages:?}")
        };
        assert!(picture["image_url"]["url"].as_str().unwrap().starts_with("data:image/png;base64,iVBOR"));
        assert!(messages[1]["content"].is_string());
        let index = asked.index;
        said(if index % 2 == 1 { "Yes\nand more" } else { ["dog", "cat", "owl"][index % 3] })
    });
    let outcome = ask(&server.address, &EvalPass { shots: 2, style: Style::Chat, ..pass() }).unwrap();
    assert_eq!((outcome.score.value, server.asked()), (100.0, 20));
    assert_eq!(outcome.items[1].output, "Yes");
    assert!(outcome.no_answers.is_none());
}

#[test]
fn demonstrations_are_sent_smaller_where_asked() {
    let server = Server::start(|asked| {
        let sides = |message: &Value| {
            let url = message["content"][0]["image_url"]["url"].as_str().unwrap();
            let png = BASE64_STANDARD.decode(url.split_once(',').unwrap().1).unwrap();
            let picture = image::load_from_memory(&png).unwrap();
            [picture.width(), picture.height()]
        };
        let [first, _, last, _, question] = asked.body["messages"].as_array().unwrap().as_slice() else {
            panic!("{}", asked.body)
        };
        assert_eq!([first, last, question].map(sides), [[2, 1], [3, 2], [3, 2]]);
        said("yes")
    });
    let small = EvalPass {
        protocol: &Protocol { demonstration_size: Some(2), full_resolution_demonstrations: 1, ..protocol() },
        shots: 2,
        style: Style::Chat,
        ..pass()
    };
    assert_eq!(ask(&server.address, &small).unwrap().items.len(), 20);
}

#[test]
fn a_busy_server_is_asked_again_and_a_wrong_key_is_told_once() {
    let server = Server::start(|asked| {
        let busy = Response { status: 503, body: "busy".into(), ..Response::default() };
        if asked.nth < 2 { busy } else { said("yes") }
    });
    let few = EvalPass { protocol: &some(3), ..pass() };
    assert_eq!(ask(&server.address, &few).unwrap().score.n, 3);
    assert_eq!(server.asked(), 5);
    let server = Server::start(|_| Response { status: 401, body: "no key".into(), ..Response::default() });
    let error = format!("{:#}", ask(&server.address, &few).unwrap_err());
    assert!(error.contains("because it answered 401 Unauthorized: no key"), "{error}");
    assert_eq!(server.asked(), 3);
}
