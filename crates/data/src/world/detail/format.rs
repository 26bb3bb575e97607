//! [`Proportions`]: sides of a detailed picture and the height of its letters; what its composers draw.

use rand::Rng as _;
use rand::seq::SliceRandom as _;

use super::letters::{HEIGHTS, LEAST, LetterHeight};
use crate::world::author::Author;
use crate::world::lexicon::fill;

/// Width over height.
const RATIOS: [f64; 11] = [0.25, 1.0 / 3.0, 0.5, 2.0 / 3.0, 0.75, 1.0, 4.0 / 3.0, 1.5, 2.0, 3.0, 4.0];

/// Longer sides, as shares of `detail_size`.
const SCALES: [f64; 4] = [1.0, 1.0, 0.75, 0.5];

/// English words for signs that questions and descriptions have, too: "What does cost cost?"
const SPOKEN: [&str; 14] = [
    "brown", "cost", "crowd", "item", "kind", "left", "name", "next", "price", "reach", "shop", "table",
    "value", "water",
];

/// What is fixed before a picture is composed.
pub(super) struct Proportions {
    /// Width and height, of which the longer is 1.
    pub(super) sides: (f64, f64),
    /// The longer side as a share of `detail_size`.
    pub(super) scale: f64,
    pub(super) letters: LetterHeight,
}

impl Author<'_> {
    /// A height of letters, each as likely as another where it fits, and sides that hold them.
    pub(super) fn format(&mut self, fits: impl Fn((f64, f64), f64) -> bool) -> Proportions {
        let sides = |ratio: f64| if ratio > 1.0 { (1.0, 1.0 / ratio) } else { (ratio, 1.0) };
        loop {
            let (share, scale) = (self.pick(&HEIGHTS), self.pick(&SCALES));
            let wide: Vec<f64> = RATIOS.into_iter().filter(|&ratio| fits(sides(ratio), share)).collect();
            if scale * share >= LEAST && !wide.is_empty() {
                let pixels = share * scale * f64::from(self.world.config.detail_size);
                return Proportions {
                    sides: sides(self.pick(&wide)),
                    scale,
                    letters: LetterHeight { share, pixels },
                };
            }
        }
    }

    /// Different words that this split may show.
    pub(super) fn detail_words(&mut self, number: usize) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        while words.len() < number {
            let word = self.detail_word_beside(|word| words.iter().any(|known| known == word));
            words.push(word);
        }
        words
    }

    /// A word that this split may show and that is not `taken`.
    pub(super) fn detail_word_beside(&mut self, taken: impl Fn(&str) -> bool) -> String {
        loop {
            let word = if self.chance(0.5) { self.english_word() } else { self.new_word() };
            if !SPOKEN.contains(&word.as_str()) && !taken(&word) {
                return word;
            }
        }
    }

    /// Different emoji of the world.
    pub(super) fn detail_emoji(&mut self, number: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..self.world.emoji.len()).collect();
        let (chosen, _) = all.partial_shuffle(&mut self.rng, number);
        chosen.to_vec()
    }

    pub(super) fn one_of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.rng.random_range(0..items.len())]
    }

    /// Two different ones in any order.
    pub(super) fn two<'a, T>(&mut self, items: &'a [T]) -> [&'a T; 2] {
        let first = self.rng.random_range(0..items.len());
        let second = (first + self.rng.random_range(1..items.len())) % items.len();
        [&items[first], &items[second]]
    }

    /// One of the templates, filled in.
    pub(super) fn phrased(&mut self, templates: &[&'static str], values: &[(&str, &str)]) -> String {
        fill(self.pick(templates), values)
    }
}
