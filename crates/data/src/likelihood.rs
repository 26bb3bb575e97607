//! [`Likelihood`]: how likely a model finds a text. Generation computes it and evaluation scores by it, and
//! the two do not know each other.

/// How likely a text is after a prompt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Likelihood {
    /// The sum of its tokens' log-probabilities, natural logarithm.
    pub log_prob: f64,
    /// Its tokens, at least one.
    pub tokens: usize,
    /// Whether greedy decoding would write it: each token is the most likely one at its place.
    pub greedy: bool,
}
