//! Decoding: every format, within limits that hold before memory is taken.

use std::borrow::Cow;
use std::io::Cursor;

use anyhow::{Context as _, Result, ensure};
use image::error::ImageError;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};
use memchr::memmem;

use super::decoded::{DecodeTarget, Decoded, Extent, MAX_BYTES, damaged, format, too_large};
use super::spec::{Crop, ImageSpec, WHITE};
use super::{jpeg, resize};
use crate::document::{Image, Picture};

/// The largest side, in pixels, that a picture may have by default. MM1's filters drop larger ones too.
pub const MAX_SIDE: u32 = 10_000;

/// Decodes a JPEG, PNG, WebP, GIF, BMP or TIFF picture (the first frame or page), upright by its EXIF
/// orientation, with transparency over white. Colour profiles are not applied.
///
/// # Errors
/// Another format, a damaged or truncated file, a side above `max_side` pixels; the limits hold before memory
/// is taken.
pub fn decode(bytes: &[u8], max_side: u32) -> Result<Picture> {
    let enough = |sides: Extent| sides.map(|side| side as u32);
    let Decoded { picture, orientation, .. } =
        read(bytes, &DecodeTarget { max_side, background: WHITE, enough: &enough })?;
    turned(picture.into_owned(), orientation)
}

/// The pixels of a picture that is to be shown as a square, once or more often; a JPEG at the least size
/// whose sides are `enough`, which is given the stored sides.
///
/// # Errors
/// As [`decode`], with [`MAX_SIDE`].
pub(crate) fn opened<'a>(
    image: &'a Image,
    background: [u8; 3],
    enough: &dyn Fn(Extent) -> [u32; 2],
) -> Result<Decoded<'a>> {
    match image {
        Image::Pixels(picture) => Ok(Decoded::whole(Cow::Borrowed(picture), Orientation::NoTransforms)),
        Image::File { bytes, .. } => read(bytes, &DecodeTarget { max_side: MAX_SIDE, background, enough }),
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

/// The picture, upright.
pub(super) fn turned(picture: Picture, orientation: Orientation) -> Result<Picture> {
    if orientation == Orientation::NoTransforms {
        return Ok(picture);
    }
    let Picture { width, height, rgb } = picture;
    let pixels = RgbImage::from_raw(width, height, rgb).context("a picture with too few bytes")?;
    let mut pixels = DynamicImage::from(pixels);
    pixels.apply_orientation(orientation);
    Ok(Picture { width: pixels.width(), height: pixels.height(), rgb: pixels.into_rgb8().into_raw() })
}

fn read<'a>(bytes: &[u8], target: &DecodeTarget) -> Result<Decoded<'a>> {
    // By content: a file's ending is often wrong on the web.
    let format = format(bytes)?;
    let bytes = if format == ImageFormat::Jpeg { jpeg::whole(bytes)? } else { bytes };
    if format == ImageFormat::Jpeg
        && let Some(decoder) = jpeg::open(bytes, target.max_side)?
    {
        return jpeg::decode(decoder, target);
    }
    let mut decoder = open_decoder(bytes, format, target.max_side)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let decoded = DynamicImage::from_decoder(decoder).map_err(|e| explain(e, target.max_side))?;
    Ok(Decoded::whole(Cow::Owned(flatten(decoded, target.background)), orientation))
}

/// Reads the header of a picture, within the limits; no pixel is decoded.
fn open_decoder(bytes: &[u8], format: ImageFormat, max_side: u32) -> Result<impl ImageDecoder + '_> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(max_side);
    limits.max_image_height = Some(max_side);
    // Set before the header is trusted: a PNG of 100 bytes may claim gigabytes.
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|e| explain(e, max_side))?;
    let (width, height) = decoder.dimensions();
    ensure!(
        decoder.total_bytes() <= MAX_BYTES,
        "{width}x{height} pixels take more than {} MiB",
        MAX_BYTES >> 20
    );
    Ok(decoder)
}

/// Whether a picture will be decoded, as far as its header and its end tell. Damage in between shows when it
/// is decoded. One that does not end as its format says is decoded here, since decoders differ in what they
/// let pass.
///
/// # Errors
/// As [`decode`], with [`MAX_SIDE`].
pub fn check_decodable(image: &Image) -> Result<()> {
    let bytes = match image {
        Image::Pixels(picture) => return resize::check(picture),
        Image::File { bytes, .. } => bytes,
    };
    let format = format(bytes)?;
    if format == ImageFormat::Jpeg && jpeg::open(jpeg::whole(bytes)?, MAX_SIDE)?.is_some() {
        return Ok(());
    }
    open_decoder(bytes, format, MAX_SIDE)?;
    if ends(bytes, format) { Ok(()) } else { decode(bytes, MAX_SIDE).map(drop) }
}

/// Width and height of a picture once it is upright, by its header.
///
/// # Errors
/// As [`decode`], with [`MAX_SIDE`]; what only decoding shows is not found.
pub fn upright_sides(image: &Image) -> Result<[u32; 2]> {
    let bytes = match image {
        Image::Pixels(picture) => return Ok([picture.width, picture.height]),
        Image::File { bytes, .. } => bytes,
    };
    let format = format(bytes)?;
    let bytes = if format == ImageFormat::Jpeg { jpeg::whole(bytes)? } else { bytes };
    let jpeg = if format == ImageFormat::Jpeg { jpeg::open(bytes, MAX_SIDE)? } else { None };
    let (sides, orientation) = if let Some(decoder) = jpeg {
        (jpeg::sides(&decoder), jpeg::orientation(&decoder))
    } else {
        let mut decoder = open_decoder(bytes, format, MAX_SIDE)?;
        let (width, height) = decoder.dimensions();
        ([width, height], decoder.orientation().unwrap_or(Orientation::NoTransforms))
    };
    Ok(if is_transposed(orientation) { [sides[1], sides[0]] } else { sides })
}

/// Whether width and height change places once a picture is upright.
pub(super) fn is_transposed(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
}

/// Whether a file ends as its format says.
fn ends(bytes: &[u8], format: ImageFormat) -> bool {
    match format {
        ImageFormat::Png => memmem::rfind(bytes, b"IEND").is_some(),
        ImageFormat::Gif => bytes.ends_with(&[0x3B]),
        ImageFormat::WebP => {
            let size = bytes.get(4..8).and_then(|size| size.first_chunk().copied());
            size.is_some_and(|size| u32::from_le_bytes(size) as usize + 8 <= bytes.len())
        }
        _ => false,
    }
}

fn explain(error: ImageError, max_side: u32) -> anyhow::Error {
    match error {
        ImageError::Limits(_) => too_large(max_side),
        other => damaged(&other),
    }
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
