//! [`ServerExchange`]: one question to a server and its answer: tries, waits and limits.

use std::io::Read as _;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use mm1_data::redact::without_secrets;
use reqwest::blocking::{Client, Response};
use reqwest::header::{LOCATION, RETRY_AFTER};
use reqwest::{Method, StatusCode};

use super::address::Address;
use super::answer;

/// Times that a question is sent before it is given up.
const TRIES: u32 = 5;
/// The wait before the second try, where the server says nothing else; each further one waits twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait between two tries, whatever the server asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A question that got no answer.
#[derive(Debug)]
pub(super) struct AskFailure {
    /// One line, without secrets.
    pub(super) reason: String,
    pub(super) extent: FailureReach,
}

/// Whom a failure concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailureReach {
    /// This question: the server answers others.
    Question,
    /// Perhaps the server, which said nothing in time.
    Silence,
    /// The address, the key or the name of the model: no question fares better.
    Server,
}

/// A failure of one try.
enum Try {
    /// The next may go better, after a wait that the server may have asked for.
    Passing(AskFailure, Option<Duration>),
    Lasting(AskFailure),
}

/// A question, and how its answer is read.
pub(super) struct ServerQuestion<'a, T> {
    /// As `/chat/completions`.
    pub(super) route: &'a str,
    /// JSON to be posted; without one the route is only read.
    pub(super) body: Option<&'a str>,
    /// Of the longest answer that is read.
    /// Unit: bytes.
    pub(super) most: u64,
    /// The answer in the body of a response; what is wrong with it.
    pub(super) read: &'a dyn Fn(&str) -> Result<T, String>,
}

/// Asks one question.
pub(super) struct ServerExchange<'a> {
    pub(super) client: &'a Client,
    pub(super) address: &'a Address,
    /// What the server may take for one question, all tries together; waits between them come on top.
    pub(super) timeout: Duration,
    /// Told of a failure before the next try.
    pub(super) tell: &'a (dyn Fn(&str) + Sync),
}

impl ServerExchange<'_> {
    /// Sends `question` until there is an answer, or no hope for one.
    pub(super) fn ask<T>(&self, question: &ServerQuestion<'_, T>) -> Result<T, AskFailure> {
        let (mut spent, mut wait) = (Duration::ZERO, FIRST_WAIT);
        for attempt in 1.. {
            let started = Instant::now();
            let tried = self.send(question, self.timeout.saturating_sub(spent));
            spent += started.elapsed();
            match tried {
                Ok(reply) => return Ok(reply),
                Err(Try::Passing(failure, asked)) if attempt < TRIES && spent < self.timeout => {
                    let asked = asked.unwrap_or(wait).min(LONGEST_WAIT);
                    let seconds = asked.as_secs_f64();
                    (self.tell)(&format!(
                        "{}: {}; trying again in {seconds:.1} s",
                        self.address.shown(),
                        failure.reason
                    ));
                    thread::sleep(asked);
                    wait *= 2;
                }
                Err(Try::Passing(failure, _) | Try::Lasting(failure)) => return Err(failure),
            }
        }
        unreachable!("the last try ends the loop")
    }

    fn send<T>(&self, question: &ServerQuestion<'_, T>, time: Duration) -> Result<T, Try> {
        let to = |method| self.address.request(self.client, method, question.route, time);
        let request = match question.body {
            Some(body) => to(Method::POST).header("content-type", "application/json").body(body.to_owned()),
            None => to(Method::GET),
        };
        let response = request.send().map_err(|e| self.unsent(&e))?;
        let status = response.status();
        if status.is_redirection() {
            return Err(redirected(&response));
        }
        let wait = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()).and_then(retry_after);
        let text = self.text(response, question.most)?;
        if status.is_success() {
            return (question.read)(&text).map_err(|reason| {
                let reason = format!("{reason}: {}", self.address.quoted(&text));
                Try::Lasting(AskFailure { reason, extent: FailureReach::Question })
            });
        }
        let said = self.address.quoted(&answer::error_message(&text));
        let reason = format!("it answered {status}{}{said}", if said.is_empty() { "" } else { ": " });
        let extent = match status {
            StatusCode::UNAUTHORIZED
            | StatusCode::PAYMENT_REQUIRED
            | StatusCode::FORBIDDEN
            | StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::PROXY_AUTHENTICATION_REQUIRED => FailureReach::Server,
            _ => FailureReach::Question,
        };
        let failure = AskFailure { reason, extent };
        let passes = status.is_server_error()
            || matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY
            );
        Err(if passes { Try::Passing(failure, wait) } else { Try::Lasting(failure) })
    }

    /// The body, as far as it is an answer's size. An endless one ends here.
    fn text(&self, response: Response, most: u64) -> Result<String, Try> {
        let mut bytes = Vec::new();
        let read = response.take(most + 1).read_to_end(&mut bytes);
        if let Err(e) = read {
            let inner = e.get_ref().and_then(|inner| inner.downcast_ref::<reqwest::Error>());
            let late =
                e.kind() == std::io::ErrorKind::TimedOut || inner.is_some_and(reqwest::Error::is_timeout);
            return Err(if late {
                self.silent()
            } else {
                let reason = format!("its answer broke off after {} bytes", bytes.len());
                Try::Passing(AskFailure { reason, extent: FailureReach::Question }, None)
            });
        }
        if bytes.len() as u64 > most {
            let reason = format!("its answer is longer than {} MiB", most >> 20);
            return Err(Try::Lasting(AskFailure { reason, extent: FailureReach::Question }));
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A request that got no answer.
    fn unsent(&self, error: &reqwest::Error) -> Try {
        if error.is_timeout() {
            return self.silent();
        }
        // The innermost says what happened: the others repeat the address.
        let mut cause: &dyn std::error::Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        let cause = self.address.quoted(&cause.to_string());
        let (reason, extent) = if error.is_connect() {
            (format!("it can't be reached: {cause}"), FailureReach::Server)
        } else {
            (format!("it broke off: {cause}"), FailureReach::Question)
        };
        Try::Passing(AskFailure { reason, extent }, None)
    }

    /// Another try would be given up as well.
    fn silent(&self) -> Try {
        let seconds = self.timeout.as_secs_f64();
        let reason = format!("no answer within {seconds} s; --timeout SECONDS gives it longer");
        Try::Lasting(AskFailure { reason, extent: FailureReach::Silence })
    }
}

fn redirected(response: &Response) -> Try {
    let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or("nowhere");
    let to: String = without_secrets(to).chars().take(200).collect();
    let reason = format!(
        "it redirects to {to}: prompts and pictures are sent nowhere else; give the right address as --model"
    );
    Try::Lasting(AskFailure { reason, extent: FailureReach::Server })
}

/// The wait that a server asks for: seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(value: &str) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}
