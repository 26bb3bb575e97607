//! Paints a [`Drawing`]: letters and shapes as paths, emoji from their SVG, all at the picture's own size.

use std::collections::BTreeMap;

use epaint_default_fonts::HACK_REGULAR;
use resvg::tiny_skia::{Color, FillRule, Paint, PathBuilder, Pixmap, PixmapPaint, Rect, Stroke, Transform};
use resvg::usvg::Tree;
use ttf_parser::{Face, OutlineBuilder};

use super::drawing::{Area, Drawing, Shape};
use super::letters::CAPITAL;
use crate::document::Picture;

/// Side of a Twemoji drawing in its own units.
const SVG_SIDE: f32 = 36.0;

/// A picture being painted.
struct Painter<'a> {
    pixels: Pixmap,
    /// Pixels of a length of 1.
    scale: f64,
    face: Face<'a>,
    trees: &'a [Tree],
    /// By emoji and side in pixels, since most pictures show one many times.
    drawn: BTreeMap<(usize, u32), Pixmap>,
}

/// Draws at `size`, of which the drawing's longer side takes its share. `trees` are the world's emoji.
pub(super) fn paint(drawing: &Drawing, trees: &[Tree], size: u32) -> Picture {
    let scale = (drawing.scale * f64::from(size)).round().max(1.0);
    let side = |length: f64| ((length * scale).round() as u32).max(1);
    let (width, height) = (side(drawing.width), side(drawing.height));
    let mut pixels = Pixmap::new(width, height).expect("a picture has pixels, and fewer than 2^31 bytes");
    pixels.fill(opaque(drawing.ground));
    let face = Face::parse(HACK_REGULAR, 0).expect("the built-in font is whole");
    let mut painter = Painter { pixels, scale, face, trees, drawn: BTreeMap::new() };
    for shape in &drawing.shapes {
        painter.shape(shape);
    }
    let rgb = painter.pixels.data().as_chunks::<4>().0.iter().flat_map(|&[r, g, b, _]| [r, g, b]).collect();
    Picture { width, height, rgb }
}

fn opaque([r, g, b]: [u8; 3]) -> Color {
    Color::from_rgba8(r, g, b, 255)
}

fn filled(colour: [u8; 3]) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color(opaque(colour));
    paint.anti_alias = true;
    paint
}

impl Painter<'_> {
    fn shape(&mut self, shape: &Shape) {
        match shape {
            Shape::Rectangle { area, colour } => self.rectangle(area, *colour),
            Shape::Polygon { points, colour } => {
                if let Some(path) = self.path(points, true) {
                    let (paint, rule) = (filled(*colour), FillRule::Winding);
                    self.pixels.fill_path(&path, &paint, rule, Transform::identity(), None);
                }
            }
            Shape::Line { points, width, colour } => {
                if let Some(path) = self.path(points, false) {
                    let stroke = Stroke { width: self.length(*width).max(1.0), ..Stroke::default() };
                    self.pixels.stroke_path(&path, &filled(*colour), &stroke, Transform::identity(), None);
                }
            }
            Shape::Word { text, left, top, letters, colour } => {
                self.word(text, (*left, top + letters), *letters, *colour);
            }
            Shape::Emoji { emoji, area } => self.emoji(*emoji, area),
        }
    }

    fn length(&self, length: f64) -> f32 {
        (length * self.scale) as f32
    }

    fn rectangle(&mut self, area: &Area, colour: [u8; 3]) {
        let [left, top, width, height] =
            [area.left, area.top, area.width, area.height].map(|length| self.length(length));
        if let Some(rect) = Rect::from_xywh(left, top, width, height) {
            self.pixels.fill_rect(rect, &filled(colour), Transform::identity(), None);
        }
    }

    fn path(&self, points: &[(f64, f64)], closed: bool) -> Option<resvg::tiny_skia::Path> {
        let mut path = PathBuilder::new();
        for (at, &(x, y)) in points.iter().enumerate() {
            let (x, y) = (self.length(x), self.length(y));
            if at == 0 { path.move_to(x, y) } else { path.line_to(x, y) }
        }
        if closed {
            path.close();
        }
        path.finish()
    }

    /// Letters that stand on the line through `y` and begin at `x`.
    fn word(&mut self, text: &str, (x, y): (f64, f64), letters: f64, colour: [u8; 3]) {
        let unit = self.length(letters) / CAPITAL as f32;
        let mut outline = Outline { path: PathBuilder::new(), x: self.length(x), y: self.length(y), unit };
        for letter in text.chars() {
            if let Some(glyph) = self.face.glyph_index(letter) {
                // A space has no outline.
                let _ = self.face.outline_glyph(glyph, &mut outline);
                outline.x += f32::from(self.face.glyph_hor_advance(glyph).unwrap_or_default()) * unit;
            }
        }
        if let Some(path) = outline.path.finish() {
            let (paint, rule) = (filled(colour), FillRule::Winding);
            self.pixels.fill_path(&path, &paint, rule, Transform::identity(), None);
        }
    }

    /// On whole pixels, so that one that comes again is copied.
    fn emoji(&mut self, emoji: usize, area: &Area) {
        let side = self.length(area.width).round().max(1.0) as u32;
        let (left, top) = (self.length(area.left).round() as i32, self.length(area.top).round() as i32);
        let tree = &self.trees[emoji];
        let drawn = self.drawn.entry((emoji, side)).or_insert_with(|| {
            let mut pixels = Pixmap::new(side, side).expect("a side of one pixel or more");
            let scale = side as f32 / SVG_SIDE;
            resvg::render(tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
            pixels
        });
        let paint = PixmapPaint::default();
        self.pixels.draw_pixmap(left, top, drawn.as_ref(), &paint, Transform::identity(), None);
    }
}

/// Collects a word's outlines in pixels.
struct Outline {
    path: PathBuilder,
    /// Where the letter begins.
    x: f32,
    /// The line on which it stands.
    y: f32,
    /// Pixels of the font's unit.
    unit: f32,
}

impl Outline {
    fn at(&self, x: f32, y: f32) -> (f32, f32) {
        (self.x + x * self.unit, self.y - y * self.unit)
    }
}

impl OutlineBuilder for Outline {
    fn move_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.path.move_to(x, y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.path.line_to(x, y);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let ((x1, y1), (x, y)) = (self.at(x1, y1), self.at(x, y));
        self.path.quad_to(x1, y1, x, y);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let ((x1, y1), (x2, y2), (x, y)) = (self.at(x1, y1), self.at(x2, y2), self.at(x, y));
        self.path.cubic_to(x1, y1, x2, y2, x, y);
    }

    fn close(&mut self) {
        self.path.close();
    }
}
