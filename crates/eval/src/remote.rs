//! [`RemoteModel`]: a model behind an address with the OpenAI interface (`POST …/chat/completions`), asked as
//! ours are.

mod address;
mod answer;
mod exchange;
mod likelihoods;

use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mm1_data::document::{Image, Segment, Special};
use mm1_data::image::reduced;
use reqwest::blocking::Client;
use serde_json::{Value, json};

use self::address::Address;
use self::exchange::{AskFailure, FailureReach, ServerExchange, ServerQuestion};
use self::likelihoods::JudgedPrompt;
use crate::counted::counted;
use crate::model::{AnswerLimits, Lengths, Likelihood, Model, OnReply, PromptReader, Reply};
use crate::no_answer::NoAnswer;
use crate::png::Png;
use crate::prompt::Prompt;
use crate::refusal::Refusal;

/// The route that lists the models of a server.
const MODELS: &str = "/models";
/// The route of conversations.
const CHAT: &str = "/chat/completions";
/// Bytes of a reply: a hundred times what the longest of a benchmark takes. More is not read.
const REPLY_BYTES: u64 = 1 << 20;

/// Questions that fail one after the other before the server is given up.
const FAILURES: usize = 20;
/// The same for a server that has not said a word yet.
const SILENCES: usize = 3;

/// How a model elsewhere is asked.
pub struct RemoteSettings<'a> {
    /// The part of the address before `/chat/completions`; it may have `user:password@`.
    pub address: &'a str,
    /// Which model of the server; `None` is its only one.
    pub model: Option<&'a str>,
    /// Sent as a bearer token where there is one.
    pub key: Option<String>,
    /// Requests at a time; 0 is taken as 1.
    pub parallel: usize,
    /// What the server may take for one question; a silent one is then given up.
    pub timeout: Duration,
    /// Told what goes wrong before another try.
    pub tell: Box<dyn Fn(&str) + Sync>,
}

/// A model elsewhere.
pub struct RemoteModel {
    client: Client,
    address: Address,
    model: String,
    /// At least 1.
    parallel: usize,
    timeout: Duration,
    tell: Box<dyn Fn(&str) + Sync>,
    health: Health,
}

/// What the server has done so far.
#[derive(Default)]
struct Health {
    /// Whether it has answered anything, if only by refusing a question.
    answered: bool,
    /// Failures since the last answer.
    failures: usize,
    /// Those of them to which nothing was said.
    silences: usize,
}

impl RemoteModel {
    /// Asks nothing yet but the name of the server's model, where none is given.
    ///
    /// # Errors
    /// Something that is no web address; no name, and a server that does not list exactly one model.
    pub fn new(settings: RemoteSettings<'_>) -> Result<Self> {
        let RemoteSettings { address, model, key, parallel, timeout, tell } = settings;
        // Fails where it is done already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().redirect(address::redirects()).build()?;
        let address = Address::parse(address, key)?;
        let model = match model {
            Some(model) => model.to_owned(),
            None => only_model(&ServerExchange { client: &client, address: &address, timeout, tell: &*tell })
                .map_err(|reason| {
                    Refusal::new(format!("{}: {reason}; give --model-name NAME", address.shown()))
                })?,
        };
        Ok(Self {
            client,
            address,
            model,
            parallel: parallel.max(1),
            timeout,
            tell,
            health: Health::default(),
        })
    }

    /// Where it is, to be shown and kept: without user, password and keys.
    pub fn address(&self) -> &str {
        self.address.shown()
    }

    /// What the server calls the model.
    pub fn name(&self) -> &str {
        &self.model
    }

    /// Some questions at a time, their replies in the order of `prompts`.
    fn ask(&self, prompts: &[RemotePrompt], limits: &AnswerLimits) -> Result<Vec<Result<Reply, AskFailure>>> {
        let body = |asked: &RemotePrompt| self.body(&asked.prompt, limits);
        let bodies = prompts.iter().map(body).collect::<Result<Vec<_>>>()?;
        self.side_by_side(&bodies, |exchange, body| {
            exchange.ask(&ServerQuestion {
                route: CHAT,
                body: Some(body),
                most: REPLY_BYTES,
                read: &answer::reply,
            })
        })
    }

    /// What comes of each of `asked`, all at one time.
    fn side_by_side<A: Sync, T: Send>(
        &self,
        asked: &[A],
        ask: impl Fn(&ServerExchange<'_>, &A) -> Result<T, AskFailure> + Sync,
    ) -> Result<Vec<Result<T, AskFailure>>> {
        let Self { client, address, timeout, .. } = self;
        let exchange = ServerExchange { client, address, timeout: *timeout, tell: &*self.tell };
        let (exchange, ask) = (&exchange, &ask);
        thread::scope(|scope| {
            let threads: Vec<_> = asked.iter().map(|one| scope.spawn(move || ask(exchange, one))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked")))
                .collect()
        })
    }

    fn body(&self, prompt: &Prompt, limits: &AnswerLimits) -> Result<String> {
        let mut body = json!({
            "model": self.model,
            "messages": messages(prompt)?,
            "max_tokens": limits.max_tokens,
            "temperature": 0,
        });
        // The interface takes four at most; all are cut off here again.
        body["stop"] = limits.stop.iter().take(4).cloned().collect();
        Ok(body.to_string())
    }
}

/// The name of a server's model, where it has one alone (`GET …/models`).
///
/// # Errors
/// A server that says nothing of its models, or that has none or several: what it said.
fn only_model(exchange: &ServerExchange<'_>) -> Result<String, String> {
    let question =
        ServerQuestion { route: MODELS, body: None, most: REPLY_BYTES, read: &answer::model_names };
    let names = exchange.ask(&question).map_err(|failure| format!("its models: {}", failure.reason))?;
    match names.as_slice() {
        [name] => Ok(name.clone()),
        [] => Err("it lists no model".to_owned()),
        names => {
            let shown = names.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = if names.len() > 5 { ", …" } else { "" };
            Err(format!("it has {} models ({shown}{more})", names.len()))
        }
    }
}

impl Health {
    /// After a reply, or a question that failed.
    fn note<T>(&mut self, reply: &Result<T, AskFailure>) {
        match reply {
            Ok(_) => *self = Self { answered: true, ..Self::default() },
            Err(failure) => {
                self.answered |= failure.extent == FailureReach::Question;
                self.failures += 1;
                self.silences += usize::from(failure.extent == FailureReach::Silence);
            }
        }
    }

    /// Whether further questions are in vain, now that `failure` was the last of them.
    fn is_hopeless(&self, failure: &AskFailure, asked: usize) -> bool {
        self.failures >= FAILURES
            || !self.answered && failure.extent == FailureReach::Server
            || !self.answered && self.silences >= SILENCES.min(asked)
    }
}

/// A prompt as it is, and the texts whose likelihoods after it are asked for. Only the model knows tokens.
pub struct RemotePrompt {
    prompt: Prompt,
    continuations: Vec<String>,
}

impl PromptReader for RemoteModel {
    type Encoded = RemotePrompt;

    fn encode(&self, prompt: &Prompt, continuations: &[String]) -> Result<RemotePrompt> {
        Ok(RemotePrompt { prompt: prompt.clone(), continuations: continuations.to_vec() })
    }

    fn lengths(&self, _: &RemotePrompt) -> Option<Lengths> {
        None
    }
}

impl Model for RemoteModel {
    fn generate(
        &mut self,
        prompts: &[RemotePrompt],
        limits: &AnswerLimits,
        on_reply: OnReply<'_>,
    ) -> Result<()> {
        let mut asked = 0;
        for prompts_now in prompts.chunks(self.parallel) {
            let mut last = None;
            for reply in self.ask(prompts_now, limits)? {
                self.health.note(&reply);
                let reply = reply.unwrap_or_else(|failure| {
                    let reason = failure.reason.clone();
                    last = Some(failure);
                    Reply::Nothing(NoAnswer::Failed(reason))
                });
                on_reply(asked, reply)?;
                asked += 1;
            }
            if let Some(failure) = last.filter(|failure| self.health.is_hopeless(failure, prompts.len())) {
                bail!(Refusal::new(format!(
                    "{} is given up after {} without an answer, the last because {}; what was answered is \
                     kept, and the same command asks the rest",
                    self.address(),
                    counted(self.health.failures as u64, "question"),
                    failure.reason
                )));
            }
        }
        Ok(())
    }

    fn likelihoods(&mut self, prompts: &[RemotePrompt]) -> Result<Vec<Vec<Likelihood>>> {
        let mut likelihoods = Vec::with_capacity(prompts.len());
        for prompts in prompts.chunks(self.parallel) {
            let asked = prompts.iter().map(|asked| JudgedPrompt::of(&self.model, asked));
            let asked = asked.collect::<Result<Vec<_>>>()?;
            for judged in self.side_by_side(&asked, |exchange, asked| asked.judge(exchange))? {
                likelihoods.push(judged.map_err(|failure| {
                    Refusal::new(format!(
                        "{} does not say how likely a text is, because {}; what was answered is kept, and \
                         the same command asks the rest",
                        self.address(),
                        failure.reason
                    ))
                })?);
            }
        }
        Ok(likelihoods)
    }

    fn features(&mut self, _: &[Image]) -> Result<Vec<Vec<f32>>> {
        bail!(Refusal::new(format!(
            "{}: the interface gives no features of pictures: choose random or fixed demonstrations",
            self.address()
        )))
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
                let longest = reduced.and_then(|reduced| reduced.side);
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
