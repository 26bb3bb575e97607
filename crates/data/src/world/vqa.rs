//! Visual question answering: questions about one picture whose answers the words do not tell, as
//! conversations for tuning and as pages for pre-training.
//!
//! Neither a question nor what was said before it makes one answer likelier: "yes" is right in half of the
//! questions, also after the picture's objects were named, and a number or a place is asked for before
//! anything is said that limits it. [`super::conversations`] is not so: there a name that was said before is
//! "yes" more often than not, and a model learns to look at the words.

use super::WorldPage;
use super::author::Author;
use super::conversations::Exchange;
use super::questions::{Category, SceneQuestion};
use super::scene::Scene;
use crate::chat::{Turn, render};
use crate::document::Segment;

/// How answers are asked for. A short answer is what a plain question gets.
#[derive(Clone, Copy)]
enum AnswerForm {
    /// Nothing is said of it.
    Plain,
    /// The paper's way to short answers: a prompt that asks for a word (section 4.1, after LLaVA-1.5).
    Word,
    /// A prompt that asks for a sentence.
    Sentence,
}

const FORMS: [(u32, AnswerForm); 3] =
    [(80, AnswerForm::Plain), (10, AnswerForm::Word), (10, AnswerForm::Sentence)];

/// Said once, after the first question.
const WORD: [&str; 3] = [
    "Answer the question using a single word or phrase.",
    "Answer with a word or two.",
    "Give a short answer.",
];
const SENTENCE: [&str; 3] =
    ["Answer in a sentence.", "Answer with a whole sentence.", "Give your answer as a sentence."];

/// One conversation: one to five questions about a picture.
pub(super) fn page<'a>(author: &mut Author<'a>) -> WorldPage<'a> {
    let mut page = author.page();
    let (scene, questions) = author.balanced();
    let form = author.weighted(&FORMS);
    let prompt = match form {
        AnswerForm::Plain => None,
        AnswerForm::Word => Some(author.pick(&WORD)),
        AnswerForm::Sentence => Some(author.pick(&SENTENCE)),
    };
    page.picture(&scene);
    let mut opening = std::mem::take(&mut page.segments);
    let mut turns = Vec::new();
    for SceneQuestion { text, answers, sentence, .. } in questions {
        let prompt = prompt.filter(|_| turns.is_empty());
        let (asked, answer): Exchange = (
            prompt.map_or_else(|| text.clone(), |prompt| format!("{text} {prompt}")),
            if matches!(form, AnswerForm::Sentence) { sentence } else { answers[0].clone() },
        );
        opening.push(Segment::prompt(asked));
        turns.push(Turn::user(std::mem::take(&mut opening)));
        turns.push(Turn::assistant(answer));
    }
    page.segments = render(&turns);
    page
}

/// A page of pre-training: a picture and one to five questions with short answers, a line each, in the form
/// of the evaluation. All of it is learned: to expect what can be asked for is to see what is there.
pub(super) fn quiz<'a>(author: &mut Author<'a>) -> WorldPage<'a> {
    let mut page = author.page();
    let (scene, questions) = author.balanced();
    page.picture(&scene);
    for (number, SceneQuestion { text, answers, .. }) in questions.iter().enumerate() {
        let line = if number == 0 { "" } else { "\n" };
        page.text(format!("{line}Question: {text} Short answer: {}", answers[0]));
    }
    page.end()
}

impl Author<'_> {
    /// A scene and one to five questions about it, no two the same.
    fn balanced(&mut self) -> (Scene, Vec<SceneQuestion>) {
        // Names and places tell the number and one another, so one of these comes first or not at all.
        let first = self.weighted(&[(18, Some(Category::Count)), (34, Some(Category::Where)), (48, None)]);
        let scene = match first {
            Some(Category::Count) => self.scene_for(Category::Count),
            _ => {
                let number = self.weighted(&[(30, 1), (30, 2), (20, 3), (20, 4)]);
                self.scene_of(number)
            }
        };
        let number = self.weighted(&[(30, 1), (20, 2), (20, 3), (15, 4), (15, 5)]);
        let mut wanted: Vec<Category> = first.into_iter().collect();
        while wanted.len() < number {
            let category =
                self.weighted(&[(45, Category::What), (45, Category::YesNo), (10, Category::Colour)]);
            if category != Category::Colour || !wanted.contains(&category) {
                wanted.push(category);
            }
        }
        let mut named = Vec::new();
        let mut asked: Vec<SceneQuestion> = Vec::new();
        for category in wanted {
            // Of what was named it is known whether it is there.
            let is_open =
                category != Category::YesNo || scene.objects.iter().any(|o| !named.contains(&o.emoji));
            if let Some(question) = is_open.then(|| self.ask(&scene, category, &mut named)).flatten()
                && !asked.iter().any(|other| other.text == question.text)
            {
                asked.push(question);
            }
        }
        (scene, asked)
    }
}
