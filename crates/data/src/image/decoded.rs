//! [`Decoded`]: what every decoder takes and gives, within limits that hold for all formats.

use std::borrow::Cow;

use anyhow::{Result, bail};
use image::ImageFormat;
use image::metadata::Orientation;

use crate::document::Picture;
use crate::wrong_content::{picture_not_read, wrong_content};

/// The first `width` and `height` of a picture that are shown, in pixels and parts of them.
pub(crate) type Extent = [f64; 2];

/// Memory that one decoded picture may take.
pub(super) const MAX_BYTES: u64 = 512 << 20;

/// What a picture is decoded to.
pub(super) struct DecodeTarget<'a> {
    /// The longest side that is not refused, in pixels.
    pub(super) max_side: u32,
    /// Under transparent pixels.
    pub(super) background: [u8; 3],
    /// The smallest sides that will do, for given sides.
    pub(super) enough: &'a dyn Fn(Extent) -> [u32; 2],
}

/// A picture as it is stored, maybe at a reduced size, and how it is to be rotated.
pub(crate) struct Decoded<'a> {
    pub(super) picture: Cow<'a, Picture>,
    /// What is shown of `picture`.
    pub(super) area: Extent,
    /// The sides at full size.
    pub(super) sides: [u32; 2],
    /// How the pixels are to be rotated or mirrored to be upright; not applied yet.
    pub(super) orientation: Orientation,
}

impl<'a> Decoded<'a> {
    pub(super) fn whole(picture: Cow<'a, Picture>, orientation: Orientation) -> Self {
        let sides = [picture.width, picture.height];
        Self { picture, area: sides.map(f64::from), sides, orientation }
    }
}

/// Formats that are read, with their names.
const READ: [(ImageFormat, &str); 6] = [
    (ImageFormat::Jpeg, "JPEG"),
    (ImageFormat::Png, "PNG"),
    (ImageFormat::WebP, "WebP"),
    (ImageFormat::Gif, "GIF"),
    (ImageFormat::Bmp, "BMP"),
    (ImageFormat::Tiff, "TIFF"),
];

/// The format by the first bytes.
pub(super) fn format(bytes: &[u8]) -> Result<ImageFormat> {
    let guessed = image::guess_format(bytes).ok();
    if let Some((format, _)) = READ.into_iter().find(|(format, _)| Some(*format) == guessed) {
        return Ok(format);
    }
    let start = &bytes[..bytes.len().min(1 << 10)];
    if let Some(known) = picture_not_read(start) {
        bail!("a picture in {known}, which is not read: convert it to PNG or JPEG");
    }
    match wrong_content(start) {
        Some(told) => bail!("{told}"),
        None if bytes.is_empty() => bail!("an empty file, not a picture"),
        None => bail!("not a JPEG, PNG, WebP, GIF, BMP or TIFF picture"),
    }
}

/// What a format that is read is called.
pub(super) fn format_name(format: ImageFormat) -> &'static str {
    READ.into_iter().find(|(read, _)| *read == format).map_or("", |(_, name)| name)
}

pub(super) fn too_large(max_side: u32) -> anyhow::Error {
    anyhow::anyhow!("larger than {max_side} pixels a side, or than {} MiB when decoded", MAX_BYTES >> 20)
}

/// The first line of what a decoder says.
pub(super) fn damaged(reason: &dyn std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("damaged picture: {}", reason.to_string().lines().next().unwrap_or_default())
}
