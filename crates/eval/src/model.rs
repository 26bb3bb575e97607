//! [`Model`]: what is evaluated, ours or one behind an address. It brings the tensor engine or the network;
//! nothing else here knows either.

use anyhow::Result;
use mm1_data::document::Image;

pub use mm1_data::likelihood::Likelihood;

use crate::prompt::Prompt;

/// A model that can be asked.
pub trait Model {
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

    /// One answer for each prompt, without the prompt, in greedy decoding. An answer depends on its own
    /// prompt alone.
    ///
    /// # Errors
    /// An interrupt, or a failure of the model.
    fn generate(&mut self, prompts: &[Self::Encoded], limits: &AnswerLimits) -> Result<Vec<String>>;

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
