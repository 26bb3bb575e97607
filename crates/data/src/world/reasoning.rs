//! Conversations about two and more pictures, for tuning: several items of one task after one another, all
//! answered at once or all with a chain of thought. So later items follow the form of the earlier ones, as
//! they do where a prompt demonstrates a chain of thought.

use super::WorldPage;
use super::author::Author;
use super::binding::BOUND;
use super::comparisons::{ComparedScenes, Comparison};
use super::scene::Scene;
use super::steps::{CountedScenes, SecondStep};
use crate::chat::{Turn, render};
use crate::document::{Segment, Special};

/// What the items of a conversation are.
#[derive(Clone, Copy)]
enum ItemKind {
    Pairs,
    Binding,
    Steps,
}

const ITEM_KINDS: [(u32, ItemKind); 3] =
    [(35, ItemKind::Pairs), (20, ItemKind::Binding), (45, ItemKind::Steps)];

/// Asks for a chain of thought where no earlier item shows one.
const STEP_BY_STEP: [&str; 3] =
    ["Think step by step.", "Explain your answer.", "Say how you find the answer."];

/// Pictures of a conversation at most.
const MOST: usize = 10;

/// An item as it is asked: `<image>` in the text stands for the pictures.
struct AskedItem {
    scenes: Vec<Scene>,
    text: String,
    answer: String,
    reasoning: String,
}

/// One conversation.
pub(super) fn page<'a>(author: &mut Author<'a>) -> WorldPage<'a> {
    let mut page = author.page();
    let kind = author.weighted(&ITEM_KINDS);
    let number = author.pick(&[1, 2, 3, 4, 5]);
    let reasoned = author.chance(0.5);
    // Else the first answer would teach that a plain question is answered at length.
    let prompted = reasoned && (number == 1 || author.chance(0.5));
    let mut turns = Vec::new();
    for item in 0..number {
        let AskedItem { scenes, text, answer, reasoning } = author.item(kind);
        if page.shown.len() + scenes.len() > MOST {
            break;
        }
        page.placed(&text, &scenes);
        if prompted && item == 0 {
            page.text(format!(" {}", author.pick(&STEP_BY_STEP)));
        }
        let reply = if reasoned { format!("{reasoning} The answer is {answer}.") } else { answer };
        turns.extend([Turn::user(std::mem::take(&mut page.segments)), Turn::assistant(reply)]);
    }
    page.segments = render(&turns);
    if reasoned && !prompted {
        unlearn_first_answer(&mut page.segments);
    }
    page
}

/// The first answer is read, not learned.
fn unlearn_first_answer(segments: &mut [Segment]) {
    for segment in segments {
        match segment {
            Segment::Text { learn, .. } => *learn = false,
            Segment::Token { token, learn } => {
                *learn = false;
                if *token == Special::End {
                    return;
                }
            }
            Segment::Image(_) => {}
        }
    }
}

impl Author<'_> {
    fn item(&mut self, kind: ItemKind) -> AskedItem {
        match kind {
            ItemKind::Pairs => {
                let kind = self.pick(&Comparison::ALL);
                let ComparedScenes { scenes, text, answers } = self.compared(kind);
                let reasoning = kind.reasoning(self.world, &scenes);
                let text = format!("<image><image>{text}");
                AskedItem { scenes: scenes.into(), text, answer: answers[0].clone(), reasoning }
            }
            ItemKind::Binding => {
                let words = self.pick(&BOUND);
                let binding = self.binding(words);
                let (text, reasoning) = (binding.text(), binding.reasoning(self.world));
                let answer = binding.words[binding.queried].clone();
                AskedItem { scenes: binding.scenes, text, answer, reasoning }
            }
            ItemKind::Steps => {
                let step = self.pick(&SecondStep::ALL);
                let CountedScenes { scenes, text, answers, reasoning } = self.counted(step);
                let text = format!("<image><image>{text}");
                AskedItem { scenes: scenes.into(), text, answer: answers[0].clone(), reasoning }
            }
        }
    }
}
