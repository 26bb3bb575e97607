//! [`Batch`]: packed rows as the model takes them. It knows no tensor engine; the model copies it to its device.

use crate::document::Special;
use crate::image::{ImageSpec, normalise_into};
use crate::pack::{Packing, Row};

/// A run of consecutive positions of one row that belong to one example. Attention never leaves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The row.
    pub row: usize,
    /// First position in the row.
    pub start: usize,
    /// Number of positions.
    pub len: usize,
}

/// `rows` packed rows of `length` positions each, and their pictures. It begins empty and grows row by row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Number of rows.
    pub rows: usize,
    /// Positions in a row.
    pub length: usize,
    /// Token ids `[rows * length]`; the image token's id where an image token goes, padding at the end of a row.
    pub ids: Vec<u32>,
    /// The next token at each position `[rows * length]`; 0 where `weights` is 0.
    pub targets: Vec<u32>,
    /// Weight of each position in the loss `[rows * length]`: 1 where the next token is learned text, else 0.
    pub weights: Vec<f32>,
    /// The examples, ordered by row and start. Positions outside every span are padding.
    pub spans: Vec<Span>,
    /// The global views of the pictures as `[images * global, size, size, 3]` (rows from the top, channels last),
    /// normalised: those of the first picture, then those of the second. There is one of each, unless training asks for
    /// more.
    pub pixels: Vec<f32>,
    /// Side of a global view in pixels.
    pub image_size: usize,
    /// The local views of the pictures as `[images * local, crop_size, crop_size, 3]`, in the same order; empty, where
    /// there are none.
    pub crops: Vec<f32>,
    /// Side of a local view in pixels; 0 where there are none.
    pub crop_size: usize,
    /// For each picture the flat position (`row * length + column`) of the first of its image tokens, which follow
    /// one another.
    pub image_slots: Vec<usize>,
    /// The sample ids of the examples, one for each span.
    pub samples: Vec<String>,
    /// For each span whether its document was longer than a row and lost its end.
    pub truncated: Vec<bool>,
}

impl Batch {
    /// Rows in their order, packed by `packing`. Until then pictures are bytes, a quarter of what they are here.
    pub fn of(rows: Vec<Row>, packing: &Packing) -> Self {
        let examples = || rows.iter().flat_map(Row::examples);
        let pixels = examples().flat_map(|e| &e.images).map(|(_, pixels)| pixels.len()).sum();
        let crops = examples().map(|e| e.crops.len()).sum();
        let mut batch = Self {
            length: packing.length,
            pixels: Vec::with_capacity(pixels),
            image_size: packing.image.size,
            crops: Vec::with_capacity(crops),
            crop_size: if packing.views.local.views > 0 { packing.views.local.size } else { 0 },
            ..Self::default()
        };
        let pad = packing.tokenizer.id(Special::Pad);
        // Each row's bytes go as soon as they are used.
        rows.into_iter().for_each(|row| batch.push(&row, &packing.image, pad));
        batch
    }

    /// Adds a row, its end filled with `pad`. A position's target is the next token of the same example, where that one
    /// is learned; nothing is predicted across examples.
    fn push(&mut self, content: &Row, image: &ImageSpec, pad: u32) {
        let row = self.rows;
        self.rows += 1;
        let positions = self.rows * self.length;
        self.ids.resize(positions, pad);
        self.targets.resize(positions, 0);
        self.weights.resize(positions, 0.0);
        let mut start = 0;
        for example in content.examples() {
            let (at, len) = (row * self.length + start, example.ids.len());
            self.ids[at..at + len].copy_from_slice(&example.ids);
            for next in (1..len).filter(|&next| example.learn[next]) {
                self.targets[at + next - 1] = example.ids[next];
                self.weights[at + next - 1] = 1.0;
            }
            for (offset, pixels) in &example.images {
                self.image_slots.push(at + offset);
                normalise_into(pixels, image, &mut self.pixels);
            }
            normalise_into(&example.crops, image, &mut self.crops);
            self.spans.push(Span { row, start, len });
            self.samples.push(example.id.clone());
            self.truncated.push(example.truncated);
            start += len;
        }
    }

    /// Number of pictures, however many views there are of each.
    pub fn images(&self) -> usize {
        self.image_slots.len()
    }

    /// Positions inside spans: what a step is said to have seen.
    pub fn tokens(&self) -> usize {
        self.spans.iter().map(|s| s.len).sum()
    }

    /// Sum of the loss weights: the denominator of the loss over a whole step.
    pub fn weight(&self) -> f64 {
        self.weights.iter().map(|&w| f64::from(w)).sum()
    }
}
