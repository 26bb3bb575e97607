//! Questions about two pictures whose answer takes two steps: count here, count there, and then compare or
//! add.

use serde::{Deserialize, Serialize};

use super::World;
use super::author::Author;
use super::interleaved::count_objects;
use super::lexicon::{capital, number};
use super::scene::Scene;
use crate::question::Question;
use crate::source::interface::Split;

/// What is done with the two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecondStep {
    /// Which picture has more objects.
    More,
    /// How many there are in both.
    Together,
    /// How many more one has than the other.
    Difference,
}

impl SecondStep {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::More, Self::Together, Self::Difference];

    /// As scores write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::More => "more",
            Self::Together => "together",
            Self::Difference => "difference",
        }
    }
}

/// Two scenes, a question that takes two steps, and these steps.
#[derive(Clone, Debug, PartialEq)]
pub struct CountedScenes {
    /// The first picture's and the second's.
    pub scenes: [Scene; 2],
    /// The question.
    pub text: String,
    /// The accepted short answers, the canonical first.
    pub answers: Vec<String>,
    /// The numbers, and what follows from them.
    pub reasoning: String,
}

const TOGETHER: [&str; 3] = [
    "How many objects are in both pictures together?",
    "How many objects do the two pictures have together?",
    "What is the number of objects in both pictures?",
];
const DIFFERENCE: [&str; 2] = [
    "How many more objects does one picture have than the other?",
    "By how many objects do the pictures differ?",
];

impl World {
    /// An item of two steps; both pictures come before the question. Which picture has more: half of the
    /// answers are "the first". Sums of two to eight and differences of one to three are equally frequent.
    pub fn steps_question(&self, split: Split, step: SecondStep, index: u64) -> Question {
        let CountedScenes { scenes, text, answers, reasoning } = self.counted(split, step, index);
        Question {
            id: format!("steps-{}/{}/{index}", step.name(), split.name()),
            category: step.name().to_owned(),
            pictures: scenes.iter().map(|scene| self.picture(scene).into()).collect(),
            text,
            answers,
            reasoning,
            ..Question::default()
        }
    }

    /// The scenes of [`World::steps_question`].
    pub fn counted(&self, split: Split, step: SecondStep, index: u64) -> CountedScenes {
        let rng = self.rng(&format!("steps-{}", step.name()), split, index);
        Author { world: self, split, rng }.counted(step)
    }
}

impl Author<'_> {
    pub(super) fn counted(&mut self, step: SecondStep) -> CountedScenes {
        let counts = self.two_counts(step);
        let scenes = counts.map(|count| self.scene_of(count));
        let [a, b] = counts;
        let counted = numbers_of(&scenes);
        let [more, fewer] = [a.max(b), a.min(b)].map(number);
        let in_numbers = |count: usize| vec![number(count).to_owned(), count.to_string()];
        let (text, answers, second) = match step {
            SecondStep::More => {
                let (word, first) = self.pick(&[("more", a > b), ("fewer", a < b)]);
                let answer = if first { "the first" } else { "the second" };
                let answers = vec![answer.to_owned(), format!("{answer} picture")];
                (
                    format!("Which picture has {word} objects?"),
                    answers,
                    format!("{} is more than {fewer}.", capital(more)),
                )
            }
            SecondStep::Together => {
                let [first, second, sum] = [a, b, a + b].map(number);
                let second = format!("{} and {second} is {sum}.", capital(first));
                (self.pick(&TOGETHER).to_owned(), in_numbers(a + b), second)
            }
            SecondStep::Difference => {
                let left = a.abs_diff(b);
                let second = format!("{} less {fewer} is {}.", capital(more), number(left));
                (self.pick(&DIFFERENCE).to_owned(), in_numbers(left), second)
            }
        };
        CountedScenes { scenes, text, answers, reasoning: format!("{counted} {second}") }
    }

    /// Numbers of objects, one to four each, so that every answer is as frequent as another.
    fn two_counts(&mut self, step: SecondStep) -> [usize; 2] {
        let answer = match step {
            SecondStep::More => None,
            SecondStep::Together => Some(self.pick(&[2, 3, 4, 5, 6, 7, 8])),
            SecondStep::Difference => Some(self.pick(&[1, 2, 3])),
        };
        let fits = |[a, b]: [usize; 2]| match step {
            SecondStep::More => a != b,
            SecondStep::Together => answer == Some(a + b),
            SecondStep::Difference => answer == Some(a.abs_diff(b)),
        };
        let pairs = (1..=4).flat_map(|a| (1..=4).map(move |b| [a, b]));
        let pairs: Vec<[usize; 2]> = pairs.filter(|&pair| fits(pair)).collect();
        self.pick(&pairs)
    }
}

/// "The first picture has two objects. The second picture has one object."
pub(super) fn numbers_of([first, second]: &[Scene; 2]) -> String {
    format!(
        "The first picture has {}. The second picture has {}.",
        count_objects(first),
        count_objects(second)
    )
}
