//! The built-in world: descriptions of test scenes, and questions about scenes, pairs of them, new words,
//! signs, detailed pictures and texts. Test items use compositions and words that no training item has. Items
//! about several pictures have a chain of thought.

use std::sync::Arc;

use anyhow::Result;
use mm1_data::question::Question;
use mm1_data::source::Split;
use mm1_data::world::{BOUND, Category, Comparison, DetailCategory, Lettering, SecondStep, TextItem, World};

use crate::metric::Metric;
use crate::task::Task;
use crate::template::Template;

/// Test items of each task, of a world that has no end.
const TESTS: u64 = 10_000;
/// Training items that demonstrations and baselines are drawn from.
const DEMONSTRATIONS: u64 = 100_000;
/// Two descriptions of four objects each, in tokens of a small vocabulary.
const REASONING_TOKENS: usize = 160;

/// A task about the built-in world.
pub struct SceneTask {
    world: Arc<World>,
    name: &'static str,
    metric: Metric,
    max_tokens: usize,
    item: ItemOf,
    /// Without its pictures, where that is faster.
    blind: ItemOf,
}

/// An item of a split by its number.
type ItemOf = fn(&World, Split, u64) -> Question;

impl SceneTask {
    /// `scene-captions`: CIDEr of full descriptions.
    pub fn captions(world: Arc<World>) -> Self {
        let item: ItemOf = World::caption_question;
        Self { world, name: "scene-captions", metric: Metric::Cider, max_tokens: 96, item, blind: item }
    }

    /// `scene-vqa`: VQA accuracy over the five categories in turn, so `n` should be a multiple of 5;
    /// `scene-vqa/what` is naming.
    pub fn vqa(world: Arc<World>) -> Self {
        Self::questions(world, "scene-vqa", |world, split, index| {
            let (category, index) = turn(&Category::ALL, index);
            world.question(split, category, index)
        })
    }

    /// `scene-pairs`: VQA accuracy over two pictures. In turn: which shows an object, which has more or fewer
    /// objects (chance is 50% for both), and what changed.
    pub fn pairs(world: Arc<World>) -> Self {
        Self::questions(world, "scene-pairs", |world, split, index| {
            let (kind, index) = turn(&Comparison::ALL, index);
            world.comparison_question(split, kind, index)
        })
    }

    /// `scene-binding`: how often the right one of two, three or four (in turn) new words is said, each bound
    /// to an object by one picture in the question (Tsimpoukelli et al. 2021). Saying any of them is right in
    /// 50, 33 and 25%.
    pub fn binding(world: Arc<World>) -> Self {
        Self::questions(world, "scene-binding", |world, split, index| {
            let (words, index) = turn(&BOUND, index);
            world.binding_question(split, words, index)
        })
    }

    /// `scene-steps`: VQA accuracy of answers in two steps: count here, count there, and then in turn which
    /// picture has more or fewer objects (chance is 50%), how many there are together (14%), and by how many
    /// they differ (33%).
    pub fn steps(world: Arc<World>) -> Self {
        Self::questions(world, "scene-steps", |world, split, index| {
            let (step, index) = turn(&SecondStep::ALL, index);
            world.steps_question(split, step, index)
        })
    }

    /// `scene-ocr`: how many words on signs are read, in large, medium and small letters in turn.
    pub fn ocr(world: Arc<World>) -> Self {
        Self::questions(world, "scene-ocr", |world, split, index| {
            let (lettering, index) = turn(&Lettering::ALL, index);
            world.sign_question(split, lettering, index)
        })
    }

    /// `scene-detail`: VQA accuracy over the eleven categories of questions about detailed pictures in turn,
    /// so `n` should be a multiple of 11. Scores are also by what is needed, `detail` or `whole`, and by the
    /// height of the letters that have to be read.
    pub fn detail(world: Arc<World>) -> Self {
        let drawn = Self::questions(world, "scene-detail", |world, split, index| {
            let (category, index) = turn(&DetailCategory::ALL, index);
            world.detail_question(split, category, index)
        });
        let blind = |world: &World, split, index| {
            let (category, index) = turn(&DetailCategory::ALL, index);
            world.detail_question_undrawn(split, category, index)
        };
        Self { blind, ..drawn }
    }

    /// `text-choice`: how often the most likely of four options is the one that ends a text, over the five
    /// kinds of items in turn, so `n` should be a multiple of 5. Scores are also by what it takes, `memory`
    /// or `reading`. Chance is 25%.
    pub fn text_choice(world: Arc<World>) -> Self {
        Self { metric: Metric::Choice, ..Self::questions(world, "text-choice", text_item) }
    }

    /// `text-completion`: how often greedy decoding would end the texts of [`Self::text_choice`] rightly.
    pub fn text_completion(world: Arc<World>) -> Self {
        Self { metric: Metric::Greedy, ..Self::questions(world, "text-completion", text_item) }
    }

    fn questions(world: Arc<World>, name: &'static str, item: ItemOf) -> Self {
        Self { world, name, metric: Metric::VqaAccuracy, max_tokens: 16, item, blind: item }
    }
}

fn text_item(world: &World, split: Split, index: u64) -> Question {
    let (item, index) = turn(&TextItem::ALL, index);
    world.text_question(split, item, index)
}

/// The kind of item `index` where kinds take turns, and how many items of the kind come before it.
fn turn<T: Copy>(kinds: &[T], index: u64) -> (T, u64) {
    let number = kinds.len() as u64;
    (kinds[(index % number) as usize], index / number)
}

impl Task for SceneTask {
    fn name(&self) -> &str {
        self.name
    }

    fn metric(&self) -> Metric {
        self.metric
    }

    fn tests(&self) -> u64 {
        TESTS
    }

    fn demonstrations(&self) -> u64 {
        DEMONSTRATIONS
    }

    fn test(&self, index: u64) -> Result<Question> {
        Ok((self.item)(&self.world, Split::Test, index))
    }

    fn demonstration(&self, index: u64) -> Result<Question> {
        Ok((self.item)(&self.world, Split::Train, index))
    }

    fn blind_demonstration(&self, index: u64) -> Result<Question> {
        Ok(Question { pictures: Vec::new(), ..(self.blind)(&self.world, Split::Train, index) })
    }

    fn template(&self) -> Template {
        if self.has_pictures() {
            return self.metric.template();
        }
        Template {
            ask: "{question}".to_owned(),
            answer: " {answer}".to_owned(),
            chat: "Complete the text: {question}".to_owned(),
            ..Template::questions()
        }
    }

    /// Those that judge endings are about text alone.
    fn has_pictures(&self) -> bool {
        !matches!(self.metric, Metric::Choice | Metric::Greedy)
    }

    fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    fn reasoning_tokens(&self) -> usize {
        REASONING_TOKENS
    }
}
