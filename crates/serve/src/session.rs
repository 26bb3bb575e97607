//! [`Session`]: a conversation that reads every turn once.

use anyhow::{Context as _, Result};
use mm1_data::chat::{self, Turn};
use mm1_data::document::{Segment, Special};
use mm1_model::Cache;

use crate::answer::PartialAnswer;
use crate::generate::Generator;
use crate::input::ModelInput;
use crate::options::GenerateOptions;

/// A conversation with one person. Its cache holds all turns so far, so that a new one costs no more than its
/// own tokens.
pub struct Session<'a> {
    generator: &'a Generator,
    /// Of one sequence.
    cache: Cache,
    /// The end of the last reply, read together with the next turn.
    unread: ModelInput,
    /// Those that were answered: the stream of the next one's random draws.
    turns: u64,
}

impl<'a> Session<'a> {
    /// A conversation that has not begun.
    pub fn new(generator: &'a Generator) -> Self {
        Self { generator, cache: generator.new_cache(), unread: ModelInput::default(), turns: 0 }
    }

    /// Positions that the conversation takes so far.
    pub fn tokens(&self) -> usize {
        self.cache.len(0) + self.unread.ids.len()
    }

    /// Replies to a user's turn of text and any number of pictures. `on_text` is given the reply in pieces as
    /// it is made. A stop string that was cut from the reply stays in what the model has read. Random draws
    /// differ from turn to turn.
    ///
    /// # Errors
    /// An option out of its range, a conversation with no room for the turn and its reply, a picture that
    /// can't be prepared: the conversation is then as before. Logits that are no numbers.
    pub fn say(
        &mut self,
        segments: &[Segment],
        options: &GenerateOptions,
        on_text: &mut dyn FnMut(&str),
    ) -> Result<String> {
        options.check()?;
        let turn = chat::prompt(&[Turn::user(segments.to_vec())]);
        let turn = self.generator.encode(&[(&turn).into()])?;
        let read = self.tokens() + turn.positions();
        self.generator.check_room(read, options.max_tokens).context("the conversation")?;
        let mut unread = self.unread.clone();
        unread.append(self.generator.prepare(&turn)?);

        let mut answer = PartialAnswer::new(unread, options, self.turns)?;
        loop {
            let logits = self.generator.extend(0, &[&answer.unread], &mut self.cache)?;
            let done = answer.take(&logits[0], self.generator.tokenizer())?;
            let piece = answer.text.show();
            if !piece.is_empty() {
                on_text(piece);
            }
            if done {
                break;
            }
        }
        self.unread = answer.unread;
        self.unread.append(ModelInput::token(self.generator.tokenizer().id(Special::End)));
        self.turns += 1;
        Ok(answer.text.into_string())
    }
}
