//! Products of bfloat16 by AMX, which multiplies tiles: sixteen rows of 64 bytes.
//!
//! `tdpbf16ps` adds to 16 x 16 sums the products of 16 rows of A and 16 columns of B over a *step* of 32
//! terms: the even terms one after another from zero, the odd ones likewise, then both sums are added, and
//! that to the element. Denormals are zeros before and after. So the bits are those of no other instruction
//! set, but they are defined, and a row's do not depend on its neighbours.
//!
//! Rust has no stable intrinsics for AMX, hence assembly ([`registers`]). Its instructions are behind
//! [`TileRegisters`], so that all else here is tested on any machine with AVX-512-BF16, by a model of them.
//!
//! How the product is cut was measured on Emerald Rapids (docs/LOG.md, 2026-11-29). Two by two tiles, so that
//! each tile is loaded once for two products. One panel stays in the first cache, the other streams past it:
//! 2,245 GFLOP/s a core, where without the streaming load 2,130 was the best.

mod few;
#[cfg(test)]
pub(super) mod model;
mod packing;
mod registers;
mod steps;
mod store;

use super::panel::PanelProduct;
pub(super) use packing::{pack_left, pack_right};
pub(super) use registers::{AmxTiles, TileRegisters};
use std::mem::MaybeUninit;
use steps::PanelSteps;
use store::{Finished, store};

/// Rows of a tile, and words of a row: words along k that are multiplied at once.
pub(super) const SIDE: usize = 16;
/// Terms of a step.
const TERMS: usize = 2 * SIDE;
/// Rows of a panel of A and columns of one of B: two tiles each.
pub(super) const PANEL: usize = 2 * SIDE;
/// Words of a step of a panel.
const STEP: usize = PANEL * SIDE;
/// Words along k of a block: 4,096 terms.
pub(super) const BLOCK: usize = 2048;
/// Words of a cache line.
const LINE: usize = 16;

/// Steps of a panel that stay in the first cache (32 KiB), with room for another panel to stream through. 32
/// steps take 1.6 times as long.
const PART: usize = 16;
/// Words of panels of B that stay in the second cache where A does in the first.
const CHUNK: usize = 1 << 17;
/// Products whose sums wait in memory while the next part of k is multiplied.
const GROUP: usize = 8;

/// Sums of a product of two panels, and where they wait until they are stored.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct TileSums([MaybeUninit<f32>; PANEL * PANEL]);

impl TileSums {
    const NEW: Self = Self([MaybeUninit::uninit(); PANEL * PANEL]);
}

/// The product of panels. The sums of two are stored while the next two are multiplied: stored at once they
/// cost 28% of the time.
///
/// # Safety
/// As for [`super::kernel::Kernel::product`], of the kernel of these tiles; the machine has them and
/// AVX-512-BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(super) unsafe fn product<T: TileRegisters>(panels: &PanelProduct<'_>) {
    if panels.rows.len() <= few::FEW {
        // SAFETY: the caller's promise.
        return unsafe { few::product(panels) };
    }
    let mut sums = [TileSums::NEW; GROUP];
    let sums = sums.as_mut_ptr().cast::<f32>();
    // SAFETY: there are tiles (the caller's promise), and nothing that is called from here on configures
    // them. The sums that are left are those of the last tile.
    unsafe {
        let mut tiles = T::configure();
        let last = if panels.words <= PART * SIDE {
            at_once(&mut tiles, panels, sums)
        } else {
            in_parts(&mut tiles, panels, sums)
        };
        if let Some(last) = last {
            store(&last, 0..last.tile.rows);
        }
    }
}

/// Of a short k: a panel of A stays in the first cache, some of B in the second, and the product's rows are
/// written in their order. In the other order cold operands of 2048 x 1536 x 512 take 1.25 times as long.
///
/// # Safety
/// As for [`product`], with room for [`TileSums`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn at_once<T: TileRegisters>(
    tiles: &mut T,
    panels: &PanelProduct<'_>,
    sums: *mut f32,
) -> Option<Finished> {
    let (steps, some) = (panels.words / SIDE, CHUNK / (PANEL * panels.words));
    let mut last = None;
    for first in (0..panels.across()).step_by(some) {
        let chunk = first..(first + some).min(panels.across());
        let lines = (STEP / LINE).div_ceil(chunk.len());
        for p in 0..panels.down() {
            for q in chunk.clone() {
                let tile = panels.tile(p, q);
                let ahead = tile.a.wrapping_add(steps * (STEP + (q - first) * lines * LINE));
                let part = PanelSteps {
                    a: tile.a,
                    b: tile.b,
                    steps,
                    ahead,
                    lines,
                    starts: true,
                    sums,
                    tile,
                    finishes: true,
                };
                // SAFETY: the panels hold the steps.
                unsafe { part.multiply::<T, true>(tiles, last.take()) }
                last = Some(Finished { sums, tile });
            }
        }
    }
    last
}

/// Of a long k: part of a panel of B stays in the first cache, A in the second; sums wait for the next part.
///
/// # Safety
/// As for [`product`], with room for [`GROUP`] [`TileSums`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn in_parts<T: TileRegisters>(
    tiles: &mut T,
    panels: &PanelProduct<'_>,
    sums: *mut f32,
) -> Option<Finished> {
    let steps = panels.words / SIDE;
    let mut last = None;
    for q in 0..panels.across() {
        for first in (0..panels.down()).step_by(GROUP) {
            let group = first..(first + GROUP).min(panels.down());
            let lines = (STEP / LINE).div_ceil(group.len());
            for step in (0..steps).step_by(PART) {
                for p in group.clone() {
                    let tile = panels.tile(p, q);
                    let sums = sums.wrapping_add((p - first) * PANEL * PANEL);
                    let (a, b) = (tile.a.wrapping_add(step * STEP), tile.b.wrapping_add(step * STEP));
                    let part = PanelSteps {
                        a,
                        b,
                        steps: PART.min(steps - step),
                        ahead: b.wrapping_add(PART * (STEP + (p - first) * lines * LINE)),
                        lines,
                        starts: step == 0,
                        sums,
                        tile,
                        finishes: step + PART >= steps,
                    };
                    // SAFETY: the panels hold the steps, and the sums are there if these are not the first.
                    unsafe { part.multiply::<T, false>(tiles, last.take()) }
                    last = part.finishes.then_some(Finished { sums, tile });
                }
            }
        }
    }
    last
}
