//! Drawings as pictures: SVG to PNG on a transparent ground, the same bytes each time.

use anyhow::{Context as _, Result, ensure};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{ImageHrefResolver, Options, Tree};

/// The largest drawing that is read.
const MAX_SVG: usize = 8 << 20;

/// A PNG file.
pub type Rendered = Vec<u8>;

/// Draws `svg`; its longer side takes `size` pixels. Text is not drawn (it needs fonts), and nothing outside
/// of the drawing is read.
///
/// # Errors
/// A drawing that can't be read, one that needs a raster picture, one of which nothing is to be seen.
pub fn render(svg: &str, size: u32) -> Result<Rendered> {
    ensure!(svg.len() <= MAX_SVG, "a drawing of {} bytes; the limit is {MAX_SVG}", svg.len());
    ensure!(!svg.contains("<image") && !svg.contains(":image "), "a raster picture is inside");
    let nothing =
        // A drawing is data of a stranger: nothing in it is opened, on disk or elsewhere.
        ImageHrefResolver { resolve_data: Box::new(|_, _, _| None), resolve_string: Box::new(|_, _| None) };
    let options = Options { image_href_resolver: nothing, ..Options::default() };
    let tree = Tree::from_str(svg, &options)?;
    let (width, height) = (tree.size().width(), tree.size().height());
    let scale = size as f32 / width.max(height);
    let side = |length: f32| ((length * scale).round() as u32).clamp(1, size);
    let mut pixels = Pixmap::new(side(width), side(height)).context("a drawing without an area")?;
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
    ensure!(pixels.pixels().iter().any(|pixel| pixel.alpha() > 0), "nothing is to be seen");
    Ok(pixels.encode_png()?)
}
