//! [`Drawing`]: what a detailed picture shows, as shapes in shares of its longer side, so that it is the same
//! composition at any size.

use super::letters::{ADVANCE, ASCENT, DESCENT};
use crate::world::lexicon::COLOURS;

/// A part of a picture. Lengths are shares of the picture's longer side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Area {
    /// From the picture's left edge.
    pub left: f64,
    /// From its top edge.
    pub top: f64,
    /// From left to right.
    pub width: f64,
    /// From top to bottom.
    pub height: f64,
}

impl Area {
    pub(super) fn new(left: f64, top: f64, width: f64, height: f64) -> Self {
        Self { left, top, width, height }
    }

    /// From the picture's left edge to its own right one.
    pub fn right(&self) -> f64 {
        self.left + self.width
    }

    /// From the picture's top edge to its own lower one.
    pub fn bottom(&self) -> f64 {
        self.top + self.height
    }

    /// Whether some of it is in `other`, too.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.left < other.right()
            && other.left < self.right()
            && self.top < other.bottom()
            && other.top < self.bottom()
    }

    /// With so much more on each side.
    pub(super) fn grown(&self, by: f64) -> Self {
        Self::new(self.left - by, self.top - by, self.width + 2.0 * by, self.height + 2.0 * by)
    }
}

/// Something that is drawn.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    Rectangle {
        area: Area,
        colour: [u8; 3],
    },
    /// Straight edges between points `(x, y)`.
    Polygon {
        points: Vec<(f64, f64)>,
        colour: [u8; 3],
    },
    /// A line through points, `width` wide.
    Line {
        points: Vec<(f64, f64)>,
        width: f64,
        colour: [u8; 3],
    },
    /// One line of letters whose capitals are `letters` tall and begin at (`left`, `top`).
    Word {
        text: String,
        left: f64,
        top: f64,
        letters: f64,
        colour: [u8; 3],
    },
    /// A square with an emoji, a place in the world's list.
    Emoji {
        emoji: usize,
        area: Area,
    },
}

/// A picture as shapes, in the order in which they are painted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Drawing {
    /// Of the longer side, as all lengths: one of both is 1.
    pub(super) width: f64,
    pub(super) height: f64,
    /// The longer side as a share of `detail_size`.
    pub(super) scale: f64,
    pub(super) ground: [u8; 3],
    pub(super) shapes: Vec<Shape>,
}

impl Drawing {
    /// Nothing yet on a ground. `width` and `height` are shares of the longer side.
    pub(super) fn new((width, height): (f64, f64), scale: f64, ground: [u8; 3]) -> Self {
        Self { width, height, scale, ground, shapes: Vec::new() }
    }

    pub(super) fn area(&self) -> Area {
        Area::new(0.0, 0.0, self.width, self.height)
    }

    pub(super) fn rectangle(&mut self, area: Area, colour: [u8; 3]) {
        self.shapes.push(Shape::Rectangle { area, colour });
    }

    pub(super) fn polygon(&mut self, points: Vec<(f64, f64)>, colour: [u8; 3]) {
        self.shapes.push(Shape::Polygon { points, colour });
    }

    pub(super) fn line(&mut self, points: Vec<(f64, f64)>, width: f64, colour: [u8; 3]) {
        self.shapes.push(Shape::Line { points, width, colour });
    }

    /// A word whose capitals begin at (`left`, `top`).
    pub(super) fn word(&mut self, text: &str, (left, top): (f64, f64), letters: f64, colour: [u8; 3]) {
        self.shapes.push(Shape::Word { text: text.to_owned(), left, top, letters, colour });
    }

    /// A word with its middle at `x`.
    pub(super) fn centred(&mut self, text: &str, (x, top): (f64, f64), letters: f64, colour: [u8; 3]) {
        self.word(text, (x - word_width(text, letters) / 2.0, top), letters, colour);
    }

    /// A word that ends at `right`.
    pub(super) fn flush(&mut self, text: &str, (right, top): (f64, f64), letters: f64, colour: [u8; 3]) {
        self.word(text, (right - word_width(text, letters), top), letters, colour);
    }

    pub(super) fn emoji(&mut self, emoji: usize, area: Area) {
        self.shapes.push(Shape::Emoji { emoji, area });
    }

    /// Its words with the area that their letters take.
    pub(super) fn words(&self) -> impl Iterator<Item = (&str, Area)> {
        self.shapes.iter().filter_map(|shape| match shape {
            Shape::Word { text, left, top, letters, .. } => {
                let (above, tall) = ((ASCENT - 1.0) * letters, (ASCENT + DESCENT) * letters);
                Some((text.as_str(), Area::new(*left, top - above, word_width(text, *letters), tall)))
            }
            _ => None,
        })
    }

    /// Its emoji with their areas.
    pub(super) fn all_emoji(&self) -> impl Iterator<Item = (usize, Area)> {
        self.shapes.iter().filter_map(|shape| match shape {
            Shape::Emoji { emoji, area } => Some((*emoji, *area)),
            _ => None,
        })
    }
}

/// How wide a word is whose capitals are `letters` tall.
pub(super) fn word_width(text: &str, letters: f64) -> f64 {
    ADVANCE * letters * text.chars().count() as f64
}

/// Black or white, whichever is read better on a colour of [`COLOURS`].
pub(super) fn ink_on(colour: usize) -> [u8; 3] {
    let [r, g, b] = COLOURS[colour].1.map(u32::from);
    if 3 * r + 6 * g + b > 1150 { [15, 15, 20] } else { [255, 255, 255] }
}
