//! [`Session`]: a conversation that reads every turn once.

use anyhow::{Context as _, Result};
use mm1_data::chat::{self, Turn};
use mm1_data::document::Segment;
use mm1_model::Cache;

use crate::answer::PartialAnswer;
use crate::generate::Generator;
use crate::input::{EncodedPrompt, ModelInput};
use crate::options::AnswerOptions;

/// A conversation with one person. Its cache holds all turns so far, so that a new one costs no more than
/// its own tokens. Where a chat template writes earlier turns otherwise once there are later ones, all is
/// read anew.
pub struct Session<'a> {
    generator: &'a Generator,
    /// Of one sequence.
    cache: Cache,
    /// The end of the last reply, read together with the next turn.
    unread: ModelInput,
    /// All turns so far, as they were said.
    said: Vec<Turn>,
    /// The prompt of the last reply.
    last: EncodedPrompt,
}

impl<'a> Session<'a> {
    /// A conversation that has not begun.
    pub fn new(generator: &'a Generator) -> Self {
        let (cache, last) = (generator.new_cache(), EncodedPrompt::default());
        Self { generator, cache, unread: ModelInput::default(), said: Vec::new(), last }
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
        options: &AnswerOptions,
        on_text: &mut dyn FnMut(&str),
    ) -> Result<String> {
        options.check()?;
        let mut said = self.said.clone();
        said.push(Turn::user(segments.to_vec()));
        let whole = self.generator.encode(&[(&chat::prompt(&said)).into()])?;
        let new = self.unanswered(&whole);
        let read = new.as_ref().map_or(whole.positions(), |new| self.tokens() + new.positions());
        self.generator.check_room(read, options.max_tokens).context("the conversation")?;
        let unread = match &new {
            Some(new) => {
                let mut unread = self.unread.clone();
                unread.append(self.generator.prepare(new)?);
                unread
            }
            None => {
                let unread = self.generator.prepare(&whole)?;
                self.cache = self.generator.new_cache();
                unread
            }
        };
        // The stream of random draws is the turn's number.
        let mut answer = PartialAnswer::new(unread, options, (self.said.len() / 2) as u64)?;
        loop {
            let logits = self.generator.extend(0, &[&answer.unread], &mut self.cache)?;
            let done = answer.take(&logits[0], self.generator.tokenizer())?.finish.is_some();
            let piece = answer.text.show();
            if !piece.is_empty() {
                on_text(piece);
            }
            if done {
                break;
            }
        }
        self.unread = answer.unread;
        self.unread.append(ModelInput::token(self.generator.tokenizer().turn_end()));
        let reply = answer.text.into_string();
        said.push(Turn::assistant(reply.clone()));
        (self.said, self.last) = (said, whole);
        Ok(reply)
    }

    /// What of the prompt `whole` follows the last reply and its end; `None` where it does not begin with the
    /// prompt of that reply.
    fn unanswered(&self, whole: &EncodedPrompt) -> Option<EncodedPrompt> {
        if self.said.is_empty() {
            return Some(whole.clone());
        }
        whole.after(&self.last)?.after_token(self.generator.tokenizer().turn_end())
    }
}
