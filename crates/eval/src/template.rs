//! [`Template`]: how an item of a benchmark is written, for a model that was only pre-trained and for a tuned
//! one.

use anyhow::{Result, ensure};
use mm1_data::chat::{Role, Turn};
use mm1_data::document::Segment;
use mm1_data::question::Question;
use serde::{Deserialize, Serialize};

/// What a caption begins with, in prompts and in the built-in world.
pub const CAPTION: &str = "A photo of";

/// What a user of a tuned model asks for a caption.
pub(crate) const CAPTION_REQUEST: &str = "Describe the picture.";

/// Stands for a picture inside a question.
pub const IMAGE: &str = "<image>";

/// The parts of a prompt. In each of them `{pictures}` stands for the pictures that the question does not
/// place itself, `{question}` for the question, `{choices}` for its options on lettered lines, `{letters}`
/// for their letters, `{form}` for how to answer, `{answer}` for the answer, `{caption}` for it without `A
/// photo of`, `{reasoning}` for how it is found, `{before}` and `{after}` for the question around its blank
/// `_`, `{choice}` for the option that is judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Template {
    /// Before the first demonstration.
    pub preamble: String,
    /// What is asked. It does not end with a space: the answer brings its own, so tokens do not depend on
    /// where the prompt was cut.
    pub ask: String,
    /// What follows it in a demonstration, and what is judged in multiple choice.
    pub answer: String,
    /// The same where the way to the answer is shown.
    pub reasoned: String,
    /// After each demonstration. Where it is a line break, questions and answers are put on one line.
    pub separator: String,
    /// The user's turn, for a tuned model.
    pub chat: String,
}

impl Template {
    /// The paper's form of captioning: `{IMAGE}A photo of`.
    pub fn captions() -> Self {
        Self {
            ask: format!("{{pictures}}{CAPTION}"),
            answer: " {caption}".to_owned(),
            chat: format!("{{pictures}}{CAPTION_REQUEST}"),
            ..Self::questions()
        }
    }

    /// The paper's form of visual question answering: `{IMAGE}Question: {Q} Short answer:`.
    pub fn questions() -> Self {
        Self {
            preamble: String::new(),
            ask: "{pictures}Question: {question} Short answer:".to_owned(),
            answer: " {answer}".to_owned(),
            reasoned: " {reasoning} The answer is {answer}.".to_owned(),
            separator: "\n".to_owned(),
            chat: "{pictures}{question}".to_owned(),
        }
    }

    /// Options on lettered lines, answered with a letter; a question without options is answered with words.
    pub fn letters() -> Self {
        Self {
            ask: "{pictures}Question: {question}\n{choices}\nAnswer:".to_owned(),
            separator: "\n\n".to_owned(),
            chat: "{pictures}{question}\n{choices}\n{form}".to_owned(),
            ..Self::questions()
        }
    }

    /// Checks the names in braces.
    ///
    /// # Errors
    /// One line with the part and the unknown name.
    pub fn check(&self) -> Result<()> {
        let parts = [
            ("preamble", &self.preamble),
            ("ask", &self.ask),
            ("answer", &self.answer),
            ("reasoned", &self.reasoned),
            ("separator", &self.separator),
            ("chat", &self.chat),
        ];
        for (part, text) in parts {
            for name in pieces(text).filter_map(Result::err) {
                ensure!(
                    NAMES.contains(&name),
                    "template.{part}: unknown name {{{name}}}; known: {}",
                    NAMES.join(", ")
                );
                let tells =
                    ["answer", "caption", "reasoning"].contains(&name) && matches!(part, "ask" | "chat");
                ensure!(
                    !tells && (part, name) != ("chat", "choice"),
                    "template.{part}: {{{name}}} gives the answer away; its place is template.answer"
                );
            }
        }
        ensure!(
            !self.ask.ends_with(' '),
            "template.ask ends with a space: begin template.answer with it instead"
        );
        Ok(())
    }

    /// What is asked, judged for the option `choice` where one is given.
    ///
    /// # Errors
    /// `<image>` in the question another number of times than there are pictures; more options than letters.
    pub fn write_question(&self, question: &Question, choice: Option<&str>) -> Result<Vec<Segment>> {
        self.write(&self.ask, question, choice)
    }

    /// What follows the question: the demonstration's answer, or the option `choice`.
    pub fn write_answer(&self, question: &Question, choice: Option<&str>) -> String {
        self.text(&self.answer, question, choice)
    }

    /// A demonstration in running text.
    ///
    /// # Errors
    /// As [`Self::write_question`].
    pub fn write_demonstration(&self, question: &Question, chain_of_thought: bool) -> Result<Vec<Segment>> {
        let answer = self.text(if chain_of_thought { &self.reasoned } else { &self.answer }, question, None);
        let first = question.choices.first().filter(|_| self.ask.contains("{choice}"));
        let right = first.map(|_| typical_answer(question));
        let mut segments = self.write_question(question, right)?;
        append(&mut segments, &format!("{answer}{}", self.separator));
        Ok(segments)
    }

    /// A question as a user's turn, and the reply of a demonstration.
    ///
    /// # Errors
    /// As [`Self::write_question`].
    pub fn turns(&self, question: &Question, chain_of_thought: bool) -> Result<[Turn; 2]> {
        let segments = self.write(&self.chat, question, None)?;
        let reply = self.text(if chain_of_thought { &self.reasoned } else { "{answer}" }, question, None);
        let reply = vec![Segment::prompt(one_line(&reply))];
        Ok([Turn { role: Role::User, segments }, Turn { role: Role::Assistant, segments: reply }])
    }

    fn write(&self, part: &str, question: &Question, choice: Option<&str>) -> Result<Vec<Segment>> {
        let Question { id, pictures, .. } = question;
        let options = question.choices.len();
        ensure!(
            options <= LETTERED || !["{choices}", "{letters}"].iter().any(|name| part.contains(name)),
            "{id}: it has {options} options, and letters are there for {LETTERED}"
        );
        let lettered = if part.contains("{choices}") { choices(question) } else { String::new() };
        let placed = question.text.matches(IMAGE).count() + lettered.matches(IMAGE).count();
        ensure!(
            placed == 0 || placed == pictures.len(),
            "{id}: {IMAGE} stands {placed} times in the question, which has {} pictures",
            pictures.len()
        );
        ensure!(
            pictures.is_empty() || placed > 0 || part.contains("{pictures}"),
            "{id}: the template has no place for its pictures: write {{pictures}} into template.ask and \
             template.chat"
        );
        let mut left = pictures.iter();
        let mut segments = Vec::new();
        for piece in pieces(part) {
            match piece {
                Ok(text) => append(&mut segments, text),
                Err("pictures") if placed > 0 => {}
                Err("pictures") => segments.extend(left.by_ref().cloned().map(Segment::Image)),
                Err(name) => {
                    let value = self.value(name, question, choice);
                    for (i, text) in value.split(IMAGE).enumerate() {
                        segments.extend(left.by_ref().take(usize::from(i > 0)).cloned().map(Segment::Image));
                        append(&mut segments, text);
                    }
                }
            }
        }
        Ok(segments)
    }

    /// A part without pictures.
    fn text(&self, part: &str, question: &Question, choice: Option<&str>) -> String {
        let piece = |piece| match piece {
            Ok(text) => str::to_owned(text),
            Err(name) => self.value(name, question, choice),
        };
        pieces(part).map(piece).collect()
    }

    fn value(&self, name: &str, question: &Question, choice: Option<&str>) -> String {
        let answer = || choice.unwrap_or_else(|| typical_answer(question));
        let (before, after) = question.text.split_once('_').unwrap_or((&question.text, ""));
        // A line break would end the demonstration.
        let line = |text: &str| if self.separator == "\n" { one_line(text) } else { text.to_owned() };
        match name {
            "question" => line(&question.text),
            "choices" => choices(question),
            "letters" => (0..question.choices.len()).map(letter).collect::<Vec<_>>().join(", "),
            "form" if question.choices.is_empty() => SHORT.to_owned(),
            "form" => LETTER.to_owned(),
            "choice" => line(answer()),
            "answer" => line(answer()),
            "caption" => line(without_opening(answer())),
            "reasoning" => line(&question.reasoning),
            "before" => before.to_owned(),
            "after" => after.to_owned(),
            _ => String::new(),
        }
    }
}

impl Default for Template {
    fn default() -> Self {
        Self::questions()
    }
}

/// How to answer a question with options, and one without (LLaVA-1.5, Liu et al. 2023, table 7).
const LETTER: &str = "Answer with the option's letter from the given choices directly.";
const SHORT: &str = "Answer the question using a single word or phrase.";

const NAMES: [&str; 11] = [
    "pictures",
    "question",
    "choices",
    "letters",
    "form",
    "choice",
    "answer",
    "caption",
    "reasoning",
    "before",
    "after",
];

/// Options that have a letter: A to Z.
pub(crate) const LETTERED: usize = 26;

/// The letter of an option: A for the first, and `?` for one behind Z.
pub fn letter(option: usize) -> String {
    ('A'..='Z').nth(option).unwrap_or('?').to_string()
}

/// A caption without `A photo of` at its beginning, in any letter case.
pub(crate) fn without_opening(caption: &str) -> &str {
    match caption.get(..CAPTION.len()) {
        Some(start) if start.eq_ignore_ascii_case(CAPTION) => caption[CAPTION.len()..].trim_start(),
        _ => caption,
    }
}

fn choices(question: &Question) -> String {
    let line = |(i, choice): (usize, &String)| format!("{}. {}", letter(i), one_line(choice));
    question.choices.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

/// Text (`Ok`) and names in braces (`Err`), in order.
fn pieces(part: &str) -> impl Iterator<Item = Result<&str, &str>> {
    part.split_inclusive('}')
        .flat_map(|piece| {
            let named = piece.strip_suffix('}').and_then(|text| text.rsplit_once('{'));
            match named {
                Some((text, name)) => [Some(Ok(text)), Some(Err(name))],
                None => [Some(Ok(piece)), None],
            }
        })
        .flatten()
}

/// Adds text, to the last segment where that is text.
fn append(segments: &mut Vec<Segment>, more: &str) {
    match segments.last_mut() {
        _ if more.is_empty() => {}
        Some(Segment::Text { text, .. }) => text.push_str(more),
        _ => segments.push(Segment::prompt(more)),
    }
}

/// The most frequent answer, the first among equals.
pub fn typical_answer(question: &Question) -> &str {
    let count = |answer: &String| question.answers.iter().filter(|a| *a == answer).count();
    let best = question.answers.iter().rev().max_by_key(|a| count(a));
    best.map_or("", String::as_str)
}

/// White space as single spaces.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
