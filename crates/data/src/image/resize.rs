//! Pictures to squares.

use anyhow::{Context as _, Result, ensure};
use fast_image_resize as fir;

use super::decoded::{Decoded, Extent};
use super::spec::{Crop, Fit, ImageSpec, ResizeFilter};
use crate::document::Picture;

/// What is shown of a picture as `[size, size, 3]` bytes.
///
/// # Errors
/// A picture without pixels, or with another number of bytes than its sides say.
pub(super) fn square(decoded: &Decoded, spec: &ImageSpec) -> Result<Vec<u8>> {
    let Decoded { picture, area, .. } = decoded;
    let size = u32::try_from(spec.size).context("image.size")?;
    check(picture)?;
    // Resizing to the same size would still pass through the kernel, and round.
    let keeps = !matches!(spec.config.mode, Fit::ShortestEdge(_)) && *area == [f64::from(size); 2];
    if keeps && (picture.width, picture.height) == (size, size) {
        return Ok(picture.rgb.clone());
    }
    let [across, down] = *area;
    let (options, all) =
        (options(spec.config.filter), options(spec.config.filter).crop(0.0, 0.0, across, down));
    match spec.config.mode {
        Fit::Squash => resize(picture, [size, size], &all),
        Fit::CentreCrop => {
            let side = across.min(down);
            let middle = options.crop((across - side) / 2.0, (down - side) / 2.0, side, side);
            resize(picture, [size, size], &middle)
        }
        Fit::Pad => {
            let inner = scaled(*area, spec);
            let mean = spec.mean_colour();
            let [left, top] = inner.map(|side| (size - side) as usize / 2);
            Ok(place(&resize(picture, inner, &all)?, [left, top, inner[0] as usize], mean, spec.size))
        }
        Fit::Sides | Fit::ShortestEdge(_) | Fit::Middle => middle(decoded, spec),
    }
}

/// The middle of the picture as Pillow resizes it; only what is seen is computed.
fn middle(decoded: &Decoded, spec: &ImageSpec) -> Result<Vec<u8>> {
    let whole = scaled(decoded.sides.map(f64::from), spec);
    let visible = whole.map(|side| side.min(spec.size as u32));
    let inner = match spec.config.filter {
        ResizeFilter::Nearest => nearest(decoded, whole, visible),
        ResizeFilter::Bilinear | ResizeFilter::Bicubic | ResizeFilter::Lanczos => {
            twice(decoded, whole, visible, &options(spec.config.filter))?
        }
    };
    // The odd pixel of black lies on the left and above.
    let [left, top] = visible.map(|side| (spec.size - side as usize).div_ceil(2));
    Ok(place(&inner, [left, top, visible[0] as usize], [0; 3], spec.size))
}

/// The whole picture in other sides as Pillow resizes it, `[height, width, 3]` bytes.
///
/// # Errors
/// As [`square`].
pub(super) fn whole(decoded: &Decoded, sides: [u32; 2], filter: ResizeFilter) -> Result<Vec<u8>> {
    let Decoded { picture, area, .. } = decoded;
    check(picture)?;
    if [picture.width, picture.height] == sides && *area == sides.map(f64::from) {
        return Ok(picture.rgb.clone());
    }
    match filter {
        ResizeFilter::Nearest => Ok(nearest(decoded, sides, sides)),
        ResizeFilter::Bilinear | ResizeFilter::Bicubic | ResizeFilter::Lanczos => {
            twice(decoded, sides, sides, &options(filter))
        }
    }
}

/// The `visible` middle of a picture resized to `whole`: a pass along one axis, rounded to bytes, then one
/// along the other.
fn twice(
    decoded: &Decoded,
    whole: [u32; 2],
    visible: [u32; 2],
    options: &fir::ResizeOptions,
) -> Result<Vec<u8>> {
    let Decoded { picture, area, sides, .. } = decoded;
    let part = |i: usize| {
        let (before, pixel) = ((whole[i] - visible[i]) / 2, area[i] / f64::from(whole[i]));
        let start = f64::from(before) * pixel;
        (start, (f64::from(visible[i]) * pixel).min(area[i] - start))
    };
    let ((left, across), (top, down)) = (part(0), part(1));
    let fewer = [0, 1].map(|i| i64::from(sides[i]) - i64::from(whole[i]));
    // Which pass comes first shows where the kernel overshoots at an edge and is clipped to a byte. Pillow
    // goes across first; since version 13 down first, where that loses more than twice as many rows as across
    // loses columns.
    if fewer[1] > 0 && fewer[1] > 2 * fewer[0] {
        let (width, all) = (picture.width, f64::from(picture.width));
        // Only the rows that are seen are computed.
        let rgb = resize(picture, [width, visible[1]], &options.crop(0.0, top, all, down))?;
        let low = Picture { width, height: visible[1], rgb };
        return resize(&low, visible, &options.crop(left, 0.0, across, f64::from(visible[1])));
    }
    let (height, all) = (picture.height, f64::from(picture.height));
    let rgb = resize(picture, [visible[0], height], &options.crop(left, 0.0, across, all))?;
    let narrow = Picture { width: visible[0], height, rgb };
    resize(&narrow, visible, &options.crop(0.0, top, f64::from(visible[0]), down))
}

/// As [`twice`], by the nearest pixels; places are added up as Pillow does it, which decides between two that
/// are as near.
fn nearest(decoded: &Decoded, whole: [u32; 2], visible: [u32; 2]) -> Vec<u8> {
    let Decoded { picture, area, .. } = decoded;
    let sides = [picture.width, picture.height];
    let places = |i: usize| -> Vec<usize> {
        let pixel = area[i] / f64::from(whole[i]);
        let places = std::iter::successors(Some(pixel * 0.5), |at| Some(at + pixel));
        let before = (whole[i] - visible[i]) / 2;
        let inside = |at: f64| (at as usize).min(sides[i] as usize - 1);
        places.skip(before as usize).take(visible[i] as usize).map(inside).collect()
    };
    let (columns, rows) = (places(0), places(1));
    let (pixels, _) = picture.rgb.as_chunks::<3>();
    let pixel = |y: usize, x: &usize| pixels[y * picture.width as usize + x];
    rows.into_iter().flat_map(|y| columns.iter().flat_map(move |x| pixel(y, x))).collect()
}

/// A crop of a picture as `[size, size, 3]` bytes, in one step.
///
/// # Errors
/// As [`square`]; a crop that leaves the picture.
pub(super) fn cropped(decoded: &Decoded, crop: Crop, spec: &ImageSpec) -> Result<Vec<u8>> {
    let Decoded { picture, area, sides, .. } = decoded;
    check(picture)?;
    // Exact: the scale is a number of eighths.
    let scale = [0, 1].map(|i| area[i] / f64::from(sides[i]));
    let Crop { left, top, width, height } = crop;
    let [left, width] = [left, width].map(|side| f64::from(side) * scale[0]);
    let [top, height] = [top, height].map(|side| f64::from(side) * scale[1]);
    resize(picture, [spec.size as u32; 2], &options(spec.config.filter).crop(left, top, width, height))
}

/// A picture in other sides, `[height, width, 3]` bytes.
///
/// # Errors
/// A picture without pixels, or with another number of bytes than its sides say.
pub(super) fn to(picture: &Picture, sides: [u32; 2], filter: ResizeFilter) -> Result<Vec<u8>> {
    check(picture)?;
    resize(picture, sides, &options(filter))
}

/// The least sides of a picture of which the whole or a crop can be resized without being enlarged.
pub(crate) fn needed(sides: Extent, crop: Option<Crop>, spec: &ImageSpec) -> [u32; 2] {
    let Some(Crop { width, height, .. }) = crop else { return scaled(sides, spec) };
    let share = [sides[0] / f64::from(width), sides[1] / f64::from(height)];
    share.map(|share| (share * spec.size as f64).ceil() as u32)
}

/// Refuses a picture without pixels, or with another number of bytes than its sides say.
pub(super) fn check(picture: &Picture) -> Result<()> {
    let (width, height) = (picture.width, picture.height);
    let bytes = u64::from(width) * u64::from(height) * 3;
    ensure!(
        bytes > 0 && bytes == picture.rgb.len() as u64,
        "a picture of {width}x{height} pixels with {} bytes",
        picture.rgb.len()
    );
    Ok(())
}

fn options(filter: ResizeFilter) -> fir::ResizeOptions {
    let convolution = fir::ResizeAlg::Convolution;
    fir::ResizeOptions::new().resize_alg(match filter {
        ResizeFilter::Nearest => fir::ResizeAlg::Nearest,
        ResizeFilter::Bilinear => convolution(fir::FilterType::Bilinear),
        ResizeFilter::Bicubic => convolution(fir::FilterType::CatmullRom),
        ResizeFilter::Lanczos => convolution(fir::FilterType::Lanczos3),
    })
}

/// The sides of a picture once it is resized, also of what a crop leaves out.
fn scaled([width, height]: Extent, spec: &ImageSpec) -> [u32; 2] {
    let whole = match spec.config.mode {
        Fit::Squash | Fit::Sides => return [spec.size as u32; 2],
        Fit::CentreCrop => width.min(height),
        Fit::Pad => width.max(height),
        // Rounded down, as is done there.
        Fit::ShortestEdge(edge) => {
            return [width, height].map(|side| (edge as f64 * side / width.min(height)) as u32);
        }
        Fit::Middle => return [width, height].map(|side| side as u32),
    };
    [width, height].map(|side| (side / whole * spec.size as f64).round().max(1.0) as u32)
}

fn resize(picture: &Picture, [width, height]: [u32; 2], options: &fir::ResizeOptions) -> Result<Vec<u8>> {
    let from = fir::images::ImageRef::new(picture.width, picture.height, &picture.rgb, fir::PixelType::U8x3)?;
    let mut to = fir::images::Image::new(width, height, fir::PixelType::U8x3);
    fir::Resizer::new().resize(&from, &mut to, options)?;
    Ok(to.into_vec())
}

/// A square of one colour with a picture of `width` in it.
fn place(inner: &[u8], [left, top, width]: [usize; 3], colour: [u8; 3], size: usize) -> Vec<u8> {
    let mut square = colour.repeat(size * size);
    for (y, row) in inner.chunks_exact(width * 3).enumerate() {
        let start = ((top + y) * size + left) * 3;
        square[start..start + row.len()].copy_from_slice(row);
    }
    square
}
