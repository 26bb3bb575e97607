//! Pictures: decoding within limits, resizing to the encoder's square, normalising.

use std::io::Cursor;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use fast_image_resize as fir;
use image::error::ImageError;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder as _, ImageFormat, ImageReader};
use serde::{Deserialize, Serialize};

use crate::document::{Image, Picture};

/// The largest side, in pixels, that a picture may have by default. MM1's filters drop larger ones too.
pub const MAX_SIDE: u32 = 10_000;

/// Memory that one decoded picture may take.
const MAX_BYTES: u64 = 512 << 20;

/// What the image encoder takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSpec {
    /// Side of the square in pixels.
    pub size: usize,
    /// How a picture of another shape becomes the square.
    #[serde(default)]
    pub mode: Fit,
    /// Mean of each channel, of values in `0..=1`.
    #[serde(default = "half")]
    pub mean: [f32; 3],
    /// Standard deviation of each channel.
    #[serde(default = "half")]
    pub std: [f32; 3],
}

/// How a picture becomes a square. All scale with an antialiased bicubic filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fit {
    /// Everything is kept, the shape is not.
    #[default]
    Squash,
    /// The largest square in the middle.
    CentreCrop,
    /// The whole picture in the middle of a square of the mean colour.
    Pad,
}

fn half() -> [f32; 3] {
    [0.5; 3]
}

impl ImageSpec {
    /// The default mode, mean and deviation.
    pub fn new(size: usize) -> Self {
        Self { size, mode: Fit::default(), mean: half(), std: half() }
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
        let mean_ok = self.mean.iter().all(|m| (0.0..=1.0).contains(m));
        ensure!(mean_ok, "image.mean = {:?}: give three numbers from 0 to 1", self.mean);
        let std_ok = self.std.iter().all(|s| s.is_finite() && *s > 0.0);
        ensure!(std_ok, "image.std = {:?}: give three numbers above 0", self.std);
        Ok(())
    }
}

/// Decodes a JPEG, PNG or WebP picture (the first frame of an animation), upright by its EXIF orientation, with
/// transparency over white. Colour profiles are not applied.
///
/// # Errors
/// Another format, a damaged or truncated file, a side above `max_side` pixels; the limits hold before memory is
/// taken.
pub fn decode(bytes: &[u8], max_side: u32) -> Result<Picture> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    let format = reader.format();
    ensure!(
        matches!(format, Some(ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP)),
        "not a JPEG, PNG or WebP picture"
    );
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(max_side);
    limits.max_image_height = Some(max_side);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|e| explain(e, max_side))?;
    let (width, height) = decoder.dimensions();
    ensure!(
        decoder.total_bytes() <= MAX_BYTES,
        "{width}x{height} pixels take more than {} MiB",
        MAX_BYTES >> 20
    );
    // The decoder fills what a truncated JPEG lacks with grey.
    ensure!(
        format != Some(ImageFormat::Jpeg) || jpeg_ends(bytes),
        "truncated JPEG: its end marker is missing"
    );
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut decoded = DynamicImage::from_decoder(decoder).map_err(|e| explain(e, max_side))?;
    decoded.apply_orientation(orientation);
    Ok(flatten(decoded))
}

fn explain(error: ImageError, max_side: u32) -> anyhow::Error {
    match error {
        ImageError::Limits(_) => anyhow::anyhow!(
            "larger than {max_side} pixels a side, or than {} MiB when decoded",
            MAX_BYTES >> 20
        ),
        other => {
            let reason = other.to_string();
            anyhow::anyhow!("damaged picture: {}", reason.lines().next().unwrap_or_default())
        }
    }
}

/// Whether an end marker (FF D9) follows the last scan (FF DA); a preview inside the file has both before it.
fn jpeg_ends(bytes: &[u8]) -> bool {
    let last = |marker| bytes.windows(2).rposition(|w| w == [0xFF, marker]);
    last(0xD9) > last(0xDA)
}

fn flatten(decoded: DynamicImage) -> Picture {
    let (width, height) = (decoded.width(), decoded.height());
    let rgb = if decoded.color().has_alpha() {
        let over_white =
            |c: u8, a: u8| (u32::from(c) * u32::from(a) + 255 * (255 - u32::from(a)) + 127) / 255;
        let blend = |p: &[u8]| [0, 1, 2].map(|c| over_white(p[c], p[3]) as u8);
        decoded.into_rgba8().chunks_exact(4).flat_map(blend).collect()
    } else {
        decoded.into_rgb8().into_raw()
    };
    Picture { width, height, rgb }
}

/// The pixels of a picture in its own size.
///
/// # Errors
/// As [`decode`], with [`MAX_SIDE`].
pub fn open(image: &Image) -> Result<Arc<Picture>> {
    match image {
        Image::Pixels(picture) => Ok(Arc::clone(picture)),
        Image::File(bytes) => Ok(Arc::new(decode(bytes, MAX_SIDE)?)),
    }
}

/// The picture as a square: `[size, size, 3]` bytes. A picture that already has the size stays as it is.
///
/// # Errors
/// As [`open`]; a picture without pixels, or with another number of bytes than its sides say.
pub fn prepare(image: &Image, spec: &ImageSpec) -> Result<Vec<u8>> {
    let picture = &*open(image)?;
    let size = u32::try_from(spec.size).context("image.size")?;
    let (width, height) = (picture.width, picture.height);
    let bytes = u64::from(width) * u64::from(height) * 3;
    ensure!(
        bytes > 0 && bytes == picture.rgb.len() as u64,
        "a picture of {width}x{height} pixels with {} bytes",
        picture.rgb.len()
    );
    if (width, height) == (size, size) {
        return Ok(picture.rgb.clone());
    }
    let bicubic =
        fir::ResizeOptions::new().resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::CatmullRom));
    match spec.mode {
        Fit::Squash => resize(picture, [size, size], &bicubic),
        Fit::CentreCrop => resize(picture, [size, size], &bicubic.fit_into_destination(Some((0.5, 0.5)))),
        Fit::Pad => {
            let longest = u64::from(width.max(height));
            let scale =
                |side: u32| ((u64::from(side) * u64::from(size) + longest / 2) / longest).max(1) as u32;
            let inner = [scale(width), scale(height)];
            Ok(pad(&resize(picture, inner, &bicubic)?, inner.map(|s| s as usize), spec))
        }
    }
}

fn resize(picture: &Picture, [width, height]: [u32; 2], options: &fir::ResizeOptions) -> Result<Vec<u8>> {
    let from = fir::images::ImageRef::new(picture.width, picture.height, &picture.rgb, fir::PixelType::U8x3)?;
    let mut to = fir::images::Image::new(width, height, fir::PixelType::U8x3);
    fir::Resizer::new().resize(&from, &mut to, options)?;
    Ok(to.into_vec())
}

fn pad(inner: &[u8], [width, height]: [usize; 2], spec: &ImageSpec) -> Vec<u8> {
    let mean = spec.mean.map(|m| (m * 255.0).round() as u8);
    let mut square = mean.repeat(spec.size * spec.size);
    let (left, top) = ((spec.size - width) / 2, (spec.size - height) / 2);
    for (y, row) in inner.chunks_exact(width * 3).enumerate() {
        let start = ((top + y) * spec.size + left) * 3;
        square[start..start + row.len()].copy_from_slice(row);
    }
    square
}

/// Appends `(value / 255 - mean) / std` of each byte of a prepared picture, channels last as they are.
pub fn normalise_into(pixels: &[u8], spec: &ImageSpec, out: &mut Vec<f32>) {
    let level = |v: u8, c: usize| (f32::from(v) / 255.0 - spec.mean[c]) / spec.std[c];
    let levels = [0, 1, 2].map(|c| std::array::from_fn::<f32, 256, _>(|v| level(v as u8, c)));
    let start = out.len();
    out.resize(start + pixels.len(), 0.0);
    for (to, from) in out[start..].chunks_exact_mut(3).zip(pixels.chunks_exact(3)) {
        for c in 0..3 {
            to[c] = levels[c][usize::from(from[c])];
        }
    }
}
