//! Rotary position embedding (Su et al. 2021) in the half-split form of Llama: component `i` of a head turns together
//! with component `i + c / 2` by the angle `position * base^(-2i / c)`.

/// Cosines and sines of the first positions. Row `p` belongs to position `p`.
#[derive(Clone, Debug)]
pub struct Rope {
    base: f64,
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rope {
    /// For heads of width `width` (even), reaching `positions` positions.
    pub fn new(base: f64, width: usize, positions: usize) -> Self {
        let mut rope = Self { base, half: width / 2, cos: Vec::new(), sin: Vec::new() };
        rope.reach(positions);
        rope
    }

    /// Makes sure that positions below `positions` are there.
    pub fn reach(&mut self, positions: usize) {
        let frequencies: Vec<f64> =
            (0..self.half).map(|i| self.base.powf(-(i as f64) / self.half as f64)).collect();
        for position in self.positions()..positions {
            for frequency in &frequencies {
                let (sin, cos) = (position as f64 * frequency).sin_cos();
                self.cos.push(cos as f32);
                self.sin.push(sin as f32);
            }
        }
    }

    /// Positions that it reaches.
    pub fn positions(&self) -> usize {
        self.cos.len() / self.half.max(1)
    }

    /// Half the width of a head: the entries of a row.
    pub fn half(&self) -> usize {
        self.half
    }

    /// Cosines `[positions, half]`.
    pub fn cos(&self) -> &[f32] {
        &self.cos
    }

    /// Sines `[positions, half]`.
    pub fn sin(&self) -> &[f32] {
        &self.sin
    }
}
