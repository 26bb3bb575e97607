//! Metrics, each equal to its reference implementation.

pub mod anls;
pub mod bleu;
pub mod bootstrap;
pub mod cider;
pub mod exact;
mod gram;
pub mod letter;
pub mod likelihood;
pub mod open;
pub mod ptb;
pub mod relaxed;
pub mod rouge;
pub mod vqa;
pub mod yes_no;

/// White space as Python sees it, in which the reference implementations are written.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}
