//! [`RemoteModel`]: a model behind an address with the OpenAI interface (`POST …/chat/completions`), asked as
//! ours are.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mm1_data::document::{Image, Segment, Special};
use mm1_data::image::reduced;
use reqwest::blocking::Client;
use serde_json::{Value, json};

use crate::model::{AnswerLimits, Lengths, Likelihood, Model};
use crate::png::Png;
use crate::prompt::Prompt;

/// Times that a request is sent before it is given up.
const TRIES: u32 = 5;
/// The wait before the second try; each further one waits twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// What one answer may take.
const TIMEOUT: Duration = Duration::from_secs(300);

/// A model elsewhere.
pub struct RemoteModel {
    client: Client,
    /// Without a slash at its end.
    address: String,
    model: String,
    key: Option<String>,
    /// Requests at a time; at least 1.
    parallel: usize,
}

impl RemoteModel {
    /// `address` is the part before `/chat/completions`; up to `parallel` requests are sent at a time. The
    /// key is that in `OPENAI_API_KEY`.
    ///
    /// # Errors
    /// Something that is no web address.
    pub fn new(address: &str, model: &str, parallel: usize) -> Result<Self> {
        ensure!(
            address.starts_with("http://") || address.starts_with("https://"),
            "--model {address}: give an address such as http://localhost:8000/v1"
        );
        // Fails where it is done already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self {
            client: Client::builder().timeout(TIMEOUT).build()?,
            address: address.trim_end_matches('/').to_owned(),
            model: model.to_owned(),
            key: std::env::var("OPENAI_API_KEY").ok(),
            parallel: parallel.max(1),
        })
    }

    fn ask(&self, prompt: &Prompt, limits: &AnswerLimits) -> Result<String> {
        let mut body = json!({
            "model": self.model,
            "messages": messages(prompt)?,
            "max_tokens": limits.max_tokens,
            "temperature": 0,
        });
        // The interface takes four at most; all are cut off here again.
        body["stop"] = limits.stop.iter().take(4).cloned().collect();
        let mut wait = FIRST_WAIT;
        let mut attempt = 1;
        loop {
            match self.send(&body) {
                Ok(answer) => return Ok(answer),
                Err((error, true)) if attempt < TRIES => {
                    eprintln!("{}: {error:#}; trying again", self.address);
                    thread::sleep(wait);
                    (wait, attempt) = (wait * 2, attempt + 1);
                }
                Err((error, _)) => {
                    return Err(error.context(format!("{} asked for {}", self.address, prompt.id)));
                }
            }
        }
    }

    /// One request; an error with whether another try may help.
    fn send(&self, body: &Value) -> Result<String, (anyhow::Error, bool)> {
        let mut request = self.client.post(format!("{}/chat/completions", self.address));
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        let request = request.header("content-type", "application/json").body(body.to_string());
        let response = request.send().map_err(|e| (anyhow!(e), true))?;
        let status = response.status();
        let text = response.text().map_err(|e| (anyhow!(e), true))?;
        if !status.is_success() {
            let again = status.is_server_error() || status.as_u16() == 429;
            let start: String = text.chars().take(300).collect();
            return Err((anyhow!("it answered {status}: {start}"), again));
        }
        let answer: Value =
            serde_json::from_str(&text).context("its answer is no JSON").map_err(|e| (e, false))?;
        let content = &answer["choices"][0]["message"]["content"];
        let content = content.as_str().with_context(|| format!("no choices[0].message.content in {text}"));
        content.map(str::to_owned).map_err(|e| (e, false))
    }
}

impl Model for RemoteModel {
    /// The prompt as it is: only the model knows its tokens.
    type Encoded = Prompt;

    fn encode(&self, prompt: &Prompt, _: &[String]) -> Result<Prompt> {
        Ok(prompt.clone())
    }

    fn lengths(&self, _: &Prompt) -> Option<Lengths> {
        None
    }

    fn generate(&mut self, prompts: &[Prompt], limits: &AnswerLimits) -> Result<Vec<String>> {
        let mut answers = Vec::with_capacity(prompts.len());
        for prompts in prompts.chunks(self.parallel) {
            let this = &*self;
            let together: Vec<Result<String>> = thread::scope(|scope| {
                let requests: Vec<_> =
                    prompts.iter().map(|p| scope.spawn(move || this.ask(p, limits))).collect();
                let join = |request: thread::ScopedJoinHandle<'_, Result<String>>| {
                    request.join().unwrap_or_else(|_| Err(anyhow!("a thread panicked")))
                };
                requests.into_iter().map(join).collect()
            });
            answers.extend(together.into_iter().collect::<Result<Vec<_>>>()?);
        }
        Ok(answers)
    }

    fn likelihoods(&mut self, _: &[Prompt]) -> Result<Vec<Vec<Likelihood>>> {
        bail!(
            "{}: the interface gives no probabilities of given texts: choose tasks that are answered in \
             words",
            self.address
        )
    }

    fn features(&mut self, _: &[Image]) -> Result<Vec<Vec<f32>>> {
        bail!(
            "{}: the interface gives no features of pictures: choose random or fixed demonstrations",
            self.address
        )
    }
}

/// The prompt as messages; running text is one message of the user.
fn messages(prompt: &Prompt) -> Result<Vec<Value>> {
    let mut messages: Vec<(&str, Vec<Value>)> = Vec::new();
    let full_resolution_from = prompt.full_resolution_from();
    for (place, segment) in prompt.segments.iter().enumerate() {
        match segment {
            Segment::Token { token: Special::User, .. } => messages.push(("user", Vec::new())),
            Segment::Token { token: Special::Assistant, .. } => messages.push(("assistant", Vec::new())),
            Segment::Token { token: Special::System, .. } => messages.push(("system", Vec::new())),
            Segment::Token { .. } => {}
            Segment::Text { text, .. } => push(&mut messages, json!({ "type": "text", "text": text })),
            Segment::Image(image) => {
                let reduced = prompt.reduced.filter(|_| place < full_resolution_from);
                let longest = reduced.map(|reduced| reduced.side);
                let address = json!({ "url": data_url(image, longest)? });
                push(&mut messages, json!({ "type": "image_url", "image_url": address }));
            }
        }
    }
    // The turn that is to be answered is still empty.
    messages.retain(|(_, parts)| !parts.is_empty());
    let message = |(role, parts): (&str, Vec<Value>)| match (role, parts.as_slice()) {
        ("user", _) => json!({ "role": role, "content": parts }),
        // Others hold text alone.
        (_, parts) => {
            let text: String = parts.iter().filter_map(|part| part["text"].as_str()).collect();
            json!({ "role": role, "content": text })
        }
    };
    Ok(messages.into_iter().map(message).collect())
}

fn push(messages: &mut Vec<(&str, Vec<Value>)>, part: Value) {
    match messages.last_mut() {
        Some((_, parts)) => parts.push(part),
        None => messages.push(("user", vec![part])),
    }
}

/// A picture's file as it is, or its pixels as PNG, which has no side longer than `longest`.
fn data_url(image: &Image, longest: Option<usize>) -> Result<String> {
    let png = |picture| Ok(format!("data:image/png;base64,{}", Png::encode(picture)?.png_base64));
    match (longest, image) {
        (Some(longest), image) => png(&*reduced(image, longest as u32)?),
        (None, Image::Pixels(picture)) => png(picture),
        (None, Image::File { bytes, .. }) => {
            let kind = match bytes.as_ref() {
                [0xFF, 0xD8, ..] => "jpeg",
                [b'R', b'I', b'F', b'F', ..] => "webp",
                [b'G', b'I', b'F', ..] => "gif",
                _ => "png",
            };
            Ok(format!("data:image/{kind};base64,{}", STANDARD.encode(bytes)))
        }
    }
}
