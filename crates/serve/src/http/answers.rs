//! [`Answers`]: what comes of a request's prompts, each with one or more answers.

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::answer_fields::AnswerFields;
use super::api_error::ApiError;
use super::app::App;
use crate::engine::{AnswerEvent, AnswerRequest, Finish, Listener, PromptLogProbs, ReadyPrompt};
use crate::log_probs::TokenLogProb;
use crate::options::AnswerOptions;

/// What is heard of all answers of a request, by their numbers: those of the first prompt, of the second, ….
pub(super) struct Answers {
    events: UnboundedReceiver<(usize, AnswerEvent)>,
    /// Answers that have not ended.
    open: usize,
    /// Answers to each prompt.
    each: usize,
    pub(super) usage: Usage,
}

/// What a request has used.
/// Unit: tokens.
#[derive(Clone, Copy, Default)]
pub(super) struct Usage {
    pub(super) prompt: usize,
    pub(super) cached: usize,
    pub(super) answers: usize,
}

/// Sends an answer's events to whoever writes the response. Gone as soon as that is no longer written.
struct Told {
    number: usize,
    events: UnboundedSender<(usize, AnswerEvent)>,
}

impl Listener for Told {
    fn hear(&mut self, event: AnswerEvent) {
        // Who has left is found by `is_gone`.
        let _ = self.events.send((self.number, event));
    }

    fn is_gone(&self) -> bool {
        self.events.is_closed()
    }
}

impl Answers {
    /// Asks for the answers to `prompts`, each of `default` tokens at most if nothing else is asked for.
    pub(super) fn ask(
        app: &App,
        prompts: Vec<ReadyPrompt>,
        fields: &AnswerFields,
        (log_probs, default): (Option<usize>, usize),
    ) -> Result<Self, ApiError> {
        let (sender, events) = unbounded_channel();
        let mut answers = Self { events, open: 0, each: fields.n, usage: Usage::default() };
        let (count, most) = (prompts.len() * fields.n, app.server.engine.most_waiting());
        // They would never find room, however often they came again.
        if count > most.max(1) {
            let message = format!(
                "n: {count} answers to one request, and {most} may wait: ask for fewer at once, or start \
                 the server with a larger --queue"
            );
            return Err(ApiError::invalid("n", message));
        }
        for prompt in &prompts {
            check_judged(fields, prompt.positions())?;
        }
        let context = app.prompts().context();
        let judged = |top| PromptLogProbs { top, from: fields.judged_from };
        let prompt_log_probs = fields.prompt_log_probs.map(judged);
        for prompt in prompts {
            let positions = prompt.positions();
            let rest = context.saturating_sub(positions).max(1);
            let max_tokens = fields.max_tokens.unwrap_or(default.min(rest));
            let options = AnswerOptions { max_tokens, ..fields.options.clone() };
            answers.usage.prompt += positions;
            for stream in 0..fields.n {
                let listener = Box::new(Told { number: answers.open, events: sender.clone() });
                app.server.engine.submit(AnswerRequest {
                    client: fields.client,
                    prompt: prompt.clone(),
                    options: options.clone(),
                    grammar: fields.grammar.clone(),
                    stream: stream as u64,
                    log_probs,
                    prompt_log_probs,
                    attention: fields.attention,
                    listener,
                })?;
                answers.open += 1;
            }
        }
        Ok(answers)
    }

    /// How many there are to be.
    pub(super) fn count(&self) -> usize {
        self.open
    }

    /// The next event; `None` when all have ended.
    pub(super) async fn next(&mut self) -> Option<Result<(usize, AnswerEvent), ApiError>> {
        if self.open == 0 {
            return None;
        }
        match self.events.recv().await {
            None => Some(Err(ApiError::fault("the model has stopped"))),
            Some((_, AnswerEvent::Failure(why))) => {
                self.open = 0;
                Some(Err(ApiError::fault(why)))
            }
            Some((number, event)) => {
                match &event {
                    // A prompt counts once, whatever the number of its answers.
                    AnswerEvent::Start { cached, .. } if number % self.each == 0 => {
                        self.usage.cached += cached;
                    }
                    AnswerEvent::Token { .. } => self.usage.answers += 1,
                    AnswerEvent::End { .. } => self.open -= 1,
                    AnswerEvent::Start { .. } | AnswerEvent::Failure(_) => {}
                }
                Some(Ok((number, event)))
            }
        }
    }

    /// All answers as they end up.
    pub(super) async fn whole(mut self) -> Result<(Vec<WholeAnswer>, Usage), ApiError> {
        let mut whole: Vec<WholeAnswer> = (0..self.open).map(|_| WholeAnswer::default()).collect();
        while let Some(event) = self.next().await {
            let (number, event) = event?;
            let answer = &mut whole[number];
            match event {
                AnswerEvent::Start { log_probs, .. } => answer.prompt_log_probs = log_probs,
                AnswerEvent::Token { text, log_prob, attention } => {
                    answer.text.push_str(&text);
                    answer.log_probs.extend(log_prob);
                    answer.attention.extend((!attention.is_empty()).then_some(attention));
                }
                AnswerEvent::End { finish } => answer.finish = Some(finish),
                AnswerEvent::Failure(why) => return Err(ApiError::fault(why)),
            }
        }
        Ok((whole, self.usage))
    }
}

/// Refuses to judge a prompt from behind its end on, or without saying what is to be returned.
fn check_judged(fields: &AnswerFields, positions: usize) -> Result<(), ApiError> {
    let refused = |message| Err(ApiError::invalid("logprob_start_len", message));
    match (fields.judged_from, fields.prompt_log_probs) {
        (1.., None) => refused("logprob_start_len needs prompt_logprobs".to_owned()),
        (from, _) if from > positions => {
            refused(format!("logprob_start_len = {from}: the prompt has {positions} tokens"))
        }
        _ => Ok(()),
    }
}

/// An answer that has ended.
#[derive(Default)]
pub(super) struct WholeAnswer {
    pub(super) text: String,
    pub(super) log_probs: Vec<TokenLogProb>,
    pub(super) prompt_log_probs: Vec<Option<TokenLogProb>>,
    /// Of each token, where it was asked for.
    pub(super) attention: Vec<Vec<f32>>,
    pub(super) finish: Option<Finish>,
}

impl WholeAnswer {
    /// Leaves of the answer what is returned of its prompt.
    pub(super) fn leave_out(&mut self) {
        self.text.clear();
        self.log_probs.clear();
        self.attention.clear();
        self.finish = Some(Finish::Length);
    }
}

/// As OpenAI calls it.
pub(super) fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
    }
}
