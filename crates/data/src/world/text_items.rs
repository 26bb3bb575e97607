//! Items about text alone, such as the text benchmarks of the paper's TextCore ask: a text without its end.
//!
//! What things are and how to count is what the text stream says and no stream with pictures does: memory.
//! The same facts stand on both sides of the split, since nothing else tells what they are. What a text says
//! of a picture is asked of compositions that no training text has: reading.

use super::World;
use super::author::Author;
use super::interleaved::PEOPLE;
use super::lexicon::{Class, number, with_article};
use super::prose::{self, FIRST, SECOND, Search};
use super::scene::{ObjectPlace, Scene};
use crate::question::Question;
use crate::source::interface::Split;

/// Options of an item, the right one among them.
const OPTIONS: usize = 4;

/// The largest number among options.
const LARGEST: usize = 8;

/// What ends a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextItem {
    /// What sort of thing an emoji is: memory.
    Class,
    /// A sum, the number after another, or one more: memory.
    Number,
    /// Where a thing is that the text tells of: reading.
    Place,
    /// Which thing is in a place that the text tells of: reading.
    Object,
    /// The last word of a story, which its first sentence names: reading.
    Story,
}

impl TextItem {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Class, Self::Number, Self::Place, Self::Object, Self::Story];

    /// As scores write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Class => "class",
            Self::Number => "number",
            Self::Place => "place",
            Self::Object => "object",
            Self::Story => "story",
        }
    }

    /// What it takes, as scores write it.
    pub fn takes(self) -> &'static str {
        match self {
            Self::Class | Self::Number => "memory",
            Self::Place | Self::Object | Self::Story => "reading",
        }
    }
}

/// A text without its end, with endings of the same kind.
struct Unfinished {
    text: String,
    right: String,
    /// Enough of them; those that come first are taken first.
    wrong: Vec<String>,
}

impl Author<'_> {
    /// Item `index` of those that are memory: one after the other in an order that is drawn, so that each
    /// comes up as often as another.
    fn remembered(&mut self, item: TextItem, index: u64) -> Unfinished {
        let turn = |items: Vec<[String; 2]>, index: u64| {
            let at = (index % items.len() as u64) as usize;
            items.into_iter().nth(at).unwrap_or_default()
        };
        let world = self.world;
        let mut order = Author { rng: world.rng("text-order", self.split, 0), world, split: self.split };
        let ([text, right], all): (_, Vec<String>) = match item {
            TextItem::Class => {
                let emoji = 0..world.emoji.len();
                let others =
                    |emoji: usize| Class::ALL.into_iter().filter(move |&c| c != world.emoji[emoji].class);
                // What a thing is not comes in five ways, and is asked as often as what it is.
                let facts = if index.is_multiple_of(2) {
                    emoji.map(|emoji| prose::class_of(world, emoji, None)).collect::<Vec<_>>()
                } else {
                    let not = |emoji| others(emoji).map(move |not| (emoji, not));
                    let class_of = |(emoji, not)| prose::class_of(world, emoji, Some(not));
                    emoji.flat_map(not).map(class_of).collect()
                };
                let all = Class::ALL.map(|class| format!("{}.", class.phrase()));
                (turn(order.shuffled(facts), index / 2), all.into())
            }
            _ => {
                let sums = FIRST.into_iter().flat_map(|a| SECOND.map(|b| prose::sum(a, b)));
                let next = FIRST.into_iter().map(prose::next);
                let more = PEOPLE.iter().flat_map(|person| SECOND.map(|n| prose::one_more(person, n)));
                let all = (1..=LARGEST).map(|n| format!("{}.", number(n))).collect();
                (turn(order.shuffled(sums.chain(next).chain(more)), index), all)
            }
        };
        let wrong = self.shuffled(all.into_iter().filter(|option| *option != right));
        Unfinished { text, right, wrong }
    }

    /// An item about what a text tells. Wrong things and places are first those that it tells of as well.
    fn read(&mut self, item: TextItem) -> Unfinished {
        let world = self.world;
        if item == TextItem::Story {
            let Search { scene, target, mut sentences, .. } = prose::search(self);
            sentences.push("There is the".to_owned());
            let name = |emoji: usize| format!("{}!", world.emoji[emoji].name);
            let wrong = self.wrong_things(&scene, target).into_iter().map(name).collect();
            return Unfinished { text: sentences.join(" "), right: name(target), wrong };
        }
        let scene = self.scene();
        let mut sentences = prose::told(self, &scene);
        let object = self.pick(&scene.objects.iter().collect::<Vec<_>>());
        let (question, right, wrong) = if item == TextItem::Place {
            let name = |place: ObjectPlace| format!("{}.", place.name());
            let told = scene.objects.iter().map(|o| o.place).filter(|&place| place != object.place);
            let told = self.shuffled(told);
            let others = ObjectPlace::ALL.into_iter();
            let others = others.filter(|place| scene.objects.iter().all(|o| o.place != *place));
            let others = self.shuffled(others);
            let wrong = told.into_iter().chain(others).map(name).collect();
            (format!("Where is the {}? It is in the", self.name(object.emoji)), name(object.place), wrong)
        } else {
            let a = |emoji: usize| format!("{}.", with_article(world.emoji[emoji].name));
            let wrong = self.wrong_things(&scene, object.emoji).into_iter().map(a).collect();
            (format!("What is in the {}? It is", object.place.name()), a(object.emoji), wrong)
        };
        sentences.push(question);
        Unfinished { text: sentences.join(" "), right, wrong }
    }

    /// Things that `emoji` is not: first the others of the scene.
    fn wrong_things(&mut self, scene: &Scene, emoji: usize) -> Vec<usize> {
        let mut things = vec![emoji];
        things.extend(self.shuffled(scene.objects.iter().map(|o| o.emoji).filter(|&e| e != emoji)));
        while things.len() < OPTIONS {
            let place = self.pick(&ObjectPlace::ALL);
            things.push(self.another(scene.colour, place, |e| things.contains(&e)));
        }
        things.split_off(1)
    }
}

impl World {
    /// An item about text alone: four options end its text, and one is right.
    pub fn text_question(&self, split: Split, item: TextItem, index: u64) -> Question {
        let stream = format!("text-{}", item.name());
        let mut author = Author { world: self, split, rng: self.rng(&stream, split, index) };
        let Unfinished { text, right, wrong } = match item {
            TextItem::Class | TextItem::Number => author.remembered(item, index),
            TextItem::Place | TextItem::Object | TextItem::Story => author.read(item),
        };
        let choices = wrong.into_iter().take(OPTIONS - 1).chain([right.clone()]);
        Question {
            id: format!("{stream}/{}/{index}", split.name()),
            category: item.name().to_owned(),
            further_categories: vec![item.takes().to_owned()],
            text,
            answers: vec![right],
            choices: author.shuffled(choices),
            ..Question::default()
        }
    }
}
