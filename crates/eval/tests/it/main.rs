//! Scores against their references, prompts, and the protocol of an evaluation.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail")]

mod benchmarks;
mod compare;
mod contamination;
mod facts;
mod goldens;
mod own;
mod probe;
mod protocol;
mod remote;
mod same_item;
#[cfg(feature = "emoji")]
mod scenes;
mod settings;
mod shapes;
mod source;
mod statistics;
mod textcore;
mod toy;
mod unwritable;
