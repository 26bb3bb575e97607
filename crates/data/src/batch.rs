//! [`Batch`]: packed rows as the model takes them. It knows no tensor engine; the model copies it to its device.

use crate::image::{ImageSpec, normalise_into};
use crate::pack::Row;

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

/// `rows` packed rows of `length` positions each, and their pictures.
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
    /// Pictures as `[images, size, size, 3]` (rows from the top, channels last), normalised.
    pub pixels: Vec<f32>,
    /// Side of a picture in pixels.
    pub image_size: usize,
    /// For each picture the flat position (`row * length + column`) of the first of its image tokens, which follow
    /// one another.
    pub image_slots: Vec<usize>,
    /// The sample ids of the examples, one for each span.
    pub samples: Vec<String>,
    /// For each span whether its document was longer than a row and lost its end.
    pub truncated: Vec<bool>,
}

impl Batch {
    /// Puts rows of `length` positions together. A position's target is the next token of the same example, where that
    /// one is learned; nothing is predicted across examples.
    pub fn assemble(rows: &[Row], length: usize, image: &ImageSpec, pad: u32) -> Self {
        let positions = rows.len() * length;
        let mut batch = Self {
            rows: rows.len(),
            length,
            ids: vec![pad; positions],
            targets: vec![0; positions],
            weights: vec![0.0; positions],
            image_size: image.size,
            ..Self::default()
        };
        let images = rows.iter().flat_map(Row::examples).map(|example| example.images.len()).sum::<usize>();
        batch.pixels.reserve_exact(images * image.bytes());
        for (row, content) in rows.iter().enumerate() {
            let mut start = 0;
            for example in content.examples() {
                let (at, len) = (row * length + start, example.ids.len());
                batch.ids[at..at + len].copy_from_slice(&example.ids);
                for next in (1..len).filter(|&next| example.learn[next]) {
                    batch.targets[at + next - 1] = example.ids[next];
                    batch.weights[at + next - 1] = 1.0;
                }
                for (offset, pixels) in &example.images {
                    batch.image_slots.push(at + offset);
                    normalise_into(pixels, image, &mut batch.pixels);
                }
                batch.spans.push(Span { row, start, len });
                batch.samples.push(example.id.clone());
                batch.truncated.push(example.truncated);
                start += len;
            }
        }
        batch
    }

    /// Number of pictures.
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
