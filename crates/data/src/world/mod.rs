//! The built-in world: all of MM1's streams from Twemoji pictures and their CLDR names, without files.
//!
//! Everything is a pure function of (configuration, seed, split, index) and has no end. The seed also draws
//! the split, so runs that are to share a test side share a seed. A text after a picture starts directly with
//! its first word, without a space; items of a document are separated by a line break.

mod author;
mod binding;
mod captioned;
mod comparisons;
mod conversations;
mod descriptions;
mod detail;
mod draw;
mod interleaved;
mod lexicon;
mod pairs;
mod prose;
mod questions;
mod reasoning;
mod renderings;
mod scene;
mod signs;
mod steps;
mod stream;
mod svg;
mod text_items;
mod vqa;
mod words;

use std::sync::{Arc, OnceLock};

use anyhow::{Result, ensure};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use resvg::usvg::Tree;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

pub use self::binding::{BOUND, Binding};
pub use self::comparisons::{ComparedScenes, Comparison};
pub use self::detail::{Area, DetailCategory, DetailKind, DetailPicture, DetailQuestion, LetterHeight};
pub use self::lexicon::{COLOURS, Class, Emoji, available};
pub use self::questions::{Category, SceneQuestion};
pub use self::renderings::{Pattern, Pose, Rendering};
pub use self::scene::{Object, ObjectPlace, ObjectSize, Scene};
pub use self::signs::{LEGIBLE, Lettering, Sign, contrast};
pub use self::steps::{CountedScenes, SecondStep};
pub use self::stream::WorldStream;
pub use self::text_items::TextItem;

use self::author::Author;
use self::pairs::{FEWEST, Pairs};
use crate::document::{Document, Picture, Segment, Special};
use crate::source::interface::{Source, Split};

/// Size of the built-in world, `[world]`: Twemoji images and the scenes, pages and conversations made of
/// them.
#[derive(Deserialize, Serialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WorldConfig {
    /// Number of different emoji.
    /// Unit: emoji.
    #[schemars(range(min = 2 * FEWEST, max = available()))]
    pub emoji: usize,
    /// Side of a square image of the world, before it is resized for the model.
    /// Unit: pixels.
    #[schemars(range(min = 16, max = 1024))]
    pub picture_size: u32,
    /// Share of the triples (emoji, background colour, place) that are held out for tests.
    /// Unit: fraction.
    #[schemars(range(min = 0.1, max = 0.9))]
    pub test_share: f64,
    /// Longer side of the largest images of `emoji-detail` and `emoji-detail-chat` and of the task
    /// `scene-detail`. The same compositions at every size.
    /// Unit: pixels.
    #[schemars(range(min = 32, max = 1344))]
    pub detail_size: u32,
}

impl Default for WorldConfig {
    fn default() -> Self {
        Self { emoji: 120, picture_size: 64, test_share: 0.2, detail_size: 672 }
    }
}

/// The world: its emoji with their pictures, and the split.
pub struct World {
    config: WorldConfig,
    /// Of the split and of all samples.
    seed: u64,
    /// As many as `config` says; [`Object::emoji`] counts in it.
    emoji: Vec<Emoji>,
    /// By place.
    pairs: [Pairs; 5],
    /// The emoji as shapes, read when the first detailed picture is drawn.
    trees: OnceLock<Vec<Tree>>,
}

impl World {
    /// Decodes the pictures (21 kB each) and draws the split.
    ///
    /// # Errors
    /// A number out of its range.
    pub fn new(config: &WorldConfig, seed: u64) -> Result<Arc<Self>> {
        let WorldConfig { emoji, picture_size, test_share, detail_size } = *config;
        let (least, most) = (2 * FEWEST, available());
        ensure!(
            (least..=most).contains(&emoji),
            "world.emoji = {emoji}: there are {most} built-in emoji, give {least} to {most}"
        );
        ensure!(
            (16..=1024).contains(&picture_size),
            "world.picture_size = {picture_size}: give 16 to 1024 pixels"
        );
        ensure!(
            (32..=1344).contains(&detail_size),
            "world.detail_size = {detail_size}: give 32 to 1344 pixels"
        );
        ensure!(
            (0.1..=0.9).contains(&test_share),
            "world.test_share = {test_share}: give 0.1 to 0.9, so that each emoji has one of the {} \
             colours on both sides in each place",
            COLOURS.len()
        );
        let emoji = lexicon::emoji(emoji)?;
        let pairs = ObjectPlace::ALL.map(|place| Pairs::new(&emoji, place, test_share, seed));
        Ok(Arc::new(Self { config: config.clone(), seed, emoji, pairs, trees: OnceLock::new() }))
    }

    /// The documents of a stream, without end.
    pub fn source(self: &Arc<Self>, stream: WorldStream) -> Arc<dyn Source> {
        Arc::new(WorldSource { world: Arc::clone(self), stream })
    }

    /// The scenes that a document of `stream` shows or, in text, tells of, in order.
    pub fn scenes(&self, stream: WorldStream, split: Split, index: u64) -> Vec<Scene> {
        let scene = |shown| if let Depiction::Scene(scene) = shown { Some(scene) } else { None };
        self.page(stream, split, index).shown.into_iter().filter_map(scene).collect()
    }

    /// The detailed pictures of a document of `stream`, in order.
    pub fn details(&self, stream: WorldStream, split: Split, index: u64) -> Vec<DetailPicture> {
        let detail = |shown| if let Depiction::Detail(picture) = shown { Some(*picture) } else { None };
        self.page(stream, split, index).shown.into_iter().filter_map(detail).collect()
    }

    /// Its emoji; [`Object::emoji`] counts in this list.
    pub fn emoji(&self) -> &[Emoji] {
        &self.emoji
    }

    /// Whether `split` may show this emoji on this colour (an index in [`COLOURS`]) in this place. True for
    /// exactly one split.
    pub fn allows(&self, split: Split, emoji: usize, colour: usize, place: ObjectPlace) -> bool {
        self.pairs(place).emoji(split, colour).binary_search(&emoji).is_ok()
    }

    fn pairs(&self, place: ObjectPlace) -> &Pairs {
        &self.pairs[place as usize]
    }

    fn page(&self, stream: WorldStream, split: Split, index: u64) -> WorldPage<'_> {
        let mut author = Author { world: self, split, rng: self.rng(stream.name(), split, index) };
        match stream {
            WorldStream::Captioned => captioned::alt_text(&mut author),
            WorldStream::Scenes => captioned::description(&mut author),
            WorldStream::Interleaved => interleaved::page(&mut author),
            WorldStream::Text => prose::page(&mut author),
            WorldStream::Chat => conversations::page(&mut author),
            WorldStream::Pairs => comparisons::page(&mut author),
            WorldStream::Binding => binding::page(&mut author),
            WorldStream::Signs => signs::page(&mut author),
            WorldStream::Renderings => renderings::page(&mut author),
            WorldStream::Stickers => renderings::sticker(&mut author),
            WorldStream::Detail => detail::page(&mut author),
            WorldStream::DetailChat => detail::conversation(&mut author),
            WorldStream::Descriptions => descriptions::page(&mut author),
            WorldStream::Quiz => vqa::quiz(&mut author),
            WorldStream::Vqa => vqa::page(&mut author),
            WorldStream::Reasoning => reasoning::page(&mut author),
        }
    }

    /// Random numbers of one sample: a generator per (seed, stream, split), a stream of it per index.
    fn rng(&self, stream: &str, split: Split, index: u64) -> ChaCha8Rng {
        // By name: a new stream changes no sample of the others.
        let key = format!("{}/{stream}/{}", self.seed, split.name());
        let mut rng = ChaCha8Rng::seed_from_u64(xxh3_64(key.as_bytes()));
        rng.set_stream(index);
        rng
    }
}

struct WorldSource {
    world: Arc<World>,
    /// Which documents it yields.
    stream: WorldStream,
}

impl Source for WorldSource {
    fn document(&self, split: Split, index: u64) -> Result<Document> {
        Ok(Document {
            id: format!("{}/{}/{index}", self.stream.name(), split.name()),
            kind: self.stream.kind(),
            segments: self.world.page(self.stream, split, index).drawn(),
        })
    }

    /// Nothing is drawn.
    fn texts(&self, split: Split, index: u64) -> Result<Vec<String>> {
        let text = |segment| match segment {
            Segment::Text { text, .. } => Some(text),
            _ => None,
        };
        Ok(self.world.page(self.stream, split, index).segments.into_iter().filter_map(text).collect())
    }

    fn len(&self, _: Split) -> Option<u64> {
        None
    }

    fn classes(&self) -> Option<Vec<String>> {
        let names = || self.world.emoji.iter().map(|emoji| emoji.name.to_owned()).collect();
        matches!(self.stream, WorldStream::Renderings | WorldStream::Stickers).then(names)
    }
}

/// What a picture shows.
enum Depiction {
    Scene(Scene),
    Sign(Sign),
    Rendering(Rendering),
    Detail(Box<DetailPicture>),
}

/// A document being written, and what it shows.
struct WorldPage<'a> {
    world: &'a World,
    /// Pictures are empty until the page is drawn, which takes most of the time.
    segments: Vec<Segment>,
    /// Of the pictures, or of a page without pictures, in order.
    shown: Vec<Depiction>,
}

impl<'a> WorldPage<'a> {
    fn new(world: &'a World) -> Self {
        Self { world, segments: Vec::new(), shown: Vec::new() }
    }

    /// Adds learned text, joined to the text before it, so that a text between two pictures is one segment.
    fn text(&mut self, more: impl AsRef<str>) {
        match self.segments.last_mut() {
            _ if more.as_ref().is_empty() => {}
            Some(Segment::Text { text, .. }) => text.push_str(more.as_ref()),
            _ => self.segments.push(Segment::text(more.as_ref())),
        }
    }

    /// Begins a new item: a line break, unless the page is empty.
    fn line(&mut self) {
        if !self.segments.is_empty() {
            self.text("\n");
        }
    }

    /// Adds a picture with text after it on a line of its own.
    fn item(&mut self, scene: &Scene, text: impl AsRef<str>) {
        self.line();
        self.picture(scene);
        self.text(text);
    }

    /// Adds text on a line of its own, with a picture in place of each `<image>`.
    fn placed(&mut self, text: &str, scenes: &[Scene]) {
        self.line();
        let mut pieces = text.split("<image>");
        self.text(pieces.next().unwrap_or_default());
        for (scene, piece) in scenes.iter().zip(pieces) {
            self.picture(scene);
            self.text(piece);
        }
    }

    /// Adds the picture of a scene.
    fn picture(&mut self, scene: &Scene) {
        self.show(Depiction::Scene(scene.clone()));
    }

    /// Adds the picture of a sign.
    fn sign(&mut self, sign: Sign) {
        self.show(Depiction::Sign(sign));
    }

    /// Adds the picture of a rendering.
    fn rendering(&mut self, rendering: Rendering) {
        self.show(Depiction::Rendering(rendering));
    }

    /// Adds a detailed picture.
    fn detail(&mut self, picture: DetailPicture) {
        self.show(Depiction::Detail(Box::new(picture)));
    }

    fn show(&mut self, shown: Depiction) {
        let empty = Picture { width: 0, height: 0, rgb: Vec::new() };
        self.segments.push(Segment::Image(Arc::new(empty).into()));
        self.shown.push(shown);
    }

    /// The segments with their pictures.
    fn drawn(self) -> Vec<Segment> {
        let Self { world, mut segments, shown } = self;
        let pictures = segments.iter_mut().filter_map(|segment| match segment {
            Segment::Image(image) => Some(image),
            _ => None,
        });
        for (image, shown) in pictures.zip(&shown) {
            *image = match shown {
                Depiction::Scene(scene) => world.picture(scene).into(),
                Depiction::Sign(sign) => world.sign_picture(sign).into(),
                Depiction::Rendering(rendering) => Arc::new(world.draw(rendering)).into(),
                Depiction::Detail(picture) => world.detail_picture(picture).into(),
            };
        }
        segments
    }

    /// Closes a document of pre-training.
    fn end(mut self) -> Self {
        self.segments.push(Segment::Token { token: Special::End, learn: true });
        self
    }
}

impl World {
    /// The picture of a scene, `[picture_size, picture_size, 3]`.
    pub fn picture(&self, scene: &Scene) -> Arc<Picture> {
        Arc::new(scene::render(scene, &self.emoji, self.config.picture_size))
    }

    /// The picture of a sign, `[picture_size, picture_size, 3]`.
    pub fn sign_picture(&self, sign: &Sign) -> Arc<Picture> {
        Arc::new(signs::render(sign, self.config.picture_size))
    }
}
