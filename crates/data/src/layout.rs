//! Documents and prompts as token ids and pictures: [`Tokenizer::lay_out`]. A conversation is written in this
//! program's own form, or by the chat template of the tokenizer's model.
//!
//! # Where a template's answers are
//! A template may trim, reorder or drop. So it is rendered twice: with marks around each answer, and
//! without. Only if the text is the same but for the marks, these say what is learned. Marks are
//! characters of Unicode's private use that occur neither in the conversation nor in the template.
//!
//! Only what the template writes becomes a special token: a text that spells one is marked inside, and stays
//! text. Rejected: to render turn after turn and take differences, since templates write an earlier answer
//! otherwise than the last (Qwen3 drops its reasoning).

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use crate::chat_template::{ChatTemplate, TemplateMessage};
use crate::document::{Image, Segment, Special};
use crate::text_file;
use crate::tokenizer::{ControlToken, PictureMarks, Tokenizer};

/// A stretch of a document in the model's terms.
#[derive(Clone, Debug, PartialEq)]
pub enum Laid<'a> {
    /// Token ids, and whether the loss is taken on them.
    Tokens {
        /// The ids; none for an empty text.
        ids: Vec<u32>,
        /// Whether the loss is taken on them.
        learn: bool,
    },
    /// A picture in its place.
    Picture(&'a Image),
}

impl Tokenizer {
    /// Reads the text of a `tokenizer.json`, of this program or another; conversations are written by
    /// `template`, or in this program's own form.
    ///
    /// # Errors
    /// As [`Self::load`], without the file's name; a template that refuses the shortest conversation, or
    /// puts no special token after an answer.
    pub fn from_json(json: &str, template: Option<ChatTemplate>) -> Result<Self> {
        let tokenizer = Self::read(json, template.is_none())?;
        let Some(template) = template else { return Ok(tokenizer) };
        let token = |token, learn| Segment::Token { token, learn };
        let shortest = [
            token(Special::User, false),
            Segment::prompt("a"),
            token(Special::Assistant, false),
            Segment::text("b"),
            token(Special::End, true),
        ];
        let mut laid = Vec::new();
        RenderedConversation::of(&Turns::of(&shortest)?, &template, &tokenizer)?
            .read(&tokenizer, &mut laid)?;
        let learned = laid.iter().rev().find_map(|laid| match laid {
            Laid::Tokens { ids, learn: true } => ids.last().copied(),
            _ => None,
        });
        let end = learned.context("the chat template leaves out the answer")?;
        Ok(tokenizer.templated(template, end))
    }

    /// The tokenizer of a run folder: its `tokenizer.json`, and its chat template if it has one.
    ///
    /// # Errors
    /// As [`Self::from_json`], with the file's name.
    pub fn of_run(folder: &Path) -> Result<Self> {
        let path = folder.join("tokenizer.json");
        let read = || Self::from_json(&text_file::read(&path)?, ChatTemplate::load(folder)?);
        read().with_context(|| format!("tokenizer {}", path.display()))
    }

    /// The segments as ids and pictures. Texts are encoded segment by segment, but inside of a template's
    /// turn, where its own words and a person's are encoded as one text, as transformers does.
    ///
    /// # Errors
    /// A padding or image token given as a segment; a conversation that the template refuses, or writes so
    /// that it can't be seen what is to be learned.
    pub fn lay_out<'a>(&self, segments: &'a [Segment]) -> Result<Vec<Laid<'a>>> {
        let begin =
            |segment: &Segment| matches!(segment, Segment::Token { token, .. } if token.role().is_some());
        let lead = segments.iter().position(begin).unwrap_or(segments.len());
        let mut laid = Vec::new();
        let templated = self.chat_template().filter(|_| lead < segments.len());
        // A template writes the token that begins a text by itself.
        if let Some(id) = self.begin().filter(|_| templated.is_none() || lead > 0) {
            laid.push(Laid::Tokens { ids: vec![id], learn: false });
        }
        let plain = if templated.is_some() { &segments[..lead] } else { segments };
        for segment in plain {
            laid.push(self.lay_out_one(segment)?);
        }
        if let Some(template) = templated {
            let turns = Turns::of(&segments[lead..])?;
            RenderedConversation::of(&turns, template, self)?.read(self, &mut laid)?;
        }
        Ok(match self.picture_marks() {
            None => laid,
            Some(marks) => laid.into_iter().flat_map(|laid| with_marks(laid, marks)).collect(),
        })
    }

    fn lay_out_one<'a>(&self, segment: &'a Segment) -> Result<Laid<'a>> {
        Ok(match segment {
            Segment::Text { text, learn } => Laid::Tokens { ids: self.encode(text), learn: *learn },
            Segment::Image(image) => Laid::Picture(image),
            Segment::Token { token, learn } => {
                check_bare(*token)?;
                Laid::Tokens { ids: vec![self.id(*token)], learn: *learn }
            }
        })
    }
}

/// A stretch, and if it is a picture what stands around it. Nobody learns to write that.
fn with_marks<'a>(laid: Laid<'a>, marks: PictureMarks) -> Vec<Laid<'a>> {
    match laid {
        Laid::Tokens { .. } => vec![laid],
        Laid::Picture(_) => {
            let [before, after] = [marks.before.to_vec(), vec![marks.after]];
            vec![Laid::Tokens { ids: before, learn: false }, laid, Laid::Tokens { ids: after, learn: false }]
        }
    }
}

fn check_bare(token: Special) -> Result<()> {
    let bare = matches!(token, Special::Image | Special::Pad);
    ensure!(!bare, "the token {token:?} can't be given by itself; give the picture");
    Ok(())
}

/// A turn of a conversation.
struct TurnSegments<'a> {
    role: &'static str,
    segments: Vec<&'a Segment>,
    /// Whether its text is learned.
    learn: bool,
}

/// A conversation, and the beginning of a reply where it ends in one.
struct Turns<'a> {
    turns: Vec<TurnSegments<'a>>,
    /// Whether the assistant's reply follows, and what it begins with.
    reply: Option<Vec<&'a Segment>>,
}

impl<'a> Turns<'a> {
    fn of(segments: &'a [Segment]) -> Result<Self> {
        let mut turns: Vec<TurnSegments<'a>> = Vec::new();
        let mut open = false;
        for segment in segments {
            match segment {
                Segment::Token { token: Special::End, learn } => {
                    if let Some(turn) = turns.last_mut() {
                        turn.learn |= learn;
                    }
                    open = false;
                }
                Segment::Token { token, .. } => {
                    check_bare(*token)?;
                    let role = token.role().context("a token that is no role")?;
                    turns.push(TurnSegments { role, segments: Vec::new(), learn: false });
                    open = *token == Special::Assistant;
                }
                _ => {
                    let turn = turns.last_mut().context("a conversation begins with a role")?;
                    turn.learn |= matches!(segment, Segment::Text { learn: true, .. });
                    turn.segments.push(segment);
                }
            }
        }
        let reply = if open { turns.pop().map(|turn| turn.segments) } else { None };
        Ok(Self { turns, reply })
    }
}

/// Characters that stand for what a template must not see.
#[derive(Clone, Copy)]
struct Marks {
    picture: char,
    /// Before and after an answer.
    answer: [char; 2],
    /// Inside of a text that spells a special token.
    spelt: char,
}

impl Marks {
    /// Four characters of private use that none of the texts has.
    fn beside<'t>(texts: impl Iterator<Item = &'t str> + Clone) -> Result<Self> {
        let free = |mark: &char| !texts.clone().any(|text| text.contains(*mark));
        let mut free = ('\u{100000}'..='\u{10fffd}').filter(free);
        let mut next = || free.next().context("a conversation that has every character of private use");
        Ok(Self { picture: next()?, answer: [next()?, next()?], spelt: next()? })
    }
}

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
struct RenderedConversation<'a> {
    text: String,
    marks: Marks,
    pictures: Vec<&'a Image>,
    /// For each answer whether it is learned; none if answers are not marked.
    answers: Vec<bool>,
    /// What the reply begins with.
    reply: Vec<&'a Segment>,
}

impl<'a> RenderedConversation<'a> {
    fn of(turns: &Turns<'a>, template: &ChatTemplate, tokenizer: &Tokenizer) -> Result<Self> {
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

    /// The text as ids, its pictures in their places.
    fn read(self, tokenizer: &Tokenizer, laid: &mut Vec<Laid<'a>>) -> Result<()> {
        let (pictures, answers, reply) = (self.pictures.len(), self.answers.len(), self.reply.clone());
        let mut reader = Reader {
            tokenizer,
            spelt: self.marks.spelt,
            text: String::new(),
            pictures: self.pictures.into_iter(),
            answers: self.answers.into_iter(),
            state: State::Between,
            laid,
        };
        let mut rest = self.text.as_str();
        while !rest.is_empty() {
            rest = reader.step(rest, self.marks)?;
        }
        ensure!(
            matches!(reader.state, State::Between),
            "the chat template puts no special token after an answer, by which its end could be learned"
        );
        reader.flush(false);
        let left = (reader.pictures.len(), reader.answers.len());
        ensure!(
            left == (0, 0),
            "the chat template leaves out {} of {pictures} pictures and {} of {answers} answers",
            left.0,
            left.1
        );
        for segment in reply {
            laid.push(tokenizer.lay_out_one(segment)?);
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
struct Reader<'a, 'r> {
    tokenizer: &'r Tokenizer,
    spelt: char,
    /// Not encoded yet.
    text: String,
    pictures: std::vec::IntoIter<&'a Image>,
    answers: std::vec::IntoIter<bool>,
    state: State,
    laid: &'r mut Vec<Laid<'a>>,
}

impl<'a> Reader<'a, '_> {
    /// Reads one mark, special token or character; gives what follows.
    fn step<'t>(&mut self, rest: &'t str, marks: Marks) -> Result<&'t str> {
        let letter = rest.chars().next().unwrap_or_default();
        let behind = &rest[letter.len_utf8()..];
        if letter == marks.picture {
            self.flush(matches!(self.state, State::Answer(true)));
            let picture = self.pictures.next().context("the chat template repeats a picture")?;
            self.laid.push(Laid::Picture(picture));
        } else if letter == marks.answer[0] {
            ensure!(matches!(self.state, State::Between), "the chat template writes an answer twice");
            self.flush(false);
            let learn = self.answers.next().context("the chat template repeats an answer")?;
            self.state = State::Answer(learn);
        } else if letter == marks.answer[1] {
            let State::Answer(learn) = self.state else { bail!("the chat template moves an answer") };
            self.state = State::Ending(learn);
        } else if let Some(token) = self.tokenizer.control_token(rest) {
            let behind = &rest[token.name.len()..];
            self.take(token);
            return Ok(if token.rstrip { behind.trim_start() } else { behind });
        } else {
            ensure!(
                !matches!(self.state, State::Ending(_)) || letter.is_whitespace(),
                "the chat template puts no special token after an answer, by which its end could be learned"
            );
            self.text.push(letter);
        }
        Ok(behind)
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
        self.laid.push(Laid::Tokens { ids: vec![token.id], learn });
        if matches!(self.state, State::Ending(_)) {
            self.state = State::Between;
        }
    }

    /// Encodes the text so far.
    fn flush(&mut self, learn: bool) {
        let text = std::mem::take(&mut self.text).replace(self.spelt, "");
        if !text.is_empty() {
            self.laid.push(Laid::Tokens { ids: self.tokenizer.encode(&text), learn });
        }
    }
}
