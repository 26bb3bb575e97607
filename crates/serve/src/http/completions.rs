//! `POST /v1/completions`

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use mm1_data::document::Segment;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer_fields::AnswerFields;
use super::answers::{Answers, WholeAnswer, finish_reason};
use super::api_error::ApiError;
use super::app::{App, Shared, now};
use super::fields::Fields;
use super::json::Json;
use super::reply::Envelope;
use super::{log_prob_form, tokenize};
use crate::engine::{AnswerEvent, ReadyPrompt};
use crate::input::{EncodedPrompt, EncodedSegment};
use crate::log_probs::TokenLogProb;

/// The most tokens of an answer, if nothing is asked for: OpenAI's.
const DEFAULT: usize = 16;

/// The most prompts of a request.
const PROMPTS: usize = 256;

#[derive(Deserialize)]
#[serde(untagged, expecting = "give a text, a list of texts, token ids, or a list of those")]
enum Prompts {
    Text(String),
    Tokens(Vec<u32>),
    Texts(Vec<String>),
    Many(Vec<Vec<u32>>),
}

enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
}

pub(super) async fn answer(State(app): State<Shared>, mut fields: Fields) -> Result<Response, ApiError> {
    app.check_model(fields.take::<String>("model")?.as_deref())?;
    let prompts = prompts(fields.need("prompt")?)?;
    let mut asked = AnswerFields::take(&mut fields, &app).await?;
    let log_probs = AnswerFields::log_probs(&mut fields)?;
    let echo = fields.take("echo")?.unwrap_or(false);
    let room = fields.finish()?;
    if echo && asked.stream {
        return Err(ApiError::invalid("echo", "echo is not there for streams: leave out one of both"));
    }
    if echo && asked.prompt_log_probs.is_none() {
        asked.prompt_log_probs = log_probs;
    }
    // Who only wants the prompt judged asks for no token. The model still has to predict one.
    let judged = echo && asked.max_tokens == Some(0);
    if judged {
        asked.max_tokens = Some(1);
    }
    let ready = tokenize::blocking(&app, move |app| {
        let _room = room;
        ready(app, prompts)
    });
    let (prompts, echoed) = ready.await?;
    let answers = Answers::ask(&app, prompts, &asked, (log_probs, DEFAULT))?;
    let (id, model) = (app.answer_id("cmpl"), app.server.model.id.clone());
    let envelope = Envelope { id, object: "text_completion", created: now(), model };
    if asked.stream {
        let mut offsets = vec![0; answers.count()];
        let write = move |i: usize, event| chunk(&app, i, &mut offsets[i], event);
        return Ok(envelope.stream(answers, asked.usage, (Vec::new(), write)));
    }
    let (mut whole, mut usage) = answers.whole().await?;
    if judged {
        usage.answers = 0;
        whole.iter_mut().for_each(WholeAnswer::leave_out);
    }
    let choice = |(i, answer): (usize, &WholeAnswer)| {
        let echoed = echo.then(|| &echoed[i / asked.n][..]);
        choice(&app, (i, answer), echoed, log_probs.is_some())
    };
    Ok(Json(envelope.whole(whole.iter().enumerate().map(choice).collect(), usage)).into_response())
}

fn prompts(prompts: Prompts) -> Result<Vec<Prompt>, ApiError> {
    let prompts: Vec<Prompt> = match prompts {
        Prompts::Text(text) => vec![Prompt::Text(text)],
        Prompts::Tokens(ids) => vec![Prompt::Tokens(ids)],
        Prompts::Texts(texts) => texts.into_iter().map(Prompt::Text).collect(),
        Prompts::Many(many) => many.into_iter().map(Prompt::Tokens).collect(),
    };
    if !(1..=PROMPTS).contains(&prompts.len()) {
        let message = format!("prompt: give 1 to {PROMPTS} of them, not {}", prompts.len());
        return Err(ApiError::invalid("prompt", message));
    }
    Ok(prompts)
}

/// Prompts as the model reads them, and the ids of each.
fn ready(app: &App, prompts: Vec<Prompt>) -> Result<(Vec<ReadyPrompt>, Vec<Vec<u32>>), ApiError> {
    let prompts_of = app.prompts();
    let (mut ready, mut ids_of) = (Vec::with_capacity(prompts.len()), Vec::new());
    for prompt in prompts {
        let encoded = match prompt {
            Prompt::Text(text) => tokenize::encode(app, &[Segment::prompt(text)], "prompt")?,
            Prompt::Tokens(ids) => tokens(app, ids)?,
        };
        ids_of.push(encoded.ids());
        let prompt = prompts_of.ready(&encoded);
        ready.push(prompt.map_err(|e| ApiError::invalid("prompt", format!("prompt: {e:#}")))?);
    }
    Ok((ready, ids_of))
}

fn tokens(app: &App, ids: Vec<u32>) -> Result<EncodedPrompt, ApiError> {
    let vocab = app.prompts().tokenizer().vocab();
    if let Some(bad) = ids.iter().find(|id| **id as usize >= vocab) {
        let message = format!("prompt: token {bad} is not below the vocabulary of {vocab}");
        return Err(ApiError::invalid("prompt", message));
    }
    let mut prompt = EncodedPrompt::default();
    prompt.push(EncodedSegment::Tokens(ids));
    Ok(prompt)
}

fn choice(
    app: &App,
    (index, answer): (usize, &WholeAnswer),
    echoed: Option<&[u32]>,
    with_log_probs: bool,
) -> Value {
    let tokenizer = app.prompts().tokenizer();
    let before = echoed.map_or_else(String::new, |ids| tokenizer.decode(ids));
    let mut choice = json!({
        "index": index,
        "text": format!("{before}{}", answer.text),
        "logprobs": null,
        "finish_reason": answer.finish.map(finish_reason),
    });
    if with_log_probs {
        let of_prompt = echoed.map_or(&[][..], |_| &answer.prompt_log_probs[..]);
        let tokens: Vec<Option<&TokenLogProb>> =
            of_prompt.iter().map(Option::as_ref).chain(answer.log_probs.iter().map(Some)).collect();
        let ids: Vec<u32> =
            echoed.unwrap_or_default().iter().copied().chain(answer.log_probs.iter().map(|t| t.id)).collect();
        choice["logprobs"] = log_prob_form::completion(tokenizer, &tokens, (&ids, 0));
    }
    if !answer.prompt_log_probs.is_empty() {
        choice["prompt_logprobs"] = log_prob_form::prompt(tokenizer, &answer.prompt_log_probs);
    }
    choice
}

fn chunk(app: &App, index: usize, offset: &mut usize, event: AnswerEvent) -> Option<Value> {
    match event {
        AnswerEvent::Token { text, log_prob, .. } if !text.is_empty() || log_prob.is_some() => {
            let mut choice = json!({ "index": index, "text": text, "logprobs": null, "finish_reason": null });
            if let Some(token) = log_prob {
                let place = (&[token.id][..], *offset);
                choice["logprobs"] =
                    log_prob_form::completion(app.prompts().tokenizer(), &[Some(&token)], place);
            }
            *offset += text.chars().count();
            Some(choice)
        }
        AnswerEvent::End { finish } => Some(json!({
            "index": index, "text": "", "logprobs": null, "finish_reason": finish_reason(finish),
        })),
        _ => None,
    }
}
