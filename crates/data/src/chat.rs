//! The chat template: turns of a conversation as a [`Document`], and as the prompt of a reply.
//!
//! A turn begins with the token of its role, an assistant's turn ends with [`Special::End`]. The loss is
//! taken on the assistant's text and its end only.

use crate::document::{Document, DocumentKind, Segment, Special};

/// The same form as a Jinja template, for programs that write conversations by one.
pub const TEMPLATE: &str = "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}\
    {% if message['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}\
    {% if add_generation_prompt %}<|assistant|>{% endif %}";

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions that hold for the whole conversation.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// What one speaker says: text and pictures in order. Whether it is learned follows from the role, whatever
/// the segments say.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// Text and pictures.
    pub segments: Vec<Segment>,
}

impl Turn {
    /// A turn of the user.
    pub fn user(segments: Vec<Segment>) -> Self {
        Self { role: Role::User, segments }
    }

    /// A turn of the assistant, of text alone.
    pub fn assistant(text: impl Into<String>) -> Self {
        Self { role: Role::Assistant, segments: vec![Segment::text(text)] }
    }
}

/// The whole conversation, for training.
pub fn document(id: impl Into<String>, turns: &[Turn]) -> Document {
    Document { id: id.into(), kind: DocumentKind::Conversation, segments: render(turns) }
}

/// The conversation so far and the token after which the assistant's reply is generated, up to
/// [`Special::End`].
pub fn prompt(turns: &[Turn]) -> Vec<Segment> {
    let mut segments = render(turns);
    segments.push(Segment::Token { token: Special::Assistant, learn: false });
    segments
}

/// The turns with the tokens of their roles and ends.
pub(crate) fn render(turns: &[Turn]) -> Vec<Segment> {
    let mut out = Vec::new();
    for turn in turns {
        let (token, reply) = match turn.role {
            Role::System => (Special::System, false),
            // The loss is taken on the assistant's turns only.
            Role::User => (Special::User, false),
            Role::Assistant => (Special::Assistant, true),
        };
        out.push(Segment::Token { token, learn: false });
        out.extend(turn.segments.iter().cloned().map(|segment| match segment {
            Segment::Text { text, .. } => Segment::Text { text, learn: reply },
            Segment::Token { token, .. } => Segment::Token { token, learn: reply },
            picture @ Segment::Image(_) => picture,
        }));
        if reply {
            out.push(Segment::Token { token: Special::End, learn: true });
        }
    }
    out
}
