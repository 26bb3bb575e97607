//! The views of a tiled picture: decoded once, resized to the grid of its tiles, cut.

use std::borrow::Cow;

use anyhow::Result;
use image::metadata::Orientation;

use super::decode::{is_transposed, opened, turned};
use super::decoded::{Decoded, Extent};
use super::spec::ImageSpec;
use super::tiling::{TileCanvas, TileFit, TileGrid, TileView, Tiling};
use super::{needed, prepare, resize, upright_sides};
use crate::document::{Image, Picture};

/// The views of a picture in their order as `[views, size, size, 3]` bytes; without a `grid` the one of
/// [`prepare`]. The grid need not be that of [`Tiling::grid`] at this size: demonstrations are shown in the
/// tiles of the model's size, each at a smaller one.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_views(image: &Image, spec: &ImageSpec, grid: Option<TileGrid>) -> Result<Vec<u8>> {
    let Some(tiles) = grid else { return prepare(image, spec) };
    let tiling = &spec.config.tiling;
    let upright = upright_sides(image)?;
    let canvas = tiling.canvas(upright, tiles, spec.size);
    let decoded = opened(image, spec.config.background, &|stored| {
        let [a, b] = [needed(stored, None, spec), needed_by_canvas(stored, upright, &canvas)];
        [a[0].max(b[0]), a[1].max(b[1])]
    })?;
    let inner = on_canvas(&decoded, &canvas, spec)?;
    let overview = match tiling {
        Tiling::Idefics3 { .. } => {
            resize::whole(&as_decoded(&inner), [spec.size as u32; 2], spec.config.filter)?
        }
        _ => decoded.square(None, spec)?,
    };
    let colour = if tiling.fit() == TileFit::PadBlack { [0; 3] } else { spec.mean_colour() };
    let filled = filled(&inner, &canvas, tiles.sides(spec.size), colour);
    let mut views = Vec::with_capacity((tiles.tiles() + 1) * spec.bytes());
    for view in tiling.views(grid) {
        match view {
            TileView::Overview => views.extend_from_slice(&overview),
            TileView::Tile { row, column } => cut(&filled, [row, column], spec.size, &mut views),
        }
    }
    Ok(views)
}

/// The least sides, as they are stored, from which nothing on the canvas is enlarged.
fn needed_by_canvas(stored: Extent, upright: [u32; 2], canvas: &TileCanvas) -> [u32; 2] {
    // By the larger of both factors: which stored side is which is known only once it is decoded.
    let factor = |i: usize| {
        let most = canvas.resized.iter().map(|sides| sides[i]).max().unwrap_or(0);
        f64::from(most) / f64::from(upright[i])
    };
    let factor = factor(0).max(factor(1)).min(1.0);
    stored.map(|side| (side * factor).ceil() as u32)
}

/// The picture resized as the canvas says, upright.
fn on_canvas(decoded: &Decoded, canvas: &TileCanvas, spec: &ImageSpec) -> Result<Picture> {
    let filter = spec.config.filter;
    let mut steps = canvas.resized.iter();
    let [width, height] = *steps.next().unwrap_or(&decoded.sides);
    let stored = if is_transposed(decoded.orientation) { [height, width] } else { [width, height] };
    let rgb = resize::whole(decoded, stored, filter)?;
    let mut picture = turned(Picture { width: stored[0], height: stored[1], rgb }, decoded.orientation)?;
    for &[width, height] in steps {
        let rgb = resize::whole(&as_decoded(&picture), [width, height], filter)?;
        picture = Picture { width, height, rgb };
    }
    Ok(picture)
}

fn as_decoded(picture: &Picture) -> Decoded<'_> {
    Decoded::whole(Cow::Borrowed(picture), Orientation::NoTransforms)
}

/// The picture with its padding.
fn filled<'a>(inner: &'a Picture, canvas: &TileCanvas, sides: [u32; 2], colour: [u8; 3]) -> Cow<'a, Picture> {
    let [width, height] = sides;
    if [inner.width, inner.height] == sides {
        return Cow::Borrowed(inner);
    }
    let mut rgb = colour.repeat(width as usize * height as usize);
    let [left, top] = canvas.offset.map(|side| side as usize);
    for (y, row) in inner.rgb.chunks_exact(3 * inner.width as usize).enumerate() {
        let start = 3 * ((top + y) * width as usize + left);
        rgb[start..start + row.len()].copy_from_slice(row);
    }
    Cow::Owned(Picture { width, height, rgb })
}

/// Appends the tile in this row and column.
fn cut(canvas: &Picture, [row, column]: [u32; 2], size: usize, views: &mut Vec<u8>) {
    let (across, first) = (canvas.width as usize, row as usize * size);
    for y in first..first + size {
        let start = 3 * (y * across + column as usize * size);
        views.extend_from_slice(&canvas.rgb[start..start + 3 * size]);
    }
}
