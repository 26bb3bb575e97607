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
//!
//! # Where an answer begins
//! It is encoded apart from what asks for it, as it is generated. White space that a template writes before
//! an answer, but not where it asks for one, is a part of the answer: Llama 2 is asked by `[/INST]` and
//! answers ` Paris`, one token.

mod reader;
mod rendered;
mod turns;

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use self::rendered::RenderedConversation;
use self::turns::Turns;
use crate::chat_template::ChatTemplate;
use crate::document::{Image, Segment, Special};
use crate::text_file;
use crate::token_form::TextPlace;
use crate::tokenizer::{TemplatedChat, Tokenizer};

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
        let chat = probe(&tokenizer, template)?;
        Ok(tokenizer.templated(chat))
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
        let mut laid = Stretches::default();
        let templated = self.templated_chat().filter(|_| lead < segments.len());
        // A template writes the token that begins a text by itself.
        if let Some(id) = self.begin().filter(|_| templated.is_none() || lead > 0) {
            laid.stretches.push(Laid::Tokens { ids: vec![id], learn: false });
        }
        let plain = if templated.is_some() { &segments[..lead] } else { segments };
        for segment in plain {
            laid.segment(self, segment)?;
        }
        if let Some(chat) = templated {
            let turns = Turns::of(&segments[lead..])?;
            RenderedConversation::of(&turns, &chat.template, self)?.read(self, &chat.lead, &mut laid)?;
        }
        Ok(laid.stretches)
    }

    /// The ids of a text that follows `segments`, as if it were one of them.
    pub fn encode_after<'a>(
        &self,
        segments: impl DoubleEndedIterator<Item = &'a Segment>,
        text: &str,
    ) -> Vec<u32> {
        let empty = |segment: &&Segment| matches!(segment, Segment::Text { text, .. } if text.is_empty());
        match (segments.rev().find(|segment| !empty(segment)), self.templated_chat()) {
            (Some(Segment::Token { token: Special::Assistant, .. }), Some(chat)) => {
                self.encode_at(&format!("{}{text}", chat.lead), chat.place)
            }
            (Some(Segment::Text { .. }), _) => self.encode_at(text, TextPlace::AfterText),
            (Some(_), _) => self.encode_at(text, TextPlace::AfterToken),
            (None, _) => self.encode(text),
        }
    }
}

/// What is laid, and where the text that comes next stands.
struct Stretches<'a> {
    stretches: Vec<Laid<'a>>,
    place: TextPlace,
}

impl Default for Stretches<'_> {
    fn default() -> Self {
        Self { stretches: Vec::new(), place: TextPlace::Start }
    }
}

impl<'a> Stretches<'a> {
    fn text(&mut self, tokenizer: &Tokenizer, text: &str, learn: bool) {
        self.stretches.push(Laid::Tokens { ids: tokenizer.encode_at(text, self.place), learn });
        if !text.is_empty() {
            self.place = TextPlace::AfterText;
        }
    }

    fn token(&mut self, id: u32, learn: bool) {
        self.stretches.push(Laid::Tokens { ids: vec![id], learn });
        self.place = TextPlace::AfterToken;
    }

    fn picture(&mut self, image: &'a Image) {
        self.stretches.push(Laid::Picture(image));
        self.place = TextPlace::AfterToken;
    }

    fn segment(&mut self, tokenizer: &Tokenizer, segment: &'a Segment) -> Result<()> {
        match segment {
            Segment::Text { text, learn } => self.text(tokenizer, text, *learn),
            Segment::Image(image) => self.picture(image),
            Segment::Token { token, learn } => {
                check_bare(*token)?;
                self.token(tokenizer.id(*token), *learn);
            }
        }
        Ok(())
    }
}

/// Lays out the shortest conversation, to see how `template` asks for answers and ends them.
fn probe(tokenizer: &Tokenizer, template: ChatTemplate) -> Result<TemplatedChat> {
    let token = |token, learn| Segment::Token { token, learn };
    let shortest = [
        token(Special::User, false),
        Segment::prompt("a"),
        token(Special::Assistant, false),
        Segment::text("b"),
        token(Special::End, true),
    ];
    let answered = RenderedConversation::of(&Turns::of(&shortest)?, &template, tokenizer)?;
    let before = answered.before_answer().unwrap_or_default().to_owned();
    let mut laid = Stretches::default();
    answered.read(tokenizer, "", &mut laid)?;
    let learned = laid.stretches.iter().rev().find_map(|laid| match laid {
        Laid::Tokens { ids, learn: true } => ids.last().copied(),
        _ => None,
    });
    let end = learned.context("the chat template leaves out the answer")?;
    let (mut lead, mut place) = (String::new(), TextPlace::AfterText);
    // A template may refuse what has no answer: then nobody can ask by it.
    if let Ok(asked) = RenderedConversation::of(&Turns::of(&shortest[..3])?, &template, tokenizer) {
        let space = before.strip_prefix(asked.text()).filter(|space| space.trim().is_empty());
        space.unwrap_or_default().clone_into(&mut lead);
        let mut laid = Stretches::default();
        asked.read(tokenizer, "", &mut laid)?;
        place = laid.place;
    }
    Ok(TemplatedChat { template, end, lead, place })
}

fn check_bare(token: Special) -> Result<()> {
    let bare = matches!(token, Special::Image | Special::Pad);
    ensure!(!bare, "the token {token:?} can't be given by itself; give the picture");
    Ok(())
}
