//! [`LoaderMemory`]: what a loader will hold, from its settings and the first documents of its sources.

use serde::Serialize;

use super::config::{BATCHES_AHEAD, LoaderConfig, ROWS_AHEAD, RankShare, prefetch_cost};
use crate::document::{Document, Image};
use crate::image::{Fit, TileGrid, read_header};
use crate::layout::Laid;
use crate::mixture::MixturePart;
use crate::pack::{Packing, RowFill};
use crate::source::interface::Split;

/// Documents of each source that are looked at. Their pictures are not decoded.
// More would make a plan of remote data slow; the documents are read, not decoded.
const LOOKED_AT: u64 = 16;

/// Bytes of a token in an example: its id and whether it is learned, in lists that grow.
const TOKEN: usize = 8;
/// Bytes of a position in a batch: id, target and weight.
const POSITION: usize = 12;
/// Times that a picture's pixels are there while it is decoded and resized.
const COPIES: usize = 2;

/// Bytes that a loader holds at most, once it has run for some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LoaderMemory {
    /// Examples that are ready, that are being prepared, and that wait for the next row.
    pub examples: u64,
    /// Rows of the batches that are ready, and of the one being made.
    pub rows: u64,
    /// Indexes, captions and open row groups of the sources.
    pub sources: u64,
}

impl LoaderMemory {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.examples + self.rows + self.sources
    }
}

impl LoaderConfig {
    /// What the loader will hold, with batches of `images` pictures, of tiled ones their views. It reads the
    /// first documents of each source; what can't be read is left out.
    pub fn memory(&self, images: usize) -> LoaderMemory {
        let Self { packing, rows, .. } = self;
        let (length, views) = (packing.length, packing.views.bytes(&packing.image));
        let shapes: Vec<SourceShape> =
            self.drawn().map(|part| SourceShape::of(part, packing, self.fill)).collect();
        let ready =
            shapes.iter().map(|shape| shape.ready(length, shape.held(views, self.share))).sum::<usize>();
        let working = shapes.iter().map(|shape| shape.working(views)).max().unwrap_or(0);
        let packed = rows * length * TOKEN + images * views;
        LoaderMemory {
            examples: (ready + self.threads * working) as u64,
            rows: ((BATCHES_AHEAD + 1) * packed) as u64,
            // The documents above have shown what open row groups take.
            sources: self.drawn().map(|part| part.source.memory()).sum(),
        }
    }

    /// Bytes of a batch of `images` pictures, which is the caller's.
    pub fn batch_bytes(&self, images: usize) -> u64 {
        let Packing { length, views, image, .. } = &self.packing;
        (self.rows * length * POSITION + images * views.bytes(image) * size_of::<f32>()) as u64
    }

    fn drawn(&self) -> impl Iterator<Item = &MixturePart> {
        self.mixture.parts().iter().filter(|part| part.weight > 0.0)
    }
}

/// The documents of a source: sums over those that were looked at, and the largest.
#[derive(Debug, Default)]
struct SourceShape {
    /// As the prefetch counts them.
    cost: usize,
    tokens: usize,
    most_tokens: usize,
    /// Pictures, of a tiled one its views.
    views: usize,
    most_views: usize,
    /// Bytes of the files of one document.
    most_bytes: usize,
    /// Bytes of the pixels of one picture, with the tiles that are cut.
    most_pixels: usize,
}

impl SourceShape {
    fn of(part: &MixturePart, packing: &Packing, fill: RowFill) -> Self {
        let mut shape = Self::default();
        let there = part.source.len(Split::Train).unwrap_or(u64::MAX).min(LOOKED_AT);
        for document in (0..there).filter_map(|i| part.source.document(Split::Train, i).ok()) {
            shape.add(&document, packing, fill);
        }
        shape
    }

    fn add(&mut self, document: &Document, packing: &Packing, fill: RowFill) {
        let (mut tokens, mut views, mut bytes) = (0, 0, 0);
        // What can't be laid out takes no room: packing refuses it by its reason.
        for laid in packing.tokenizer.lay_out(&document.segments).unwrap_or_default() {
            match laid {
                Laid::Tokens { ids, .. } => tokens += ids.len(),
                Laid::Picture(image) => {
                    let Ok(own) = packing.pictures().tokens(&packing.tokenizer, image, views) else { break };
                    if tokens + own.ids.len() > packing.length {
                        break;
                    }
                    (tokens, views) = (tokens + own.ids.len(), views + own.views.len());
                    self.most_pixels = self.most_pixels.max(pixels(image, own.grid, packing));
                    bytes += image.stored_bytes();
                }
            }
        }
        // A text without pictures is prepared as a whole.
        self.most_tokens = self.most_tokens.max(tokens);
        let tokens = tokens.min(packing.length);
        self.tokens += tokens;
        self.cost += prefetch_cost(fill, tokens, packing.length);
        self.views += views;
        self.most_views = self.most_views.max(views);
        self.most_bytes = self.most_bytes.max(bytes);
    }

    /// Bytes that are held of a view in an example, or of its file where it waits to be known whose it is;
    /// `view` are those of its pixels.
    fn held(&self, view: usize, share: RankShare) -> usize {
        if share.is_whole() { view } else { view.max(self.most_bytes / self.most_views.max(1)) }
    }

    /// Bytes of the examples that are ready, with the last that did not fit; `view` are those of a view.
    fn ready(&self, length: usize, view: usize) -> usize {
        let of = |count: usize| count * ROWS_AHEAD * length / self.cost.max(1);
        (of(self.views) + 2 * self.most_views) * view + (of(self.tokens) + 2 * self.most_tokens) * TOKEN
    }

    /// Bytes of a document that a thread prepares.
    fn working(&self, view: usize) -> usize {
        self.most_bytes + COPIES * self.most_pixels + self.most_views * view
    }
}

/// Bytes of a picture's pixels as it is decoded: a JPEG that is shown as a whole no larger than about twice
/// of it; beside it what its tiles are cut from.
fn pixels(image: &Image, grid: Option<TileGrid>, packing: &Packing) -> usize {
    let Ok(header) = read_header(image) else { return 0 };
    let [width, height] = [header.width, header.height].map(|side| side as usize);
    let (short, long) = (width.min(height), width.max(height));
    let canvas = grid.map_or([0; 2], |grid| grid.sides(packing.image.size).map(|side| side as usize));
    let edge = match packing.image.config.mode {
        _ if grid.is_some() => canvas[0].max(canvas[1]),
        _ if packing.views.crop() => short,
        Fit::Middle => short,
        Fit::ShortestEdge(edge) => edge,
        Fit::Squash | Fit::Sides | Fit::CentreCrop | Fit::Pad => packing.image.size,
    };
    let enough = 2 * edge;
    let decoded = match header.format {
        "JPEG" if short > enough => 3 * enough * (long * enough / short),
        _ => 3 * short * long,
    };
    decoded + 3 * canvas[0] * canvas[1]
}
