//! [`DecodeBudget`]: the memory that pictures take while they are decoded, shared by the threads that do it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::header::read_header;
use crate::document::Image;

/// Memory of all pictures that are decoded at one time.
// As much as one picture may take: four photographs of 100 megapixels took 2.7 GB before.
const MOST: u64 = 512 << 20;
/// Bytes of a pixel while its picture is decoded: as the decoder has it, and as it is handed on.
const PIXEL: u64 = 6;

/// Room for decoding. Clones share it. A picture that finds too little waits for others to be done; one
/// that is larger than all of it is decoded alone. What is decoded does not depend on it.
// Handed on and not a global: two loaders in one process are planned one by one, and tests do not wait
// for each other.
#[derive(Clone, Default)]
pub struct DecodeBudget(Arc<DecodeRoom>);

#[derive(Default)]
struct DecodeRoom {
    state: Mutex<DecodeQueue>,
    changed: Condvar,
}

#[derive(Default)]
struct DecodeQueue {
    /// Bytes that are taken now; above [`MOST`] only by one picture alone.
    taken: u64,
    /// Pictures that came, and those of them that were let in, in the order in which they came.
    // In order, so that a large picture does not wait for ever behind small ones.
    came: u64,
    let_in: u64,
}

/// Room that is given back when it is dropped.
pub struct DecodeHold<'a> {
    room: &'a DecodeRoom,
    bytes: u64,
}

impl DecodeBudget {
    /// Waits until there is room to decode the picture. A thread holds one at a time.
    pub fn hold(&self, image: &Image) -> DecodeHold<'_> {
        let bytes = match image {
            Image::Pixels(_) => 0,
            // One whose header can't be read takes nothing: decoding it fails.
            Image::File { .. } => read_header(image)
                .map_or(0, |header| u64::from(header.width) * u64::from(header.height) * PIXEL),
        };
        let mut queue = self.0.lock();
        let turn = queue.came;
        queue.came += 1;
        while queue.let_in != turn || (queue.taken > 0 && queue.taken + bytes > MOST) {
            queue = self.0.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        (queue.let_in, queue.taken) = (queue.let_in + 1, queue.taken + bytes);
        self.0.changed.notify_all();
        DecodeHold { room: &self.0, bytes }
    }

    /// Bytes that are taken now.
    pub fn taken(&self) -> u64 {
        self.0.lock().taken
    }
}

impl DecodeRoom {
    fn lock(&self) -> MutexGuard<'_, DecodeQueue> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for DecodeHold<'_> {
    fn drop(&mut self) {
        self.room.lock().taken -= self.bytes;
        self.room.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// A BMP whose header says these sides, and that has no pixels.
    fn header(width: u32, height: u32) -> Image {
        let mut bytes = b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
        bytes.extend(width.to_le_bytes());
        bytes.extend(height.to_le_bytes());
        bytes.extend([1, 0, 24, 0]);
        bytes.resize(54, 0);
        bytes.into()
    }

    #[test]
    fn threads_hold_no_more_than_there_is_but_one_picture_alone() {
        let (budget, most, alone) = (DecodeBudget::default(), AtomicU64::new(0), AtomicU64::new(0));
        let sides = [(10_000, 10_000), (3_000, 3_000), (5_000, 9_000), (1, 1), (9_999, 2_000), (100, 100)];
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (budget, most, alone) = (budget.clone(), &most, &alone);
                scope.spawn(move || {
                    for i in 0..60 {
                        let (width, height) = sides[(thread + i) % sides.len()];
                        let hold = budget.hold(&header(width, height));
                        assert_eq!(hold.bytes, u64::from(width) * u64::from(height) * PIXEL);
                        let taken = budget.taken();
                        if taken == hold.bytes { alone } else { most }.fetch_max(taken, Ordering::Relaxed);
                        std::thread::yield_now();
                    }
                });
            }
        });
        let (most, alone) = (most.into_inner(), alone.into_inner());
        assert!(most <= MOST && alone == 600_000_000, "{most} together, {alone} alone");
        assert_eq!(budget.taken(), 0);
    }
}
