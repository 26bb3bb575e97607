//! [`Prefixes`]: beginnings of prompts that were read, for those who begin alike (prefix cache).

use std::sync::Arc;

use mm1_model::CachedSequence;

use super::prompt::Unit;

/// The most beginnings that are kept: each is compared with a new prompt.
const MOST: usize = 256;

/// Beginnings of prompts, with their keys and values. Memory that several of them have is held once.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    entries: Vec<Prefix>,
    /// Counts uses: the least recently used one is forgotten first.
    clock: u64,
}

#[derive(Debug)]
struct Prefix {
    /// Of the whole prompt, of which `read.len()` positions were read.
    units: Arc<[Unit]>,
    cuts: Arc<[usize]>,
    read: CachedSequence,
    used: u64,
}

impl Prefix {
    /// How far a prompt of `units` and `cuts` can go on from here: up to the last cut that both have, with
    /// all cuts before, and `most` positions.
    fn shared(&self, (units, cuts): (&[Unit], &[usize]), most: usize) -> usize {
        let most = self.read.len().min(most);
        let common = self.units.iter().zip(units).take(most).take_while(|(a, b)| a == b).count();
        let same = self.cuts.iter().zip(cuts).take_while(|(a, b)| a == b && **a <= common);
        same.last().map_or(0, |(cut, _)| *cut)
    }
}

impl Prefixes {
    /// The longest beginning of a prompt of these units and cuts that is known: of more than `than` and up to
    /// `most` positions.
    pub(super) fn longest(
        &mut self,
        prompt: (&[Unit], &[usize]),
        than: usize,
        most: usize,
    ) -> Option<CachedSequence> {
        let shared = self.entries.iter().map(|entry| entry.shared(prompt, most));
        // Of equals the first: which one makes no difference.
        let (best, len) = shared.enumerate().reduce(|a, b| if b.1 > a.1 { b } else { a })?;
        (len > than).then(|| {
            self.clock += 1;
            self.entries[best].used = self.clock;
            self.entries[best].read.beginning(len)
        })
    }

    /// Keeps what was read of a prompt, in place of a shorter beginning of it.
    pub(super) fn keep(&mut self, units: &Arc<[Unit]>, cuts: &Arc<[usize]>, read: CachedSequence) {
        self.clock += 1;
        let known = self.entries.iter_mut().find(|entry| {
            let len = entry.read.len();
            len <= read.len() && entry.units[..len] == units[..len] && cuts.contains(&len)
        });
        let new = Prefix { units: Arc::clone(units), cuts: Arc::clone(cuts), read, used: self.clock };
        match known {
            Some(known) => *known = new,
            None => {
                if self.entries.len() == MOST {
                    self.forget_oldest();
                }
                self.entries.push(new);
            }
        }
    }

    /// Forgets the one that was not used for longest, and says whether there was one.
    pub(super) fn forget_oldest(&mut self) -> bool {
        let oldest = (0..self.entries.len()).min_by_key(|&i| self.entries[i].used);
        oldest.map(|oldest| self.entries.swap_remove(oldest)).is_some()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Addresses of the blocks that they hold.
    pub(super) fn block_addresses(&self) -> impl Iterator<Item = usize> + '_ {
        self.entries.iter().flat_map(|entry| entry.read.block_addresses())
    }

    /// Addresses of the pictures that they look at beside their positions.
    pub(super) fn picture_addresses(&self) -> impl Iterator<Item = usize> + '_ {
        self.entries.iter().flat_map(|entry| entry.read.picture_addresses())
    }
}
