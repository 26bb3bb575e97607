//! Descriptions of scenes for tuning: a request and the full description, as the evaluation asks for it.

use super::WorldPage;
use super::author::Author;
use super::lexicon::capital;
use super::scene::Wording;
use crate::chat::{Turn, render};
use crate::document::Segment;

/// Most often the request of the evaluation.
const REQUESTS: [(u32, &str); 3] =
    [(60, "Describe the picture."), (20, "What do you see?"), (20, "Give a caption.")];

/// One request. Demonstrations of an evaluation begin with a small letter, so half of these do.
pub(super) fn page<'a>(author: &mut Author<'a>) -> WorldPage<'a> {
    let scene = author.scene();
    let request = author.weighted(&REQUESTS);
    let description = format!("{}.", scene.description(author.world, Wording::default()));
    let answer = if author.chance(0.5) { capital(&description) } else { description };
    let mut page = author.page();
    page.picture(&scene);
    let mut asked = std::mem::take(&mut page.segments);
    asked.push(Segment::prompt(request));
    page.segments = render(&[Turn::user(asked), Turn::assistant(answer)]);
    page
}
