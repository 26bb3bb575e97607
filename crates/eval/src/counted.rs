//! [`counted`]: a number with its noun.

/// `1 item`, `2 items`: `noun` is one that takes an `s`.
pub fn counted(number: u64, noun: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{s}")
}
