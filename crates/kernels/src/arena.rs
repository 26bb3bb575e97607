//! Memory of steps, of training or of reading: one range of addresses whose free parts join, so that
//! gradients lie where activations lay.
//!
//! What goes back to the system is cleared page by page when it comes again, and a pool of vectors keeps what
//! no later one fits into. Here a step finds the pages of the last one, whatever their sizes were.

#![expect(unsafe_code, reason = "maps addresses and hands out disjoint parts of them")]

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn_std::{AccessError, AccessPolicy, AllocationController, AllocationProperty, Bytes};
use half::bf16;

/// Addresses that are set aside. A page takes memory when it is first written.
const RESERVED: usize = 1 << 40;
const PAGE: usize = 4096;
const WORD: usize = size_of::<u32>();
/// Steps whose pages stay, as steps differ in size.
const STEPS: usize = 8;

/// There is one in a process, as there is one heap, and like the heap it is an allocator: where a value lies
/// changes no digit. What it hands out is dropped by whoever holds it last, tensors of the engine too, and
/// the kernels take scratch of it inside of pieces that run on any thread; a handle would be a parameter of
/// every kernel, and of each function inside of them. (Before, a pool had vectors by their size: with the
/// arena a step takes 0.93 of the time, docs/LOG.md, 2026-11-27.)
static ARENA: Mutex<Option<Arena>> = Mutex::new(None);

fn arena() -> MutexGuard<'static, Option<Arena>> {
    ARENA.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The bytes of `len` floats of any value. Dropped, they serve the next.
pub fn floats(len: usize) -> Bytes {
    bytes(len * size_of::<f32>()).unwrap_or_else(|| Bytes::from_elems(vec![0.0f32; len]))
}

/// The same of `len` numbers of bfloat16.
pub fn halves(len: usize) -> Bytes {
    bytes(len * size_of::<bf16>()).unwrap_or_else(|| Bytes::from_elems(vec![bf16::ZERO; len]))
}

/// Numbers for a while, in the arena: of any value at first. Dropped, they serve the next.
pub struct Buffer<T> {
    words: BufferWords,
    len: usize,
    number: PhantomData<T>,
}

enum BufferWords {
    Arena(Part),
    /// Without an arena, and of no length.
    Heap(Vec<u32>),
}

/// A number of which every pattern of bits is one, with the alignment of a word at most.
pub trait Plain: Copy + sealed::Sealed {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::bf16 {}
}

impl Plain for f32 {}
impl Plain for bf16 {}

impl<T: Plain> Buffer<T> {
    /// `len` numbers.
    pub fn new(len: usize) -> Self {
        let words = (len * size_of::<T>()).div_ceil(WORD);
        let part = if words > 0 { Part::new(words) } else { None };
        let words = part.map_or_else(|| BufferWords::Heap(vec![0; words]), BufferWords::Arena);
        Self { words, len, number: PhantomData }
    }
}

impl<T: Plain> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        let words = match &self.words {
            BufferWords::Arena(part) => part.words(),
            BufferWords::Heap(words) => words,
        };
        // SAFETY: `len` numbers fit into the words, which are initialised and aligned for them; any bits are
        // a number.
        unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), self.len) }
    }
}

impl<T: Plain> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let words = match &mut self.words {
            BufferWords::Arena(part) => part.words_mut(),
            BufferWords::Heap(words) => words,
        };
        // SAFETY: as in `deref`; whatever is written leaves words that are initialised.
        unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), self.len) }
    }
}

impl<T> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} numbers", self.len)
    }
}

fn bytes(size: usize) -> Option<Bytes> {
    let part = Part::new(size.div_ceil(WORD))?;
    // SAFETY: all bytes of a part are initialised: the system gives zeros, and users write numbers.
    Some(unsafe { Bytes::from_controller(Box::new(part), size) })
}

/// Ends a step: the pages beyond those of the last steps go back to the system.
pub fn end_step() {
    if let Some(arena) = arena().as_mut() {
        arena.end_step();
    }
}

/// Gives all pages that are free back to the system.
pub fn give_back() {
    if let Some(arena) = arena().as_mut() {
        arena.give_back();
    }
}

/// Addresses for the arena, where there is a system for it.
fn map() -> Option<*mut u8> {
    #[cfg(target_os = "linux")]
    {
        use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: new addresses, which nobody else has.
        let map = unsafe {
            mmap_anonymous(std::ptr::null_mut(), RESERVED, access, MapFlags::PRIVATE | MapFlags::NORESERVE)
        };
        let map = map.ok()?;
        // For packed operands outside of training, which has small pages: decoding takes 0.96 of the time. A
        // system without huge ones may refuse.
        // SAFETY: changes no value.
        let _ = unsafe { madvise(map, RESERVED, Advice::LinuxHugepage) };
        Some(map.cast())
    }
    #[cfg(not(target_os = "linux"))]
    None
}

struct Arena {
    base: *mut u8,
    /// Start and length of the ranges that nobody has; no two touch.
    free: BTreeMap<usize, usize>,
    /// The end of what has been handed out since the last step's end.
    used: usize,
    /// `used` of the last steps.
    steps: [usize; STEPS],
    /// The end of the pages that may hold memory.
    touched: usize,
}

// SAFETY: the addresses belong to the process, not to a thread.
unsafe impl Send for Arena {}

impl Arena {
    fn new(base: *mut u8) -> Self {
        Self { base, free: BTreeMap::from([(0, RESERVED)]), used: 0, steps: [0; STEPS], touched: 0 }
    }

    /// The lowest part that is free and long enough: what lives on gathers at the start, and the end stays
    /// free.
    fn take(&mut self, size: usize) -> Option<*mut u8> {
        let (&start, &len) = self.free.iter().find(|&(_, &len)| len >= size)?;
        self.free.remove(&start);
        if len > size {
            self.free.insert(start + size, len - size);
        }
        self.used = self.used.max(start + size);
        self.touched = self.touched.max(self.used);
        Some(self.base.wrapping_add(start))
    }

    fn put(&mut self, part: *mut u8, size: usize) {
        let mut start = part.addr() - self.base.addr();
        let mut len = size + self.free.remove(&(start + size)).unwrap_or(0);
        if let Some((&before, &length)) = self.free.range(..start).next_back()
            && before + length == start
        {
            (start, len) = (before, length + len);
        }
        self.free.insert(start, len);
    }

    fn end_step(&mut self) {
        self.steps.rotate_right(1);
        self.steps[0] = self.used;
        let end = self.free.last_key_value().map_or(RESERVED, |(&start, _)| start);
        let kept = self.steps.iter().fold(end, |kept, &used| kept.max(used));
        self.release(kept, self.touched);
        (self.used, self.touched) = (end, kept);
    }

    fn give_back(&mut self) {
        for (&start, &len) in &self.free {
            self.release(start, (start + len).min(self.touched));
        }
        self.touched = self.free.last_key_value().map_or(RESERVED, |(&start, _)| start);
        self.steps = [0; STEPS];
    }

    /// Gives pages that nobody has to the system.
    fn release(&self, start: usize, end: usize) {
        if start >= end {
            return;
        }
        #[cfg(target_os = "linux")]
        // SAFETY: the pages are the arena's and free; the next who reads them finds zeros.
        let released = unsafe {
            use rustix::mm::{Advice, madvise};
            madvise(self.base.wrapping_add(start).cast(), end - start, Advice::LinuxDontNeed)
        };
        #[cfg(target_os = "linux")]
        debug_assert_eq!(released, Ok(()));
    }
}

/// Words of the arena that are in use.
pub(crate) struct Part {
    start: *mut u32,
    len: usize,
}

// SAFETY: it owns its addresses.
unsafe impl Send for Part {}
// SAFETY: as above; only who has it alone writes.
unsafe impl Sync for Part {}

impl Part {
    /// `len` words of any value, if there are addresses for them.
    pub(crate) fn new(len: usize) -> Option<Self> {
        let mut arena = arena();
        if arena.is_none() {
            *arena = map().map(Arena::new);
        }
        let start = arena.as_mut()?.take(Self::size(len))?;
        Some(Self { start: start.cast(), len })
    }

    /// Bytes of whole pages.
    fn size(len: usize) -> usize {
        (len * WORD).next_multiple_of(PAGE)
    }

    pub(crate) fn words(&self) -> &[u32] {
        // SAFETY: the part is mapped, starts at a page, and is initialised.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }

    pub(crate) fn words_mut(&mut self) -> &mut [u32] {
        // SAFETY: as above, and this one's alone.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(arena) = arena().as_mut() {
            arena.put(self.start.cast(), Self::size(self.len));
        }
    }
}

impl AllocationController for Part {
    fn alloc_align(&self) -> usize {
        align_of::<f32>()
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Other
    }

    unsafe fn memory_mut(&mut self, _: AccessPolicy) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        // SAFETY: as `words_mut`; that bytes stay initialised is the caller's promise.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.start.cast(), self.len * WORD) })
    }

    fn memory(&self, _: AccessPolicy) -> Result<&[MaybeUninit<u8>], AccessError> {
        // SAFETY: as `words`.
        Ok(unsafe { std::slice::from_raw_parts(self.start.cast(), self.len * WORD) })
    }
}
