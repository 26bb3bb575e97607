//! [`Footprint`]: the memory that something holds.

/// Bytes of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Held at this moment.
    pub now: u64,
    /// Held at most, once it was read for some time.
    pub most: u64,
}

impl Footprint {
    /// What does not change.
    pub(crate) fn always(bytes: usize) -> Self {
        Self { now: bytes as u64, most: bytes as u64 }
    }
}

impl std::ops::Add for Footprint {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { now: self.now + other.now, most: self.most + other.most }
    }
}
