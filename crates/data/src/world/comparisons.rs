//! Questions about two pictures: which of them, and what changed from the first to the second.

use serde::{Deserialize, Serialize};

use super::author::Author;
use super::conversations::{two_scenes, which};
use super::lexicon::with_article;
use super::questions::Category;
use super::scene::{Object, ObjectPlace, Scene, Wording};
use super::steps::numbers_of;
use super::{World, WorldPage};
use crate::question::Question;
use crate::source::interface::Split;

/// What a question about two pictures asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Comparison {
    /// Which picture shows an object.
    Which,
    /// Which picture has more or fewer objects.
    More,
    /// What changed: the object that is new, went or moved, or the new background.
    Changed,
}

impl Comparison {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Which, Self::More, Self::Changed];

    /// As scores write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Which => "which",
            Self::More => "more",
            Self::Changed => "changed",
        }
    }

    /// A chain of thought: what the pictures show of that in which they are compared.
    pub(super) fn reasoning(self, world: &World, scenes: &[Scene; 2]) -> String {
        let shown = |wording: Wording| {
            let [first, second] = scenes.each_ref().map(|scene| scene.description(world, wording));
            format!("The first picture shows {first}. The second picture shows {second}.")
        };
        match self {
            Self::More => numbers_of(scenes),
            Self::Which => shown(Wording { sizeless: true, placeless: true, ..Wording::default() }),
            Self::Changed => shown(Wording { sizeless: true, ..Wording::default() }),
        }
    }
}

/// Two scenes and a question about them.
#[derive(Clone, Debug, PartialEq)]
pub struct ComparedScenes {
    /// The first picture's and the second's.
    pub scenes: [Scene; 2],
    /// The question.
    pub text: String,
    /// The accepted short answers, the canonical first.
    pub answers: Vec<String>,
}

/// The question says nothing of what to look for.
const CHANGED: [&str; 3] =
    ["What changed?", "What is different now?", "What is different in the second picture?"];

/// The single things in which two scenes can differ.
const CHANGES: [fn(&mut Author) -> Option<Change>; 4] = [replaced, moved, counted, recoloured];

/// Scenes that are tried for a change: a small test side may have no two scenes that differ in it.
const TRIES: usize = 100;

/// The scenes before and after, and what changed: the canonical answer first.
type Change = ([Scene; 2], Vec<String>);

/// A document of pre-training: one to four questions of one kind.
pub(super) fn page<'a>(author: &mut Author<'a>) -> WorldPage<'a> {
    let mut page = author.page();
    let kind = author.pick(&Comparison::ALL);
    for _ in 0..author.pick(&[1, 2, 3, 4]) {
        let ComparedScenes { scenes, text, answers } = author.compared(kind);
        page.placed(&format!("<image><image>Question: {text} Short answer: {}", answers[0]), &scenes);
    }
    page.end()
}

impl World {
    /// An item about two pictures, which come before the question.
    pub fn comparison_question(&self, split: Split, kind: Comparison, index: u64) -> Question {
        let ComparedScenes { scenes, text, answers } = self.compared(split, kind, index);
        Question {
            reasoning: kind.reasoning(self, &scenes),
            id: format!("pairs-{}/{}/{index}", kind.name(), split.name()),
            category: kind.name().to_owned(),
            pictures: scenes.iter().map(|scene| self.picture(scene).into()).collect(),
            text,
            answers,
            ..Question::default()
        }
    }

    /// The scenes of [`World::comparison_question`].
    pub fn compared(&self, split: Split, kind: Comparison, index: u64) -> ComparedScenes {
        let rng = self.rng(&format!("pairs-{}", kind.name()), split, index);
        Author { world: self, split, rng }.compared(kind)
    }
}

impl Author<'_> {
    pub(super) fn compared(&mut self, kind: Comparison) -> ComparedScenes {
        let respect = match kind {
            Comparison::Which => Category::What,
            Comparison::More => Category::Count,
            Comparison::Changed => return self.changed(),
        };
        let mut scenes = two_scenes(self);
        // The second is drawn to differ from the first, which makes it the larger one more often.
        if self.chance(0.5) {
            scenes.reverse();
        }
        let (text, answer) = which(self, respect, &scenes);
        let full = format!("{answer} picture");
        ComparedScenes { scenes, text, answers: vec![answer, full] }
    }

    fn changed(&mut self) -> ComparedScenes {
        let change = self.pick(&CHANGES);
        let found = (0..TRIES).find_map(|_| change(self));
        let (scenes, answers) = found.or_else(|| replaced(self)).expect("any object can be replaced");
        ComparedScenes { scenes, text: self.pick(&CHANGED).to_owned(), answers }
    }

    fn names(&self, emoji: usize) -> Vec<String> {
        vec![self.name(emoji).to_owned(), with_article(self.name(emoji))]
    }
}

/// Another object where one was; the answer is the new one.
fn replaced(author: &mut Author) -> Option<Change> {
    let before = author.scene();
    let (mut after, at) = (before.clone(), author.pick(&indices(&before)));
    let emoji = author.another(before.colour, before.objects[at].place, |e| before.find(e).is_some());
    after.objects[at].emoji = emoji;
    Some(([before, after], author.names(emoji)))
}

/// An object in a quarter that was free, as large as before.
fn moved(author: &mut Author) -> Option<Change> {
    let before = author.scene();
    let at = author.pick(&indices(&before));
    let Object { emoji, size, .. } = before.objects[at];
    let free = |&p: &ObjectPlace| {
        before.objects.iter().all(|o| o.place != p && o.place != ObjectPlace::Centre)
            && author.world.allows(author.split, emoji, before.colour, p)
    };
    let free: Vec<ObjectPlace> = ObjectPlace::QUARTERS.into_iter().filter(free).collect();
    if free.is_empty() {
        return None;
    }
    let to = author.pick(&free);
    let mut after = before.clone();
    after.objects[at] = author.object_of(emoji, to, size);
    after.objects.sort_by_key(|o| o.place);
    Some(([before, after], author.names(emoji)))
}

/// An object more or less.
fn counted(author: &mut Author) -> Option<Change> {
    let number = author.pick(&[2, 3, 4]);
    let more = author.scene_of(number);
    let mut fewer = more.clone();
    let gone = fewer.objects.remove(author.pick(&indices(&more)));
    let scenes = if author.chance(0.5) { [more, fewer] } else { [fewer, more] };
    Some((scenes, author.names(gone.emoji)))
}

/// Another background; the answer is its colour.
fn recoloured(author: &mut Author) -> Option<Change> {
    let before = author.scene();
    let object = &before.objects[0];
    let colours = author.world.pairs(object.place).colours(author.split, object.emoji);
    let colour = author.pick(colours);
    let after = Scene { colour, shade: author.shade(colour), objects: before.objects.clone() };
    if colour == before.colour || !after.belongs(author.world, author.split) {
        return None;
    }
    let name = after.colour_name();
    Some(([before, after], vec![format!("{name} background"), name.to_owned()]))
}

fn indices(scene: &Scene) -> Vec<usize> {
    (0..scene.objects.len()).collect()
}
