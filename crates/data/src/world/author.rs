//! [`Author`]: what writing a document of the world takes.

use rand::Rng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

use super::{World, WorldPage};
use crate::source::interface::Split;

/// What writing a document takes: the world, the side of the split and the sample's own random numbers.
pub(super) struct Author<'a> {
    pub(super) world: &'a World,
    /// What it shows and tells belongs to this split.
    pub(super) split: Split,
    /// The sample's own: nothing that is drawn here depends on another sample.
    pub(super) rng: ChaCha8Rng,
}

impl<'a> Author<'a> {
    pub(super) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.rng.random_range(0..items.len())]
    }

    /// The items in an order that is drawn.
    pub(super) fn shuffled<T>(&mut self, items: impl IntoIterator<Item = T>) -> Vec<T> {
        let mut items: Vec<T> = items.into_iter().collect();
        items.shuffle(&mut self.rng);
        items
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.rng.random_bool(probability)
    }

    /// An item with a probability in proportion to its weight.
    pub(super) fn weighted<T: Copy>(&mut self, items: &[(u32, T)]) -> T {
        let mut at = self.rng.random_range(0..items.iter().map(|i| i.0).sum());
        for &(weight, item) in items {
            if at < weight {
                return item;
            }
            at -= weight;
        }
        unreachable!("`at` is below the sum of the weights")
    }

    pub(super) fn name(&self, emoji: usize) -> &'static str {
        self.world.emoji[emoji].name
    }

    pub(super) fn page(&self) -> WorldPage<'a> {
        WorldPage::new(self.world)
    }
}
