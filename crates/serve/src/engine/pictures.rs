//! [`PictureCache`]: image tokens of pictures that were seen, wherever they stood in a prompt.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::prompt::ViewDigest;

/// Image tokens by the pixels that they were made of. Those that were not used for longest are forgotten.
#[derive(Debug)]
pub(super) struct PictureCache {
    seen: BTreeMap<ViewDigest, SeenPicture>,
    bytes: usize,
    most_bytes: usize,
    /// Counts uses.
    clock: u64,
}

#[derive(Debug)]
struct SeenPicture {
    tokens: Arc<[f32]>,
    used: u64,
}

impl PictureCache {
    /// Of no more than `most_bytes`.
    pub(super) fn new(most_bytes: usize) -> Self {
        Self { seen: BTreeMap::new(), bytes: 0, most_bytes, clock: 0 }
    }

    /// The image tokens of a picture.
    pub(super) fn get(&mut self, digest: &ViewDigest) -> Option<Arc<[f32]>> {
        let seen = self.seen.get_mut(digest)?;
        self.clock += 1;
        seen.used = self.clock;
        Some(Arc::clone(&seen.tokens))
    }

    /// Keeps those of a picture, if there is room for them at all.
    pub(super) fn keep(&mut self, digest: ViewDigest, tokens: Arc<[f32]>) {
        let new = size_of_val(&*tokens);
        if new > self.most_bytes || self.seen.contains_key(&digest) {
            return;
        }
        while self.bytes + new > self.most_bytes {
            let oldest = self.seen.iter().min_by_key(|(_, seen)| seen.used).map(|(digest, _)| *digest);
            let Some(forgotten) = oldest.and_then(|oldest| self.seen.remove(&oldest)) else { break };
            self.bytes -= size_of_val(&*forgotten.tokens);
        }
        self.clock += 1;
        self.bytes += new;
        self.seen.insert(digest, SeenPicture { tokens, used: self.clock });
    }

    /// What it holds.
    /// Unit: bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_is_forgotten() {
        let mut cache = PictureCache::new(3 * 16);
        let tokens = |value: u8| Arc::from([f32::from(value); 4]);
        for digest in [1, 2, 3] {
            cache.keep([digest; 32], tokens(digest));
        }
        assert_eq!(cache.get(&[1; 32]), Some(tokens(1)));
        cache.keep([4; 32], tokens(4));
        assert_eq!(cache.bytes(), 48);
        let known: Vec<bool> = (1..=4).map(|digest| cache.get(&[digest; 32]).is_some()).collect();
        assert_eq!(known, [true, false, true, true]);
        // One that is larger than all room moves nothing.
        cache.keep([5; 32], Arc::from([0.0; 13]));
        assert!(cache.bytes() == 48 && cache.get(&[5; 32]).is_none());
    }
}
