//! [`Decoded`]: what every decoder takes and gives, within limits that hold for all formats.

use std::borrow::Cow;

use anyhow::{Result, bail};
use image::ImageFormat;
use image::metadata::Orientation;

use crate::document::Picture;

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

/// The format by the first bytes.
pub(super) fn format(bytes: &[u8]) -> Result<ImageFormat> {
    let known = [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP, ImageFormat::Gif];
    match image::guess_format(bytes).ok().filter(|format| known.contains(format)) {
        Some(format) => Ok(format),
        None => bail!("not a JPEG, PNG, WebP or GIF picture"),
    }
}

pub(super) fn too_large(max_side: u32) -> anyhow::Error {
    anyhow::anyhow!("larger than {max_side} pixels a side, or than {} MiB when decoded", MAX_BYTES >> 20)
}

/// The first line of what a decoder says.
pub(super) fn damaged(reason: &dyn std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("damaged picture: {}", reason.to_string().lines().next().unwrap_or_default())
}
