//! The order of documents and what is held out: pure functions of keys and positions, without tables.

use std::sync::{Arc, Mutex, PoisonError};

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Groups whose documents are shuffled together. As many are held open.
pub(crate) const WINDOW: usize = 4;

/// Documents in the order of an epoch.
pub(crate) enum Order {
    /// Any document may follow any other.
    Free(u64),
    /// Documents lie in groups that are costly to open, such as Parquet's row groups.
    Grouped(Grouped),
}

impl Order {
    /// The order of documents of these groups (ascending); free, where all are of one group.
    pub(crate) fn new(groups: impl Iterator<Item = u64>) -> Self {
        let (mut starts, mut last) = (Vec::new(), None);
        let mut len = 0;
        for group in groups {
            if last != Some(group) {
                starts.push(len);
                last = Some(group);
            }
            len += 1;
        }
        if starts.len() <= 1 {
            return Self::Free(len);
        }
        starts.push(len);
        Self::Grouped(Grouped { starts, latest: Mutex::default() })
    }

    /// Bytes of its tables.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Free(_) => 0,
            // The starts, and where the groups of the epoch begin.
            Self::Grouped(grouped) => 2 * grouped.starts.capacity() * size_of::<u64>(),
        }
    }

    /// The epoch and the document at `index` of an endless training, or `None` without documents.
    pub(crate) fn place(&self, index: u64, seed: u64) -> Option<(u64, u64)> {
        let len = match self {
            Self::Free(len) => *len,
            Self::Grouped(grouped) => grouped.len(),
        };
        let epoch = index.checked_div(len)?;
        let key = xxh3_64_with_seed(&epoch.to_le_bytes(), seed);
        let place = match self {
            Self::Free(len) => shuffled(index % len, *len, key),
            Self::Grouped(grouped) => grouped.place(index % len, key),
        };
        Some((epoch, place))
    }
}

/// Groups are shuffled as a whole, then documents inside windows of [`WINDOW`] consecutive groups of that
/// order.
pub(crate) struct Grouped {
    /// The first document of each group, and the number of documents.
    starts: Vec<u64>,
    /// For the epoch that was read last: its key, and where each group of its order begins.
    // One epoch is enough: a run reads them in order, and two threads are rarely in different ones.
    latest: Mutex<Option<(u64, Arc<Vec<u64>>)>>,
}

impl Grouped {
    fn len(&self) -> u64 {
        self.starts.last().copied().unwrap_or_default()
    }

    fn place(&self, position: u64, key: u64) -> u64 {
        let groups = self.starts.len() - 1;
        let begins = self.begins(key);
        let slot = |position| begins.partition_point(|&begin| begin <= position) - 1;
        // Rejected: groups one after the other, which trains on what was written together; any document at
        // any time, which opens a row group of hundreds of megabytes for each.
        let window = slot(position) / WINDOW;
        let first = begins[window * WINDOW];
        let end = begins[((window + 1) * WINDOW).min(groups)];
        let window_key = xxh3_64_with_seed(&(window as u64).to_le_bytes(), key);
        let position = first + shuffled(position - first, end - first, window_key);
        let slot = slot(position);
        self.starts[shuffled(slot as u64, groups as u64, key) as usize] + position - begins[slot]
    }

    fn begins(&self, key: u64) -> Arc<Vec<u64>> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, begins)) = &*latest
            && *of == key
        {
            return Arc::clone(begins);
        }
        let groups = self.starts.len() as u64 - 1;
        let mut begins = vec![0];
        let mut end = 0;
        for slot in 0..groups {
            let group = shuffled(slot, groups, key) as usize;
            end += self.starts[group + 1] - self.starts[group];
            begins.push(end);
        }
        let begins = Arc::new(begins);
        *latest = Some((key, Arc::clone(&begins)));
        begins
    }
}

/// The bound on the hash of a document below which it is held out: about `share` of them, at least one, and
/// at least one is left for training, where there are two. With a share of 0 nothing is held out.
pub(crate) fn test_bound(hashes: impl Iterator<Item = u64>, share: f64) -> u64 {
    let below = (share * u64::MAX as f64) as u64;
    let bounds = hashes.fold(None, |bounds, hash| {
        let (lowest, highest) = bounds.unwrap_or((hash, hash));
        Some((hash.min(lowest), hash.max(highest)))
    });
    match bounds {
        Some((lowest, highest)) if share > 0.0 => below.max(lowest.saturating_add(1)).min(highest),
        _ => below,
    }
}

/// The place of `position` in the shuffle of `0..len` that `key` draws: a Feistel network over the next power
/// of four, walked until it falls inside (Black and Rogaway 2002). It needs no table.
pub(crate) fn shuffled(position: u64, len: u64, key: u64) -> u64 {
    // Rejected: a table of the permutation, 8 bytes a document and epoch, which a resume makes anew.
    let half = (u64::BITS - (len - 1).leading_zeros()).div_ceil(2).max(1);
    let mask = (1 << half) - 1;
    let mut place = position;
    loop {
        let (mut left, mut right) = (place >> half, place & mask);
        for round in 0..4_u64 {
            let mixed = xxh3_64_with_seed(&(right << 2 | round).to_le_bytes(), key);
            (left, right) = (right, left ^ (mixed & mask));
        }
        place = left << half | right;
        if place < len {
            return place;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(mut items: Vec<u64>) -> Vec<u64> {
        items.sort_unstable();
        items
    }

    #[test]
    fn the_shuffle_is_a_permutation_that_changes_with_the_key() {
        for len in [1, 2, 3, 4, 5, 17, 64, 1000] {
            let order = |key| (0..len).map(|i| shuffled(i, len, key)).collect::<Vec<_>>();
            assert_eq!(sorted(order(1)), (0..len).collect::<Vec<_>>());
            assert!(len < 17 || order(1) != order(2));
            assert!(len < 17 || order(1) != sorted(order(1)));
        }
    }

    /// Recorded before the shuffle moved to this file: a run that is resumed depends on it.
    #[test]
    fn the_shuffle_stays_as_it_was() {
        let order: Vec<u64> = (0..12).map(|i| shuffled(i, 12, 7)).collect();
        assert_eq!(order, RECORDED);
        let free = Order::new(std::iter::repeat_n(0, 12));
        let key = xxh3_64_with_seed(&1_u64.to_le_bytes(), 7);
        assert_eq!(free.place(12 + 5, 7), Some((1, shuffled(5, 12, key))));
        assert_eq!(Order::new(std::iter::empty()).place(0, 7), None);
    }

    const RECORDED: [u64; 12] = [11, 10, 9, 5, 6, 7, 1, 8, 3, 2, 4, 0];

    #[test]
    fn groups_are_permuted_and_opened_a_window_at_a_time() {
        let groups: Vec<u64> =
            (0..23).flat_map(|g| std::iter::repeat_n(g * 10, 1 + g as usize % 7)).collect();
        let len = groups.len() as u64;
        let order = Order::new(groups.iter().copied());
        let epoch =
            |e: u64| -> Vec<u64> { (e * len..(e + 1) * len).map(|i| order.place(i, 3).unwrap().1).collect() };
        assert_eq!(sorted(epoch(0)), (0..len).collect::<Vec<_>>());
        assert_eq!(sorted(epoch(5)), (0..len).collect::<Vec<_>>());
        assert_ne!(epoch(0), epoch(1));
        let backwards: Vec<u64> = (0..len).rev().map(|i| order.place(i, 3).unwrap().1).collect();
        assert!(epoch(0).iter().rev().eq(&backwards), "a place does not depend on what was asked before");
        // Each group is met in one window only: the documents of a group are never far apart.
        for group in 0..23 {
            let at: Vec<usize> =
                (0..len as usize).filter(|&i| groups[epoch(0)[i] as usize] == group * 10).collect();
            assert!(at[at.len() - 1] - at[0] < 7 * WINDOW, "group {group} at {at:?}");
        }
    }

    #[test]
    fn a_share_is_held_out_and_something_is_left_on_both_sides() {
        let hashes = |n: u64| (0..n).map(|i| xxh3_64_with_seed(&i.to_le_bytes(), 0));
        let held = |n, share| hashes(n).filter(|&h| h < test_bound(hashes(n), share)).count();
        assert_eq!(
            [held(0, 0.5), held(1, 0.5), held(2, 0.001), held(2, 0.999), held(9, 0.0)],
            [0, 0, 1, 1, 0]
        );
        assert!((80..120).contains(&held(1000, 0.1)));
    }
}
