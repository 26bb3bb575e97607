//! Pictures of a request: at `data:` addresses, or read from elsewhere.

use base64::Engine as _;
use base64::engine::DecodePaddingMode::Indifferent;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::GeneralPurposeConfig;
use mm1_data::document::Image;
use mm1_data::error_line::error_line;
use mm1_data::image::upright_sides;

use super::HttpLimits;

/// As browsers read it: padding may be missing.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(Indifferent),
);

/// The picture at a `data:` address, whose size is checked by its header.
///
/// # Errors
/// One line: another address, no base64, no picture, too many pixels.
pub(super) fn of_address(address: &str, limits: &HttpLimits) -> Result<Image, String> {
    let Some(data) = address.strip_prefix("data:") else {
        let shown: String = address.chars().take(60).collect();
        return Err(format!("\"{shown}\" is not read: send the picture itself as data:image/png;base64,…"));
    };
    let (kind, data) = data.split_once(',').ok_or("a data: address without a comma before its data")?;
    if !kind.ends_with(";base64") {
        return Err("a data: address has to be in base64: data:image/png;base64,…".to_owned());
    }
    let bytes = BASE64.decode(data.trim()).map_err(|e| format!("its base64 is damaged: {e}"))?;
    checked(Image::from(bytes), limits)
}

/// The picture, if its header says that it is one of no more pixels than are taken.
///
/// # Errors
/// One line.
pub(super) fn checked(image: Image, limits: &HttpLimits) -> Result<Image, String> {
    let [width, height] = upright_sides(&image).map_err(|e| error_line(&e))?;
    let (pixels, most) = (u64::from(width) * u64::from(height), limits.picture_pixels);
    if pixels > most {
        return Err(format!("it has {width} x {height} pixels, and {most} is the most: make it smaller"));
    }
    Ok(image)
}
