//! The split: in each place, every pair of an emoji and a background colour belongs to training or to test,
//! never to both, so no composition of one side can be on the other.
//!
//! The place is part of it, so that both sides have most emoji on most colours: else training would teach
//! that a test scene can't be ("never on this colour").

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::lexicon::{COLOURS, Emoji};
use super::scene::ObjectPlace;
use crate::source::interface::Split;

/// A colour keeps at least this many emoji on both sides in each place: one more than a scene has.
pub(super) const FEWEST: usize = 5;

/// Which emoji stand on which colours in one place, for each split.
pub(super) struct Pairs {
    /// Pairs of training.
    train: Side,
    /// All others: no pair is in both.
    test: Side,
}

struct Side {
    /// For each colour its emoji, ascending.
    emoji: Vec<Vec<usize>>,
    /// For each emoji its colours, ascending.
    colours: Vec<Vec<usize>>,
}

impl Pairs {
    /// Sends `test_share` of each colour's pairs to test, in the order of a hash of `seed`, both names and
    /// the place; then exchanges pairs until every emoji has a colour on both sides.
    pub(super) fn new(emoji: &[Emoji], place: ObjectPlace, test_share: f64, seed: u64) -> Self {
        // The place is part of the split. Pairs of emoji and colour held out whole taught the model what
        // can't be on a colour, which is what the test shows.
        let n = emoji.len();
        let fewest = FEWEST.max(n.div_ceil(COLOURS.len()));
        let quota = ((n as f64 * test_share).round() as usize).clamp(fewest, n - fewest);
        let mut held: Vec<Vec<bool>> = COLOURS
            .iter()
            .map(|(colour, _)| {
                let mut order: Vec<usize> = (0..n).collect();
                order.sort_by_key(|&e| {
                    let key = format!("{}/{colour}/{}", emoji[e].name, place.name());
                    (xxh3_64_with_seed(key.as_bytes(), seed), e)
                });
                let mut row = vec![false; n];
                order[..quota].iter().for_each(|&e| row[e] = true);
                row
            })
            .collect();
        for side in [true, false] {
            for e in 0..n {
                if held.iter().all(|row| row[e] != side) {
                    exchange(&mut held, e, side);
                }
            }
        }
        Self { train: Side::new(&held, false), test: Side::new(&held, true) }
    }

    /// The emoji that may stand on `colour`; at least [`FEWEST`].
    pub(super) fn emoji(&self, split: Split, colour: usize) -> &[usize] {
        &self.side(split).emoji[colour]
    }

    /// The colours that `emoji` may stand on; at least one.
    pub(super) fn colours(&self, split: Split, emoji: usize) -> &[usize] {
        &self.side(split).colours[emoji]
    }

    fn side(&self, split: Split) -> &Side {
        match split {
            Split::Train => &self.train,
            Split::Test => &self.test,
        }
    }
}

/// Gives `e`, which has no colour on `side`, one from an emoji that has two or more there. There is one,
/// because a side has at least as many pairs as there are emoji.
fn exchange(held: &mut [Vec<bool>], e: usize, side: bool) {
    let rich = |f: usize| held.iter().filter(|row| row[f] == side).count() > 1;
    let colours = (0..held.len()).map(|k| (e + k) % held.len());
    let found = colours
        .flat_map(|colour| (0..held[colour].len()).map(move |f| (colour, f)))
        .find(|&(colour, f)| held[colour][f] == side && rich(f));
    if let Some((colour, f)) = found {
        held[colour][f] = !side;
        held[colour][e] = side;
    }
}

impl Side {
    fn new(held: &[Vec<bool>], side: bool) -> Self {
        let emoji = held.iter().map(|row| (0..row.len()).filter(|&e| row[e] == side).collect()).collect();
        let colours = (0..held[0].len())
            .map(|e| (0..held.len()).filter(|&colour| held[colour][e] == side).collect())
            .collect();
        Self { emoji, colours }
    }
}
