//! Llama 3's stretched angles from their factors: GGUF has no settings of them, only by what each divisor is
//! multiplied.

use std::f64::consts::TAU;

use anyhow::{Context as _, Result, ensure};

use crate::rope::{RopeScaling, divisors};

/// The context of Llama 3's pre-training, taken where the factors don't tell it.
const CONTEXT: usize = 8192;
/// The largest part by which a factor may be off: they are f32 in the file, and computed in f32.
const TOLERANCE: f64 = 1e-5;

/// The scaling that gives these factors, for heads `width` wide. The factors tell only how its
/// `original_length` and both borders are to each other: whole numbers that fit are preferred, small ones
/// first.
///
/// # Errors
/// Factors that are not of that form.
pub(crate) fn scaling(factors: &[f32], base: f64, width: usize) -> Result<RopeScaling> {
    ensure!(factors.len() == width / 2, "there are {}, needs {}", factors.len(), width / 2);
    let factors: Vec<f64> = factors.iter().copied().map(f64::from).collect();
    let factor = factors.iter().copied().fold(1.0, f64::max);
    let fits = |scaling: &RopeScaling| {
        let own = scaling.factors(base, width);
        scaling.check().is_ok() && own.iter().zip(&factors).all(|(a, b)| (a - b).abs() <= TOLERANCE * b)
    };
    let plain = [RopeScaling::None, RopeScaling::Linear { factor }];
    let lines = lines(&factors, factor, base, width);
    let llama3 = lines.into_iter().flat_map(|(slope, start)| {
        let whole = (1..=8).map(move |low| {
            let low = f64::from(low);
            let (high, length) = (low + low / start, low * TAU * slope / start);
            (low, nearly_whole(high), length.round() as usize)
        });
        let between = CONTEXT as f64 / (TAU * slope);
        whole.chain([(start * between, (start + 1.0) * between, CONTEXT)])
    });
    let llama3 = llama3.map(|(low_freq_factor, high_freq_factor, original_length)| RopeScaling::Llama3 {
        factor,
        low_freq_factor,
        high_freq_factor,
        original_length,
    });
    plain.into_iter().chain(llama3).find(fits).context("no border between slow and fast angles gives them")
}

/// Lines (slope, and how far below 0 they start) on which the share of each angle that stays may lie, over
/// 1 / divisor: through two of the last fast angle, the first and the last between, and the first slow one.
fn lines(factors: &[f64], factor: f64, base: f64, width: usize) -> Vec<(f64, f64)> {
    let share = |own: f64| (1.0 / own - 1.0 / factor) / (1.0 - 1.0 / factor);
    let points: Vec<_> = divisors(base, width).zip(factors).map(|(d, &own)| (1.0 / d, share(own))).collect();
    let fast = points.iter().take_while(|(_, share)| *share >= 1.0 - TOLERANCE).count();
    let slow = points.iter().rev().take_while(|(_, share)| *share <= TOLERANCE).count();
    let firsts = [Some(fast), fast.checked_sub(1)];
    let lasts = [(points.len() - slow).checked_sub(1), Some(points.len() - slow)];
    let pairs = firsts.into_iter().flat_map(|first| lasts.map(|last| (first, last)));
    let pairs = pairs.filter_map(|(first, last)| Some((points.get(first?)?, points.get(last?)?)));
    let pairs = pairs.filter(|((x0, _), (x1, _))| x0 > x1);
    pairs.map(|((x0, y0), (x1, y1))| ((y0 - y1) / (x0 - x1), (x0 * y1 - x1 * y0) / (x1 - x0))).collect()
}

/// A whole number, where one is near.
fn nearly_whole(value: f64) -> f64 {
    if (value - value.round()).abs() < 1e-3 { value.round() } else { value }
}
