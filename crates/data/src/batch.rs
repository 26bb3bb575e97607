//! [`Batch`]: packed rows as the model takes them. It knows no tensor engine; the model copies it to its
//! device.

use std::ops::Range;

use crate::augment::DrawnViews;
use crate::document::Special;
use crate::image::{ImageSpec, normalise_into};
use crate::pack::{Example, ExamplePicture, HeldPicture, PackedRow, Packing};

/// `rows` packed rows of `length` positions each, and their pictures. It begins empty and grows row by row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Number of rows.
    pub rows: usize,
    /// Positions in a row.
    pub length: usize,
    /// Token ids `[rows * length]`; the image token's id where an image token goes, padding at the end of a
    /// row.
    pub ids: Vec<u32>,
    /// The next token at each position `[rows * length]`; 0 where `weights` is 0.
    pub targets: Vec<u32>,
    /// Weight of each position in the loss `[rows * length]`: 1 where the next token is learned text, else 0.
    pub weights: Vec<f32>,
    /// The examples, ordered by row and start. Positions outside of all of them are padding.
    pub examples: Vec<BatchExample>,
    /// The global views of the pictures as `[images * global, size, size, 3]` (rows from the top, channels
    /// last), normalised: those of the first picture, then those of the second. There is one of each, unless
    /// training asks for more; a tiled picture counts as so many as it has views.
    pub pixels: Vec<f32>,
    /// Side of a global view in pixels.
    pub image_size: usize,
    /// The local views of the pictures as `[images * local, crop_size, crop_size, 3]`, in the same order;
    /// empty, where there are none.
    pub crops: Vec<f32>,
    /// Side of a local view in pixels; 0 where there are none.
    pub crop_size: usize,
    /// For each picture, of a tiled one for each view, the flat position (`row * length + column`) of the
    /// first of its image tokens, which follow one another.
    pub image_slots: Vec<usize>,
}

/// One example of a batch: the positions that belong to it, which attention never leaves, and what it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchExample {
    /// The id of its document.
    pub sample: String,
    /// The row.
    pub row: usize,
    /// First position in the row.
    pub start: usize,
    /// Number of positions.
    pub len: usize,
    /// Which of the batch's `image_slots` are its own.
    pub slots: Range<usize>,
    /// How many of them each of its pictures has: 1, of a tiled one a slot for each view.
    pub views: Vec<usize>,
    /// Ids of its learned tokens, in training of an image encoder; empty for a language model, which
    /// learns from `targets`.
    pub caption: Vec<u32>,
    /// Whether its document was longer than a row and lost its end.
    pub truncated: bool,
}

/// What a batch teaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BatchContent {
    /// The next token: a language model learns from `targets`.
    #[default]
    Language,
    /// Pictures and their captions, for an image encoder.
    Captions,
}

impl Batch {
    /// Rows in their order, packed by `packing`. Until then pictures are bytes, a quarter of what they are
    /// here. Damaged examples are left out; their positions are padding.
    pub fn of(rows: Vec<PackedRow>, packing: &Packing, content: BatchContent) -> Self {
        let views = || rows.iter().flat_map(PackedRow::examples).flat_map(|e| &e.pictures).filter_map(drawn);
        let pixels = views().map(|views| views.global.len()).sum();
        let crops = views().map(|views| views.local.len()).sum();
        let mut batch = Self {
            length: packing.length,
            // The sizes are known: growing a vector of this size would copy hundreds of megabytes.
            pixels: Vec::with_capacity(pixels),
            image_size: packing.image.size,
            crops: Vec::with_capacity(crops),
            crop_size: if packing.views.local.views > 0 { packing.views.local.size } else { 0 },
            ..Self::default()
        };
        let pad = packing.tokenizer.id(Special::Pad);
        // Each row's bytes go as soon as they are used.
        rows.into_iter().for_each(|row| batch.push_row(&row, &packing.image, pad, content));
        batch
    }

    /// Adds a row, its end filled with `pad`.
    fn push_row(&mut self, row: &PackedRow, image: &ImageSpec, pad: u32, content: BatchContent) {
        self.rows += 1;
        let positions = self.rows * self.length;
        self.ids.resize(positions, pad);
        self.targets.resize(positions, 0);
        self.weights.resize(positions, 0.0);
        let mut start = 0;
        for example in row.examples() {
            if example.damage.is_none() {
                self.push_example(example, start, image, content);
            }
            start += example.ids.len();
        }
    }

    /// Adds an example to the last row. A position's target is the next token of the same example, where that
    /// one is learned; nothing is predicted across examples.
    fn push_example(&mut self, example: &Example, start: usize, image: &ImageSpec, content: BatchContent) {
        let row = self.rows - 1;
        let (at, len) = (row * self.length + start, example.ids.len());
        self.ids[at..at + len].copy_from_slice(&example.ids);
        let learned = (1..len).filter(|&next| example.learn[next]);
        let mut caption = Vec::new();
        for next in learned {
            self.targets[at + next - 1] = example.ids[next];
            self.weights[at + next - 1] = 1.0;
            if content == BatchContent::Captions {
                caption.push(example.ids[next]);
            }
        }
        let (first, mut per_picture) = (self.image_slots.len(), Vec::new());
        for picture in &example.pictures {
            let Some(views) = drawn(picture) else { continue };
            self.image_slots.extend(picture.offsets.iter().map(|offset| at + offset));
            per_picture.push(picture.offsets.len());
            normalise_into(&views.global, image, &mut self.pixels);
            normalise_into(&views.local, image, &mut self.crops);
        }
        self.examples.push(BatchExample {
            sample: example.id.clone(),
            row,
            start,
            len,
            slots: first..self.image_slots.len(),
            views: per_picture,
            caption,
            truncated: example.truncated,
        });
    }

    /// The ids of the documents of its examples.
    pub fn samples(&self) -> impl Iterator<Item = &str> {
        self.examples.iter().map(|example| example.sample.as_str())
    }

    /// Images of the encoder's size that the decoder reads: of a picture one, of a tiled one as many as it
    /// has views. The augmented views of an encoder's training are not counted.
    pub fn images(&self) -> usize {
        self.image_slots.len()
    }

    /// Pictures as their documents have them, tiled or not.
    pub fn pictures(&self) -> usize {
        self.examples.iter().map(|example| example.views.len()).sum()
    }

    /// Positions inside examples: what a step is said to have seen.
    pub fn tokens(&self) -> usize {
        self.examples.iter().map(|example| example.len).sum()
    }

    /// Sum of the loss weights: the denominator of the loss over a whole step.
    pub fn weight(&self) -> f64 {
        self.weights.iter().map(|&w| f64::from(w)).sum()
    }
}

fn drawn(picture: &ExamplePicture) -> Option<&DrawnViews> {
    match &picture.content {
        HeldPicture::Drawn(views) => Some(views),
        HeldPicture::Stored(..) => None,
    }
}
