//! K10: an odd answer of a server is an answer. It counts as empty and is reported; the rest is scored; a
//! second run asks only what failed.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mm1_eval::baseline;
use mm1_eval::item::ItemResult;
use mm1_eval::log::Log;
use mm1_eval::no_answer::NoAnswer;
use mm1_eval::result;
use mm1_eval::run::{self, EvalPass, Outcome};
use serde_json::{Value, json};

use super::server::{Asked, Response, Server, said};
use super::{ask, model, some};
use crate::toy::{Toy, pass};

/// Evaluates with the answers kept in `log`.
fn kept(server: &Server, log: &Path, pass: &EvalPass<'_>) -> anyhow::Result<Outcome> {
    let mut log = Log::open(log, &pass.log_header("theirs", "toy"))?;
    let mut model = model(&server.address, Duration::from_secs(20), |_| {})?;
    let outcome = run::evaluate(&Toy::vqa(), &mut model, &mut log, pass)?;
    log.finish(&outcome.items)?;
    Ok(outcome)
}

fn right(asked: &Asked) -> Response {
    let index = asked.index;
    said(if index % 2 == 1 { "yes" } else { ["dog", "cat", "owl"][index % 3] })
}

fn body(value: &Value) -> Response {
    Response { body: value.to_string(), ..Response::default() }
}

fn message(content: &Value) -> Response {
    body(&json!({"choices": [{"message": {"content": content}, "finish_reason": "length"}]}))
}

fn text(status: u16, text: &str) -> Response {
    Response { status, body: text.into(), ..Response::default() }
}

/// What is odd about the answers to the first items.
fn odd(asked: &Asked) -> Response {
    match asked.index {
        0 => message(&Value::Null),
        1 => message(&json!("")),
        2 => message(&json!([])),
        3 => message(&json!({"text": "yes"})),
        4 => body(&json!({"choices": [{"message": {"content": null, "refusal": "I can't say."}}]})),
        5 => body(&json!({"choices": [{"message": {}}]})),
        6 => body(&json!({"choices": []})),
        7 => body(&json!({"error": {"message": "overloaded"}})),
        8 => text(200, ""),
        9 => text(200, "<html>Sorry</html>"),
        10 => text(200, "{\"choices\": [{\"message\": {\"content\": \"ca"),
        11 => text(400, "{\"error\": {\"message\": \"this prompt is too long\"}}"),
        12 => text(422, "{\"detail\": \"no \\u001b[31mpictures\"}"),
        // What is right in another form.
        13 => message(&json!([{"type": "text", "text": "ye"}, {"type": "text", "text": "s"}])),
        14 => message(&json!(["owl"])),
        _ => right(asked),
    }
}

/// The items without an answer: those that were empty, and those that failed.
fn without(items: &[ItemResult]) -> [Vec<usize>; 2] {
    let of = |failed: bool| {
        let places = items.iter().enumerate().filter(|(_, item)| match item.no_answer {
            Some(NoAnswer::Failed(_)) => failed,
            Some(NoAnswer::Empty(_)) => !failed,
            None => false,
        });
        places.map(|(place, _)| place).collect()
    };
    [of(false), of(true)]
}

#[test]
fn fault_k10_odd_answers_are_empty_counted_and_told_and_the_rest_is_scored() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("toy.jsonl");
    let server = Server::start(odd);
    let outcome = kept(&server, &log, &pass()).unwrap();
    assert_eq!(server.items(), (0..20).collect::<Vec<_>>());
    assert_eq!(without(&outcome.items), [(0..6).collect::<Vec<_>>(), (6..13).collect()]);
    let counts = &outcome.no_answers;
    assert_eq!((counts.empty, counts.failed, counts.reasons.values().sum::<u64>()), (6, 7, 13));
    for reason in [
        "the message's content is null (finish_reason length)",
        "the message is empty (finish_reason length)",
        "the message is a list without text (finish_reason length)",
        "the message's content is neither text nor a list (finish_reason length)",
        "the message's content is null: I can't say.",
        "its answer has no choices[0].message: {\"choices\":[]}",
        "its answer is empty: ",
        "its answer is no JSON: <html>Sorry</html>",
        "it answered 400 Bad Request: this prompt is too long",
    ] {
        assert!(counts.reasons.contains_key(reason), "{reason} is not in {:?}", counts.reasons);
    }
    // 7 of 20 are right: the others are empty, and none of them is right by that.
    assert_eq!((outcome.score.n, outcome.score.value), (20, 35.0));
    assert!(outcome.items[..13].iter().all(|item| item.output.is_empty() && item.score == 0.0));
    // In the log and in the result as well.
    let lines = fs::read_to_string(&log).unwrap();
    assert_eq!(lines.matches("\"no_answer\":{\"empty\":").count(), 6);
    assert_eq!(lines.matches("\"no_answer\":{\"failed\":").count(), 7);
    let baselines = baseline::baselines(&Toy::vqa(), &outcome.items, 7).unwrap();
    let scores = result::task_scores("theirs", &outcome, &baselines, None);
    let written = serde_json::to_value(&scores[0]).unwrap();
    assert_eq!((&written["no_answers"]["empty"], &written["no_answers"]["failed"]), (&json!(6), &json!(7)));
    assert!(serde_json::to_value(&scores[1]).unwrap().get("no_answers").is_none());
}

#[test]
fn fault_k10_a_second_run_asks_only_what_failed() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("toy.jsonl");
    let server = Server::start(|asked| if asked.nth < 20 { odd(asked) } else { right(asked) });
    kept(&server, &log, &pass()).unwrap();
    server.items();
    let outcome = kept(&server, &log, &pass()).unwrap();
    assert_eq!(server.items(), (6..13).collect::<Vec<_>>());
    assert_eq!((outcome.no_answers.empty, outcome.no_answers.failed), (6, 0));
    assert_eq!((outcome.score.n, outcome.score.value), (20, 70.0));
    // Nothing is missing: nothing is asked, and nothing changes.
    let whole = fs::read(&log).unwrap();
    assert_eq!(kept(&server, &log, &pass()).unwrap(), outcome);
    assert!(server.items().is_empty() && fs::read(&log).unwrap() == whole);
}

#[test]
fn fault_k10_what_was_answered_before_a_server_dies_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("toy.jsonl");
    let task = Toy { tests: 60, ..Toy::vqa() };
    let dead = Arc::new(AtomicBool::new(true));
    let is_dead = dead.clone();
    let server = Server::start(move |asked| {
        let fails = asked.index >= 10 && is_dead.load(Ordering::SeqCst);
        if fails { text(400, "out of memory") } else { right(asked) }
    });
    let evaluate = || {
        let pass = EvalPass { protocol: &some(60), ..pass() };
        let mut log = Log::open(&log, &pass.log_header("theirs", "toy")).unwrap();
        let mut model = model(&server.address, Duration::from_secs(20), |_| {}).unwrap();
        run::evaluate(&task, &mut model, &mut log, &pass)
    };
    let error = format!("{:#}", evaluate().unwrap_err());
    assert!(
        error.contains("given up after 2") && error.contains("400 Bad Request: out of memory"),
        "{error}"
    );
    let failed = fs::read_to_string(&log).unwrap().matches("\"no_answer\"").count();
    // Three are asked at a time.
    assert!((20..23).contains(&failed), "{failed} failed");
    assert_eq!(server.items().len(), 10 + failed);
    dead.store(false, Ordering::SeqCst);
    assert_eq!(evaluate().unwrap().no_answers.failed, 0);
    assert_eq!(server.items(), (10..60).collect::<Vec<_>>());
}

#[test]
fn fault_k10_an_error_page_of_a_megabyte_is_told_in_a_line() {
    let server = Server::start(|asked| match asked.index {
        1 => text(400, &"long words ".repeat(90_000)),
        2 => text(404, "\u{1b}[2J\u{7}gone"),
        _ => right(asked),
    });
    let outcome = ask(&server.address, &EvalPass { protocol: &some(4), ..pass() }).unwrap();
    assert_eq!(outcome.no_answers.failed, 2);
    assert!(outcome.no_answers.reasons.keys().all(|reason| reason.len() < 400 && !reason.contains('\n')));
}
