//! A rendered conversation from left to right: [`Reader`].

use anyhow::{Context as _, Result, bail, ensure};

use super::Stretches;
use crate::document::Image;
use crate::tokenizer::{ControlToken, Tokenizer};

/// Why a conversation is refused whose answers end in the middle of text.
const NO_END: &str =
    "the chat template puts no special token after an answer, by which its end could be learned";

/// Characters that stand for what a template must not see.
#[derive(Clone, Copy)]
pub(super) struct Marks {
    pub(super) picture: char,
    /// Before and after an answer.
    pub(super) answer: [char; 2],
    /// Inside of a text that spells a special token.
    pub(super) spelt: char,
}

impl Marks {
    /// Four characters of private use that none of the texts has.
    ///
    /// # Errors
    /// A conversation that has all such characters.
    pub(super) fn beside<'t>(texts: impl Iterator<Item = &'t str> + Clone) -> Result<Self> {
        let free = |mark: &char| !texts.clone().any(|text| text.contains(*mark));
        let mut free = ('\u{100000}'..='\u{10fffd}').filter(free);
        let mut next = || free.next().context("a conversation that has every character of private use");
        Ok(Self { picture: next()?, answer: [next()?, next()?], spelt: next()? })
    }
}

/// Where in a rendered conversation the reader stands.
#[derive(Clone, Copy)]
enum State {
    /// In the template's words, or a person's.
    Between,
    /// In an answer that is learned, or not.
    Answer(bool),
    /// Behind it, before the special token that ends it.
    Ending(bool),
}

/// Reads a rendered conversation from left to right.
pub(super) struct Reader<'a, 'r> {
    tokenizer: &'r Tokenizer,
    marks: Marks,
    /// White space before an answer that belongs to it.
    lead: &'r str,
    /// Not encoded yet.
    text: String,
    /// The pictures that are still to come.
    pub(super) pictures: std::vec::IntoIter<&'a Image>,
    /// For each answer that is still to come, whether it is learned.
    pub(super) answers: std::vec::IntoIter<bool>,
    state: State,
    /// Whether white space is left out, as after a token that takes it away.
    skips_space: bool,
    laid: &'r mut Stretches<'a>,
}

impl<'a, 'r> Reader<'a, 'r> {
    /// A reader that lays what it reads behind `laid`.
    pub(super) fn new(
        tokenizer: &'r Tokenizer,
        (marks, lead): (Marks, &'r str),
        laid: &'r mut Stretches<'a>,
    ) -> Self {
        Self {
            tokenizer,
            marks,
            lead,
            text: String::new(),
            pictures: Vec::new().into_iter(),
            answers: Vec::new().into_iter(),
            state: State::Between,
            skips_space: false,
            laid,
        }
    }

    /// Reads one mark, special token or character; gives what follows.
    ///
    /// # Errors
    /// What the template repeats or moves, and an answer that no special token ends.
    pub(super) fn step<'t>(&mut self, rest: &'t str) -> Result<&'t str> {
        let letter = rest.chars().next().unwrap_or_default();
        let behind = &rest[letter.len_utf8()..];
        if letter == self.marks.picture {
            self.flush(matches!(self.state, State::Answer(true)));
            let picture = self.pictures.next().context("the chat template repeats a picture")?;
            self.laid.picture(picture);
            self.skips_space = false;
        } else if letter == self.marks.answer[0] {
            ensure!(matches!(self.state, State::Between), "the chat template writes an answer twice");
            let lead = if self.text.ends_with(self.lead) { self.lead } else { "" };
            self.text.truncate(self.text.len() - lead.len());
            self.flush(false);
            self.text.push_str(lead);
            let learn = self.answers.next().context("the chat template repeats an answer")?;
            self.state = State::Answer(learn);
        } else if letter == self.marks.answer[1] {
            let State::Answer(learn) = self.state else { bail!("the chat template moves an answer") };
            self.state = State::Ending(learn);
        } else if let Some(token) = self.tokenizer.control_token(rest) {
            self.take(token);
            return Ok(&rest[token.name.len()..]);
        } else if !(self.skips_space && letter.is_whitespace()) {
            ensure!(!matches!(self.state, State::Ending(_)) || letter.is_whitespace(), NO_END);
            self.text.push(letter);
            self.skips_space = false;
        }
        Ok(behind)
    }

    /// Encodes what is left.
    ///
    /// # Errors
    /// An answer that no special token ends.
    pub(super) fn finish(&mut self) -> Result<()> {
        ensure!(matches!(self.state, State::Between), NO_END);
        self.flush(false);
        Ok(())
    }

    fn take(&mut self, token: &ControlToken) {
        if token.lstrip {
            self.text.truncate(self.text.trim_end().len());
        }
        let learn = match self.state {
            State::Between => false,
            State::Answer(learn) | State::Ending(learn) => learn,
        };
        self.flush(learn);
        self.laid.token(token.id, learn);
        self.skips_space = token.rstrip;
        if matches!(self.state, State::Ending(_)) {
            self.state = State::Between;
        }
    }

    /// Encodes the text so far.
    fn flush(&mut self, learn: bool) {
        let text = std::mem::take(&mut self.text).replace(self.marks.spelt, "");
        if !text.is_empty() {
            self.laid.text(self.tokenizer, &text, learn);
        }
    }
}
