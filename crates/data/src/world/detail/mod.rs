//! Detailed pictures: streets, receipts, tables, maps, charts and crowds, composed in shares of their longer
//! side and drawn from outlines at any size. Their questions need small letters and things, or the whole.
//!
//! The composition is a pure function of (seed, stream, split, index) and does not depend on the size. Every
//! word that a picture shows belongs to its split ([`World::side`]), and so does what a crowd is made of.

mod category;
mod chart;
mod crowd;
mod drawing;
mod format;
mod letters;
mod map;
mod painter;
mod receipt;
mod street;
mod table;

use std::sync::Arc;

use rand::seq::SliceRandom as _;
use resvg::usvg::{Options, Tree};

pub use self::category::{DetailCategory, DetailKind};
pub use self::drawing::Area;
use self::drawing::Drawing;
pub use self::letters::LetterHeight;
use super::author::Author;
use super::{World, WorldPage};
use crate::chat::{Turn, render};
use crate::document::{Picture, Segment};
use crate::question::Question;
use crate::source::interface::Split;

/// A question about a detailed picture.
#[derive(Clone, Debug, PartialEq)]
pub struct DetailQuestion {
    /// What it asks for.
    pub category: DetailCategory,
    /// The question.
    pub text: String,
    /// The accepted short answers, the canonical first.
    pub answers: Vec<String>,
    /// How tall the letters are that have to be read; `None` where nothing is read.
    pub letters: Option<LetterHeight>,
}

impl DetailQuestion {
    /// Its answer is read.
    fn reading(category: DetailCategory, text: String, answer: String, letters: LetterHeight) -> Self {
        Self { category, text, answers: vec![answer], letters: Some(letters) }
    }

    /// Its answer is seen without reading.
    fn seen(category: DetailCategory, text: String, answers: &[&str]) -> Self {
        let answers = answers.iter().map(|&answer| answer.to_owned()).collect();
        Self { category, text, answers, letters: None }
    }

    fn yes_no(text: String, yes: bool, letters: Option<LetterHeight>) -> Self {
        let answers = vec![if yes { "yes" } else { "no" }.to_owned()];
        Self { category: DetailCategory::YesNo, text, answers, letters }
    }

    /// The kinds beside its category by which accuracy is reported: what it needs, and the class of its
    /// letters.
    pub fn further_categories(&self) -> Vec<String> {
        let letters = self.letters.map(|letters| letters.class());
        [self.category.needs()].into_iter().chain(letters).map(str::to_owned).collect()
    }
}

/// A composition with all that is asked and said of it.
#[derive(Clone, Debug, PartialEq)]
pub struct DetailPicture {
    /// What it shows.
    pub kind: DetailKind,
    drawing: Drawing,
    /// A sentence that says all of it.
    pub caption: String,
    /// Questions of every category that it has, more than one of most.
    pub questions: Vec<DetailQuestion>,
}

impl DetailPicture {
    /// Width and height; the longer is 1.
    pub fn sides(&self) -> (f64, f64) {
        (self.drawing.width, self.drawing.height)
    }

    /// What is written in it, with the area that the letters take.
    pub fn words(&self) -> impl Iterator<Item = (&str, Area)> {
        self.drawing.words()
    }

    /// Its emoji (places in [`World::emoji`]) with their areas.
    pub fn emoji(&self) -> impl Iterator<Item = (usize, Area)> {
        self.drawing.all_emoji()
    }
}

/// One of two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edge {
    Left,
    Right,
    Top,
    Bottom,
}

impl Edge {
    const ALL: [Self; 4] = [Self::Left, Self::Right, Self::Top, Self::Bottom];

    fn opposite(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
            Self::Top => Self::Bottom,
            Self::Bottom => Self::Top,
        }
    }

    fn phrase(self) -> &'static str {
        match self {
            Self::Left => "on the left",
            Self::Right => "on the right",
            Self::Top => "at the top",
            Self::Bottom => "at the bottom",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
            Self::Top => "top",
            Self::Bottom => "bottom",
        }
    }
}

impl Author<'_> {
    /// A picture of that kind with its questions.
    fn detail(&mut self, kind: DetailKind) -> DetailPicture {
        let compose = match kind {
            DetailKind::Street => street::compose,
            DetailKind::Receipt => receipt::compose,
            DetailKind::Table => table::compose,
            DetailKind::Map => map::compose,
            DetailKind::Chart => chart::compose,
            DetailKind::Crowd => crowd::compose,
        };
        let mut picture = compose(self);
        let text = self.phrased(&["What kind of picture is this?", "What sort of picture do you see?"], &[]);
        let with_article = format!("a {}", kind.name());
        picture.questions.push(DetailQuestion::seen(
            DetailCategory::Kind,
            text,
            &[kind.name(), &with_article],
        ));
        picture
    }

    /// "Is the water on the left or on the right?"
    fn side_question(&mut self, edge: Edge, templates: [&'static str; 2]) -> DetailQuestion {
        let mut both = [edge, edge.opposite()];
        both.shuffle(&mut self.rng);
        let [a, b] = both.map(Edge::phrase);
        let text = self.phrased(&templates, &[("{a}", a), ("{b}", b)]);
        DetailQuestion::seen(DetailCategory::Side, text, &[edge.name(), edge.phrase()])
    }

    /// A picture and a question of that category about it.
    fn detail_asked(&mut self, category: DetailCategory) -> (DetailPicture, DetailQuestion) {
        loop {
            let kind = self.pick(category.kinds());
            let picture = self.detail(kind);
            // Two that are equal are not compared, so that a picture may be without.
            let found = picture.questions.iter().find(|question| question.category == category).cloned();
            if let Some(question) = found {
                return (picture, question);
            }
        }
    }
}

/// A document of pre-training: a picture with its description, or with a question and its answer.
pub(super) fn page<'a>(author: &mut Author<'a>) -> WorldPage<'a> {
    let mut page = author.page();
    let picture = detail_of_any_kind(author);
    let text = if author.chance(0.6) {
        picture.caption.clone()
    } else {
        let DetailQuestion { text, answers, .. } = author.one_of(&picture.questions);
        format!("Question: {text} Short answer: {}", answers[0])
    };
    page.detail(picture);
    page.text(text);
    page.end()
}

/// A conversation: two to five questions about one picture, no two the same, with short answers.
pub(super) fn conversation<'a>(author: &mut Author<'a>) -> WorldPage<'a> {
    let mut page = author.page();
    let mut picture = detail_of_any_kind(author);
    picture.questions.shuffle(&mut author.rng);
    let number = author.pick(&[2, 3, 4, 5]);
    let mut asked: Vec<DetailQuestion> = Vec::new();
    for question in &picture.questions {
        if asked.len() < number && !asked.iter().any(|other| other.text == question.text) {
            asked.push(question.clone());
        }
    }
    page.detail(picture);
    // The picture opens the first question.
    let mut opening = std::mem::take(&mut page.segments);
    let mut turns = Vec::new();
    for DetailQuestion { text, answers, .. } in asked {
        opening.push(Segment::prompt(text));
        turns.push(Turn::user(std::mem::take(&mut opening)));
        turns.push(Turn::assistant(answers[0].clone()));
    }
    page.segments = render(&turns);
    page
}

fn detail_of_any_kind(author: &mut Author) -> DetailPicture {
    let kind = author.pick(&DetailKind::ALL);
    author.detail(kind)
}

impl World {
    /// An item about a detailed picture. Its further categories say what it needs and how tall its letters
    /// are.
    pub fn detail_question(&self, split: Split, category: DetailCategory, index: u64) -> Question {
        let (picture, question) = self.detail_asked(split, category, index);
        let pictures = vec![self.detail_picture(&picture).into()];
        Question { pictures, ..undrawn(question, split, index) }
    }

    /// The same without its picture, which takes most of the time.
    pub fn detail_question_undrawn(&self, split: Split, category: DetailCategory, index: u64) -> Question {
        undrawn(self.detail_asked(split, category, index).1, split, index)
    }

    /// The picture and the question of [`World::detail_question`].
    pub fn detail_asked(
        &self,
        split: Split,
        category: DetailCategory,
        index: u64,
    ) -> (DetailPicture, DetailQuestion) {
        let rng = self.rng(&format!("detail-{}", category.name()), split, index);
        Author { world: self, split, rng }.detail_asked(category)
    }

    /// The first picture of that kind by a number.
    pub fn detail(&self, split: Split, kind: DetailKind, index: u64) -> DetailPicture {
        let rng = self.rng(&format!("detail-of-{}", kind.name()), split, index);
        Author { world: self, split, rng }.detail(kind)
    }

    /// Draws it, `[height, width, 3]`: its longer side takes `detail_size` pixels, three quarters or half.
    pub fn detail_picture(&self, picture: &DetailPicture) -> Arc<Picture> {
        let trees = self.trees.get_or_init(|| self.emoji.iter().map(|emoji| tree(emoji.svg)).collect());
        Arc::new(painter::paint(&picture.drawing, trees, self.config.detail_size))
    }
}

fn undrawn(question: DetailQuestion, split: Split, index: u64) -> Question {
    let category = question.category.name().to_owned();
    Question {
        id: format!("detail-{category}/{}/{index}", split.name()),
        category,
        further_categories: question.further_categories(),
        text: question.text,
        answers: question.answers,
        ..Question::default()
    }
}

/// The shapes of a drawing that is built in.
fn tree(svg: &str) -> Tree {
    Tree::from_str(svg, &Options::default()).expect("Twemoji's drawings are SVG; a test reads all of them")
}
