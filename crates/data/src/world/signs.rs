//! Signs: a word on a board, in letters of several sizes: what a picture's resolution lets a model read.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};
use rand::Rng as _;
use serde::{Deserialize, Serialize};

use super::author::Author;
use super::draw::{Canvas, Rect, Sprite};
use super::lexicon::{COLOURS, fill};
use super::{World, WorldPage};
use crate::document::Picture;
use crate::question::Question;
use crate::source::interface::Split;

/// How tall letters are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lettering {
    /// A line takes 40% of the picture's side, so that five letters fill its width.
    Large,
    /// A line takes 26% of it.
    Medium,
    /// A line takes 15% of it, a letter like "x" 6%: four pixels of 64, two of 32.
    Small,
}

impl Lettering {
    /// Every size.
    pub const ALL: [Self; 3] = [Self::Large, Self::Medium, Self::Small];

    /// As scores write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Large => "large",
            Self::Medium => "medium",
            Self::Small => "small",
        }
    }

    /// Height of a line as a share of the picture's side.
    fn share(self) -> f64 {
        match self {
            Self::Large => 0.4,
            Self::Medium => 0.26,
            Self::Small => 0.15,
        }
    }
}

/// A board with one word before a background.
#[derive(Clone, Debug, PartialEq)]
pub struct Sign {
    /// Three to five small letters.
    pub word: String,
    /// How tall they are.
    pub lettering: Lettering,
    /// The background's colour.
    pub shade: [u8; 3],
    /// The board's colour.
    pub board: [u8; 3],
    /// The letters' colour; [`contrast`] with the board is at least [`LEGIBLE`].
    pub ink: [u8; 3],
    /// Pixels between the picture's left edge and the word.
    pub left: u32,
    /// Pixels between the picture's top edge and the word.
    pub top: u32,
    /// Pixels that the word is wide.
    pub width: u32,
    /// Pixels that the line is high.
    pub height: u32,
    /// Pixels of board on the left and on the right of the word.
    pub margin: u32,
}

/// The contrast that text takes to be read well (WCAG 2.2, criterion 1.4.3).
pub const LEGIBLE: f64 = 4.5;

/// What stands beside a sign, with weights.
const TEXTS: [(u32, &str); 4] = [
    (40, "Question: What does the sign say? Short answer: {word}"),
    (25, "A photo of a sign that says {word}."),
    (25, "The sign says {word}."),
    (10, "{word}"),
];

/// A document of pre-training: one sign and what it says.
pub(super) fn page<'a>(author: &mut Author<'a>) -> WorldPage<'a> {
    let mut page = author.page();
    let lettering = author.pick(&Lettering::ALL);
    let sign = author.sign(lettering);
    let text = fill(author.weighted(&TEXTS), &[("{word}", &sign.word)]);
    page.sign(sign);
    page.text(text);
    page.end()
}

impl World {
    /// An item that asks what a sign says.
    pub fn sign_question(&self, split: Split, lettering: Lettering, index: u64) -> Question {
        let sign = self.sign(split, lettering, index);
        Question {
            id: format!("ocr-{}/{}/{index}", lettering.name(), split.name()),
            category: lettering.name().to_owned(),
            pictures: vec![self.sign_picture(&sign).into()],
            text: "What does the sign say?".to_owned(),
            answers: vec![sign.word],
            ..Question::default()
        }
    }

    /// The sign of [`World::sign_question`].
    pub fn sign(&self, split: Split, lettering: Lettering, index: u64) -> Sign {
        let rng = self.rng(&format!("ocr-{}", lettering.name()), split, index);
        Author { world: self, split, rng }.sign(lettering)
    }
}

impl Author<'_> {
    fn sign(&mut self, lettering: Lettering) -> Sign {
        let word = if self.chance(0.5) { self.english_word() } else { self.new_word() };
        let side = self.world.config.picture_size;
        let share = lettering.share();
        let aspect = get_raster_width(WEIGHT, RASTER) as f64 / RASTER.val() as f64;
        let height = (f64::from(side) * share).round() as u32;
        let width = (f64::from(side) * share * aspect * word.len() as f64).round() as u32;
        let margin = height / 8;
        let colour = self.rng.random_range(0..COLOURS.len());
        let shade = self.shade(colour);
        let (board, ink) = self.legible();
        Sign {
            left: margin + self.rng.random_range(0..=side - width - 2 * margin),
            top: self.rng.random_range(0..=side - height),
            ..Sign { word, lettering, shade, board, ink, left: 0, top: 0, width, height, margin }
        }
    }

    /// Any two colours that can be told apart well.
    fn legible(&mut self) -> ([u8; 3], [u8; 3]) {
        loop {
            let (board, ink) = (self.rng.random(), self.rng.random());
            if contrast(board, ink) >= LEGIBLE {
                return (board, ink);
            }
        }
    }
}

/// The contrast of two sRGB colours, from 1 (the same) to 21 (black and white), as WCAG 2.2 defines it.
pub fn contrast(a: [u8; 3], b: [u8; 3]) -> f64 {
    let linear = |c: u8| {
        let c = f64::from(c) / 255.0;
        if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
    };
    let luminance = |[r, g, b]: [u8; 3]| 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

/// The glyphs that all sizes are scaled from.
const WEIGHT: FontWeight = FontWeight::Bold;
const RASTER: RasterHeight = RasterHeight::Size32;

/// Draws a sign in a picture of `side` by `side` pixels.
pub(super) fn render(sign: &Sign, side: u32) -> Picture {
    let &Sign { left, top, width, height, margin, .. } = sign;
    let mut canvas = Canvas::new(side, sign.shade);
    canvas.fill(Rect { left: left - margin, top, width: width + 2 * margin, height }, sign.board);
    canvas.paste(&lettered(&sign.word, sign.ink), Rect { left, top, width, height });
    canvas.finish()
}

/// A word in the glyphs' own size, on nothing.
fn lettered(word: &str, ink: [u8; 3]) -> Sprite {
    let glyphs: Vec<_> = word.chars().filter_map(|c| get_raster(c, WEIGHT, RASTER)).collect();
    let rows = 0..RASTER.val();
    let coverage =
        rows.flat_map(|y| glyphs.iter().flat_map(move |g| &g.pixels()[y * g.width()..][..g.width()]));
    let pixel = |&alpha: &u8| {
        let [r, g, b] = ink.map(|c| ((u16::from(c) * u16::from(alpha) + 127) / 255) as u8);
        [r, g, b, alpha]
    };
    let width = (glyphs.len() * get_raster_width(WEIGHT, RASTER)) as u32;
    Sprite { width, height: RASTER.val() as u32, rgba: coverage.flat_map(pixel).collect() }
}
