//! Captions: short noisy ones of one emoji, and full descriptions of scenes.

use super::author::Author;
use super::lexicon::{capital, fill, with_article};
use super::scene::{Scene, Wording};
use super::{World, WorldPage};
use crate::question::Question;
use crate::source::interface::Split;

/// What people write beside a picture, with weights. Many begin as the evaluation's prompt does: "A photo
/// of".
const ALT_TEXTS: [(u32, &str); 11] = [
    (30, "A photo of {a}."),
    (10, "A photo of a {size} {name}."),
    (25, "A photo of {a} on {ground}."),
    (8, "{name}"),
    (5, "{Name}"),
    (5, "{Name}."),
    (5, "a {size} {name}"),
    (3, "{a} on {ground}"),
    (3, "Picture of {a}"),
    (3, "{name}, {colour}"),
    (3, "My {name}."),
];

/// One emoji and its alt text.
pub(super) fn alt_text<'a>(author: &mut Author<'a>) -> WorldPage<'a> {
    let scene = author.scene_of(1);
    let template = author.weighted(&ALT_TEXTS);
    let object = &scene.objects[0];
    let name = author.name(object.emoji);
    let text = fill(
        template,
        &[
            ("{a}", &with_article(name)),
            ("{size}", object.size.name()),
            ("{name}", name),
            ("{Name}", &capital(name)),
            ("{ground}", &with_article(&format!("{} background", scene.colour_name()))),
            ("{colour}", scene.colour_name()),
        ],
    );
    let mut page = author.page();
    page.picture(&scene);
    page.text(text);
    page.end()
}

/// A scene and its full description, half of them in the canonical wording.
pub(super) fn description<'a>(author: &mut Author<'a>) -> WorldPage<'a> {
    let scene = author.scene();
    let wording = if author.chance(0.5) { Wording::default() } else { author.wording(&scene) };
    let opening = author.weighted(&[(70, "A photo of "), (10, "This is "), (10, "Here is "), (10, "")]);
    let text = capital(&format!("{opening}{}.", scene.description(author.world, wording)));
    let mut page = author.page();
    page.picture(&scene);
    page.text(text);
    page.end()
}

impl Author<'_> {
    fn wording(&mut self, scene: &Scene) -> Wording {
        Wording {
            sizeless: self.chance(0.3),
            placeless: false,
            background_first: self.chance(0.5),
            first: self.pick(&[0, 1, 2, 3]) % scene.objects.len(),
            backwards: self.chance(0.5),
        }
    }
}

impl World {
    /// A captioning item: one to four objects; the answers are three to five descriptions that continue "A
    /// photo of", the canonical wording first.
    pub fn caption_question(&self, split: Split, index: u64) -> Question {
        let mut author = Author { world: self, split, rng: self.rng("caption", split, index) };
        let scene = author.scene();
        let canonical = Wording::default();
        let mut wordings = vec![
            canonical,
            Wording { background_first: true, ..canonical },
            Wording { sizeless: true, ..canonical },
        ];
        if scene.objects.len() > 1 {
            wordings.push(Wording { backwards: true, ..canonical });
            wordings.push(Wording { backwards: true, background_first: true, ..canonical });
        }
        Question {
            id: format!("caption/{}/{index}", split.name()),
            category: "caption".to_owned(),
            pictures: vec![self.picture(&scene).into()],
            text: String::new(),
            answers: wordings.into_iter().map(|w| format!("{}.", scene.description(self, w))).collect(),
            ..Question::default()
        }
    }

    /// The scene of [`World::caption_question`].
    pub fn caption_scene(&self, split: Split, index: u64) -> Scene {
        Author { world: self, split, rng: self.rng("caption", split, index) }.scene()
    }
}
