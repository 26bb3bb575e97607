//! Renderings: one emoji, large or small, turned, anywhere, in another light, before a background that tells
//! nothing. Its text is its name: the class of the picture, for training and measuring image encoders.
//!
//! The backgrounds of held-out renderings have hues that training never shows.

use std::f64::consts::PI;

use rand::Rng as _;

use super::author::Author;
use super::draw::{Canvas, Rect, Turned};
use super::{World, WorldPage};
use crate::document::Picture;
use crate::source::interface::Split;

/// What is behind an emoji.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// The first colour alone.
    Plain,
    /// From the first colour to the second.
    Gradient,
    /// One beside the other.
    Stripes,
    /// One beside and under the other.
    Checks,
    /// Each pixel a little off the first colour.
    Noise,
}

impl Pattern {
    /// Every pattern.
    pub const ALL: [Self; 5] = [Self::Plain, Self::Gradient, Self::Stripes, Self::Checks, Self::Noise];
}

/// One emoji as it is drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendering {
    /// Which: a place in [`World::emoji`].
    pub emoji: usize,
    /// How it lies in the picture.
    pub pose: Pose,
    /// Factors on its red, green and blue.
    pub light: [f64; 3],
    /// What is behind it.
    pub pattern: Pattern,
    /// The colours of the pattern.
    pub colours: [[u8; 3]; 2],
    /// The direction of the pattern in radians, and the length of its period in pixels.
    pub grain: (f64, f64),
    /// Another emoji, faint, behind it.
    pub clutter: Option<(usize, Pose)>,
    /// For the pattern's noise.
    seed: u64,
}

/// Position, size and rotation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pose {
    /// Pixels from the left edge to its middle.
    pub x: f64,
    /// Pixels from the top edge to its middle.
    pub y: f64,
    /// Its side in pixels.
    pub side: u32,
    /// Clockwise, in radians.
    pub angle: f64,
}

/// The largest rotation of an emoji.
const MOST_TURNED: f64 = PI / 6.0;
/// How much of a faint emoji shows.
const FAINT: f64 = 0.45;
/// Of six equal parts of the circle of hues, those of held-out backgrounds.
const HELD_OUT: [u32; 2] = [1, 4];
const HUES: u32 = 6;

/// A rendering and its name.
pub(super) fn page<'a>(author: &mut Author<'a>) -> WorldPage<'a> {
    let rendering = author.rendering();
    named(author, rendering)
}

/// A rendering on white, with nothing behind it, and its name.
pub(super) fn sticker<'a>(author: &mut Author<'a>) -> WorldPage<'a> {
    let mut rendering = author.rendering();
    (rendering.pattern, rendering.colours, rendering.clutter) = (Pattern::Plain, [[255; 3]; 2], None);
    named(author, rendering)
}

fn named<'a>(author: &mut Author<'a>, rendering: Rendering) -> WorldPage<'a> {
    let mut page = author.page();
    let name = author.name(rendering.emoji);
    page.rendering(rendering);
    page.text(name);
    page.end()
}

impl Author<'_> {
    fn rendering(&mut self) -> Rendering {
        let emoji = self.rng.random_range(0..self.world.emoji.len());
        let clutter = self.chance(0.3).then(|| {
            let other = self.rng.random_range(1..self.world.emoji.len());
            ((emoji + other) % self.world.emoji.len(), self.stance(0.3, 0.5))
        });
        let brightness = self.rng.random_range(0.7..1.1);
        Rendering {
            emoji,
            pose: self.stance(0.35, 0.95),
            light: [0; 3].map(|_| brightness * self.rng.random_range(0.9..1.1)),
            pattern: self.pick(&Pattern::ALL),
            colours: [0; 2].map(|_| self.background()),
            grain: (self.rng.random_range(0.0..PI), self.rng.random_range(0.1..0.5) * self.side()),
            clutter,
            seed: self.rng.random(),
        }
    }

    fn side(&self) -> f64 {
        f64::from(self.world.config.picture_size)
    }

    /// Something whose side is a share of the picture's between two, of which at least nine tenths are in the
    /// picture.
    fn stance(&mut self, least: f64, most: f64) -> Pose {
        let picture = self.side();
        let side = self.rng.random_range(least..most) * picture;
        let mut middle = || self.rng.random_range(0.4 * side..=picture - 0.4 * side);
        let (x, y) = (middle(), middle());
        Pose { x, y, side: side.round() as u32, angle: self.rng.random_range(-MOST_TURNED..MOST_TURNED) }
    }

    /// A colour of a hue that this split may show.
    fn background(&mut self) -> [u8; 3] {
        let of_split: Vec<u32> =
            (0..HUES).filter(|part| HELD_OUT.contains(part) == (self.split == Split::Test)).collect();
        let hue = (f64::from(self.pick(&of_split)) + self.rng.random::<f64>()) / f64::from(HUES);
        hsv(hue, self.rng.random_range(0.15..0.8), self.rng.random_range(0.3..1.0))
    }
}

impl World {
    /// The rendering that a document of the stream shows.
    pub fn rendering(&self, split: Split, index: u64) -> Rendering {
        let rng = self.rng(super::WorldStream::Renderings.name(), split, index);
        Author { world: self, split, rng }.rendering()
    }

    /// Draws a rendering, `[picture_size, picture_size, 3]`.
    pub(super) fn draw(&self, rendering: &Rendering) -> Picture {
        let side = self.config.picture_size;
        let mut canvas = Canvas::new(side, rendering.colours[0]);
        for (y, x) in (0..side).flat_map(|y| (0..side).map(move |x| (y, x))) {
            let colour = rendering.behind(f64::from(x), f64::from(y), f64::from(side));
            canvas.fill(Rect { left: x, top: y, width: 1, height: 1 }, colour);
        }
        let turned = |pose: Pose, light, cover| Turned {
            x: pose.x,
            y: pose.y,
            side: pose.side,
            angle: pose.angle,
            light,
            cover,
        };
        if let Some((emoji, pose)) = rendering.clutter {
            canvas.paste_turned(&self.emoji[emoji].sprite, &turned(pose, [1.0; 3], FAINT));
        }
        canvas
            .paste_turned(&self.emoji[rendering.emoji].sprite, &turned(rendering.pose, rendering.light, 1.0));
        canvas.finish()
    }
}

impl Rendering {
    /// The background's colour at a pixel of a picture of `side` pixels.
    fn behind(&self, x: f64, y: f64, side: f64) -> [u8; 3] {
        let ((sin, cos), period) = (self.grain.0.sin_cos(), self.grain.1);
        let (along, across) = (x * cos + y * sin, y * cos - x * sin);
        let second = |at: f64| (at / period).floor().rem_euclid(2.0);
        let share = match self.pattern {
            Pattern::Plain => 0.0,
            Pattern::Gradient => (along / side * 0.5 + 0.5).clamp(0.0, 1.0),
            Pattern::Stripes => second(along),
            Pattern::Checks => (second(along) - second(across)).abs(),
            Pattern::Noise => {
                let at = (y as u64) << 32 | x as u64;
                let bits =
                    (self.seed ^ at.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
                (bits >> 40) as f64 / (1u64 << 24) as f64 * 0.6
            }
        };
        let [a, b] = self.colours.map(|colour| colour.map(f64::from));
        std::array::from_fn(|c| (a[c] + (b[c] - a[c]) * share).round() as u8)
    }
}

/// Hue, saturation and value of 0..=1 as sRGB (Smith 1978).
fn hsv(hue: f64, saturation: f64, value: f64) -> [u8; 3] {
    [5.0, 3.0, 1.0].map(|n| {
        let k = (n + hue * 6.0) % 6.0;
        let channel = value - value * saturation * k.min(4.0 - k).clamp(0.0, 1.0);
        (channel * 255.0).round() as u8
    })
}
