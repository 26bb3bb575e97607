//! [`Refusal`]: an error that only the person can mend.

use std::fmt;

/// What is asked for can't be done: neither the program nor the model is at fault. One line that says what,
/// where and what to do.
#[derive(Debug)]
pub struct Refusal(String);

impl Refusal {
    /// With its message.
    pub fn new(message: impl fmt::Display) -> Self {
        Self(message.to_string())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}
