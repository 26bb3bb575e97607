//! [`TileGrid`]: which rows and columns of tiles each kind of tiling chooses for a picture's sides.

/// Rows and columns of the tiles of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileGrid {
    /// From top to bottom.
    pub rows: u32,
    /// From left to right.
    pub columns: u32,
}

impl TileGrid {
    /// Width and height in pixels, of tiles of `size`.
    pub fn sides(self, size: usize) -> [u32; 2] {
        [self.columns * size as u32, self.rows * size as u32]
    }

    /// How many there are.
    pub fn tiles(self) -> usize {
        self.rows as usize * self.columns as usize
    }
}

/// Every grid with so many tiles, few tiles first, then few rows.
pub(super) fn grids_between([fewest, most]: [usize; 2]) -> Vec<TileGrid> {
    let of = |tiles: u32| {
        (1..=tiles)
            .filter(move |rows| tiles.is_multiple_of(*rows))
            .map(move |rows| TileGrid { rows, columns: tiles / rows })
    };
    (fewest as u32..=most as u32).flat_map(of).collect()
}

/// MM1.5's choice. Areas are compared as whole numbers, multiplied by both sides of the picture, so that
/// equal ones are equal: the first of [`grids_between`] is taken then.
pub(super) fn dynamic([width, height]: [u32; 2], size: usize, tiles: [usize; 2]) -> Option<TileGrid> {
    if width.max(height) as usize <= size {
        return None;
    }
    let (w, h) = (u128::from(width), u128::from(height));
    // The picture as large as the grid holds it.
    let shown = |grid: &TileGrid| {
        let [columns, rows] = grid.sides(size).map(u128::from);
        if columns * h < rows * w { (columns * h).pow(2) } else { (rows * w).pow(2) }
    };
    let padding = |grid: &TileGrid| {
        let [columns, rows] = grid.sides(size).map(u128::from);
        columns * rows * w * h - shown(grid)
    };
    let grids = grids_between(tiles);
    let holds = |grid: &&TileGrid| {
        let [columns, rows] = grid.sides(size);
        width <= columns && height <= rows
    };
    let covering = grids.iter().filter(holds).min_by_key(|grid| padding(grid));
    let best = covering.or_else(|| grids.iter().min_by_key(|grid| u128::MAX - shown(grid)))?;
    (best.tiles() > 1).then_some(*best)
}

/// LLaVA-NeXT's `select_best_resolution`, in the same floating-point steps. One so narrow that no grid shows
/// a pixel of it takes the first.
pub(super) fn anyres([width, height]: [u32; 2], size: usize, grids: &[[u32; 2]]) -> Option<TileGrid> {
    let own = u64::from(width) * u64::from(height);
    let mut best = grids.first().map(|&[rows, columns]| TileGrid { rows, columns })?;
    let (mut most_effective, mut least_wasted) = (0, u64::MAX);
    for &[rows, columns] in grids {
        let grid = TileGrid { rows, columns };
        let [across, down] = grid.sides(size);
        let scale = (f64::from(across) / f64::from(width)).min(f64::from(down) / f64::from(height));
        let [w, h] = [width, height].map(|side| (f64::from(side) * scale) as u64);
        let effective = (w * h).min(own);
        let wasted = u64::from(across) * u64::from(down) - effective;
        if effective > most_effective || (effective == most_effective && wasted < least_wasted) {
            (most_effective, least_wasted, best) = (effective, wasted, grid);
        }
    }
    Some(best)
}

/// The sides after each of the two resizes of Idefics3's processor, in the same floating-point steps: the
/// longer side to so many tiles, then both to whole tiles.
pub(super) fn idefics3([width, height]: [u32; 2], size: usize, longest: u32) -> [[u32; 2]; 2] {
    let (tile, edge) = (size as u32, longest * size as u32);
    let even = |side: f64| (side as u32 + side as u32 % 2).max(1);
    let ratio = f64::from(width) / f64::from(height);
    let [w, h] = if width >= height {
        [edge, even(f64::from(edge) / ratio)]
    } else {
        [even(f64::from(edge) * ratio), edge]
    };
    let whole = |side: u32| side.div_ceil(tile) * tile;
    let ratio = f64::from(w) / f64::from(h);
    let tiled = if w >= h {
        [whole(w), whole((f64::from(whole(w)) / ratio) as u32)]
    } else {
        [whole((f64::from(whole(h)) * ratio) as u32), whole(h)]
    };
    [[w, h], tiled]
}

/// The sides of a picture as large as `whole` holds it, in LLaVA-NeXT's floating-point steps
/// (`get_patch_output_size`).
pub(super) fn within([width, height]: [u32; 2], [across, down]: [u32; 2]) -> [u32; 2] {
    let (x, y) = (f64::from(across) / f64::from(width), f64::from(down) / f64::from(height));
    if x < y {
        [across, ((f64::from(height) * x).ceil() as u32).min(down)]
    } else {
        [((f64::from(width) * y).ceil() as u32).min(across), down]
    }
}
