//! [`Tiling`]: a picture as several views of the encoder's size, so that it is seen in more pixels than the
//! encoder takes (sub-image decomposition, MM1, section 5). Everything here is a pure function of the
//! picture's sides, the side of a view and the setting.

mod grid;

use anyhow::{Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::grid::TileGrid;
use self::grid::{anyres, dynamic, grids_between, idefics3, within};

/// Into which views a picture is cut, `tiling`. A view is an image of the encoder's size and takes as many
/// image tokens as a picture that is not cut; a tile is a part of the picture, the overview is all of it, as
/// it is prepared without tiling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Tiling {
    /// One view that shows the whole picture.
    // With braces: serde would let any field pass beside a variant without.
    Whole {},
    /// MM1's: two rows and two columns of tiles beside the overview, whatever the picture's sides.
    Mm1 {
        /// How the picture fills the tiles.
        #[serde(default = "stretched")]
        fit: TileFit,
        /// Where the overview stands.
        #[serde(default = "first")]
        overview: OverviewPlace,
        /// What tells the decoder which view it reads.
        #[serde(default)]
        indicators: TileIndicators,
    },
    /// MM1.5's dynamic image splitting (Zhang et al. 2024): of the grids that the picture fits
    /// into without being made smaller the one with the least padding, else the one that keeps most of its
    /// pixels. A picture no larger than a tile is one view.
    Dynamic {
        /// The fewest tiles of a grid.
        /// Unit: tiles.
        #[serde(default = "four")]
        #[schemars(range(min = 1, max = 64))]
        min_tiles: usize,
        /// The most tiles of a grid.
        /// Unit: tiles.
        #[serde(default = "nine")]
        #[schemars(range(min = 1, max = 64))]
        max_tiles: usize,
        /// How the picture fills the tiles.
        #[serde(default = "padded")]
        fit: TileFit,
        /// Where the overview stands.
        #[serde(default = "last")]
        overview: OverviewPlace,
        /// What tells the decoder which view it reads.
        #[serde(default)]
        indicators: TileIndicators,
    },
    /// LLaVA-NeXT's: of a list of grids the one that shows most of the picture's pixels, and of such the one
    /// that wastes least.
    Anyres {
        /// Rows and columns of each grid.
        /// Unit: tiles.
        #[serde(default = "llava_grids")]
        grids: Vec<[u32; 2]>,
        /// How the picture fills the tiles.
        #[serde(default = "padded_black")]
        fit: TileFit,
        /// Where the overview stands.
        #[serde(default = "first")]
        overview: OverviewPlace,
        /// What tells the decoder which view it reads.
        #[serde(default)]
        indicators: TileIndicators,
    },
    /// Idefics3's: the longer side is resized to so many tiles, and both sides are then stretched to whole
    /// tiles. The overview is made of that.
    Idefics3 {
        /// Tiles along the longer side.
        /// Unit: tiles.
        #[serde(default = "four_tiles")]
        #[schemars(range(min = 2, max = 16))]
        longest: u32,
        /// Where the overview stands.
        #[serde(default = "last")]
        overview: OverviewPlace,
        /// What tells the decoder which view it reads.
        #[serde(default = "rows_columns")]
        indicators: TileIndicators,
    },
}

fn stretched() -> TileFit {
    TileFit::Stretch
}
fn padded() -> TileFit {
    TileFit::Pad
}
fn padded_black() -> TileFit {
    TileFit::PadBlack
}
fn first() -> OverviewPlace {
    OverviewPlace::First
}
fn last() -> OverviewPlace {
    OverviewPlace::Last
}
fn rows_columns() -> TileIndicators {
    TileIndicators::RowsColumns
}
fn four() -> usize {
    4
}
fn nine() -> usize {
    9
}
fn four_tiles() -> u32 {
    4
}
/// Those of LLaVA-NeXT's first models.
fn llava_grids() -> Vec<[u32; 2]> {
    vec![[1, 2], [2, 1], [2, 2], [3, 1], [1, 3]]
}

impl Default for Tiling {
    fn default() -> Self {
        Self::Whole {}
    }
}

/// How a picture fills a grid of tiles of another shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TileFit {
    /// Both sides are resized to the grid's; the aspect ratio is lost.
    Stretch,
    /// As large as the grid holds it, in the middle, beside it the mean colour.
    Pad,
    /// The same beside black.
    PadBlack,
}

/// Where the overview stands among the views.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OverviewPlace {
    /// Before the tiles (MM1).
    First,
    /// Behind them, so that its image tokens attend to theirs (MM1.5).
    Last,
}

/// What is written between the views of a picture, by the vocabulary that text has (MM1.5). A
/// picture of one view has none, but of `rows-columns`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TileIndicators {
    /// Nothing.
    #[default]
    None,
    /// `(k,i,j)` before each view: the picture's number from 0, row and column from 1; `(k,0,0)` before the
    /// overview.
    Index,
    /// A comma between columns, a line break between rows, a colon before the overview.
    Separators,
    /// Idefics3's words `<row_1_col_2>` and `<global-img>`, which are tokens of their own where the tokenizer
    /// has them.
    RowsColumns,
}

/// What a view shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TileView {
    /// All of the picture.
    Overview,
    /// The part in this row and column of the grid, from 0.
    Tile {
        /// From the top.
        row: u32,
        /// From the left.
        column: u32,
    },
}

/// Where a picture lies on the grid of its tiles. A tile is the square of its row and column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TileCanvas {
    /// Width and height that the picture is resized to, one after the other, in pixels; the last are those
    /// that it has in the tiles.
    pub resized: Vec<[u32; 2]>,
    /// Pixels of padding on its left and above it.
    pub offset: [u32; 2],
}

impl Tiling {
    /// The tiles of a picture with these `sides` (width and height, upright) for views of `size` pixels a
    /// side; `None`, where it is one view.
    pub fn grid(&self, sides: [u32; 2], size: usize) -> Option<TileGrid> {
        match self {
            Self::Whole {} => None,
            Self::Mm1 { .. } => Some(TileGrid { rows: 2, columns: 2 }),
            Self::Dynamic { min_tiles, max_tiles, .. } => dynamic(sides, size, [*min_tiles, *max_tiles]),
            Self::Anyres { grids, .. } => anyres(sides, size, grids),
            Self::Idefics3 { longest, .. } => {
                let [.., [width, height]] = idefics3(sides, size, *longest);
                Some(TileGrid { rows: height / size as u32, columns: width / size as u32 })
            }
        }
    }

    /// Where a picture with these `sides` lies on `grid`, of tiles of `size` pixels a side.
    pub fn canvas(&self, sides: [u32; 2], grid: TileGrid, size: usize) -> TileCanvas {
        let whole = grid.sides(size);
        match self {
            Self::Idefics3 { longest, .. } => {
                TileCanvas { resized: vec![idefics3(sides, size, *longest)[0], whole], offset: [0; 2] }
            }
            _ if self.fit() == TileFit::Stretch => TileCanvas { resized: vec![whole], offset: [0; 2] },
            _ => {
                let inner = within(sides, whole);
                TileCanvas { resized: vec![inner], offset: [0, 1].map(|i| (whole[i] - inner[i]) / 2) }
            }
        }
    }

    /// The views of a picture with these tiles, in the order in which the decoder reads them.
    pub fn views(&self, grid: Option<TileGrid>) -> Vec<TileView> {
        let Some(TileGrid { rows, columns }) = grid else { return vec![TileView::Overview] };
        let tiles = (0..rows).flat_map(|row| (0..columns).map(move |column| TileView::Tile { row, column }));
        let overview = std::iter::once(TileView::Overview);
        match self.overview() {
            OverviewPlace::First => overview.chain(tiles).collect(),
            OverviewPlace::Last => tiles.chain(overview).collect(),
        }
    }

    /// Every grid that a picture can have for views of `size` pixels a side; none, where all are one view.
    pub fn grids(&self, size: usize) -> Vec<TileGrid> {
        match self {
            Self::Whole {} => Vec::new(),
            Self::Mm1 { .. } => vec![TileGrid { rows: 2, columns: 2 }],
            Self::Dynamic { min_tiles, max_tiles, .. } => grids_between([*min_tiles, *max_tiles]),
            Self::Anyres { grids, .. } => {
                grids.iter().map(|&[rows, columns]| TileGrid { rows, columns }).collect()
            }
            Self::Idefics3 { longest, .. } => {
                // A side of an odd number of pixels may become one longer, and so a tile more.
                let most = longest + (longest * size as u32) % 2;
                (1..=most)
                    .flat_map(|rows| (1..=most).map(move |columns| TileGrid { rows, columns }))
                    .filter(|grid| grid.rows.max(grid.columns) >= *longest)
                    .collect()
            }
        }
    }

    /// How a picture fills the tiles.
    pub fn fit(&self) -> TileFit {
        match self {
            Self::Whole {} | Self::Idefics3 { .. } => TileFit::Stretch,
            Self::Mm1 { fit, .. } | Self::Dynamic { fit, .. } | Self::Anyres { fit, .. } => *fit,
        }
    }

    /// Where the overview stands.
    pub fn overview(&self) -> OverviewPlace {
        match self {
            Self::Whole {} => OverviewPlace::First,
            Self::Mm1 { overview, .. }
            | Self::Dynamic { overview, .. }
            | Self::Anyres { overview, .. }
            | Self::Idefics3 { overview, .. } => *overview,
        }
    }

    /// What is written between the views.
    pub fn indicators(&self) -> TileIndicators {
        match self {
            Self::Whole {} => TileIndicators::None,
            Self::Mm1 { indicators, .. }
            | Self::Dynamic { indicators, .. }
            | Self::Anyres { indicators, .. }
            | Self::Idefics3 { indicators, .. } => *indicators,
        }
    }

    /// Checks the numbers for views of `size` pixels a side.
    ///
    /// # Errors
    /// One line that names the field.
    pub fn check(&self, size: usize) -> Result<()> {
        match self {
            Self::Whole {} | Self::Mm1 { .. } => {}
            Self::Dynamic { min_tiles, max_tiles, .. } => ensure!(
                1 <= *min_tiles && min_tiles <= max_tiles && *max_tiles <= MOST_TILES,
                "tiling.min_tiles = {min_tiles} and max_tiles = {max_tiles}: give 1 to {MOST_TILES}, \
                 the fewest first"
            ),
            Self::Anyres { grids, .. } => {
                ensure!(
                    !grids.is_empty(),
                    "tiling.grids is empty: give rows and columns, such as [[1, 2], [2, 1]]"
                );
                for [rows, columns] in grids {
                    let tiles = u64::from(*rows) * u64::from(*columns);
                    ensure!(
                        (1..=MOST_TILES as u64).contains(&tiles),
                        "tiling.grids: [{rows}, {columns}] has {tiles} tiles: give 1 to {MOST_TILES}"
                    );
                }
            }
            Self::Idefics3 { longest, .. } => {
                ensure!((2..=16).contains(longest), "tiling.longest = {longest}: give 2 to 16 tiles");
                let side = *longest as usize * size;
                ensure!(
                    side <= IDEFICS3_SIDE,
                    "tiling.longest = {longest}: {side} pixels are more than the {IDEFICS3_SIDE} of Idefics3"
                );
            }
        }
        let most = self.grids(size).iter().map(|grid| grid.tiles()).max().unwrap_or(1);
        ensure!(
            most * size * size <= MOST_PIXELS,
            "tiling: {most} tiles of {size} pixels a side are more than {MOST_PIXELS} pixels: take fewer"
        );
        Ok(())
    }
}

/// Tiles of a picture.
const MOST_TILES: usize = 64;
/// Pixels of a picture in its tiles: 192 MiB.
const MOST_PIXELS: usize = 1 << 26;
/// Side that Idefics3's processor resizes to at most, in pixels.
const IDEFICS3_SIDE: usize = 4096;
