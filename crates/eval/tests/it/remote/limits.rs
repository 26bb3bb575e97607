//! Machine faults 6 and 9: waits, silence, endless answers, redirects and secrets.

use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use mm1_eval::log::Log;
use mm1_eval::refusal::Refusal;
use mm1_eval::remote::{RemoteModel, RemoteSettings};
use mm1_eval::run::{self, EvalPass, Outcome};

use super::server::{Response, Server, said};
use super::{ask, model, some};
use crate::toy::{Toy, pass};

fn within(address: &str, timeout: Duration, questions: usize) -> anyhow::Result<Outcome> {
    let mut model = model(address, timeout, |_| {})?;
    let pass = EvalPass { protocol: &some(questions), ..pass() };
    run::evaluate(&Toy::vqa(), &mut model, &mut Log::none(), &pass)
}

/// Busy until the server has been asked once for each item; `wait` is its `Retry-After`.
fn busy_once(wait: impl Fn() -> String + Send + Sync + 'static) -> Server {
    Server::start(move |asked| {
        if asked.nth > 0 {
            return said("yes");
        }
        let head = vec![format!("retry-after: {}", wait())];
        Response { status: 429, head, body: "slow down".into(), ..Response::default() }
    })
}

#[test]
fn fault_09_retry_after_is_honoured_in_seconds_and_as_a_date() {
    let date = || httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3));
    // A date has whole seconds: of three up to one is lost.
    for (server, least) in [(busy_once(|| "2".into()), 1.9), (busy_once(date), 1.9)] {
        let started = Instant::now();
        assert_eq!(within(&server.address, Duration::from_secs(20), 1).unwrap().no_answers.failed, 0);
        let seconds = started.elapsed().as_secs_f64();
        assert!((least..4.5).contains(&seconds), "{seconds} s");
        assert_eq!(server.asked(), 2);
    }
    // One that is over, or says nothing that can be read, does not wait long.
    for wait in ["0", "Sun, 06 Nov 1994 08:49:37 GMT", "soon", "-3"] {
        let server = busy_once(move || wait.into());
        let started = Instant::now();
        within(&server.address, Duration::from_secs(20), 1).unwrap();
        assert!(started.elapsed() < Duration::from_millis(1500), "{wait}");
    }
}

#[test]
fn fault_09_a_silent_server_is_given_up_after_the_timeout() {
    let silent = || Response { silence: Duration::from_secs(30), ..said("yes") };
    let server = Server::start(move |asked| if asked.index == 1 { silent() } else { said("yes") });
    let started = Instant::now();
    let outcome = within(&server.address, Duration::from_millis(700), 6).unwrap();
    assert!(started.elapsed() < Duration::from_secs(3));
    assert_eq!((outcome.items.len(), outcome.no_answers.failed), (6, 1));
    let reason = outcome.no_answers.reasons.keys().next().unwrap();
    assert_eq!(reason, "no answer within 0.7 s; --timeout SECONDS gives it longer");
    // One that never says a word is not asked all questions.
    let server = Server::start(move |_| silent());
    let error = within(&server.address, Duration::from_millis(300), 20).unwrap_err();
    assert!(error.to_string().contains("given up after 3 questions without an answer"), "{error}");
    assert!(error.downcast_ref::<Refusal>().is_some());
    assert_eq!(server.asked(), 3);
    // One that begins and does not go on.
    let server = Server::start(|_| Response {
        head: vec!["content-length: 1000".into()],
        body: "{".into(),
        endless: false,
        ..Response::default()
    });
    let started = Instant::now();
    assert!(within(&server.address, Duration::from_millis(300), 1).is_ok_and(|o| o.no_answers.failed == 1));
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn fault_09_a_server_that_is_not_there_is_told() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = within(&format!("http://{closed}/v1"), Duration::from_millis(900), 5).unwrap_err();
    assert!(error.to_string().contains("it can't be reached: Connection refused"), "{error}");
}

#[test]
fn fault_06_an_endless_answer_is_cut_at_a_limit() {
    let server = Server::start(|asked| {
        let endless = Response { body: "x".repeat(1 << 16), endless: true, ..Response::default() };
        if asked.index == 1 { endless } else { said("yes") }
    });
    let outcome = ask(&server.address, &EvalPass { protocol: &some(3), ..pass() }).unwrap();
    assert_eq!(outcome.no_answers.failed, 1);
    assert!(outcome.no_answers.reasons.contains_key("its answer is longer than 1 MiB"));
    let server = Server::start(|asked| {
        let long = said(&"x".repeat(2 << 20));
        if asked.index == 2 { Response { status: 400, ..long } } else { said("yes") }
    });
    let outcome = ask(&server.address, &EvalPass { protocol: &some(3), ..pass() }).unwrap();
    assert!(outcome.no_answers.reasons.contains_key("its answer is longer than 1 MiB"));
}

#[test]
fn fault_09_a_redirect_to_another_host_is_refused_and_one_within_is_followed() {
    let elsewhere = Server::start(|_| said("yes"));
    for status in [301, 302, 307, 308] {
        let to = format!("location: {}/chat/completions", elsewhere.address);
        let server =
            Server::start(move |_| Response { status, head: vec![to.clone()], ..Response::default() });
        let error = within(&server.address, Duration::from_secs(5), 3).unwrap_err().to_string();
        assert!(error.contains(&format!("it redirects to {}", elsewhere.address)), "{error}");
        assert!(error.contains("prompts and pictures are sent nowhere else"), "{error}");
    }
    assert_eq!(elsewhere.asked(), 0);
    let server = Server::start(|asked| {
        if asked.path == "/v2/chat" {
            return said("yes");
        }
        Response { status: 307, head: vec!["location: /v2/chat".into()], ..Response::default() }
    });
    let outcome = within(&server.address, Duration::from_secs(5), 2).unwrap();
    assert!(outcome.no_answers.is_none() && outcome.items.iter().all(|item| item.output == "yes"));
}

static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());

#[test]
fn fault_09_keys_and_passwords_are_sent_and_never_shown() {
    let server = Server::start(|asked| {
        let sent = asked.head.iter().find(|line| line.starts_with("authorization:")).unwrap();
        let echo = format!("bad: {sent}, s3cr3t key, http://me:p4ss@there/?token=abc");
        let head = vec!["retry-after: 0".to_owned()];
        Response { status: 500, head, body: echo, ..Response::default() }
    });
    let ask = |address: &str, key: Option<&str>| {
        let mut model = RemoteModel::new(RemoteSettings {
            address,
            model: Some("theirs"),
            key: key.map(str::to_owned),
            parallel: 1,
            timeout: Duration::from_secs(5),
            tell: Box::new(|line| TOLD.lock().unwrap().push(line.to_owned())),
        })?;
        let pass = EvalPass { protocol: &some(1), ..pass() };
        let outcome = run::evaluate(&Toy::vqa(), &mut model, &mut Log::none(), &pass)?;
        let reason = outcome.no_answers.reasons.into_keys().next().unwrap();
        anyhow::Ok((model.address().to_owned(), reason))
    };
    let (_, reason) = ask(&server.address, Some("s3cr3t")).unwrap();
    let hidden = "bad: authorization: bearer ***, *** key, http://***@there/?token=***";
    assert_eq!(reason, format!("it answered 500 Internal Server Error: {hidden}"));
    let (_, reason) = ask(&server.address, Some(" s3cr3t\r\n")).unwrap();
    assert_eq!(reason, format!("it answered 500 Internal Server Error: {hidden}"), "as a file has it");
    for key in ["s3cr\n3t", "s\u{e9}cr3t"] {
        let error = ask(&server.address, Some(key)).unwrap_err().to_string();
        assert!(error.starts_with("OPENAI_API_KEY: a key is of letters") && !error.contains("cr"), "{error}");
    }
    let with_password = server.address.replace("http://", "http://me:s3cr3t@");
    let (address, reason) = ask(&with_password, Some("unused")).unwrap();
    // `me:s3cr3t` in base64; it is the server that shows it.
    assert!(reason.contains("authorization: basic "), "{reason}");
    assert_eq!(address, server.address.replace("http://", "http://***@"));
    let told = TOLD.lock().unwrap().join("\n");
    assert!(told.contains("trying again in 0.0 s") && told.contains("http://***@127.0.0.1"), "{told}");
    for text in [&told, &address] {
        assert!(!text.contains("s3cr3t") && !text.contains("p4ss") && !text.contains("=abc"), "{text}");
    }
    for (wrong, shown) in
        [("localhost:8000", "--model localhost:8000: give"), ("me:s3cr3t@host", "--model: give")]
    {
        let error = ask(wrong, None).unwrap_err().to_string();
        assert!(error.starts_with(shown) && !error.contains("s3cr3t"), "{error}");
    }
    let wrong = format!("{:#}", ask("http://me:s3/cr3t@host", None).unwrap_err());
    assert!(wrong.starts_with("--model: give") && !wrong.contains("cr3t"), "{wrong}");
}
