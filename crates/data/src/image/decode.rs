//! Decoding: every format, within limits that hold before memory is taken.

use std::io::Cursor;

use anyhow::{Context as _, Result, bail, ensure};
use image::error::ImageError;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder as _, ImageFormat, ImageReader, RgbImage};

use super::resize::Area;
use super::{ImageSpec, jpeg, resize, white};
use crate::document::Picture;

/// The largest side, in pixels, that a picture may have by default. MM1's filters drop larger ones too.
pub const MAX_SIDE: u32 = 10_000;

/// Memory that one decoded picture may take.
pub(super) const MAX_BYTES: u64 = 512 << 20;

/// What a picture is decoded to.
pub(super) struct Target<'a> {
    pub(super) max_side: u32,
    /// Under transparent pixels.
    background: [u8; 3],
    /// The smallest sides that will do, for given sides.
    pub(super) enough: &'a dyn Fn(Area) -> [u32; 2],
}

/// A picture as it is stored, and how it is to be turned.
pub(super) struct Decoded {
    pub(super) picture: Picture,
    pub(super) area: Area,
    pub(super) orientation: Orientation,
}

/// Decodes a JPEG, PNG, WebP or GIF picture (the first frame of an animation), upright by its EXIF orientation, with
/// transparency over white. Colour profiles are not applied.
///
/// # Errors
/// Another format, a damaged or truncated file, a side above `max_side` pixels; the limits hold before memory is
/// taken.
pub fn decode(bytes: &[u8], max_side: u32) -> Result<Picture> {
    let enough = |sides: Area| sides.map(|side| side as u32);
    let Decoded { picture, orientation, .. } =
        read(bytes, &Target { max_side, background: white(), enough: &enough })?;
    turned(picture, orientation)
}

/// Decodes a picture, a JPEG no larger than `spec` needs.
///
/// # Errors
/// As [`decode`], with [`MAX_SIDE`].
pub(super) fn reduced(bytes: &[u8], spec: &ImageSpec) -> Result<Decoded> {
    let enough = |sides| resize::scaled(sides, spec);
    read(bytes, &Target { max_side: MAX_SIDE, background: spec.background, enough: &enough })
}

impl Decoded {
    /// The picture as `[size, size, 3]` bytes, upright.
    pub(super) fn square(&self, spec: &ImageSpec) -> Result<Vec<u8>> {
        let rgb = resize::square(&self.picture, self.area, spec)?;
        let size = spec.size as u32;
        Ok(turned(Picture { width: size, height: size, rgb }, self.orientation)?.rgb)
    }
}

fn turned(picture: Picture, orientation: Orientation) -> Result<Picture> {
    if orientation == Orientation::NoTransforms {
        return Ok(picture);
    }
    let Picture { width, height, rgb } = picture;
    let pixels = RgbImage::from_raw(width, height, rgb).context("a picture with too few bytes")?;
    let mut pixels = DynamicImage::from(pixels);
    pixels.apply_orientation(orientation);
    Ok(Picture { width: pixels.width(), height: pixels.height(), rgb: pixels.into_rgb8().into_raw() })
}

/// The format by the first bytes.
pub(super) fn format(bytes: &[u8]) -> Result<ImageFormat> {
    let known = [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP, ImageFormat::Gif];
    match image::guess_format(bytes).ok().filter(|format| known.contains(format)) {
        Some(format) => Ok(format),
        None => bail!("not a JPEG, PNG, WebP or GIF picture"),
    }
}

fn read(bytes: &[u8], target: &Target) -> Result<Decoded> {
    let format = format(bytes)?;
    if format == ImageFormat::Jpeg
        && let Some(decoded) = jpeg::decode(bytes, target)?
    {
        return Ok(decoded);
    }
    let max_side = target.max_side;
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
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
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let decoded = DynamicImage::from_decoder(decoder).map_err(|e| explain(e, max_side))?;
    let picture = flatten(decoded, target.background);
    Ok(Decoded { area: resize::whole(&picture), picture, orientation })
}

fn explain(error: ImageError, max_side: u32) -> anyhow::Error {
    match error {
        ImageError::Limits(_) => too_large(max_side),
        other => damaged(&other),
    }
}

pub(super) fn too_large(max_side: u32) -> anyhow::Error {
    anyhow::anyhow!("larger than {max_side} pixels a side, or than {} MiB when decoded", MAX_BYTES >> 20)
}

/// The first line of what a decoder says.
pub(super) fn damaged(reason: &dyn std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("damaged picture: {}", reason.to_string().lines().next().unwrap_or_default())
}

fn flatten(decoded: DynamicImage, background: [u8; 3]) -> Picture {
    let (width, height) = (decoded.width(), decoded.height());
    let rgb = if decoded.color().has_alpha() {
        let over = |c: u8, below: u8, a: u8| {
            (u32::from(c) * u32::from(a) + u32::from(below) * (255 - u32::from(a)) + 127) / 255
        };
        let blend = |p: &[u8]| [0, 1, 2].map(|c| over(p[c], background[c], p[3]) as u8);
        decoded.into_rgba8().chunks_exact(4).flat_map(blend).collect()
    } else {
        decoded.into_rgb8().into_raw()
    };
    Picture { width, height, rgb }
}
