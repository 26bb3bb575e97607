//! JPEG pictures at the smallest size that will do: the inverse transform gives an eighth, a quarter, three
//! eighths or half of each side for less work than the whole.

use std::borrow::Cow;

use anyhow::{Result, bail, ensure};
use image::metadata::Orientation;
use libjpeg_turbo_rs::{ColorSpace, DecodeLimits, Decoder, JpegError, PixelFormat, ScalingFactor};
use memchr::memchr;

use super::decoded::{DecodeTarget, Decoded, MAX_BYTES, damaged, too_large};
use crate::document::Picture;

/// Eighths of the sides that are decoded faster than the whole.
// Rejected: 5/8, which takes 1.6 ms for a photograph where half and the whole take 1.2: the inverse DCT
// of 4x4 pixels is scalar, that of 8x8 has AVX2. zune-jpeg takes 1.3 ms. Decoding only a crop saves
// 0.1 ms and changes the resized edge.
const EIGHTHS: [u32; 4] = [1, 2, 3, 4];

/// Scans of a progressive picture; usual encoders write ten. Each costs a pass over all its pixels.
const MAX_SCANS: usize = 100;

/// Reads the header of a grey or colour JPEG of 8 bits, which ends where [`whole`] says; `None` for another
/// kind, such as CMYK.
///
/// # Errors
/// A damaged header, one above the limits.
pub(super) fn open(bytes: &[u8], max_side: u32) -> Result<Option<Decoder<'_>>> {
    let limits = DecodeLimits {
        max_width: max_side as usize,
        max_height: max_side as usize,
        max_scans: MAX_SCANS,
        max_memory: Some(2 * MAX_BYTES),
        ..DecodeLimits::default()
    };
    let decoder = Decoder::new_with_limits(bytes, limits).map_err(|error| explain(error, max_side))?;
    let colours = [ColorSpace::Grayscale, ColorSpace::YCbCr, ColorSpace::Rgb];
    let header = decoder.header();
    if header.precision != 8 || header.is_lossless || !colours.contains(&decoder.jpeg_color_space()) {
        return Ok(None);
    }
    let sides = sides(&decoder);
    if sides.iter().any(|&side| side > max_side) {
        return Err(too_large(max_side));
    }
    // Each block of 8x8 pixels takes a bit at least: a header that claims more takes no memory.
    let blocks = u64::from(sides[0].div_ceil(8)) * u64::from(sides[1].div_ceil(8));
    ensure!(
        blocks <= 8 * bytes.len() as u64,
        "damaged picture: {} bytes can't hold {sides:?} pixels",
        bytes.len()
    );
    Ok(Some(decoder))
}

/// Decodes a picture that [`open`] has let pass, at the smallest scale that is enough.
///
/// # Errors
/// A damaged file, one above the limits.
pub(super) fn decode<'a>(mut decoder: Decoder, target: &DecodeTarget) -> Result<Decoded<'a>> {
    let explain = |error| explain(error, target.max_side);
    let sides = sides(&decoder);
    let eighths = eighths(sides, (target.enough)(sides.map(f64::from)));
    // In lowest terms.
    let common = 1 << eighths.trailing_zeros();
    decoder.set_scale(ScalingFactor::try_new(eighths / common, 8 / common).map_err(explain)?);
    decoder.set_output_format(PixelFormat::Rgb);
    let orientation = orientation(&decoder);
    let image = decoder.decode_image().map_err(explain)?;
    let (width, height) = (image.width as u32, image.height as u32);
    Ok(Decoded {
        picture: Cow::Owned(Picture { width, height, rgb: image.into_vec() }),
        // The last pixels of a row and a column may show less than the others.
        area: sides.map(|side| f64::from(side * eighths) / 8.0),
        sides,
        orientation,
    })
}

/// How its pixels are to be rotated or mirrored to be upright.
pub(super) fn orientation(decoder: &Decoder) -> Orientation {
    let written = decoder.exif_orientation().and_then(Orientation::from_exif);
    written.unwrap_or(Orientation::NoTransforms)
}

/// Width and height as they are stored.
pub(super) fn sides(decoder: &Decoder) -> [u32; 2] {
    let header = decoder.header();
    [u32::from(header.width), u32::from(header.height)]
}

fn explain(error: JpegError, max_side: u32) -> anyhow::Error {
    match error {
        JpegError::LimitExceeded { .. } => too_large(max_side),
        other => damaged(&other),
    }
}

/// The smallest scale that leaves both `sides` as long as `enough`.
fn eighths(sides: [u32; 2], enough: [u32; 2]) -> u32 {
    let will_do = |eighths: &u32| (0..2).all(|i| sides[i] * eighths >= enough[i] * 8);
    EIGHTHS.into_iter().find(will_do).unwrap_or(8)
}

/// Restart markers and the one that stands for nothing; they have no length.
const ALONE: [u8; 9] = [0x01, 0xD0, 0xD1, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7];
const END: u8 = 0xD9;

/// The bytes of the picture up to its end marker, without what a phone or an editor has put behind it: a
/// film, a second picture, text.
///
/// # Errors
/// A file that ends before its end marker: a decoder would fill what it lacks with grey.
// The markers are walked from the start. Rejected: looking for the last end marker of the file, since a film
// has the same bytes by chance, and the preview inside of a picture has an end of its own.
pub(super) fn whole(bytes: &[u8]) -> Result<&[u8]> {
    let mut at = 2;
    while let Some(marker) = next_marker(bytes, at) {
        at = marker + 2;
        match bytes[marker + 1] {
            END => return Ok(&bytes[..at]),
            code if ALONE.contains(&code) => {}
            // A segment by its length. The data of a scan have none: they last up to the next marker.
            _ => {
                let length = bytes
                    .get(at..at + 2)
                    .map_or(0, |length| usize::from(length[0]) << 8 | usize::from(length[1]));
                at += length.max(2);
            }
        }
    }
    bail!("truncated JPEG: its end marker is missing")
}

/// The place of the next marker: FF and a byte that is neither FF (which fills) nor 0 (which says that FF is
/// data).
fn next_marker(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr(0xFF, bytes.get(at..)?)?;
        match *bytes.get(at + 1)? {
            0xFF => at += 1,
            0 => at += 2,
            _ => return Some(at),
        }
    }
}
