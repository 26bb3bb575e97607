//! Rotary position embedding (Su et al. 2021), half-split: element `j` of a head is paired with `j + width /
//! 2`.

use crate::buffer::RowsMut;
use crate::cpu::tiered;
use crate::number::Stored;
use std::sync::Arc;

/// Cosines and sines of the first positions: pair `j` at position `p` turns by `p / divisors[j]`. A clone
/// shares them.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeTable {
    /// `[positions, width]`: cosines of the pairs, then their sines.
    values: Arc<Vec<f32>>,
    /// One for each pair of a head.
    divisors: Arc<Vec<f64>>,
}

impl RopeTable {
    /// For heads `width` wide (even) and positions below `positions`, with divisors `base^(2 j / width)`.
    pub fn new(base: f64, width: usize, positions: usize) -> Self {
        assert!(width.is_multiple_of(2), "a head of width {width} has no pairs");
        let divisor = |j: usize| base.powf((2 * j) as f64 / width as f64);
        let mut table = Self::of_divisors((0..width / 2).map(divisor).collect());
        table.reach(positions);
        table
    }

    /// Without positions yet, for heads of as many pairs as there are `divisors`.
    pub fn of_divisors(divisors: Vec<f64>) -> Self {
        assert!(!divisors.is_empty(), "a head without pairs");
        Self { values: Arc::default(), divisors: Arc::new(divisors) }
    }

    /// Makes sure that positions below `positions` are there.
    pub fn reach(&mut self, positions: usize) {
        let before = self.positions();
        if positions <= before {
            return;
        }
        let values = Arc::make_mut(&mut self.values);
        for p in before..positions {
            let angles = || self.divisors.iter().map(|divisor| p as f64 / divisor);
            values.extend(angles().map(|angle| angle.cos() as f32));
            values.extend(angles().map(|angle| angle.sin() as f32));
        }
    }

    /// Width of a head.
    pub fn width(&self) -> usize {
        2 * self.divisors.len()
    }

    /// Number of positions.
    pub fn positions(&self) -> usize {
        self.values.len() / self.width()
    }

    /// Cosines and sines of a position's pairs, `[width / 2]` each.
    pub fn at(&self, position: usize) -> (&[f32], &[f32]) {
        self.values[position * self.width()..][..self.width()].split_at(self.width() / 2)
    }

    /// Cosines and sines from a position on.
    pub(super) fn from(&self, position: usize) -> &[f32] {
        &self.values[position * self.width()..]
    }
}

/// Rows `stride` values apart.
#[derive(Clone, Copy)]
pub(super) struct StridedRows<'a, T> {
    pub(super) values: &'a [T],
    pub(super) stride: usize,
}

tiered! {
    /// Turns rows by their positions (by none without a table) and scales them: `to` `[rows, width]`.
    pub(super) fn rotate<F: Stored>(
        from: StridedRows<'_, F>,
        to: &mut [f32],
        width: usize,
        table: &[f32],
        scale: f32,
    ) {
        for (i, to) in to.chunks_exact_mut(width).enumerate() {
            let (from, turns) = (&from.values[i * from.stride..][..width], i * width..(i + 1) * width);
            rotate_row(from, to, table.get(turns), (scale, 1.0));
        }
    }
}

tiered! {
    /// Turns rows `[rows, width]` back by their positions and scales them.
    pub(super) fn rotate_back<T: Stored>(
        from: &[f32],
        to: &mut RowsMut<'_, T>,
        width: usize,
        table: &[f32],
        scale: f32,
    ) {
        for (i, from) in from.chunks_exact(width).enumerate() {
            rotate_row(from, to.row(i), table.get(i * width..(i + 1) * width), (scale, -1.0));
        }
    }
}

/// Pairs that are turned at once.
const LANES: usize = 16;

#[inline(always)]
fn rotate_row<F: Stored, T: Stored>(
    from: &[F],
    to: &mut [T],
    table: Option<&[f32]>,
    (scale, sign): (f32, f32),
) {
    let Some(table) = table else {
        let ((from, from_rest), (to, to_rest)) = (from.as_chunks::<LANES>(), to.as_chunks_mut::<LANES>());
        for (to, from) in to.iter_mut().zip(from) {
            *to = lanes(|i| T::stored(from[i].wide() * scale));
        }
        for (to, x) in to_rest.iter_mut().zip(from_rest) {
            *to = T::stored(x.wide() * scale);
        }
        return;
    };
    // The table has no second half: both elements of a pair turn by the same angle.
    let half = from.len() / 2;
    let ((a, b), (cos, sin)) = (from.split_at(half), table.split_at(half));
    let (to_a, to_b) = to.split_at_mut(half);
    let whole = half / LANES * LANES;
    for at in (0..whole).step_by(LANES) {
        let ([a, b], [cos, sin]) = ([chunk(a, at), chunk(b, at)], [chunk(cos, at), chunk(sin, at)]);
        let turned = lanes(|i| T::stored(a[i] * (cos[i] * scale) - b[i] * (sin[i] * (scale * sign))));
        to_b[at..at + LANES].copy_from_slice(&lanes(|i| {
            T::stored(b[i] * (cos[i] * scale) + a[i] * (sin[i] * (scale * sign)))
        }));
        to_a[at..at + LANES].copy_from_slice(&turned);
    }
    for i in whole..half {
        let (a, b, cos, sin) = (a[i].wide(), b[i].wide(), cos[i] * scale, sin[i] * (scale * sign));
        (to_a[i], to_b[i]) = (T::stored(a * cos - b * sin), T::stored(b * cos + a * sin));
    }
}

/// A vector of values, made before any is stored.
#[inline(always)]
fn lanes<T: Stored>(value: impl Fn(usize) -> T) -> [T; LANES] {
    let mut lanes = [T::stored(0.0); LANES];
    for (i, lane) in lanes.iter_mut().enumerate() {
        *lane = value(i);
    }
    lanes
}

#[inline(always)]
fn chunk<F: Stored>(side: &[F], at: usize) -> [f32; LANES] {
    let side = &side[at..at + LANES];
    lanes(|i| side[i].wide())
}
