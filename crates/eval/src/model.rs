//! [`Model`]: what is evaluated, ours or one behind an address. It brings the tensor engine or the network;
//! nothing else here knows either. [`PromptReader`] is the part that needs no weights.

use anyhow::Result;
use mm1_data::document::Image;

pub use mm1_data::likelihood::Likelihood;

use crate::no_answer::NoAnswer;
use crate::prompt::Prompt;

/// What can tell the length of a prompt: a model, or all of it but the weights.
pub trait PromptReader {
    /// A prompt and its continuations as this model reads them: ours in tokens, one behind an address as it
    /// is. (A cache of tokenised texts inside of the model would do without this type, but hold state that
    /// nobody sees.)
    type Encoded;

    /// Encodes a prompt, and the texts whose likelihoods after it will be asked for. This is the one place
    /// where a prompt is tokenised: its length and the answers follow from what is given here.
    ///
    /// # Errors
    /// A prompt that this model can't read.
    fn encode(&self, prompt: &Prompt, continuations: &[String]) -> Result<Self::Encoded>;

    /// What an encoded prompt takes of the context; `None` where only the model knows.
    fn lengths(&self, encoded: &Self::Encoded) -> Option<Lengths>;
}

/// A model that can be asked.
pub trait Model: PromptReader {
    /// One reply to each prompt, without the prompt, in greedy decoding. A reply depends on its own prompt
    /// alone. `on_reply` is given each once, with the prompt's index, as soon as it is there: what was
    /// answered before a failure is kept.
    ///
    /// # Errors
    /// An interrupt, a failure of the model, or one of `on_reply`.
    fn generate(
        &mut self,
        prompts: &[Self::Encoded],
        limits: &AnswerLimits,
        on_reply: OnReply<'_>,
    ) -> Result<()>;

    /// How likely each continuation is after its prompt.
    ///
    /// # Errors
    /// As [`Self::generate`]; a model that gives no probabilities.
    fn likelihoods(&mut self, prompts: &[Self::Encoded]) -> Result<Vec<Vec<Likelihood>>>;

    /// What the image encoder makes of pictures, one vector each, to find similar ones.
    ///
    /// # Errors
    /// As [`Self::generate`]; a model that gives no features.
    fn features(&mut self, pictures: &[Image]) -> Result<Vec<Vec<f32>>>;
}

/// Takes the reply to the prompt of an index.
pub type OnReply<'a> = &'a mut dyn FnMut(usize, Reply) -> Result<()>;

/// What came of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The model's words; may be empty, where that is a usual answer.
    Words(String),
    /// No words.
    Nothing(NoAnswer),
}

/// Positions in a model's context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lengths {
    /// Those of the prompt with its pictures.
    pub prompt: usize,
    /// Those of the longest continuation, where there are any.
    pub continuation: Option<usize>,
    /// Those that a prompt and its answer may take together.
    pub context: usize,
}

/// Where an answer ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerLimits {
    /// Its most tokens.
    pub max_tokens: usize,
    /// It ends before the first of these.
    pub stop: Vec<String>,
}
