//! Responses: of answers, whole or as a stream of events (SSE).

use std::convert::Infallible;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use serde_json::{Value, json};

use super::answers::{Answers, Usage};
use super::api_error::ApiError;
use crate::engine::AnswerEvent;

/// What all objects of an answer have.
#[derive(Clone)]
pub(super) struct Envelope {
    pub(super) id: String,
    pub(super) object: &'static str,
    pub(super) created: u64,
    pub(super) model: String,
}

impl Envelope {
    fn around(&self, choices: Vec<Value>) -> Value {
        let Self { id, object, created, model } = self;
        json!({ "id": id, "object": object, "created": created, "model": model, "choices": choices })
    }

    /// The whole response.
    pub(super) fn whole(&self, choices: Vec<Value>, usage: Usage) -> Value {
        let mut body = self.around(choices);
        body["usage"] = usage_form(usage);
        body
    }

    /// A response piece by piece: `choice` writes what is heard of an answer, if anything; `begin` stands
    /// before all, for each answer.
    pub(super) fn stream(
        self,
        answers: Answers,
        usage: bool,
        (begin, choice): (Vec<Value>, impl FnMut(usize, AnswerEvent) -> Option<Value> + Send + 'static),
    ) -> Response {
        let begin: Vec<Value> = begin.into_iter().map(|choice| self.around(vec![choice])).collect();
        let state = Stream { envelope: self, answers, usage, choice, waiting: begin.into(), ended: false };
        let events = unfold(state, |mut state| async move {
            let data = state.next().await?;
            Some((Ok::<_, Infallible>(Event::default().data(data)), state))
        });
        Sse::new(events).keep_alive(KeepAlive::default()).into_response()
    }
}

/// A response that is written.
struct Stream<F> {
    envelope: Envelope,
    answers: Answers,
    usage: bool,
    choice: F,
    waiting: std::collections::VecDeque<Value>,
    ended: bool,
}

impl<F: FnMut(usize, AnswerEvent) -> Option<Value>> Stream<F> {
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(value) = self.waiting.pop_front() {
                return Some(value.to_string());
            }
            if self.ended {
                return None;
            }
            match self.answers.next().await {
                Some(Ok((number, event))) => {
                    let choice = (self.choice)(number, event);
                    self.waiting.extend(choice.map(|choice| self.envelope.around(vec![choice])));
                }
                // A stream that breaks off has no end.
                Some(Err(e)) => {
                    self.ended = true;
                    return Some(ApiError::body(&e).to_string());
                }
                None => {
                    self.ended = true;
                    if !self.usage {
                        return Some("[DONE]".to_owned());
                    }
                    let mut last = self.envelope.around(Vec::new());
                    last["usage"] = usage_form(self.answers.usage);
                    self.usage = false;
                    self.ended = false;
                    return Some(last.to_string());
                }
            }
        }
    }
}

fn usage_form(usage: Usage) -> Value {
    let Usage { prompt, cached, answers } = usage;
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": answers,
        "total_tokens": prompt + answers,
        "prompt_tokens_details": { "cached_tokens": cached },
    })
}
