//! Changes of colour on bytes, with the arithmetic of PIL as torchvision calls it (Pillow 13, torchvision
//! 0.29); checked against both by `scripts/reference/views.py`.

/// Multiplies all levels by `factor`, from 0 up.
pub(super) fn brightness(pixels: &mut [u8], factor: f64) {
    apart_from(pixels, 0, factor);
}

/// Multiplies the distance of all levels from the picture's mean grey by `factor`, from 0 up.
pub(super) fn contrast(pixels: &mut [u8], factor: f64) {
    let sum: u64 = pixels.as_chunks().0.iter().map(|&pixel| u64::from(grey(pixel))).sum();
    let mean = sum as f64 / (pixels.len() / 3).max(1) as f64;
    apart_from(pixels, (mean + 0.5) as u8, factor);
}

/// Multiplies the distance of each pixel from its grey by `factor`, from 0 (no colours are left) up.
pub(super) fn saturation(pixels: &mut [u8], factor: f64) {
    for pixel in pixels.as_chunks_mut::<3>().0 {
        let grey = grey(*pixel);
        *pixel = pixel.map(|level| between(grey, level, factor as f32));
    }
}

/// Turns the hue by this part of the circle, from -0.5 to 0.5, in steps of a 255th. Hue and saturation are
/// rounded to bytes on the way, as PIL's mode HSV has them, so that a shift of 0 changes a few levels too.
pub(super) fn hue(pixels: &mut [u8], turn: f64) {
    let steps = (turn * 255.0) as i32 as u8;
    for pixel in pixels.as_chunks_mut().0 {
        let [hue, saturation, value] = to_hsv(*pixel);
        *pixel = from_hsv([hue.wrapping_add(steps), saturation, value]);
    }
}

/// Turns round the levels from 128 on: white becomes black.
pub(super) fn solarise(pixels: &mut [u8]) {
    for level in pixels {
        // Without a branch for each byte.
        *level = (*level).min(255 - *level);
    }
}

/// Exchanges left and right of rows of `width` pixels.
pub(super) fn flip(pixels: &mut [u8], width: usize) {
    for row in pixels.chunks_exact_mut(width * 3) {
        row.as_chunks_mut::<3>().0.reverse();
    }
}

/// The luma of ITU-R 601 in 16 bits.
fn grey([red, green, blue]: [u8; 3]) -> u8 {
    let sum = 19_595 * u32::from(red) + 38_470 * u32::from(green) + 7_471 * u32::from(blue);
    ((sum + 0x8000) >> 16) as u8
}

/// Multiplies the distance of all levels from `middle`.
fn apart_from(pixels: &mut [u8], middle: u8, factor: f64) {
    let levels: [u8; 256] = std::array::from_fn(|level| between(middle, level as u8, factor as f32));
    for level in pixels {
        *level = levels[usize::from(*level)];
    }
}

/// Linear interpolation from `from` to `to` by `share`, extrapolated above 1; rounded towards 0.
fn between(from: u8, to: u8, share: f32) -> u8 {
    let (from, to) = (f32::from(from), f32::from(to));
    (from + share * (to - from)) as u8
}

/// Hue, saturation and value (Smith 1978), each a byte.
fn to_hsv([red, green, blue]: [u8; 3]) -> [u8; 3] {
    let most = red.max(green).max(blue);
    let range = f32::from(most - red.min(green).min(blue));
    if range == 0.0 {
        return [0, 0, most];
    }
    let [red_away, green_away, blue_away] = [red, green, blue].map(|level| f32::from(most - level) / range);
    let third = |start: f64, from: f32, to: f32| (start + f64::from(from) - f64::from(to)) as f32;
    // A third of the circle for each of the channels that may be the largest; the choice is by number, as
    // pixels of noise would mislead a branch.
    let thirds = [blue_away - green_away, third(2.0, red_away, blue_away), third(4.0, green_away, red_away)];
    let sixths = thirds[if red == most { 0 } else { 2 - usize::from(green == most) }];
    // From a sixth before the first whole turn to a sixth before the second.
    let turn = f64::from(sixths) / 6.0 + 1.0;
    let turn = if turn >= 1.0 { turn - 1.0 } else { turn } as f32;
    let byte = |share: f32| (f64::from(share) * 255.0) as u8;
    [byte(turn), byte(range / f32::from(most)), most]
}

fn from_hsv([hue, saturation, value]: [u8; 3]) -> [u8; 3] {
    if saturation == 0 {
        return [value; 3];
    }
    let sixths = f64::from(hue) * 6.0 / 255.0;
    let sixth = sixths as u8;
    let rest = f64::from((sixths - f64::from(sixth)) as f32);
    let saturation = f64::from((f64::from(saturation) / 255.0) as f32);
    let lowered = |share: f64| (f64::from(value) * (1.0 - saturation * share) + 0.5) as u8;
    let (low, falling, rising) = (lowered(1.0), lowered(rest), lowered(1.0 - rest));
    let levels = [value, low, falling, rising];
    SIXTHS[usize::from(sixth % 6)].map(|level| levels[level])
}

/// For each sixth of the circle which of the value, the low, the falling and the rising level is red, green
/// and blue.
const SIXTHS: [[usize; 3]; 6] = [[0, 3, 1], [2, 0, 1], [1, 0, 3], [1, 2, 0], [3, 1, 0], [0, 1, 2]];
