//! Fast binding: new words are bound to pictured objects in the prompt, then one of the objects is shown
//! again (Tsimpoukelli et al. 2021, "Multimodal few-shot learning with frozen language models", section 4.4).

use std::collections::BTreeSet;

use rand::Rng as _;

use super::author::Author;
use super::lexicon::{number, with_article};
use super::scene::Scene;
use super::{World, WorldPage};
use crate::question::Question;
use crate::source::interface::Split;

/// Words that one item binds.
pub const BOUND: [usize; 3] = [2, 3, 4];

/// New words, what they mean, and a picture to be named with one of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// Made up, all different.
    pub words: Vec<String>,
    /// One object for each word, then the picture that is asked about: no background comes twice.
    pub scenes: Vec<Scene>,
    /// Which word is asked for.
    pub queried: usize,
}

/// A document of pre-training: one to three items of as many words.
pub(super) fn page<'a>(author: &mut Author<'a>) -> WorldPage<'a> {
    let mut page = author.page();
    let words = author.pick(&BOUND);
    for _ in 0..author.pick(&[1, 2, 3]) {
        let binding = author.binding(words);
        let (text, answer) = (binding.text(), &binding.words[binding.queried]);
        page.placed(&format!("Question: {text} Short answer: {answer}"), &binding.scenes);
    }
    page.end()
}

impl World {
    /// An item that binds `words` (2 to 9) new words; its text places the pictures.
    pub fn binding_question(&self, split: Split, words: usize, index: u64) -> Question {
        let binding = self.binding(split, words, index);
        let category = format!("{}-words", number(words));
        Question {
            id: format!("binding-{category}/{}/{index}", split.name()),
            category,
            pictures: binding.scenes.iter().map(|scene| self.picture(scene).into()).collect(),
            text: binding.text(),
            answers: vec![binding.words[binding.queried].clone()],
            reasoning: binding.reasoning(self),
            ..Question::default()
        }
    }

    /// The words and the scenes of [`World::binding_question`].
    pub fn binding(&self, split: Split, words: usize, index: u64) -> Binding {
        let rng = self.rng(&format!("binding-{words}"), split, index);
        Author { world: self, split, rng }.binding(words)
    }
}

impl Binding {
    /// "<image>This is a dako. <image>This is a fipol. <image>Which is this?"
    pub(super) fn text(&self) -> String {
        let bound: String = self.words.iter().map(|word| format!("<image>This is a {word}. ")).collect();
        bound + "<image>Which is this?"
    }

    /// A chain of thought: "The last picture shows a dog face. This is the dako."
    pub(super) fn reasoning(&self, world: &World) -> String {
        let name = world.emoji[self.scenes[self.queried].objects[0].emoji].name;
        format!("The last picture shows {}. This is the {}.", with_article(name), self.words[self.queried])
    }
}

impl Author<'_> {
    pub(super) fn binding(&mut self, number: usize) -> Binding {
        let mut words: Vec<String> = Vec::new();
        while words.len() < number {
            let word = self.new_word();
            if !words.contains(&word) {
                words.push(word);
            }
        }
        let queried = self.rng.random_range(0..number);
        loop {
            let mut scenes: Vec<Scene> = (0..number).map(|_| self.scene_of(1)).collect();
            scenes.push(self.scene_with(scenes[queried].objects[0].emoji, 1));
            if fair(&scenes) {
                return Binding { words, scenes, queried };
            }
        }
    }
}

/// Whether only the object tells which word goes with the last picture: no two pictures share a background,
/// no two bound ones an object, and the last shows its object a fifth larger or smaller than all of them.
fn fair(scenes: &[Scene]) -> bool {
    let [bound @ .., query] = scenes else { return false };
    let distinct = |of: fn(&Scene) -> usize, scenes: &[Scene]| {
        scenes.iter().map(of).collect::<BTreeSet<_>>().len() == scenes.len()
    };
    let side = |scene: &Scene| scene.objects[0].side;
    distinct(|s| s.colour, scenes)
        && distinct(|s| s.objects[0].emoji, bound)
        && bound.iter().all(|s| side(s).abs_diff(side(query)) * 5 >= side(s))
}
