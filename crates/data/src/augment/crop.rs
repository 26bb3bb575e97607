//! The random resized crop (Szegedy et al. 2015) as torchvision's `RandomResizedCrop` draws it.

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use crate::image::Crop;

/// Crops that are tried before the middle is taken.
const TRIES: usize = 10;

/// A crop of a picture with these sides (width and height, in pixels): its share of the area from `scale`,
/// its width for a height of 1 log-uniform from `ratio`, anywhere in the picture; the middle where ten of
/// them do not fit.
pub(super) fn draw(sides: [u32; 2], scale: [f64; 2], ratio: [f64; 2], rng: &mut ChaCha8Rng) -> Crop {
    for _ in 0..TRIES {
        let share = rng.random_range(scale[0]..=scale[1]);
        let shape = rng.random_range(ratio[0].ln()..=ratio[1].ln()).exp();
        let [width, height] = shaped(sides, share, shape);
        if (1..=sides[0]).contains(&width) && (1..=sides[1]).contains(&height) {
            let top = rng.random_range(0..=sides[1] - height);
            let left = rng.random_range(0..=sides[0] - width);
            return Crop { left, top, width, height };
        }
    }
    middle(sides, ratio)
}

/// The sides of a crop with this share of the area and this width for a height of 1.
pub(super) fn shaped([width, height]: [u32; 2], share: f64, shape: f64) -> [u32; 2] {
    let area = f64::from(width) * f64::from(height) * share;
    [area * shape, area / shape].map(|square| square.sqrt().round_ties_even() as u32)
}

/// The largest part in the middle whose shape is within `ratio`.
pub(super) fn middle([width, height]: [u32; 2], ratio: [f64; 2]) -> Crop {
    let shape = f64::from(width) / f64::from(height);
    let rounded = |side: f64| side.round_ties_even() as u32;
    let [w, h] = if shape < ratio[0] {
        [width, rounded(f64::from(width) / ratio[0])]
    } else if shape > ratio[1] {
        [rounded(f64::from(height) * ratio[1]), height]
    } else {
        [width, height]
    };
    // A picture of one row or column, and an extreme ratio.
    let (w, h) = (w.clamp(1, width.max(1)), h.clamp(1, height.max(1)));
    Crop { left: (width - w) / 2, top: (height - h) / 2, width: w, height: h }
}
