//! [`ImageSpec`]: the square that an image encoder takes, and how a picture becomes it.

use anyhow::{Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tiling::Tiling;

/// How an image is prepared, `[image]`; its size is `model.vision.image_size`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ImageConfig {
    /// How an image that is not square becomes one.
    pub mode: Fit,
    /// The resampling filter.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(extend("default" = ResizeFilter::default()))]
    pub filter: ResizeFilter,
    /// Mean of each channel (red, green, blue), which is subtracted.
    /// Unit: level, 0 to 1.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, by which the difference is divided.
    /// Unit: level, 0 to 1.
    pub std: [f32; 3],
    /// The colour (red, green, blue) under transparent pixels.
    /// Unit: level, 0 to 255.
    pub background: [u8; 3],
    /// Into which views an image is cut, so that the decoder reads more of it than one image of the
    /// encoder's size shows. It holds where the decoder reads images; stages that train the encoder alone or
    /// align it, and probes, see every image as one.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(extend("default" = Tiling::default()))]
    pub tiling: Tiling,
}

impl Default for ImageConfig {
    fn default() -> Self {
        let (mode, filter) = (Fit::default(), ResizeFilter::default());
        let tiling = Tiling::default();
        Self { mode, filter, mean: [0.5; 3], std: [0.5; 3], background: WHITE, tiling }
    }
}

impl ImageConfig {
    /// The square of `size` pixels a side, prepared so.
    pub fn of_size(self, size: usize) -> ImageSpec {
        ImageSpec { size, config: self }
    }
}

/// A field that has its default is not written: a plan from before there was such a field stays the same.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Red, green and blue under transparent pixels, unless something else is asked for.
pub(super) const WHITE: [u8; 3] = [255; 3];

/// What the image encoder takes: squares.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageSpec {
    /// Side of the square in pixels.
    pub size: usize,
    /// How a picture becomes the square.
    pub config: ImageConfig,
}

/// How an image becomes a square.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fit {
    /// Both sides are resized to the model's; the aspect ratio is lost.
    #[default]
    Squash,
    /// The largest square in the middle, resized.
    CentreCrop,
    /// The whole image, in the middle of a square of the mean colour, resized.
    Pad,
    /// As `squash`, with the rounding of Pillow 13, which differs where a filter overshoots at an edge. This
    /// is what the processors of SigLIP and ViT at Hugging Face do.
    Sides,
    /// The short side is resized to this many pixels, as `sides` resizes, and the square in the middle is cut
    /// out; black where there is no image. This is what the processors of CLIP and DINOv2 at Hugging Face
    /// do.
    /// Unit: pixels.
    ShortestEdge(usize),
    /// The square in the middle, not resized; black where the image is smaller.
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

/// The resampling filters of Pillow; all but `nearest` are antialiased where an image gets smaller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ResizeFilter {
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

impl ImageSpec {
    /// The default mode, filter, mean, deviation and background.
    pub fn new(size: usize) -> Self {
        ImageConfig::default().of_size(size)
    }

    /// The same at another resolution.
    pub fn at(&self, size: usize) -> Self {
        let mode = self.config.mode.at(self.size, size);
        ImageConfig { mode, ..self.config.clone() }.of_size(size)
    }

    /// The colour that is 0 once a picture is normalised: what lies beside one that is padded.
    pub(super) fn mean_colour(&self) -> [u8; 3] {
        self.config.mean.map(|mean| (mean * 255.0).round() as u8)
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
        if let Fit::ShortestEdge(edge) = self.config.mode {
            ensure!((1..=4096).contains(&edge), "image.mode.shortest-edge = {edge}: give 1 to 4096 pixels");
        }
        let mean_ok = self.config.mean.iter().all(|m| (0.0..=1.0).contains(m));
        ensure!(mean_ok, "image.mean = {:?}: give three numbers from 0 to 1", self.config.mean);
        let std_ok = self.config.std.iter().all(|s| s.is_finite() && *s > 0.0);
        ensure!(std_ok, "image.std = {:?}: give three numbers above 0", self.config.std);
        self.config.tiling.check(self.size)
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
