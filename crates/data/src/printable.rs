//! [`printable`]: other people's text (ids, names of files and members, reasons, answers) made safe for a
//! terminal.

use std::borrow::Cow;

/// Text for one line of a terminal: control characters, line breaks among them, and characters that turn the
/// direction of writing are shown as escapes such as `\n` and `\u{1b}`. Other text stays as it is.
// Rejected: replacing them by U+FFFD. A person could not tell which character a file name has.
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// As [`printable`], for text of several lines: line breaks and tabs stay.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| matches!(c, '\n' | '\t'))
}

fn escaped(text: &str, stays: impl Fn(char) -> bool) -> Cow<'_, str> {
    let steers = |c: char| steers(c) && !stays(c);
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if steers(c) { out.extend(c.escape_default()) } else { out.push(c) }
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
