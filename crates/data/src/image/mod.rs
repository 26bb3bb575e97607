//! Pictures: decoding within limits, resizing to the encoder's square, normalising.

mod about;
mod decode;
mod jpeg;
mod preprocessor;
mod resize;

use std::sync::Arc;

use anyhow::{Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::about::{About, about};
pub(crate) use self::decode::opened;
pub use self::decode::{MAX_SIDE, decode};
pub(crate) use self::resize::needed;
use crate::document::{Image, Picture};

/// What the image encoder takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSpec {
    /// Side of the square in pixels.
    pub size: usize,
    /// How a picture of another shape becomes the square.
    #[serde(default)]
    pub mode: Fit,
    /// How levels between pixels are found.
    #[serde(default)]
    pub filter: Filter,
    /// Mean of each channel, of values in `0..=1`.
    #[serde(default = "half")]
    pub mean: [f32; 3],
    /// Standard deviation of each channel.
    #[serde(default = "half")]
    pub std: [f32; 3],
    /// What lies under transparent pixels: red, green, blue.
    #[serde(default = "white")]
    pub background: [u8; 3],
}

/// How a picture becomes a square.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fit {
    /// Both sides are resized to the model's; the aspect ratio is lost.
    #[default]
    Squash,
    /// The largest square in the middle, resized.
    CentreCrop,
    /// The whole picture, in the middle of a square of the mean colour, resized.
    Pad,
    /// As `squash`, with the rounding of Pillow 13, which differs where a filter overshoots at an edge. This
    /// is what the processors of SigLIP and ViT at Hugging Face do.
    Sides,
    /// The short side is resized to this many pixels, as `sides` resizes, and the square in the middle is cut
    /// out; black where there is no picture. This is what the processors of CLIP and DINOv2 at Hugging Face
    /// do.
    /// Unit: pixels.
    ShortestEdge(usize),
    /// The square in the middle, not resized; black where the picture is smaller.
    Middle,
}

impl Fit {
    /// What shows the same share of a picture in a square of `to` pixels as this does in one of `from`.
    pub fn at(self, from: usize, to: usize) -> Self {
        match self {
            Self::ShortestEdge(edge) => Self::ShortestEdge((edge * to).div_ceil(from)),
            same => same,
        }
    }
}

/// The resampling filters of Pillow; all but `nearest` are antialiased where a picture gets smaller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// The nearest pixel.
    Nearest,
    /// Linear interpolation (a triangle).
    Bilinear,
    /// Cubic interpolation (Keys 1981, a = -0.5; Catmull and Rom's spline).
    #[default]
    Bicubic,
    /// Lanczos' windowed sinc of three lobes.
    Lanczos,
}

fn half() -> [f32; 3] {
    [0.5; 3]
}

fn white() -> [u8; 3] {
    [255; 3]
}

impl ImageSpec {
    /// The default mode, filter, mean, deviation and background.
    pub fn new(size: usize) -> Self {
        let (mode, filter) = (Fit::default(), Filter::default());
        Self { size, mode, filter, mean: half(), std: half(), background: white() }
    }

    /// The same at another resolution.
    pub fn at(&self, size: usize) -> Self {
        Self { size, mode: self.mode.at(self.size, size), ..self.clone() }
    }

    /// Bytes of a prepared picture.
    pub fn bytes(&self) -> usize {
        self.size * self.size * 3
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// One line that names the field.
    pub fn check(&self) -> Result<()> {
        ensure!((1..=4096).contains(&self.size), "image.size = {}: give 1 to 4096 pixels", self.size);
        if let Fit::ShortestEdge(edge) = self.mode {
            ensure!((1..=4096).contains(&edge), "image.mode.shortest-edge = {edge}: give 1 to 4096 pixels");
        }
        let mean_ok = self.mean.iter().all(|m| (0.0..=1.0).contains(m));
        ensure!(mean_ok, "image.mean = {:?}: give three numbers from 0 to 1", self.mean);
        let std_ok = self.std.iter().all(|s| s.is_finite() && *s > 0.0);
        ensure!(std_ok, "image.std = {:?}: give three numbers above 0", self.std);
        Ok(())
    }
}

/// A part of a picture, in pixels of the whole, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crop {
    /// Pixels on its left.
    pub left: u32,
    /// Pixels above it.
    pub top: u32,
    /// Pixels from left to right.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
}

/// The pixels of a picture in its own size, over white.
///
/// # Errors
/// As [`decode`], with [`MAX_SIDE`].
pub fn open(image: &Image) -> Result<Arc<Picture>> {
    match image {
        Image::Pixels(picture) => Ok(Arc::clone(picture)),
        Image::File { bytes, .. } => Ok(Arc::new(decode(bytes, MAX_SIDE)?)),
    }
}

/// The picture as a square: `[size, size, 3]` bytes. One that already has the size stays as it is; a JPEG is
/// decoded no larger than the square needs.
///
/// # Errors
/// As [`open`]; a picture without pixels, or with another number of bytes than its sides say.
pub fn prepare(image: &Image, spec: &ImageSpec) -> Result<Vec<u8>> {
    opened(image, spec.background, &|sides| needed(sides, None, spec))?.square(None, spec)
}

/// The picture in its own shape, no side longer than `longest` pixels.
///
/// # Errors
/// As [`prepare`].
pub fn reduced(image: &Image, longest: u32) -> Result<Arc<Picture>> {
    let picture = open(image)?;
    let (width, height) = (picture.width, picture.height);
    let most = width.max(height);
    if most <= longest {
        return Ok(picture);
    }
    let side = |side: u32| (f64::from(side) * f64::from(longest) / f64::from(most)).round().max(1.0) as u32;
    let (width, height) = (side(width), side(height));
    Ok(Arc::new(Picture { width, height, rgb: resize::to(&picture, [width, height], Filter::Bicubic)? }))
}

/// Appends `(value / 255 - mean) / std` of each byte of a prepared picture, channels last as they are.
pub fn normalise_into(pixels: &[u8], spec: &ImageSpec, out: &mut Vec<f32>) {
    let level = |v: u8, c: usize| (f32::from(v) / 255.0 - spec.mean[c]) / spec.std[c];
    let levels = [0, 1, 2].map(|c| std::array::from_fn::<f32, 256, _>(|v| level(v as u8, c)));
    out.reserve(pixels.len());
    // A row at a time: `out` need not be cleared first.
    let mut row = vec![0.0; 3 * spec.size];
    for pixels in pixels.chunks(row.len()) {
        for (to, from) in row.chunks_exact_mut(3).zip(pixels.chunks_exact(3)) {
            for c in 0..3 {
                to[c] = levels[c][usize::from(from[c])];
            }
        }
        out.extend_from_slice(&row[..pixels.len()]);
    }
}
