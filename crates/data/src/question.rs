//! [`Question`]: one test or demonstration item of a benchmark.

use crate::document::Image;

/// Pictures, a question about them and its accepted answers. A captioning item has an empty `text`.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// `task/split/index`.
    pub id: String,
    /// The kind of question, for scores by kind: `what`, `colour`, `count`, `where`, `yes-no`, `caption`, …
    pub category: String,
    /// The pictures it is about, in order.
    pub pictures: Vec<Image>,
    /// The question; empty for captioning.
    pub text: String,
    /// The accepted answers or reference captions; never empty.
    pub answers: Vec<String>,
}
