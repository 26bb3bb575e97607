//! [`Mixture`]: which source each row is taken from.

use std::sync::Arc;

use anyhow::{Result, ensure};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use xxhash_rust::xxh3::xxh3_64;

use crate::source::interface::Source;

/// One source of a mixture.
#[derive(Clone)]
pub struct MixturePart {
    /// The name that the recipe gives it; cursors are kept by it.
    pub name: String,
    /// Its documents.
    pub source: Arc<dyn Source>,
    /// Its share of the rows, in proportion to the other weights.
    pub weight: f64,
}

/// Sources with weights. A row comes from one source, drawn with the weight's probability (MM1, section 3.2).
#[derive(Clone)]
pub struct Mixture {
    /// Names are unique; weights are finite, at least 0 and not all 0.
    parts: Vec<MixturePart>,
}

impl Mixture {
    /// Checks names and weights.
    ///
    /// # Errors
    /// No parts, a name given twice, a weight that is negative or not finite, weights that sum to 0.
    pub fn new(parts: Vec<MixturePart>) -> Result<Self> {
        for (i, MixturePart { name, weight, .. }) in parts.iter().enumerate() {
            ensure!(
                weight.is_finite() && *weight >= 0.0,
                "source `{name}`: weight = {weight} must be a number from 0 up"
            );
            ensure!(parts[..i].iter().all(|p| p.name != *name), "two sources have the name `{name}`");
        }
        let sum: f64 = parts.iter().map(|p| p.weight).sum();
        ensure!(sum > 0.0 && sum.is_finite(), "the mixture needs a source with a weight above 0");
        Ok(Self { parts })
    }

    /// The sources, in the recipe's order.
    pub fn parts(&self) -> &[MixturePart] {
        &self.parts
    }

    /// The part that row `row` is taken from: a pure function of the weights, the seed and the row.
    pub fn draw(&self, seed: u64, row: u64) -> usize {
        let mut rng = ChaCha8Rng::seed_from_u64(xxh3_64(format!("{seed}/mixture").as_bytes()));
        // A stream of the generator for each row: any row is drawn without those before it, as a resume
        // needs.
        rng.set_stream(row);
        let mut left = rng.random::<f64>() * self.parts.iter().map(|p| p.weight).sum::<f64>();
        let mut drawn = 0;
        for (i, part) in self.parts.iter().enumerate().filter(|(_, p)| p.weight > 0.0) {
            drawn = i;
            if left < part.weight {
                break;
            }
            left -= part.weight;
        }
        drawn
    }
}
