//! [`Png`]: a picture that a page can show.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use mm1_data::document::Picture;
use serde::{Deserialize, Serialize};

/// A picture inside JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Png {
    /// Pixels from left to right.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
    /// The PNG file in base64 (RFC 4648, padded), ready to follow `data:image/png;base64,`.
    pub png_base64: String,
}

impl Png {
    /// Encodes a picture.
    ///
    /// # Errors
    /// A picture whose bytes do not fit its size.
    pub fn encode(picture: &Picture) -> Result<Self> {
        let Picture { width, height, ref rgb } = *picture;
        let mut bytes = Vec::new();
        PngEncoder::new(&mut bytes)
            .write_image(rgb, width, height, ExtendedColorType::Rgb8)
            .with_context(|| format!("a picture of {width}x{height} pixels can't be written as PNG"))?;
        Ok(Self { width, height, png_base64: STANDARD.encode(&bytes) })
    }
}
