//! Memory that kernels share and reuse: aligned buffers, scratch of a thread, disjoint parts of one slice.

#![expect(unsafe_code, reason = "casts aligned lines to words; hands out disjoint parts of one slice")]

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};

use crate::arena::Part;

/// One cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct CacheLine([u32; 16]);

/// Words of 32 bits, at the start of a cache line: zeros when made.
#[derive(Default)]
pub(crate) struct Words {
    lines: Vec<CacheLine>,
    len: usize,
}

impl Words {
    /// `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        let mut words = Self::default();
        words.resize(len);
        words
    }

    /// Sets the length; words that were not there before are zeros.
    fn resize(&mut self, len: usize) {
        if self.lines.len() < len.div_ceil(16) {
            // Not `Vec::resize`, which would copy what nobody reads.
            self.lines = vec![CacheLine([0; 16]); len.div_ceil(16)];
        }
        self.len = len;
    }
}

impl Deref for Words {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        // SAFETY: a line is 16 words without padding, and `len` words lie in `lines`.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Words {
    fn deref_mut(&mut self) -> &mut [u32] {
        // SAFETY: as in `deref`.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

thread_local! {
    /// Scratch that waits for its next use. A piece of work runs on any thread of the pool, and needs scratch
    /// there: the pool hands a piece nothing but its closure. What lies in it is overwritten before it is
    /// read, so no result depends on it.
    static FREE: RefCell<Vec<Words>> = const { RefCell::new(Vec::new()) };
}

/// Words from which on scratch is the arena's: a thread does not keep for itself what a product needs once in
/// a step.
const LARGE: usize = 1 << 18;

/// Words for a while: of the thread, which keeps them for the next, or of the arena. They hold what the last
/// user left there.
pub(crate) struct Scratch(Memory);

enum Memory {
    Thread(Words),
    Arena(Part),
}

impl Scratch {
    /// `len` words of any value.
    pub(crate) fn new(len: usize) -> Self {
        if len >= LARGE
            && let Some(part) = Part::new(len)
        {
            return Self(Memory::Arena(part));
        }
        let mut words = FREE.with_borrow_mut(|free| {
            // The smallest that is large enough, else the largest.
            let fits = |words: &Words| words.lines.len() * 16 >= len;
            let size = |i: &usize| free[*i].lines.len();
            let best = (0..free.len()).filter(|&i| fits(&free[i])).min_by_key(size);
            best.or_else(|| (0..free.len()).max_by_key(size)).map(|i| free.swap_remove(i)).unwrap_or_default()
        });
        words.resize(len);
        Self(Memory::Thread(words))
    }

    /// The words as floats.
    pub(crate) fn floats(&mut self) -> &mut [f32] {
        // SAFETY: a float has a word's size and alignment, and every word is a valid float.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr().cast(), self.len()) }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Memory::Thread(words) = &mut self.0 {
            let words = std::mem::take(words);
            // The thread may be at its end, and its memory with it.
            let _ = FREE.try_with(|free| free.borrow_mut().push(words));
        }
    }
}

impl Deref for Scratch {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        match &self.0 {
            Memory::Thread(words) => words,
            Memory::Arena(part) => part.words(),
        }
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [u32] {
        match &mut self.0 {
            Memory::Thread(words) => words,
            Memory::Arena(part) => part.words_mut(),
        }
    }
}

/// A slice that several threads write to, each its own parts.
#[derive(Clone, Copy)]
pub(crate) struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: it stands for `&mut [T]`; that parts do not overlap is the promise of `part`'s caller.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// One part.
    ///
    /// # Safety
    /// No other part that is alive may overlap it.
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "part {range:?} of {}", self.len);
        // SAFETY: the range lies in the slice (checked), and nobody else has it (the caller's promise).
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }

    /// A pointer to the value at `index`, for kernels that write a tile: valid up to the slice's end.
    pub(crate) fn pointer(&self, index: usize) -> *mut T {
        assert!(index <= self.len, "index {index} of {}", self.len);
        self.start.wrapping_add(index)
    }
}

/// Rows of a shared matrix that one task writes to.
pub(crate) struct RowsMut<'a, T = f32> {
    shared: Shared<'a, T>,
    start: usize,
    stride: usize,
    width: usize,
}

impl<'a, T> RowsMut<'a, T> {
    /// Rows of `width` values, the first one at `start`, the others `stride` apart.
    ///
    /// # Safety
    /// While this is alive, nobody else may read or write the rows that are asked of it.
    pub(crate) unsafe fn new(shared: Shared<'a, T>, start: usize, stride: usize, width: usize) -> Self {
        assert!(width <= stride, "rows overlap");
        Self { shared, start, stride, width }
    }

    pub(crate) fn row(&mut self, i: usize) -> &mut [T] {
        let start = self.start + i * self.stride;
        // SAFETY: the promise of `new`, and rows of `self` do not overlap.
        unsafe { self.shared.part(start..start + self.width) }
    }
}
