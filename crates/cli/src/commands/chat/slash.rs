//! [`SlashCommand`]: what a person tells the talk, not the model.

use std::path::PathBuf;

/// A line that begins with a slash.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SlashCommand {
    /// `/image FILE`.
    Image(PathBuf),
    /// `/reset`.
    Reset,
    /// `/help`.
    Help,
    /// `/quit`.
    Quit,
    /// Another word, which is reported.
    Unknown(String),
    /// `/image` without a file.
    NoFile,
}

/// What they do.
pub(super) const HELP: &str = "\
/image FILE  adds an image to the next message (JPEG, PNG, WebP, GIF, BMP or TIFF); may be repeated
/reset       forgets the talk and the images, and begins anew
/help        shows this
/quit        ends, as Ctrl-D does; arrow keys edit the line and bring back earlier ones";

impl SlashCommand {
    /// `None` for a message. A path such as `/usr/bin` is one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let word = name.strip_prefix('/')?;
        if word.is_empty() || !word.chars().all(|c| c.is_ascii_alphabetic() || c == '-') {
            return None;
        }
        Some(match (word, unquoted(rest.trim())) {
            ("image", "") => Self::NoFile,
            ("image", file) => Self::Image(at_home(file)),
            ("reset", "") => Self::Reset,
            ("help", "") => Self::Help,
            ("quit" | "exit", "") => Self::Quit,
            _ => Self::Unknown(name.to_owned()),
        })
    }
}

/// A file's name as some terminals paste it: in quotes.
fn unquoted(text: &str) -> &str {
    let inner = |quote: char| text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    inner('"').or_else(|| inner('\'')).unwrap_or(text)
}

/// `~/x` in the home folder, as a shell would read it.
fn at_home(file: &str) -> PathBuf {
    match (file.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(file),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_from_messages() {
        let image = |file: &str| Some(SlashCommand::Image(PathBuf::from(file)));
        let unknown = |word: &str| Some(SlashCommand::Unknown(word.to_owned()));
        for (text, command) in [
            ("/image a b.png", image("a b.png")),
            ("/image  'it is.png'", image("it is.png")),
            ("/image\t\"x.jpg\"", image("x.jpg")),
            ("/image", Some(SlashCommand::NoFile)),
            ("/reset", Some(SlashCommand::Reset)),
            ("/help", Some(SlashCommand::Help)),
            ("/exit", Some(SlashCommand::Quit)),
            ("/imgae x.png", unknown("/imgae")),
            ("/reset now", unknown("/reset")),
            ("/usr/bin is what?", None),
            ("/ 2", None),
            ("1 / 2", None),
            ("image", None),
        ] {
            assert_eq!(SlashCommand::parse(text), command, "{text}");
        }
    }
}
