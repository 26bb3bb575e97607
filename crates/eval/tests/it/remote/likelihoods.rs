//! Texts that a model behind an address judges, by the fields of vLLM.

use mm1_eval::log::Log;
use mm1_eval::metric::Metric;
use mm1_eval::prompt::Style;
use mm1_eval::run::{self, EvalPass};
use serde_json::{Value, json};
use std::time::Duration;

use super::server::{Asked, Response, Server, said};
use super::{model, some};
use crate::toy::{Toy, pass};

/// Tokens of the prompt alone.
const LENGTH: u64 = 5;

/// Judges the text behind the prompt: each of its letters is a token, and the more likely the later it is in
/// the alphabet. `place` puts the log-probabilities into the answer.
fn judge(asked: &Asked, place: fn(Value) -> Value) -> Response {
    let body = &asked.body;
    assert_eq!((&body["max_tokens"], &body["temperature"]), (&json!(1), &json!(0)));
    let text = match asked.path.as_str() {
        "/v1/chat/completions" => {
            let last = body["messages"].as_array().unwrap().last().unwrap();
            (last["role"] == "assistant").then(|| last["content"].as_str().unwrap())
        }
        "/v1/completions" => {
            body["prompt"].as_str().unwrap().split_once("Short answer:").map(|(_, text)| text)
        }
        path => panic!("{path}"),
    };
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        assert!(body.get("prompt_logprobs").is_none() && body.get("continue_final_message").is_none());
        let usage = json!({ "prompt_tokens": LENGTH });
        return Response {
            body: json!({ "choices": [{}], "usage": usage }).to_string(),
            ..Response::default()
        };
    };
    assert_eq!((&body["prompt_logprobs"], &body["logprob_start_len"]), (&json!(1), &json!(LENGTH)));
    if asked.path.ends_with("/chat/completions") {
        let flags = [&body["continue_final_message"], &body["add_generation_prompt"]];
        assert_eq!(flags, [&json!(true), &json!(false)]);
    }
    let one = |letter: char| {
        let mut told = json!({ "7": { "logprob": f64::from(letter as u32) / 256.0 - 1.0,
            "decoded_token": letter.to_string() } });
        if letter == 'e' {
            told["3"] = json!({ "logprob": -0.01, "decoded_token": "!" });
        }
        told
    };
    let told = (0..LENGTH).map(|_| Value::Null).chain(text.chars().map(one)).collect::<Vec<_>>();
    Response { body: place(json!(told)).to_string(), ..Response::default() }
}

fn evaluate(server: &Server, metric: Metric, pass: &EvalPass<'_>) -> anyhow::Result<run::Outcome> {
    let mut model = model(&server.address, Duration::from_secs(20), |_| {})?;
    run::evaluate(&Toy { metric, ..Toy::vqa() }, &mut model, &mut Log::none(), pass)
}

#[test]
fn options_are_judged_behind_the_prompt() {
    let server =
        Server::start(|asked| judge(asked, |told| json!({ "prompt_logprobs": told, "choices": [{}] })));
    let five = EvalPass { protocol: &some(5), style: Style::Chat, shots: 1, ..pass() };
    let outcome = evaluate(&server, Metric::Choice, &five).unwrap();
    // The prompt alone and with each of four options.
    assert_eq!((outcome.items.len(), server.asked()), (5, 25));
    let sum = |text: &str| text.bytes().map(|letter| f64::from(letter) / 256.0 - 1.0).sum::<f64>();
    for item in &outcome.items {
        assert_eq!(item.log_probs, ["dog", "cat", "owl", "yes"].map(sum));
        assert_eq!(item.output, "owl");
    }
    // What greedy decoding would write has no likelier token beside any of its own: "yes" has.
    let outcome = evaluate(&server, Metric::Greedy, &five).unwrap();
    let greedy = outcome.items.iter().map(|item| item.output.as_str());
    assert_eq!(greedy.collect::<Vec<_>>(), ["dog", "", "owl", "", "cat"]);
}

#[test]
fn running_text_is_judged_without_pictures() {
    let server =
        Server::start(|asked| judge(asked, |told| json!({ "choices": [{ "prompt_logprobs": told }] })));
    let five = EvalPass { protocol: &some(5), ..pass() };
    let mut model = model(&server.address, Duration::from_secs(20), |_| {}).unwrap();
    let blind = Toy { metric: Metric::Choice, pictures: 0, ..Toy::vqa() };
    let outcome = run::evaluate(&blind, &mut model, &mut Log::none(), &five).unwrap();
    assert_eq!(outcome.items[0].output, "owl");
    let error = evaluate(&server, Metric::Choice, &five).unwrap_err().to_string();
    assert!(error.contains("--style chat"), "{error}");
}

#[test]
fn a_server_that_judges_nothing_is_named() {
    let one = EvalPass { protocol: &some(1), style: Style::Chat, ..pass() };
    let refused = |answer: fn(&Asked) -> Response| {
        evaluate(&Server::start(answer), Metric::Choice, &one).unwrap_err().to_string()
    };
    let error = refused(|_| said("yes"));
    assert!(error.contains("its answer has no usage.prompt_tokens"), "{error}");
    let error = refused(|asked| judge(asked, |_| json!({ "choices": [{}] })));
    assert!(error.contains("tasks by likelihood need a server with this field of vLLM's"), "{error}");
    // Its template writes the answer otherwise behind the prompt.
    let error = refused(|asked| {
        judge(asked, |told| json!({ "prompt_logprobs": told.as_array().unwrap()[1..].to_vec() }))
    });
    assert!(error.contains("spell \"og\", and not the text \"dog\""), "{error}");
}
