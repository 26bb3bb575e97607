//! [`Canvas`]: a picture being drawn from sprites, scaled and blended over one another.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use crate::document::Picture;

/// A picture with transparency.
pub(super) struct Sprite {
    pub(super) width: u32,
    pub(super) height: u32,
    /// `[height, width, 4]` bytes, colours multiplied by alpha, so that it can be scaled and blended as it
    /// is.
    pub(super) rgba: Vec<u8>,
}

/// A part of a picture, in pixels.
#[derive(Clone, Copy)]
pub(super) struct Rect {
    pub(super) left: u32,
    pub(super) top: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

/// How a sprite is pasted that is not straight.
pub(super) struct Turned {
    /// Pixels from the left edge to its middle.
    pub(super) x: f64,
    /// Pixels from the top edge to its middle.
    pub(super) y: f64,
    /// Its side in pixels.
    pub(super) side: u32,
    /// Clockwise, in radians.
    pub(super) angle: f64,
    /// Factors on its colours.
    pub(super) light: [f64; 3],
    /// How much of it shows, of 0..=1.
    pub(super) cover: f64,
}

/// A square picture being drawn.
pub(super) struct Canvas {
    side: u32,
    /// `[side, side, 3]`.
    rgb: Vec<u8>,
    resizer: Resizer,
}

impl Canvas {
    /// `side` by `side` pixels of one colour.
    pub(super) fn new(side: u32, colour: [u8; 3]) -> Self {
        Self { side, rgb: colour.repeat((side * side) as usize), resizer: Resizer::new() }
    }

    /// Paints an area in one colour.
    pub(super) fn fill(&mut self, area: Rect, colour: [u8; 3]) {
        for row in 0..area.height {
            self.row(area, row).as_chunks_mut().0.fill(colour);
        }
    }

    /// Scales a sprite to the area and blends it over what is there.
    pub(super) fn paste(&mut self, sprite: &Sprite, area: Rect) {
        let scaled = scale(&mut self.resizer, sprite, area);
        for (row, pixels) in (0..).zip(scaled.chunks_exact(area.width as usize * 4)) {
            let target = self.row(area, row);
            for (below, above) in target.chunks_exact_mut(3).zip(pixels.chunks_exact(4)) {
                let through = 255 - u16::from(above[3]);
                for (below, &above) in below.iter_mut().zip(&above[..3]) {
                    *below = above.saturating_add(((u16::from(*below) * through + 127) / 255) as u8);
                }
            }
        }
    }

    /// Scales a sprite, turns it about its middle and blends it over what is there; what leaves the picture
    /// is cut.
    pub(super) fn paste_turned(&mut self, sprite: &Sprite, turned: &Turned) {
        let side = turned.side;
        let scaled = scale(&mut self.resizer, sprite, Rect { left: 0, top: 0, width: side, height: side });
        let texel = |x: i64, y: i64, c: usize| {
            let inside = (0..i64::from(side)).contains(&x) && (0..i64::from(side)).contains(&y);
            if inside { f64::from(scaled[((y * i64::from(side) + x) * 4) as usize + c]) } else { 0.0 }
        };
        let (sin, cos) = turned.angle.sin_cos();
        let middle = f64::from(side) / 2.0;
        // A rotated square reaches no farther than half its diagonal.
        let reach = middle * std::f64::consts::SQRT_2;
        let range = |at: f64| {
            let end = f64::from(self.side);
            ((at - reach).floor().clamp(0.0, end) as u32)..((at + reach).ceil().clamp(0.0, end) as u32)
        };
        for (py, px) in range(turned.y).flat_map(|y| range(turned.x).map(move |x| (y, x))) {
            let (dx, dy) = (f64::from(px) + 0.5 - turned.x, f64::from(py) + 0.5 - turned.y);
            let (u, v) = (dx * cos + dy * sin + middle - 0.5, dy * cos - dx * sin + middle - 0.5);
            let (x, y) = (u.floor(), v.floor());
            let (fx, fy) = (u - x, v - y);
            let (x, y) = (x as i64, y as i64);
            let at = |c| {
                let row = |y| texel(x, y, c) * (1.0 - fx) + texel(x + 1, y, c) * fx;
                (row(y) * (1.0 - fy) + row(y + 1) * fy) * turned.cover
            };
            let through = 1.0 - at(3) / 255.0;
            let start = ((py * self.side + px) * 3) as usize;
            for (c, below) in self.rgb[start..start + 3].iter_mut().enumerate() {
                *below =
                    (at(c) * turned.light[c] + f64::from(*below) * through).round().clamp(0.0, 255.0) as u8;
            }
        }
    }

    /// What was drawn.
    pub(super) fn finish(self) -> Picture {
        Picture { width: self.side, height: self.side, rgb: self.rgb }
    }

    /// The pixels of one row of an area.
    fn row(&mut self, area: Rect, row: u32) -> &mut [u8] {
        let start = ((area.top + row) * self.side + area.left) as usize * 3;
        &mut self.rgb[start..start + area.width as usize * 3]
    }
}

/// A sprite in the area's size, `[height, width, 4]`.
fn scale(resizer: &mut Resizer, sprite: &Sprite, area: Rect) -> Vec<u8> {
    let options =
        ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom)).use_alpha(false);
    let source = ImageRef::new(sprite.width, sprite.height, &sprite.rgba, PixelType::U8x4)
        .expect("a sprite has height x width x 4 bytes");
    let mut target = Image::new(area.width, area.height, PixelType::U8x4);
    resizer.resize(&source, &mut target, &options).expect("both pictures are U8x4 and not empty");
    target.into_vec()
}
