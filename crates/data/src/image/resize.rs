//! Pictures to squares.

use anyhow::{Context as _, Result, ensure};
use fast_image_resize as fir;

use super::{Crop, Fit, ImageSpec};
use crate::document::Picture;

/// The first `width` and `height` of a picture that are shown, in pixels and parts of them.
pub(crate) type Area = [f64; 2];

/// The `area` of a picture as `[size, size, 3]` bytes.
///
/// # Errors
/// A picture without pixels, or with another number of bytes than its sides say.
pub(super) fn square(picture: &Picture, area: Area, spec: &ImageSpec) -> Result<Vec<u8>> {
    let size = u32::try_from(spec.size).context("image.size")?;
    check(picture)?;
    if (picture.width, picture.height) == (size, size) && area == [f64::from(size); 2] {
        return Ok(picture.rgb.clone());
    }
    let [across, down] = area;
    let (bicubic, all) = (bicubic(), bicubic().crop(0.0, 0.0, across, down));
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

/// A crop of a picture as `[size, size, 3]` bytes, in one step; `scale` is the picture's size as a share of the size that
/// the crop is given for.
///
/// # Errors
/// As [`square`]; a crop that leaves the picture.
pub(super) fn cropped(picture: &Picture, crop: Crop, scale: [f64; 2], spec: &ImageSpec) -> Result<Vec<u8>> {
    check(picture)?;
    let Crop { left, top, width, height } = crop;
    let [left, width] = [left, width].map(|side| f64::from(side) * scale[0]);
    let [top, height] = [top, height].map(|side| f64::from(side) * scale[1]);
    resize(picture, [spec.size as u32; 2], &bicubic().crop(left, top, width, height))
}

/// The least sides of a picture of which the whole or a crop can be resized without being enlarged.
pub(crate) fn needed(sides: Area, crop: Option<Crop>, spec: &ImageSpec) -> [u32; 2] {
    let Some(Crop { width, height, .. }) = crop else { return scaled(sides, spec) };
    let share = [sides[0] / f64::from(width), sides[1] / f64::from(height)];
    share.map(|share| (share * spec.size as f64).ceil() as u32)
}

fn check(picture: &Picture) -> Result<()> {
    let (width, height) = (picture.width, picture.height);
    let bytes = u64::from(width) * u64::from(height) * 3;
    ensure!(
        bytes > 0 && bytes == picture.rgb.len() as u64,
        "a picture of {width}x{height} pixels with {} bytes",
        picture.rgb.len()
    );
    Ok(())
}

fn bicubic() -> fir::ResizeOptions {
    fir::ResizeOptions::new().resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::CatmullRom))
}

/// The sides of a picture once it is resized, also of what a crop leaves out.
fn scaled([width, height]: Area, spec: &ImageSpec) -> [u32; 2] {
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
