//! [`printable`]: other people's text (ids, names of files and members, reasons, answers) made safe for a
//! terminal; [`printable_json`]: the same for JSON, which stays the same value.

use std::borrow::Cow;

/// Text for one line of a terminal: control characters, line breaks among them, and characters that turn the
/// direction of writing are shown as escapes such as `\n` and `\u{1b}`. Other text stays as it is.
// Rejected: replacing them by U+FFFD. A person could not tell which character a file name has.
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, steers, |c, out| out.extend(c.escape_default()))
}

/// As [`printable`], for text of several lines: line breaks and tabs stay.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    let inside = |c: char| steers(c) && !matches!(c, '\n' | '\t');
    escaped(text, inside, |c, out| out.extend(c.escape_default()))
}

/// A JSON document with the same characters as escapes of JSON, such as `\u202e`. Line breaks and tabs, which
/// stand between its values, stay.
// JSON itself escapes C0 only. All of these are one unit of UTF-16, so each is one escape.
pub fn printable_json(document: &str) -> Cow<'_, str> {
    let inside = |c: char| steers(c) && !matches!(c, '\n' | '\r' | '\t');
    escaped(document, inside, |c, out| out.push_str(&format!("\\u{:04x}", u32::from(c))))
}

fn escaped(text: &str, steers: impl Fn(char) -> bool, escape: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if !text.contains(&steers) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if steers(c) { escape(c, &mut out) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// Whether a character steers a terminal or hides what stands there: C0, C1 and delete, line and paragraph
/// separators, marks that embed, override or isolate a direction ("Trojan Source", Boucher and Anderson
/// 2021), and the byte order mark. Joiners and marks of right-to-left scripts are text.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}
