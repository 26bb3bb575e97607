//! [`error_line`]: an error as a person reads it, in a terminal, a report or a list of skipped documents.

use std::borrow::Cow;

/// What the standard library writes before the system's number of an error.
const NUMBER: &str = " (os error ";

/// An error in one line: what was done, then why it failed. What two of its causes say alike, such as a path,
/// stands once; the system's numbers (`(os error 2)`) and line breaks are left out.
// The numbers are left out of the whole text, since causes are often text by then.
pub fn error_line(error: &anyhow::Error) -> String {
    let mut causes: Vec<String> = Vec::new();
    for cause in error.chain() {
        let words = cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        if causes.last() != Some(&words) {
            causes.push(words);
        }
    }
    without_numbers(&causes.join(": ")).into_owned()
}

fn without_numbers(text: &str) -> Cow<'_, str> {
    let Some((before, after)) = text.split_once(NUMBER) else { return Cow::Borrowed(text) };
    let behind = after.trim_start_matches('-').trim_start_matches(|c: char| c.is_ascii_digit());
    let shown = match behind.strip_prefix(')') {
        Some(rest) => format!("{before}{}", without_numbers(rest)),
        None => format!("{before}{NUMBER}{}", without_numbers(after)),
    };
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use std::io::Error;

    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn numbers_of_the_system_and_paths_that_stand_twice_are_left_out() {
        let missing = || Error::from_raw_os_error(2);
        let path = "pictures/a.jsonl.gz";
        let twice = Err::<(), _>(missing()).context("can't be read").context(path).context(path);
        let line = format!("{path}: can't be read: No such file or directory");
        assert_eq!(error_line(&twice.expect_err("an error")), line);
        for (text, shown) in [
            (format!("x: {} and {}", missing(), Error::from_raw_os_error(28)), None),
            (
                "of a page\n  of two (os error) (os error x)".to_owned(),
                Some("of a page of two (os error) (os error x)"),
            ),
        ] {
            let line = error_line(&anyhow!("{text}"));
            assert_eq!(line, shown.unwrap_or("x: No such file or directory and No space left on device"));
        }
    }
}
