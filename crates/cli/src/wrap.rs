//! [`wrap`]: lines no wider than a terminal, broken between words.

use std::borrow::Cow;

use console::{Term, measure_text_width};

/// Columns below which nothing is broken: a word a line reads no better.
const NARROWEST: usize = 30;

/// Columns that a line goes on behind its own beginning.
const INDENT: usize = 2;

/// `text` as `terminal` shows it best; as it is where that is no terminal but a file or a pipe, so that a
/// program that reads it gets whole lines.
pub(crate) fn wrap(text: &str, terminal: &Term) -> String {
    match terminal.size_checked() {
        Some((_, columns)) => broken(text, columns.into()).into_owned(),
        None => text.to_owned(),
    }
}

/// The text with each line of more than `columns` broken between words, and the rest of it indented.
fn broken(text: &str, columns: usize) -> Cow<'_, str> {
    if columns < NARROWEST || text.lines().all(|line| measure_text_width(line) <= columns) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 64);
    for line in text.split_inclusive('\n') {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        push_line(line, columns, &mut out);
        out.push_str(end);
    }
    Cow::Owned(out)
}

fn push_line(line: &str, columns: usize, out: &mut String) {
    let indent = hanging(line).min(columns / 2);
    let (mut column, mut begun) = (0, false);
    for piece in line.split_inclusive(' ') {
        let word = piece.trim_end_matches(' ');
        if begun && !word.is_empty() && column + measure_text_width(word) > columns {
            out.truncate(out.trim_end_matches(' ').len());
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent));
            (column, begun) = (indent, false);
        }
        out.push_str(piece);
        column += measure_text_width(piece);
        begun |= !word.is_empty();
    }
}

/// Columns by which the rest of a line is indented: to its second column, where it has two with more than one
/// space between, else a little more than the line itself.
fn hanging(line: &str) -> usize {
    let own = line.len() - line.trim_start_matches(' ').len();
    let second = line[own..].find("  ").map(|gap| {
        let text = line[own + gap..].trim_start_matches(' ');
        measure_text_width(&line[..line.len() - text.len()])
    });
    second.unwrap_or(own + INDENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words_and_no_word_is_lost() {
        let line = "paper/resolution     The paper's runs at 224, 336 and 378 pixels, with a table beside";
        for columns in 30..120 {
            let shown = broken(line, columns);
            let words: Vec<&str> = shown.split_whitespace().collect();
            assert_eq!(words, line.split_whitespace().collect::<Vec<_>>(), "{columns}: {shown}");
            let widest = shown.lines().map(str::len).max();
            assert!(widest.is_some_and(|widest| widest <= columns), "{columns}: {shown}");
        }
        let narrow = "paper/resolution     The paper's runs at\n                     224, 336 and 378";
        assert!(broken(line, 44).starts_with(narrow), "{}", broken(line, 44));
    }

    #[test]
    fn what_fits_and_what_has_no_place_to_break_stays() {
        let path = "/a/path/that/is/longer/than/the/terminal/is/wide";
        let text = format!("  few: 12345 7890\n\n{path}\n  of {path} x\n");
        assert_eq!(broken(&text, 30), format!("  few: 12345 7890\n\n{path}\n  of\n    {path}\n    x\n"));
        assert_eq!(broken("a b c d", 2), "a b c d");
        // Letters that take two columns.
        assert_eq!(broken("日本語 日本語 日本語 日本語 日本語", 30).lines().count(), 2);
    }
}
