//! [`AnswerRequest`]: what is asked of the engine. [`Listener`]: who gets what comes of it.

use mm1_data::document::Image;

use crate::answer::Finish;
use crate::engine::prompt::ReadyPrompt;
use crate::grammar::AnswerGrammar;
use crate::log_probs::TokenLogProb;
use crate::options::AnswerOptions;

/// Who asks. Clients take turns, however much each of them asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientId(pub u128);

/// A prompt that is to be answered.
pub struct AnswerRequest {
    /// Who asks.
    pub client: ClientId,
    /// The prompt.
    pub prompt: ReadyPrompt,
    /// What the answer may be.
    pub options: AnswerOptions,
    /// The form of the answer, where it has one.
    pub grammar: Option<AnswerGrammar>,
    /// Which of several answers to the prompt it is: each has random draws of its own.
    pub stream: u64,
    /// Whether the answer's log probabilities are returned, each with so many of the likeliest.
    pub log_probs: Option<usize>,
    /// Whether those of the prompt's tokens are returned.
    pub prompt_log_probs: Option<PromptLogProbs>,
    /// Whether it is returned how much each token of the answer looks at image tokens.
    pub attention: bool,
    /// Gets what comes.
    pub listener: Box<dyn Listener>,
}

/// Which log probabilities of a prompt are returned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PromptLogProbs {
    /// So many of the likeliest tokens with each.
    pub top: usize,
    /// The first position that is judged. What is before it is not read again where it is known, so that many
    /// answers to one long prompt can be judged.
    pub from: usize,
}

/// What is to become a vector.
#[derive(Clone, Debug)]
pub enum EmbeddingInput {
    /// A picture: the mean over the patches of the model's own image encoder.
    Features(Image),
    /// A picture, in the space of the towers.
    Picture(Image),
    /// A text, in the space of the towers.
    Text(String),
}

/// A vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// Its values.
    pub values: Vec<f32>,
    /// Tokens of the text; 0 of a picture.
    pub tokens: usize,
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
        /// Where they were asked for, of each position; `None` at the first, at image tokens, and before the
        /// first that was asked for.
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
