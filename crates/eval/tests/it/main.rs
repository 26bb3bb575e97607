//! Scores against their references, prompts, and the protocol of an evaluation.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail")]

mod goldens;
mod own;
mod protocol;
#[cfg(feature = "emoji")]
mod scenes;
mod settings;
mod shapes;
mod source;
mod statistics;
mod textcore;
mod toy;
