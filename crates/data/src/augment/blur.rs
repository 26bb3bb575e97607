//! Gaussian blur over nine pixels, the picture reflected at its edges, as torchvision's `GaussianBlur(9)`
//! that DINOv2 takes.

/// Pixels to each side of the middle.
const RADIUS: usize = 4;

/// Blurs `[height, width, 3]` bytes with a deviation of `sigma` pixels.
pub(super) fn blur(pixels: &mut [u8], width: usize, sigma: f64) {
    let kernel = kernel(sigma);
    let row = width * 3;
    let height = pixels.len() / row;
    // Across: a reflected row at a time.
    let mut across = vec![0.0; pixels.len()];
    let mut reflected = vec![0.0; (width + 2 * RADIUS) * 3];
    for (from, to) in pixels.chunks_exact(row).zip(across.chunks_exact_mut(row)) {
        for (x, pixel) in reflected.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            let at = inside(x, width) * 3;
            *pixel = [0, 1, 2].map(|c| f32::from(from[at + c]));
        }
        for (tap, &weight) in kernel.iter().enumerate() {
            add(to, &reflected[tap * 3..], weight);
        }
    }
    let mut sum = vec![0.0; row];
    for (y, to) in pixels.chunks_exact_mut(row).enumerate() {
        sum.fill(0.5);
        for (tap, &weight) in kernel.iter().enumerate() {
            add(&mut sum, &across[inside(y + tap, height) * row..], weight);
        }
        for (to, &level) in to.iter_mut().zip(&sum) {
            *to = level as u8;
        }
    }
}

/// Adds `weight` times as many of the values as there are sums.
fn add(sums: &mut [f32], values: &[f32], weight: f32) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += weight * value;
    }
}

/// The weights, which sum to 1.
fn kernel(sigma: f64) -> [f32; 2 * RADIUS + 1] {
    let weight = |tap: usize| (-0.5 * ((tap as f64 - RADIUS as f64) / sigma).powi(2)).exp();
    let sum: f64 = (0..=2 * RADIUS).map(weight).sum();
    std::array::from_fn(|tap| (weight(tap) / sum) as f32)
}

/// The place in `0..len` that `at - RADIUS` shows, reflected at both ends without repeating them; over and
/// over, where the picture is shorter than the radius.
fn inside(at: usize, len: usize) -> usize {
    let period = (2 * (len - 1)).max(1);
    let at = (at + period * RADIUS - RADIUS) % period;
    at.min(period - at).min(len - 1)
}
