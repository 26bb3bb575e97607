//! The instruction set in use, functions compiled for each of them, and parallel pieces.

use rayon::prelude::*;
use std::cell::Cell;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Instruction sets that the kernels are compiled for, from the least to the most capable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// What the target always has: SSE2 on x86-64, NEON on AArch64.
    Plain,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, VL and DQ.
    Avx512,
    /// AVX-512 with products of bfloat16.
    Avx512Bf16,
    /// That, and AMX: products of tiles in bfloat16.
    Amx,
}

impl Isa {
    /// All, from the least to the most capable.
    pub const ALL: [Self; 5] = [Self::Plain, Self::Avx2, Self::Avx512, Self::Avx512Bf16, Self::Amx];

    /// The name that `MM1_ISA` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512bf16",
            Self::Amx => "amx",
        }
    }

    /// The fastest set of this machine: that of [`Self::detect`], but Intel's product of bfloat16 in AVX-512
    /// takes four times as long as that of f32 (measured on Emerald Rapids), so it is not used there where
    /// tiles are not.
    pub fn fastest() -> Self {
        let best = Self::detect();
        #[cfg(target_arch = "x86_64")]
        {
            let vendor = std::arch::x86_64::__cpuid(0);
            let vendor = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat();
            if vendor == b"GenuineIntel" && best == Self::Avx512Bf16 {
                return Self::Avx512;
            }
        }
        best
    }

    /// The most capable set of this machine that the system lets this process use.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq");
            if !(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")) {
                Self::Plain
            } else if !avx512 {
                Self::Avx2
            } else if !is_x86_feature_detected!("avx512bf16") {
                Self::Avx512
            } else if !crate::tile_unit::is_usable() {
                Self::Avx512Bf16
            } else {
                Self::Amx
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        Self::Plain
    }
}

/// The set to use: that of `MM1_ISA`, or the machine's fastest.
///
/// # Errors
/// `MM1_ISA` names no set, or one that this machine lacks. A program should ask once when it starts; the
/// kernels themselves then take the machine's fastest.
pub fn requested() -> Result<Isa, String> {
    std::env::var("MM1_ISA").map_or_else(|_| Ok(Isa::fastest()), |name| named(&name, Isa::detect()))
}

/// The set of a name, at most the machine's best.
fn named(name: &str, best: Isa) -> Result<Isa, String> {
    match Isa::ALL.into_iter().find(|isa| isa.name() == name) {
        Some(isa) if isa <= best => Ok(isa),
        Some(_) => Err(format!("MM1_ISA={name}: this machine has only {}", best.name())),
        None => Err(format!("MM1_ISA={name}: expected plain, avx2, avx512, avx512bf16 or amx")),
    }
}

thread_local! {
    /// Set once, when a thread of [`with_isa`]'s pool starts; no thread of a program has it. A parameter
    /// instead would be one of every kernel and of each function inside of them, for the sake of tests.
    static CHOSEN: Cell<Option<Isa>> = const { Cell::new(None) };
}

/// The instruction set in use: `MM1_ISA` or the machine's fastest, unless inside of [`with_isa`].
pub fn isa() -> Isa {
    static ISA: OnceLock<Isa> = OnceLock::new();
    CHOSEN.get().unwrap_or_else(|| *ISA.get_or_init(|| requested().unwrap_or_else(|_| Isa::fastest())))
}

/// Runs `f` on a thread pool of its own with another instruction set, at most the machine's most capable: for
/// tests and measurements.
///
/// # Panics
/// If the threads cannot be started.
pub fn with_isa<R: Send>(isa: Isa, threads: usize, f: impl FnOnce() -> R + Send) -> R {
    let isa = isa.min(Isa::detect());
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .start_handler(move |_| CHOSEN.set(Some(isa)))
        .build()
        .expect("cannot start threads")
        .install(f)
}

/// Runs `f` on the pieces of `0..n` that are `piece` long (the last may be shorter), in parallel.
pub fn rows(n: usize, piece: usize, f: impl Fn(Range<usize>) + Sync + Send) {
    if n <= piece {
        if n > 0 {
            f(0..n);
        }
        return;
    }
    (0..n.div_ceil(piece))
        .into_par_iter()
        .with_max_len(1)
        .for_each(|i| f(i * piece..((i + 1) * piece).min(n)));
}

/// Runs `f` on pieces of `0..n` on at most so many threads: pieces of `most`, and ever shorter ones towards
/// the end, so that the threads end together (guided self-scheduling, Polychronopoulos and Kuck 1987).
pub fn share(n: usize, most: usize, threads: usize, f: impl Fn(Range<usize>) + Sync + Send) {
    let next = AtomicUsize::new(0);
    let piece = |first: usize| ((n - first) / (2 * threads - 1)).clamp(1, most);
    let take = |first| (first < n).then(|| first + piece(first));
    (0..threads.min(n)).into_par_iter().with_max_len(1).for_each(|_| {
        while let Ok(first) = next.fetch_update(Relaxed, Relaxed, take) {
            f(first..first + piece(first));
        }
    });
}

/// As [`rows`], with the results in the order of the pieces.
pub fn map_rows<T: Send>(n: usize, piece: usize, f: impl Fn(Range<usize>) -> T + Sync + Send) -> Vec<T> {
    let pieces = (0..n.div_ceil(piece.max(1))).into_par_iter().with_max_len(1);
    pieces.map(|i| f(i * piece..((i + 1) * piece).min(n))).collect()
}

/// Runs `f` on the pieces of `data` that are `piece` long, with their numbers, in parallel.
pub fn chunks<T: Send>(data: &mut [T], piece: usize, f: impl Fn(usize, &mut [T]) + Sync + Send) {
    data.par_chunks_mut(piece).with_max_len(1).enumerate().for_each(|(i, chunk)| f(i, chunk));
}

/// Compiles a function for each instruction set; a call runs the one of [`isa`].
///
/// The body is plain Rust that the compiler turns into vector instructions, so it must avoid calls that are
/// not inlined. Arguments may be names or tuples of names; there may be one type parameter with a bound.
macro_rules! tiered {
    ($(#[$meta:meta])* $vis:vis fn $name:ident $(<$($kind:ident: $bound:ident),+>)? ($($arg:tt: $type:ty),* $(,)?) $(-> $out:ty)? $body:block) => {
        $(#[$meta])*
        #[cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "calls code for the detected \
            instruction set"))]
        $vis fn $name $(<$($kind: $bound),+>)? ($($arg: $type),*) $(-> $out)? {
            #[inline(always)]
            fn plain $(<$($kind: $bound),+>)? ($($arg: $type),*) $(-> $out)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2 $(<$($kind: $bound),+>)? ($($arg: $type),*) $(-> $out)? {
                    plain($($arg),*)
                }
                #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq")]
                fn avx512 $(<$($kind: $bound),+>)? ($($arg: $type),*) $(-> $out)? {
                    plain($($arg),*)
                }
                match $crate::cpu::isa() {
                    $crate::cpu::Isa::Plain => plain($($arg),*),
                    // SAFETY: `isa` gives no more than the machine has.
                    $crate::cpu::Isa::Avx2 => unsafe { avx2($($arg),*) },
                    // SAFETY: as above.
                    _ => unsafe { avx512($($arg),*) },
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            plain($($arg),*)
        }
    };
}
pub(crate) use tiered;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn a_set_is_taken_by_name_if_the_machine_has_it() {
        assert_eq!(named("avx2", Isa::Avx512), Ok(Isa::Avx2));
        assert_eq!(named("plain", Isa::Plain), Ok(Isa::Plain));
        assert!(named("avx512", Isa::Avx2).is_err_and(|e| e.contains("has only avx2")));
        assert_eq!(named("amx", Isa::Amx), Ok(Isa::Amx));
        assert!(named("amx", Isa::Avx512Bf16).is_err_and(|e| e.contains("has only avx512bf16")));
        assert!(named("sse", Isa::Avx512).is_err_and(|e| e.contains("expected plain")));
    }

    #[test]
    fn the_chosen_set_holds_on_all_threads() {
        let seen = with_isa(Isa::Plain, 3, || map_rows(10, 1, |_| isa()));
        assert_eq!(seen, [Isa::Plain; 10]);
    }

    #[test]
    fn shares_cover_everything_once_and_shrink() {
        for threads in [1, 2, 5] {
            let seen = Mutex::new(Vec::new());
            with_isa(Isa::Plain, threads, || {
                share(41, 16, threads, |piece| seen.lock().unwrap().push(piece))
            });
            let mut seen = seen.into_inner().unwrap();
            seen.sort_by_key(|piece| piece.start);
            assert!(seen.windows(2).all(|two| two[0].end == two[1].start && two[0].len() >= two[1].len()));
            assert_eq!((seen[0].start, seen.last().unwrap().end), (0, 41), "{threads}");
            assert_eq!(seen.last().unwrap().len() == 1, threads > 1);
        }
        share(0, 16, 2, |_| panic!("there is nothing"));
    }

    #[test]
    fn pieces_cover_everything_once_in_order() {
        assert_eq!(map_rows(7, 3, |piece| piece), [0..3, 3..6, 6..7]);
        assert!(map_rows(0, 3, |piece| piece).is_empty());
        let mut data = [0; 7];
        chunks(&mut data, 3, |i, chunk| chunk.fill(i));
        assert_eq!(data, [0, 0, 0, 1, 1, 1, 2]);
    }
}
