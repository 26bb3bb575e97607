//! [`Conversation`]: `messages`, and what is asked for behind the last of them.

use mm1_data::chat::{self, Role, Turn};
use mm1_data::document::Segment;

use super::api_error::ApiError;
use super::app::App;
use super::fields::Fields;
use super::messages::{self, Fetched, Message};

/// Messages of a request.
pub(super) struct Conversation {
    pub(super) messages: Vec<Message>,
    ending: Ending,
}

/// How the prompt ends. The fields that say so are vLLM's.
#[derive(Clone, Copy, PartialEq)]
enum Ending {
    /// With the token that asks for the assistant's reply.
    Reply,
    /// With the last message, the beginning of the reply: `continue_final_message`.
    Continued,
    /// With the end of the last message: `add_generation_prompt` = false.
    Closed,
}

impl Conversation {
    /// Takes the fields of a conversation; `None` if `messages` is missing.
    ///
    /// # Errors
    /// What is no message, by its number; two endings at once.
    pub(super) fn take(fields: &mut Fields) -> Result<Option<Self>, ApiError> {
        let messages = messages::take(fields)?;
        let asks: Option<bool> = fields.take("add_generation_prompt")?;
        let ending = match (fields.take("continue_final_message")?.unwrap_or(false), asks) {
            (true, Some(true)) => {
                let message = "continue_final_message has no reply to ask for: set add_generation_prompt = \
                               false";
                return Err(ApiError::invalid("add_generation_prompt", message));
            }
            (true, _) => Ending::Continued,
            (false, Some(false)) => Ending::Closed,
            (false, _) => Ending::Reply,
        };
        Ok(messages.map(|messages| Self { messages, ending }))
    }

    /// The prompt.
    ///
    /// # Errors
    /// What can't be part of a conversation, with the message's number; a last message that does not go with
    /// the ending.
    pub(super) fn prompt(self, fetched: &Fetched, app: &App) -> Result<Vec<Segment>, ApiError> {
        let mut turns = messages::turns(self.messages, fetched, app)?;
        let answered = turns.last().is_some_and(|last| last.role == Role::Assistant);
        let refused = |message: &str| Err(ApiError::invalid("messages", message));
        match (self.ending, answered) {
            (Ending::Reply, true) => refused(
                "messages: the last one is the assistant's: there is nothing to answer; \
                 continue_final_message = true goes on with it",
            ),
            (Ending::Continued, false) => refused(
                "messages: continue_final_message goes on with the assistant's message: the last one is of \
                 another role",
            ),
            (Ending::Reply, false) => Ok(chat::prompt(&turns)),
            (Ending::Closed, _) => {
                Ok(chat::document("", &turns).segments.into_iter().map(unlearned).collect())
            }
            (Ending::Continued, true) => {
                let begun = turns.pop().map(text_of).unwrap_or_default();
                let mut segments = chat::prompt(&turns);
                segments.push(Segment::prompt(begun));
                Ok(segments)
            }
        }
    }
}

/// The parts of an assistant's message as one text: its tokens do not depend on how it was cut.
fn text_of(turn: Turn) -> String {
    let text = |segment| if let Segment::Text { text, .. } = segment { text } else { String::new() };
    turn.segments.into_iter().map(text).collect()
}

/// A template that writes earlier answers otherwise is no hindrance where nothing is learned.
fn unlearned(segment: Segment) -> Segment {
    match segment {
        Segment::Text { text, .. } => Segment::Text { text, learn: false },
        Segment::Token { token, .. } => Segment::Token { token, learn: false },
        image @ Segment::Image(_) => image,
    }
}
