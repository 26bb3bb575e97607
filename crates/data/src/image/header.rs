//! What a picture's header says; no pixel is decoded.

use std::io::Cursor;

use anyhow::{Result, bail};
use image::{ImageFormat, ImageReader};

use super::decoded::{damaged, format, format_name};
use super::jpeg::whole;
use crate::document::Image;

/// A picture by its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureHeader {
    /// Pixels from left to right, as stored.
    pub width: u32,
    /// Pixels from top to bottom, as stored.
    pub height: u32,
    /// `JPEG`, `PNG`, `WebP`, `GIF`, `BMP` or `TIFF`; `pixels` for one that is drawn.
    pub format: &'static str,
}

/// Sides and format.
///
/// # Errors
/// Another format; a header that is damaged.
pub(crate) fn read_header(image: &Image) -> Result<PictureHeader> {
    let bytes = match image {
        Image::Pixels(picture) => {
            return Ok(PictureHeader { width: picture.width, height: picture.height, format: "pixels" });
        }
        Image::File { bytes, .. } => bytes,
    };
    let format = format(bytes)?;
    let sides = ImageReader::with_format(Cursor::new(bytes), format).into_dimensions();
    let (width, height) = sides.map_err(|error| match format {
        // A header that ends too early is reported as any other cut.
        ImageFormat::Jpeg => whole(bytes).err().unwrap_or_else(|| damaged(&error)),
        _ => damaged(&error),
    })?;
    if width == 0 || height == 0 {
        bail!("damaged picture: {width}x{height} pixels");
    }
    Ok(PictureHeader { width, height, format: format_name(format) })
}
