//! Pictures: decoding within limits, resizing to the encoder's square, normalising.

mod budget;
mod decode;
mod decoded;
mod header;
mod jpeg;
mod preprocessor;
mod processor_settings;
mod resize;
mod same_picture;
mod spec;
mod tiles;
mod tiling;

use std::sync::Arc;

use anyhow::Result;

pub use self::budget::{DecodeBudget, DecodeHold};
pub(crate) use self::decode::opened;
pub use self::decode::{MAX_SIDE, check_decodable, decode, upright_sides};
pub use self::header::PictureHeader;
pub(crate) use self::header::read_header;
pub(crate) use self::resize::needed;
pub(crate) use self::same_picture::KEY_BYTES;
pub use self::same_picture::{PictureKey, PictureSet};
pub use self::spec::{Crop, Fit, ImageConfig, ImageSpec, ResizeFilter};
pub use self::tiles::prepare_views;
pub use self::tiling::{OverviewPlace, TileCanvas, TileFit, TileGrid, TileIndicators, TileView, Tiling};
use crate::document::{Image, Picture};

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
    opened(image, spec.config.background, &|sides| needed(sides, None, spec))?.square(None, spec)
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
    Ok(Arc::new(Picture {
        width,
        height,
        rgb: resize::to(&picture, [width, height], ResizeFilter::Bicubic)?,
    }))
}

/// Appends `(value / 255 - mean) / std` of each byte of a prepared picture, channels last as they are.
pub fn normalise_into(pixels: &[u8], spec: &ImageSpec, out: &mut Vec<f32>) {
    let level = |v: u8, c: usize| (f32::from(v) / 255.0 - spec.config.mean[c]) / spec.config.std[c];
    // A table of all 256 levels: a load in place of a division and a subtraction for every byte.
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
