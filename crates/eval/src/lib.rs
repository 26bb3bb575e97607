//! Benchmarks and scores in the paper's protocol: k demonstrations with their pictures, greedy answers, CIDEr
//! and VQA accuracy with 95% intervals. No tensor engine: what is asked comes in as a [`model::Model`].
//!
//! What a number in `eval.json` means:
//! - `value`: CIDEr × 100 ([`score::cider`]) or accuracy in percent ([`score::vqa`]), the mean over `n` test
//!   items.
//! - `ci95`: where the mean would lie if other test items had been drawn ([`score::bootstrap`]).
//! - `shots`: demonstrations before each question, every one with its pictures ([`shots`]); 0 is no
//!   demonstration at all.
//! - `baselines.constant`: the best answer that is the same for every item, chosen on the training split.
//! - `baselines.prior`: the most frequent training answer of the question's category: what the question's
//!   kind gives away.
//! - `baselines.blind`: the same model and prompts with every picture replaced by grey: what the text gives
//!   away.
//!
//! A score means sight only as far as it is above all three.

pub mod baseline;
pub mod compare;
pub mod contamination;
pub mod counted;
mod examiner;
pub mod item;
pub mod log;
pub mod metric;
pub mod model;
pub mod no_answer;
mod pass;
pub mod png;
pub mod probe;
pub mod prompt;
pub mod protocol;
pub mod refusal;
pub mod rehearsal;
pub mod remote;
pub mod result;
pub mod run;
mod same_item;
pub mod score;
pub mod shots;
pub mod skipped;
pub mod task;
pub mod tasks;
pub mod template;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What random numbers are drawn for; no two purposes share a stream.
#[derive(Clone, Copy)]
enum RandomStream {
    Shots = 1,
    Baseline = 2,
    Bootstrap = 3,
}

/// Numbers that depend on nothing but (seed, stream, index).
fn rng(seed: u64, stream: RandomStream, index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&(stream as u64).to_le_bytes());
    key[16..24].copy_from_slice(&index.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}
