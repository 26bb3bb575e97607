//! Questions about a scene with their answers, and the visual question answering items made of them.

use serde::{Deserialize, Serialize};

use super::World;
use super::author::Author;
use super::lexicon::{fill, number, with_article};
use super::scene::{Object, ObjectPlace, Scene};
use crate::question::Question;
use crate::source::interface::Split;

/// What a question asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Category {
    /// The name of an object.
    What,
    /// The background colour.
    Colour,
    /// The number of objects.
    Count,
    /// The place of an object.
    Where,
    /// Whether an object is there; half of the answers are yes.
    YesNo,
}

impl Category {
    /// Every category.
    pub const ALL: [Self; 5] = [Self::What, Self::Colour, Self::Count, Self::Where, Self::YesNo];

    /// As scores write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::What => "what",
            Self::Colour => "colour",
            Self::Count => "count",
            Self::Where => "where",
            Self::YesNo => "yes-no",
        }
    }
}

/// A question about one scene.
#[derive(Clone, Debug, PartialEq)]
pub struct SceneQuestion {
    /// What it asks for.
    pub category: Category,
    /// The question.
    pub text: String,
    /// The accepted short answers: lower case, without a full stop. The first is canonical.
    pub answers: Vec<String>,
    /// The answer as a sentence.
    pub sentence: String,
}

const WHAT: [&str; 3] = ["What is in the picture?", "What is this?", "What does the picture show?"];
const WHAT_IN: [&str; 3] =
    ["What is in the {place}?", "What can you see in the {place}?", "Which object is in the {place}?"];
const COLOUR: [&str; 3] = [
    "What colour is the background?",
    "What is the colour of the background?",
    "Which colour is the background?",
];
const COUNT: [&str; 3] =
    ["How many objects are there?", "How many objects are in the picture?", "How many objects can you see?"];
const WHERE: [&str; 3] =
    ["Where is the {name}?", "In which part of the picture is the {name}?", "Where can you see the {name}?"];
const YES_NO: [&str; 3] = ["Is there {a}?", "Does the picture show {a}?", "Can you see {a}?"];

impl Author<'_> {
    /// A question about `scene`. `named` are the emoji that the document has named already: their names are
    /// not asked for, and others are preferred; what this question names is added. `None` where no name is
    /// left to ask for.
    pub(super) fn ask(
        &mut self,
        scene: &Scene,
        category: Category,
        named: &mut Vec<usize>,
    ) -> Option<SceneQuestion> {
        let fresh: Vec<&Object> = scene.objects.iter().filter(|o| !named.contains(&o.emoji)).collect();
        if fresh.is_empty() && category == Category::What {
            return None;
        }
        let candidates = if fresh.is_empty() { scene.objects.iter().collect() } else { fresh };
        let object = self.pick(&candidates);
        let Answered { text, answers, sentence } = match category {
            Category::What => self.what(scene, object),
            Category::Colour => self.colour(scene),
            Category::Count => self.count(scene),
            Category::Where => self.place(object),
            Category::YesNo => {
                let there = self.chance(0.5);
                let emoji = if there { object.emoji } else { self.absent(scene) };
                named.push(emoji);
                self.yes_no(emoji, there)
            }
        };
        if matches!(category, Category::What | Category::Where) {
            named.push(object.emoji);
        }
        Some(SceneQuestion { category, text, answers, sentence })
    }

    /// A scene and a question about it.
    pub(super) fn pose(&mut self, category: Category) -> (Scene, SceneQuestion) {
        let scene = self.scene_for(category);
        let question = self.ask(&scene, category, &mut Vec::new());
        (scene, question.expect("nothing is named yet, so there is a name to ask for"))
    }

    /// A scene to ask for `category` about: as many objects as usual, but any number where the number is
    /// asked for.
    pub(super) fn scene_for(&mut self, category: Category) -> Scene {
        match category {
            Category::Count => {
                let number = self.pick(&[1, 2, 3, 4]);
                self.scene_of(number)
            }
            _ => self.scene(),
        }
    }

    fn what(&mut self, scene: &Scene, object: &Object) -> Answered {
        let name = self.name(object.emoji);
        let text = if scene.objects.len() == 1 && self.chance(0.7) {
            self.pick(&WHAT).to_owned()
        } else {
            fill(self.pick(&WHAT_IN), &[("{place}", object.place.name())])
        };
        let article = with_article(name);
        Answered {
            text,
            answers: vec![name.to_owned(), article.clone()],
            sentence: format!("It is {article}."),
        }
    }

    fn colour(&mut self, scene: &Scene) -> Answered {
        let colour = scene.colour_name();
        let text = self.pick(&COLOUR).to_owned();
        Answered { text, answers: vec![colour.to_owned()], sentence: format!("It is {colour}.") }
    }

    fn count(&mut self, scene: &Scene) -> Answered {
        let (count, word) = (scene.objects.len(), number(scene.objects.len()));
        let verb = if count == 1 { "is" } else { "are" };
        let answers = vec![word.to_owned(), count.to_string()];
        Answered { text: self.pick(&COUNT).to_owned(), answers, sentence: format!("There {verb} {word}.") }
    }

    fn place(&mut self, object: &Object) -> Answered {
        let place = object.place.name();
        let text = fill(self.pick(&WHERE), &[("{name}", self.name(object.emoji))]);
        let mut answers = vec![place.to_owned(), format!("in the {place}")];
        if object.place == ObjectPlace::Centre {
            answers.extend(["center", "in the center", "middle", "in the middle"].map(str::to_owned));
        }
        Answered { text, answers, sentence: format!("It is in the {place}.") }
    }

    fn yes_no(&mut self, emoji: usize, there: bool) -> Answered {
        let name = self.name(emoji);
        let article = with_article(name);
        let text = fill(self.pick(&YES_NO), &[("{a}", &article)]);
        let (answer, sentence) = if there {
            ("yes", format!("Yes, there is {article}."))
        } else {
            ("no", format!("No, there is no {name}."))
        };
        Answered { text, answers: vec![answer.to_owned()], sentence }
    }
}

/// A question with its answers, before its category is known.
struct Answered {
    text: String,
    /// Accepted short answers.
    answers: Vec<String>,
    /// The answer as a sentence.
    sentence: String,
}

impl World {
    /// A visual question answering item. Numbers of objects are equally frequent where they are asked for.
    pub fn question(&self, split: Split, category: Category, index: u64) -> Question {
        let (scene, question) = self.posed(split, category, index);
        Question {
            id: format!("vqa-{}/{}/{index}", category.name(), split.name()),
            category: category.name().to_owned(),
            pictures: vec![self.picture(&scene).into()],
            text: question.text,
            answers: question.answers,
            ..Question::default()
        }
    }

    /// The scene and the question of [`World::question`].
    pub fn posed(&self, split: Split, category: Category, index: u64) -> (Scene, SceneQuestion) {
        let rng = self.rng(&format!("vqa-{}", category.name()), split, index);
        let mut author = Author { world: self, split, rng };
        author.pose(category)
    }
}
