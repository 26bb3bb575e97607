//! [`AnswerFields`]: the fields that say what answers may be.

use mm1_data::error_line::error_line;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api_error::ApiError;
use super::app::Shared;
use super::fields::Fields;
use super::tokenize;
use crate::engine::ClientId;
use crate::grammar::AnswerGrammar;
use crate::options::AnswerOptions;
use crate::penalties::Penalties;
use crate::sampler::Sampling;

/// The most stop strings, and the longest.
const STOPS: usize = 16;
const LONGEST_STOP: usize = 256;

/// The most of the likeliest tokens that are returned.
const MOST_TOP: usize = 20;

/// What is asked of each answer.
pub(super) struct AnswerFields {
    pub(super) client: ClientId,
    /// But for the most tokens, which may follow from the prompt.
    pub(super) options: AnswerOptions,
    pub(super) grammar: Option<AnswerGrammar>,
    pub(super) max_tokens: Option<usize>,
    /// Answers to each prompt.
    pub(super) n: usize,
    pub(super) stream: bool,
    /// Whether a stream ends with what was used.
    pub(super) usage: bool,
    pub(super) prompt_log_probs: Option<usize>,
    /// The first position of the prompt that is judged: the name is SGLang's.
    pub(super) judged_from: usize,
    /// Whether each token comes with how much it looks at image tokens: for the page, no field of OpenAI's.
    pub(super) attention: bool,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "give a text, or a list of texts")]
enum Stop {
    One(String),
    Many(Vec<String>),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
    /// Some clients ask for padding against eavesdroppers; there is none.
    #[serde(default, rename = "include_obfuscation")]
    _include_obfuscation: bool,
}

impl AnswerFields {
    pub(super) async fn take(fields: &mut Fields, app: &Shared) -> Result<Self, ApiError> {
        let new = fields.count("max_completion_tokens", (1, usize::MAX))?;
        let old = fields.count("max_tokens", (0, usize::MAX))?;
        let stream_options: StreamOptions = fields.take("stream_options")?.unwrap_or_default();
        let stream = fields.take("stream")?.unwrap_or(false);
        let prompt_log_probs = fields.count("prompt_logprobs", (0, MOST_TOP))?;
        if stream && prompt_log_probs.is_some() {
            let message = "prompt_logprobs is not there for streams: leave out one of both";
            return Err(ApiError::invalid("prompt_logprobs", message));
        }
        Ok(Self {
            client: fields.client(),
            options: AnswerOptions {
                max_tokens: 1,
                stop: stop(fields)?,
                sampling: sampling(fields)?,
                penalties: Penalties {
                    frequency: fields.within("frequency_penalty", (-2.0, 2.0))?.unwrap_or(0.0),
                    presence: fields.within("presence_penalty", (-2.0, 2.0))?.unwrap_or(0.0),
                },
            },
            grammar: grammar(fields, app).await?,
            max_tokens: new.or(old),
            n: fields.count("n", (1, app.server.limits.answers))?.unwrap_or(1),
            stream,
            usage: stream_options.include_usage,
            attention: fields.take("attention")?.unwrap_or(false),
            prompt_log_probs,
            judged_from: fields.count("logprob_start_len", (0, usize::MAX))?.unwrap_or(0),
        })
    }

    /// How many of the likeliest tokens are returned: a chat's `logprobs` and `top_logprobs`.
    pub(super) fn chat_log_probs(fields: &mut Fields) -> Result<Option<usize>, ApiError> {
        let (asked, top) = (fields.take("logprobs")?, fields.count("top_logprobs", (0, MOST_TOP))?);
        match (asked, top) {
            (None | Some(false), Some(1..)) => {
                Err(ApiError::invalid("top_logprobs", "top_logprobs needs logprobs = true"))
            }
            (Some(true), top) => Ok(Some(top.unwrap_or(0))),
            (None | Some(false), _) => Ok(None),
        }
    }

    /// The same of a completion, whose `logprobs` is a number.
    pub(super) fn log_probs(fields: &mut Fields) -> Result<Option<usize>, ApiError> {
        fields.count("logprobs", (0, MOST_TOP))
    }
}

fn stop(fields: &mut Fields) -> Result<Vec<String>, ApiError> {
    let stop = match fields.take("stop")? {
        None => Vec::new(),
        Some(Stop::One(stop)) => vec![stop],
        Some(Stop::Many(stop)) => stop,
    };
    if stop.len() > STOPS || stop.iter().any(|stop| !(1..=LONGEST_STOP).contains(&stop.len())) {
        let message = format!("stop: give up to {STOPS} texts of 1 to {LONGEST_STOP} bytes");
        return Err(ApiError::invalid("stop", message));
    }
    Ok(stop)
}

/// OpenAI's default is a temperature of 1. Without a seed it is 0: the same request has the same answer.
fn sampling(fields: &mut Fields) -> Result<Sampling, ApiError> {
    let temperature = fields.within("temperature", (0.0, 100.0))?.unwrap_or(1.0);
    let top_p = fields.within("top_p", (0.0, 1.0))?.unwrap_or(1.0);
    let min_p = fields.within("min_p", (0.0, 1.0))?.unwrap_or(0.0);
    // vLLM's -1 and 0 keep all.
    let top_k: Option<i64> = fields.take("top_k")?.filter(|top_k| !matches!(top_k, -1 | 0));
    let refused = || ApiError::invalid("top_k", "top_k: give at least 1, or 0 to keep all tokens");
    let top_k = top_k.map(usize::try_from).transpose().map_err(|_| refused())?;
    let seed: Option<i64> = fields.take("seed")?;
    if temperature == 0.0 {
        return Ok(Sampling::Greedy);
    }
    // At 0 there is the likeliest token alone.
    let top_p = top_p.max(f64::MIN_POSITIVE);
    Ok(Sampling::Random { temperature, top_k, top_p, min_p, seed: seed.unwrap_or(0) as u64 })
}

/// The form of the answers; `None` of plain text.
async fn grammar(fields: &mut Fields, app: &Shared) -> Result<Option<AnswerGrammar>, ApiError> {
    let schema = match fields.take("response_format")? {
        None | Some(ResponseFormat::Text) => return Ok(None),
        Some(ResponseFormat::JsonObject) => json!({ "type": "object" }),
        Some(ResponseFormat::JsonSchema { json_schema }) => json_schema.schema,
    };
    // A large schema takes its time.
    let grammar = tokenize::blocking(app, move |app| {
        let grammar = app.grammars().and_then(|grammars| grammars.json(schema));
        let refused = |why| ApiError::invalid("response_format", format!("response_format: {why}"));
        grammar.map_err(|e| refused(error_line(&e)))
    });
    grammar.await.map(Some)
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum ResponseFormat {
    Text,
    JsonObject,
    JsonSchema { json_schema: NamedSchema },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedSchema {
    schema: Value,
    /// For logs of others; every schema is kept strictly here.
    #[serde(default, rename = "name")]
    _name: Option<String>,
    #[serde(default, rename = "description")]
    _description: Option<String>,
    #[serde(default, rename = "strict")]
    _strict: Option<bool>,
}
