//! Pictures to squares.

use anyhow::{Context as _, Result, ensure};
use fast_image_resize as fir;

use super::{Fit, ImageSpec};
use crate::document::Picture;

/// The first `width` and `height` of a picture that are shown, in pixels and parts of them.
pub(super) type Area = [f64; 2];

/// All of a picture.
pub(super) fn whole(picture: &Picture) -> Area {
    [picture.width, picture.height].map(f64::from)
}

/// The `area` of a picture as `[size, size, 3]` bytes.
///
/// # Errors
/// A picture without pixels, or with another number of bytes than its sides say.
pub(super) fn square(picture: &Picture, area: Area, spec: &ImageSpec) -> Result<Vec<u8>> {
    let size = u32::try_from(spec.size).context("image.size")?;
    let (width, height) = (picture.width, picture.height);
    let bytes = u64::from(width) * u64::from(height) * 3;
    ensure!(
        bytes > 0 && bytes == picture.rgb.len() as u64,
        "a picture of {width}x{height} pixels with {} bytes",
        picture.rgb.len()
    );
    if (width, height) == (size, size) && area == whole(picture) {
        return Ok(picture.rgb.clone());
    }
    let bicubic =
        fir::ResizeOptions::new().resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::CatmullRom));
    let [across, down] = area;
    let all = bicubic.crop(0.0, 0.0, across, down);
    match spec.mode {
        Fit::Squash => resize(picture, [size, size], &all),
        Fit::CentreCrop => {
            let side = across.min(down);
            let middle = bicubic.crop((across - side) / 2.0, (down - side) / 2.0, side, side);
            resize(picture, [size, size], &middle)
        }
        Fit::Pad => {
            let inner = scaled(area, spec);
            Ok(pad(&resize(picture, inner, &all)?, inner.map(|s| s as usize), spec))
        }
    }
}

/// The sides of a picture once it is resized, also of what a crop leaves out.
pub(super) fn scaled([width, height]: Area, spec: &ImageSpec) -> [u32; 2] {
    let whole = match spec.mode {
        Fit::Squash => return [spec.size as u32; 2],
        Fit::CentreCrop => width.min(height),
        Fit::Pad => width.max(height),
    };
    [width, height].map(|side| (side / whole * spec.size as f64).round().max(1.0) as u32)
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
