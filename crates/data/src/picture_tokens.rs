//! [`PictureTokens`]: a picture as the decoder reads it, image tokens for each of its views, and what is
//! written around and between them. It is said here alone, of pictures of one view and of many.

use anyhow::{Context as _, Result};

use crate::document::{Image, Special};
use crate::image::{ImageSpec, TileGrid, TileIndicators, TileView, upright_sides};
use crate::special_token::tile_mark;
use crate::token_form::TextPlace;
use crate::tokenizer::Tokenizer;

/// A picture among tokens. It is never cut: all of it fits into a row, or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PictureTokens {
    /// Placeholders of image tokens, and what tells its views apart. Nobody learns to write that.
    pub ids: Vec<u32>,
    /// For each view the index into `ids` of the first of its image tokens.
    pub views: Vec<usize>,
    /// The tiles that the views show; `None`, where there is one view.
    pub grid: Option<TileGrid>,
}

/// Into which views pictures are cut, and how many image tokens a view takes.
#[derive(Clone, Copy, Debug)]
pub struct PictureFormat<'a> {
    /// The size of a view, and the tiling.
    pub image: &'a ImageSpec,
    /// Image tokens of a view.
    pub image_tokens: usize,
}

/// A picture's number in its document by which the longest indicator is reckoned: the paper has up to 16
/// pictures in a sequence.
const LATE: usize = 15;

impl PictureFormat<'_> {
    /// The picture with this `number` in its document, from 0. Only with tiling its header is read.
    ///
    /// # Errors
    /// A picture that is tiled and whose header can't be read.
    pub fn tokens(&self, tokenizer: &Tokenizer, picture: &Image, number: usize) -> Result<PictureTokens> {
        let (size, tiling) = (self.image.size, &self.image.config.tiling);
        if tiling.grids(size).is_empty() {
            return Ok(self.of_grid(tokenizer, None, number));
        }
        let sides = upright_sides(picture).with_context(|| format!("picture {number}"))?;
        Ok(self.of_grid(tokenizer, tiling.grid(sides, size), number))
    }

    /// The overview alone.
    pub fn overview(&self, tokenizer: &Tokenizer, number: usize) -> PictureTokens {
        self.of_grid(tokenizer, None, number)
    }

    /// Positions of the picture with most tiles.
    pub fn most_positions(&self, tokenizer: &Tokenizer) -> usize {
        let grids = self.image.config.tiling.grids(self.image.size);
        let most = grids.iter().map(|grid| grid.tiles()).max();
        // Among as many tiles the indicators differ by rows and columns.
        let largest = grids.into_iter().filter(|grid| Some(grid.tiles()) == most).map(Some);
        let one = std::iter::once(None);
        let of = |grid| self.of_grid(tokenizer, grid, LATE).ids.len();
        largest.chain(one).map(of).max().unwrap_or(self.image_tokens)
    }

    fn of_grid(&self, tokenizer: &Tokenizer, grid: Option<TileGrid>, number: usize) -> PictureTokens {
        let (tiling, mut tokens) =
            (&self.image.config.tiling, PictureTokens { ids: Vec::new(), views: Vec::new(), grid });
        let placeholder = tokenizer.id(Special::Image);
        let kind = match tokenizer.marks_pictures() {
            true => TileIndicators::RowsColumns,
            false => tiling.indicators(),
        };
        let indicators = Indicators { kind, grid, number };
        let mut last = None;
        for view in tiling.views(grid) {
            let place = if last.is_some() { TextPlace::AfterToken } else { TextPlace::Start };
            tokens.ids.extend(tokenizer.encode_with_controls(&indicators.before(view, last), place));
            tokens.views.push(tokens.ids.len());
            tokens.ids.extend(std::iter::repeat_n(placeholder, self.image_tokens));
            last = Some(view);
        }
        let after = indicators.after(last);
        tokens.ids.extend(tokenizer.encode_with_controls(&after, TextPlace::AfterToken));
        tokens
    }
}

/// What tells the views of a picture apart.
struct Indicators {
    kind: TileIndicators,
    grid: Option<TileGrid>,
    /// Of the picture in its document.
    number: usize,
}

/// Idefics3's words.
const AROUND: &str = "<fake_token_around_image>";
const WHOLE: &str = "<global-img>";

impl Indicators {
    /// What stands before `view`, which follows the view `last`.
    fn before(&self, view: TileView, last: Option<TileView>) -> String {
        match self.kind {
            TileIndicators::RowsColumns => Self::before_idefics3(view, last),
            TileIndicators::Index if self.grid.is_some() => {
                let [i, j] = match view {
                    TileView::Overview => [0; 2],
                    TileView::Tile { row, column } => [row + 1, column + 1],
                };
                format!("({},{i},{j})", self.number)
            }
            TileIndicators::Separators if self.grid.is_some() => separator(view, last).to_owned(),
            TileIndicators::None | TileIndicators::Index | TileIndicators::Separators => String::new(),
        }
    }

    /// As Idefics3's processor writes it: a line for each row, an empty one before the overview.
    fn before_idefics3(view: TileView, last: Option<TileView>) -> String {
        let end_of_tiles = matches!(last, Some(TileView::Tile { .. }));
        match view {
            TileView::Overview if end_of_tiles => format!("\n\n{AROUND}{WHOLE}"),
            TileView::Overview => format!("{AROUND}{WHOLE}"),
            TileView::Tile { row, column } => {
                let line = if column == 0 && end_of_tiles { "\n" } else { "" };
                format!("{line}{AROUND}{}", tile_mark(row + 1, column + 1))
            }
        }
    }

    /// What stands behind the last view.
    fn after(&self, last: Option<TileView>) -> String {
        match (self.kind, last) {
            (TileIndicators::RowsColumns, Some(TileView::Tile { .. })) => format!("\n{AROUND}"),
            (TileIndicators::RowsColumns, _) => AROUND.to_owned(),
            _ => String::new(),
        }
    }
}

fn separator(view: TileView, last: Option<TileView>) -> &'static str {
    match (view, last) {
        (TileView::Overview, _) => ":",
        (TileView::Tile { column: 0, .. }, Some(TileView::Tile { .. })) => "\n",
        (TileView::Tile { .. }, Some(TileView::Tile { .. })) => ",",
        (TileView::Tile { .. }, _) => "",
    }
}

impl Tokenizer {
    /// The ids of a text of this program's own in this place, in which the names of control tokens stand for
    /// them.
    fn encode_with_controls(&self, text: &str, mut place: TextPlace) -> Vec<u32> {
        let (mut ids, mut plain) = (Vec::new(), 0);
        for (at, _) in text.match_indices('<') {
            let Some(token) = self.control_token(&text[at..]) else { continue };
            if at > plain {
                ids.extend(self.encode_at(&text[plain..at], place));
            }
            ids.push(token.id);
            (plain, place) = (at + token.name.len(), TextPlace::AfterToken);
        }
        if plain < text.len() {
            ids.extend(self.encode_at(&text[plain..], place));
        }
        ids
    }
}
