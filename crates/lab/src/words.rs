//! Words of reports.

/// `text` with its first letter as a capital.
pub(crate) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// `0 shots`, `1 shot`, `4 shots`.
pub(crate) fn shots(number: u64) -> String {
    if number == 1 { "1 shot".to_owned() } else { format!("{number} shots") }
}
