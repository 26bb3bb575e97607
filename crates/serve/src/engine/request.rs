//! [`AnswerRequest`]: what is asked of the engine. [`Listener`]: who is told what comes of it.

use crate::answer::Finish;
use crate::engine::prompt::ReadyPrompt;
use crate::grammar::AnswerGrammar;
use crate::log_probs::TokenLogProb;
use crate::options::AnswerOptions;

/// A prompt that is to be answered.
pub struct AnswerRequest {
    /// The prompt.
    pub prompt: ReadyPrompt,
    /// What the answer may be.
    pub options: AnswerOptions,
    /// The form of the answer, where it has one.
    pub grammar: Option<AnswerGrammar>,
    /// Which of several answers to the prompt it is: each has random draws of its own.
    pub stream: u64,
    /// Whether the answer's log probabilities are told, each with so many of the likeliest.
    pub log_probs: Option<usize>,
    /// The same of the prompt's tokens. Its beginning is then read again in any case.
    pub prompt_log_probs: Option<usize>,
    /// Whether it is told how much each token of the answer looks at image tokens.
    pub attention: bool,
    /// Is told what comes.
    pub listener: Box<dyn Listener>,
}

/// Who waits for an answer. It is called between two steps, for all who wait, and must not block.
pub trait Listener: Send {
    /// The next of what comes.
    fn hear(&mut self, event: AnswerEvent);

    /// Whether nobody listens any more: the rest is not computed.
    fn is_gone(&self) -> bool;
}

/// What comes of a request, in this order: a start, tokens, an end; or a failure at any time.
#[derive(Clone, Debug, PartialEq)]
pub enum AnswerEvent {
    /// The prompt is read.
    Start {
        /// Positions of its beginning that had been read before, for it or for others.
        cached: usize,
        /// Where they were asked for, of each position; `None` at the first and at image tokens.
        log_probs: Vec<Option<TokenLogProb>>,
    },
    /// A token of the answer. The token that ends it is one too.
    Token {
        /// The text that has become certain with it; may be empty.
        text: String,
        /// Where it was asked for.
        log_prob: Option<TokenLogProb>,
        /// Where it was asked for: how much the position from which the token was predicted looks at each
        /// image token of the prompt, the mean over layers and heads.
        attention: Vec<f32>,
    },
    /// The answer has ended.
    End {
        /// Why.
        finish: Finish,
    },
    /// It can't go on: one line.
    Failure(String),
}
