//! Decoding: every format, within limits that hold before memory is taken.

use std::borrow::Cow;
use std::io::Cursor;

use anyhow::{Context as _, Result, bail, ensure};
use image::error::ImageError;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder as _, ImageFormat, ImageReader, RgbImage};

use super::resize::Area;
use super::{Crop, ImageSpec, jpeg, resize, white};
use crate::document::{Image, Picture};

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

/// A picture as it is stored, maybe at a reduced size, and how it is to be turned.
pub(crate) struct Decoded<'a> {
    pub(super) picture: Cow<'a, Picture>,
    /// What is shown of `picture`.
    pub(super) area: Area,
    /// The sides at full size.
    pub(super) sides: [u32; 2],
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
    turned(picture.into_owned(), orientation)
}

/// The pixels of a picture that is to be shown as a square, once or more often; a JPEG at the least size whose sides are
/// `enough`, which is given the stored sides.
///
/// # Errors
/// As [`decode`], with [`MAX_SIDE`].
pub(crate) fn opened<'a>(
    image: &'a Image,
    background: [u8; 3],
    enough: &dyn Fn(Area) -> [u32; 2],
) -> Result<Decoded<'a>> {
    match image {
        Image::Pixels(picture) => Ok(Decoded::whole(Cow::Borrowed(picture), Orientation::NoTransforms)),
        Image::File { bytes, .. } => read(bytes, &Target { max_side: MAX_SIDE, background, enough }),
    }
}

impl<'a> Decoded<'a> {
    fn whole(picture: Cow<'a, Picture>, orientation: Orientation) -> Self {
        let sides = [picture.width, picture.height];
        Self { picture, area: sides.map(f64::from), sides, orientation }
    }
}

impl Decoded<'_> {
    /// The picture, or a crop of it, as `[size, size, 3]` bytes, upright.
    ///
    /// # Errors
    /// A picture without pixels, or with another number of bytes than its sides say.
    pub(crate) fn square(&self, crop: Option<Crop>, spec: &ImageSpec) -> Result<Vec<u8>> {
        let rgb = match crop {
            None => resize::square(self, spec)?,
            Some(crop) => resize::cropped(self, crop, spec)?,
        };
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

fn read<'a>(bytes: &[u8], target: &Target) -> Result<Decoded<'a>> {
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
    Ok(Decoded::whole(Cow::Owned(flatten(decoded, target.background)), orientation))
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
