//! The built-in world: descriptions of test scenes, and questions about them. Test scenes use compositions that no training
//! scene has.

use std::sync::Arc;

use anyhow::Result;
use mm1_data::question::Question;
use mm1_data::source::Split;
use mm1_data::world::{Category, World};

use crate::task::{Metric, Task};

/// Test items of each task, of a world that has no end.
const TESTS: u64 = 10_000;
/// Training items that demonstrations and baselines are drawn from.
const DEMONSTRATIONS: u64 = 100_000;

/// `scene-captions`: CIDEr of full descriptions.
pub struct SceneCaptions(pub Arc<World>);

/// `scene-vqa`: VQA accuracy over the five categories in turn, so `n` should be a multiple of 5; `scene-vqa/what` is naming.
pub struct SceneVqa(pub Arc<World>);

impl Task for SceneCaptions {
    fn name(&self) -> &str {
        "scene-captions"
    }

    fn metric(&self) -> Metric {
        Metric::Cider
    }

    fn tests(&self) -> u64 {
        TESTS
    }

    fn demonstrations(&self) -> u64 {
        DEMONSTRATIONS
    }

    fn test(&self, index: u64) -> Result<Question> {
        Ok(self.0.caption_question(Split::Test, index))
    }

    fn demonstration(&self, index: u64) -> Result<Question> {
        Ok(self.0.caption_question(Split::Train, index))
    }

    fn max_tokens(&self) -> usize {
        96
    }
}

impl SceneVqa {
    fn question(&self, split: Split, index: u64) -> Question {
        let kinds = Category::ALL.len() as u64;
        self.0.question(split, Category::ALL[(index % kinds) as usize], index / kinds)
    }
}

impl Task for SceneVqa {
    fn name(&self) -> &str {
        "scene-vqa"
    }

    fn metric(&self) -> Metric {
        Metric::VqaAccuracy
    }

    fn tests(&self) -> u64 {
        TESTS
    }

    fn demonstrations(&self) -> u64 {
        DEMONSTRATIONS
    }

    fn test(&self, index: u64) -> Result<Question> {
        Ok(self.question(Split::Test, index))
    }

    fn demonstration(&self, index: u64) -> Result<Question> {
        Ok(self.question(Split::Train, index))
    }

    fn max_tokens(&self) -> usize {
        16
    }
}
