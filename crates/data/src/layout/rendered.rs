//! A conversation as its template writes it: [`RenderedConversation`].

use anyhow::{Result, ensure};

use super::Stretches;
use super::reader::{Marks, Reader};
use super::turns::{TurnSegments, Turns};
use crate::chat_template::{ChatTemplate, TemplateMessage};
use crate::document::{Image, Segment};
use crate::tokenizer::Tokenizer;

/// Where the marks of an answer stand.
#[derive(Clone, Copy, PartialEq)]
enum AnswerMarks {
    None,
    /// Around all of it.
    Around,
    /// Inside of white space at its ends, which the template may trim.
    AroundTrimmed,
}

/// A conversation as its template writes it, with marks.
pub(super) struct RenderedConversation<'a> {
    text: String,
    marks: Marks,
    pictures: Vec<&'a Image>,
    /// For each answer whether it is learned; none if answers are not marked.
    answers: Vec<bool>,
    /// What the reply begins with.
    reply: Vec<&'a Segment>,
}

impl<'a> RenderedConversation<'a> {
    /// # Errors
    /// What the template refuses; answers that it changes, where they are learned.
    pub(super) fn of(turns: &Turns<'a>, template: &ChatTemplate, tokenizer: &Tokenizer) -> Result<Self> {
        let every = turns.turns.iter().flat_map(|turn| &turn.segments);
        let texts = every.clone().filter_map(|segment| match segment {
            Segment::Text { text, .. } => Some(text.as_str()),
            _ => None,
        });
        let marks = Marks::beside(texts.chain([template.source()]))?;
        let render = |answers: AnswerMarks| {
            let messages: Vec<TemplateMessage> =
                turns.turns.iter().map(|turn| message(turn, marks, answers, tokenizer)).collect();
            template.render(&messages, turns.reply.is_some())
        };
        let plain = render(AnswerMarks::None)?;
        let mut answers: Vec<bool> =
            turns.turns.iter().filter(|turn| turn.role == "assistant").map(|turn| turn.learn).collect();
        let mut text = None;
        for around in [AnswerMarks::Around, AnswerMarks::AroundTrimmed] {
            if text.is_none() && !answers.is_empty() {
                text = render(around).ok().filter(|marked| marked.replace(marks.answer, "") == plain);
            }
        }
        if text.is_none() {
            ensure!(
                !answers.contains(&true),
                "the chat template changes the assistant's answers, so that it can't be seen what is to be \
                 learned: train with [tokenizer] chat = \"own\""
            );
            answers.clear();
        }
        let pictures = every.filter_map(|segment| match segment {
            Segment::Image(image) => Some(image),
            _ => None,
        });
        let reply = turns.reply.clone().unwrap_or_default();
        Ok(Self { text: text.unwrap_or(plain), marks, pictures: pictures.collect(), answers, reply })
    }

    /// The text with its marks.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// What is before the first answer, where answers are marked.
    pub(super) fn before_answer(&self) -> Option<&str> {
        self.text.split_once(self.marks.answer[0]).map(|(before, _)| before)
    }

    /// The text as ids, its pictures in their places. `lead` is the white space before answers that belongs
    /// to them.
    ///
    /// # Errors
    /// A template that repeats, moves or leaves out pictures and answers, or ends an answer by no special
    /// token.
    pub(super) fn read(self, tokenizer: &Tokenizer, lead: &str, laid: &mut Stretches<'a>) -> Result<()> {
        let (pictures, answers, reply) = (self.pictures.len(), self.answers.len(), self.reply.clone());
        let mut reader = Reader::new(tokenizer, (self.marks, lead), laid);
        reader.pictures = self.pictures.into_iter();
        reader.answers = self.answers.into_iter();
        let mut rest = self.text.as_str();
        while !rest.is_empty() {
            rest = reader.step(rest)?;
        }
        reader.finish()?;
        let left = (reader.pictures.len(), reader.answers.len());
        ensure!(
            left == (0, 0),
            "the chat template leaves out {} of {pictures} pictures and {} of {answers} answers",
            left.0,
            left.1
        );
        for (number, segment) in reply.into_iter().enumerate() {
            match segment {
                Segment::Text { text, learn } if number == 0 => {
                    laid.text(tokenizer, &format!("{lead}{text}"), *learn);
                }
                other => laid.segment(tokenizer, other)?,
            }
        }
        Ok(())
    }
}

/// A turn as the template sees it.
fn message(
    turn: &TurnSegments<'_>,
    marks: Marks,
    answers: AnswerMarks,
    tokenizer: &Tokenizer,
) -> TemplateMessage {
    let mut content = String::new();
    for segment in &turn.segments {
        match segment {
            Segment::Text { text, .. } => content.push_str(&tokenizer.marked(text, marks.spelt)),
            Segment::Image(_) => content.push(marks.picture),
            Segment::Token { .. } => {}
        }
    }
    let [first, last] = marks.answer;
    content = match answers {
        _ if turn.role != "assistant" => content,
        AnswerMarks::None => content,
        AnswerMarks::Around => format!("{first}{content}{last}"),
        AnswerMarks::AroundTrimmed => {
            let inner = content.trim();
            let start = content.len() - content.trim_start().len();
            let (before, after) = (&content[..start], &content[start + inner.len()..]);
            format!("{before}{first}{inner}{last}{after}")
        }
    };
    TemplateMessage { role: turn.role, content }
}
