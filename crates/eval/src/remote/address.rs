//! [`Address`]: where a model is, with what opens it kept apart from what is shown.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mm1_data::redact::without_secrets;
use percent_encoding::percent_decode_str;
use reqwest::blocking::{Client, RequestBuilder};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Method, StatusCode, Url};

/// Redirects of one request that are followed.
const REDIRECTS: usize = 5;
/// What a person is told to write.
const EXAMPLE: &str = "give an address such as http://localhost:8000/v1";

/// The address of a model, and its key.
pub(super) struct Address {
    /// Without user and password, and without `/` at its end.
    base: Url,
    /// As it was written, without secrets.
    shown: String,
    secret: Secret,
}

/// What opens the model.
enum Secret {
    None,
    /// `user:password@` of the address.
    Password {
        user: String,
        password: String,
    },
    /// Sent as a bearer token.
    Key(String),
}

impl Address {
    /// `written` is the part before `/chat/completions`. Where it has a user, the `key` is not sent.
    ///
    /// # Errors
    /// Something that is no web address, which is not shown where it could hold a password; a key that
    /// can't be sent.
    pub(super) fn parse(written: &str, key: Option<String>) -> Result<Self> {
        let shown = without_secrets(written.trim_end_matches('/')).into_owned();
        let is_web = written.starts_with("http://") || written.starts_with("https://");
        let quoted = if written.contains('@') { String::new() } else { format!(" {shown}") };
        ensure!(is_web, "--model{quoted}: {EXAMPLE}");
        // White space around it comes from files.
        let key = key.map(|key| key.trim().to_owned()).filter(|key| !key.is_empty());
        let sendable = key.iter().flat_map(|key| key.bytes()).all(|byte| matches!(byte, b' '..=b'~'));
        ensure!(sendable, "OPENAI_API_KEY: a key is of letters, digits and signs of ASCII: set it anew");
        let mut base = Url::parse(written).with_context(|| format!("--model{quoted}: {EXAMPLE}"))?;
        let secret = match (base.username(), base.password(), key) {
            ("", None, None) => Secret::None,
            ("", None, Some(key)) => Secret::Key(key),
            (user, password, _) => {
                Secret::Password { user: decoded(user), password: decoded(password.unwrap_or_default()) }
            }
        };
        // Both fail only where an address has no host.
        let _ = base.set_username("").and_then(|()| base.set_password(None));
        let path = base.path().trim_end_matches('/').to_owned();
        base.set_path(&path);
        Ok(Self { base, shown, secret })
    }

    /// To be shown and kept: the same for the same address.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// A request to a route such as `/chat/completions`, which may take `time`.
    pub(super) fn request(
        &self,
        client: &Client,
        method: Method,
        route: &str,
        time: Duration,
    ) -> RequestBuilder {
        let mut url = self.base.clone();
        url.set_path(&(self.base.path().trim_end_matches('/').to_owned() + route));
        let request = client.request(method, url).timeout(time);
        match &self.secret {
            Secret::None => request,
            Secret::Password { user, password } => request.basic_auth(user, Some(password)),
            Secret::Key(key) => request.bearer_auth(key),
        }
    }

    /// What a server said, in one line of at most 300 characters and without the secrets that were sent to
    /// it.
    pub(super) fn quoted(&self, text: &str) -> String {
        // What is cut off is not looked at: a page may be a mebibyte.
        let words: Vec<&str> = text.split_whitespace().take(300).collect();
        let mut line = words.join(" ");
        let secret = match &self.secret {
            Secret::None => "",
            Secret::Password { password, .. } => password,
            Secret::Key(key) => key,
        };
        if !secret.is_empty() {
            line = line.replace(secret, "***");
        }
        without_secrets(&line).chars().take(300).collect()
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Follows a redirect within one server, or to its encrypted side. Elsewhere prompts and pictures would go to
/// somebody else.
pub(super) fn redirects() -> Policy {
    Policy::custom(|attempt| if stays(&attempt) { attempt.follow() } else { attempt.stop() })
}

fn stays(attempt: &Attempt<'_>) -> bool {
    let (to, Some(from)) = (attempt.url(), attempt.previous().first()) else { return false };
    // The others turn the question into one without a body.
    let whole = matches!(attempt.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
    let same = to.scheme() == from.scheme() && to.port_or_known_default() == from.port_or_known_default();
    let encrypted = from.scheme() == "http" && to.scheme() == "https";
    whole && attempt.previous().len() <= REDIRECTS && to.host() == from.host() && (same || encrypted)
}
