//! [`Model`]: what is evaluated, ours or one behind an address. It brings the tensor engine or the network; nothing else
//! here knows either.

use anyhow::Result;
use mm1_data::document::{Image, Segment};

use crate::shots::Prompt;

/// A model that can be asked.
pub trait Model {
    /// Positions that a prompt and its answer may take together; `None` where only the model knows.
    fn context(&self) -> Option<usize>;

    /// Positions that the segments take; where only the model knows, any measure of their length.
    fn tokens(&self, segments: &[Segment]) -> usize;

    /// One continuation for each prompt, without the prompt, in greedy decoding. An answer depends on its own prompt alone.
    ///
    /// # Errors
    /// An interrupt, or a failure of the model.
    fn generate(&mut self, prompts: &[Prompt], limits: &Limits) -> Result<Vec<String>>;

    /// How likely each text is after its prompt, of several texts for each prompt.
    ///
    /// # Errors
    /// As [`Self::generate`]; a model that gives no probabilities.
    fn likelihoods(&mut self, asked: &[Continuations]) -> Result<Vec<Vec<Likelihood>>>;

    /// What the image encoder makes of pictures, one vector each, to find similar ones.
    ///
    /// # Errors
    /// As [`Self::generate`]; a model that gives no features.
    fn features(&mut self, pictures: &[Image]) -> Result<Vec<Vec<f32>>>;
}

/// Where an answer ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Its most tokens.
    pub max_tokens: usize,
    /// It ends before the first of these.
    pub stop: Vec<String>,
}

/// A prompt and the texts that may follow it.
#[derive(Clone, Debug, PartialEq)]
pub struct Continuations {
    /// What comes before.
    pub prompt: Prompt,
    /// Each is judged by itself.
    pub texts: Vec<String>,
}

/// How likely a text is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Likelihood {
    /// The sum of its tokens' log-probabilities, natural logarithm.
    pub log_prob: f64,
    /// Its tokens.
    pub tokens: usize,
    /// Whether greedy decoding would have written it.
    pub greedy: bool,
}
