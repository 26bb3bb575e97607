//! The families of image encoders that come alone.

use super::{Family, clip, dinov2, siglip};

/// The `model_type` of each family, alone and with its text tower.
pub(super) const KINDS: [&str; 5] = ["clip", "clip_vision_model", "siglip", "siglip_vision_model", "dinov2"];

/// Those of each family alone.
pub(super) const ALONE: [&str; 3] = ["clip_vision_model", "siglip_vision_model", "dinov2"];

/// The family whose encoder alone has this `model_type`.
pub(super) fn encoder_alone(kind: &str) -> Option<&'static Family> {
    Some(match kind {
        "clip_vision_model" => &clip::FAMILY,
        "siglip_vision_model" => &siglip::FAMILY,
        "dinov2" => &dinov2::FAMILY,
        _ => return None,
    })
}
