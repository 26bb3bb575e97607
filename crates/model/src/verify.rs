//! A model beside a golden file: what another program makes of the same token ids and pictures.
//!
//! The file is of safetensors: `input_ids` `[b, t]` and one of `logits` `[b, t, v]` or `hidden` `[b, t, d]`
//! (behind the last norm), or both. Where there is padding, `attention_mask` `[b, t]` is 1 for what is text,
//! which is in one piece in each row, and 0 elsewhere; there nothing is compared. `pixel_values`
//! `[n, 3, s, s]` are pictures in their order, normalised; image tokens stand in their places in `input_ids`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use burn::tensor::Tensor;
use serde::Serialize;

use crate::compute::Compute;
use crate::lm::Lm;
use crate::mm1::{Input, Mm1};
use crate::ops::{Layout, Sight, Span};
use crate::tensor_file::{self, FileTensor};

/// What a golden file holds.
pub struct Golden {
    /// Token ids `[b, t]`.
    ids: Vec<u32>,
    /// Positions in a row.
    length: usize,
    /// For each row where its text begins, and its length.
    texts: Vec<(usize, usize)>,
    /// `[b, t, v]`, where they are there.
    logits: Option<Vec<f32>>,
    /// `[b, t, d]`, where they are there.
    hidden: Option<Vec<f32>>,
    /// `[n, s, s, 3]`, and their side `s`.
    pictures: Option<(Vec<f32>, usize)>,
}

/// How far a model is from a golden file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Agreement {
    /// Positions that were compared.
    pub positions: usize,
    /// The largest difference of two values.
    pub max_absolute: f32,
    /// The largest difference of two values of one position, relative to the largest value there.
    pub max_relative: f32,
    /// Share of the positions whose largest logit is the same token's; none without logits.
    pub top1: Option<f64>,
}

impl Golden {
    /// Reads a file.
    ///
    /// # Errors
    /// One line with the file and the tensor that is missing, unknown, of another shape or type, or holds
    /// what it can't.
    pub fn open(file: &Path) -> Result<Self> {
        Self::read(tensor_file::open(file)?).with_context(|| file.display().to_string())
    }

    fn read(mut tensors: BTreeMap<String, FileTensor>) -> Result<Self> {
        let ids = tensors.remove("input_ids").context("`input_ids` is missing")?;
        let &[rows, length] = &*ids.shape else { bail!("`input_ids` is {:?}, needs [b, t]", ids.shape) };
        ensure!(rows * length > 0, "`input_ids` is [{rows}, {length}]: there is nothing to compare");
        let texts = match tensors.remove("attention_mask") {
            None => vec![(0, length); rows],
            Some(mask) => {
                let shape = &mask.shape;
                ensure!(*shape == ids.shape, "`attention_mask` is {shape:?}, needs {:?}", ids.shape);
                let mask = mask.integers().context("`attention_mask`")?;
                mask.chunks_exact(length).map(text).collect::<Result<_>>()?
            }
        };
        let ids = ids.integers()?.into_iter().map(u32::try_from).collect::<Result<_, _>>();
        let mut floats = |name: &str| -> Result<Option<Vec<f32>>> {
            let Some(tensor) = tensors.remove(name) else { return Ok(None) };
            let of_positions = matches!(*tensor.shape, [b, t, _] if [b, t] == [rows, length]);
            ensure!(of_positions, "`{name}` is {:?}, needs [{rows}, {length}, …]", tensor.shape);
            ensure!(tensor.shape[2] > 0, "`{name}` is {:?}: there are no values", tensor.shape);
            Ok(Some(tensor.read().with_context(|| format!("`{name}`"))?))
        };
        let (logits, hidden) = (floats("logits")?, floats("hidden")?);
        ensure!(logits.is_some() || hidden.is_some(), "neither `logits` nor `hidden` is there");
        let pictures = tensors.remove("pixel_values").map(|tensor| pictures(&tensor)).transpose()?;
        if let Some(name) = tensors.keys().next() {
            bail!(
                "`{name}` can't be compared: only input_ids, attention_mask, pixel_values, logits and hidden \
                 can"
            );
        }
        let ids = ids.context("`input_ids` has a number that is no token id")?;
        Ok(Self { ids, length, texts, logits, hidden, pictures })
    }

    /// Whether it has pictures, which a language model alone can't see.
    pub fn has_pictures(&self) -> bool {
        self.pictures.is_some()
    }

    /// Compares what `lm` makes of the ids.
    ///
    /// # Errors
    /// One line for an id outside of the vocabulary, and for another width.
    pub fn compare(&self, compute: &Compute, lm: &Lm) -> Result<Agreement> {
        ensure!(!self.has_pictures(), "`pixel_values`: a language model alone sees no pictures");
        self.compare_hidden(compute, lm, |_, ids, layout| {
            Ok(lm.forward(compute, lm.embed(compute, ids, 1, self.length), layout))
        })
    }

    /// Compares what `model` makes of ids and pictures; `image` is the id at the places of image tokens.
    ///
    /// # Errors
    /// As [`Self::compare`]; pictures of another size; more or fewer image tokens than the pictures have, or
    /// other tokens among those of one picture.
    pub fn compare_seen(&self, compute: &Compute, model: &Mm1, image: u32) -> Result<Agreement> {
        let (tokens, side) = (model.config().image_tokens(), model.config().vision.image_size);
        let (pixels, given) =
            self.pictures.as_ref().map_or((&[][..], side), |(pixels, side)| (pixels, *side));
        ensure!(
            given == side,
            "`pixel_values`: pictures of {given} pixels a side, the model's are of {side}"
        );
        let places: Vec<usize> = (0..self.ids.len()).filter(|&i| self.ids[i] == image).collect();
        let (size, wanted) = (side * side * 3, places.len());
        ensure!(
            wanted == pixels.len() / size * tokens,
            "`input_ids` has {wanted} image tokens for {} pictures of {tokens}",
            pixels.len() / size
        );
        let pictures = places.chunks_exact(tokens);
        let whole = |run: &[usize]| {
            let (first, last) = (run[0], run[tokens - 1]);
            last - first == tokens - 1 && first / self.length == last / self.length
        };
        ensure!(
            pictures.clone().all(whole),
            "`input_ids`: the {tokens} image tokens of a picture must stand side by side in one row"
        );
        let firsts: Vec<usize> = pictures.map(|run| run[0]).collect();
        self.compare_hidden(compute, &model.lm, |row, ids, layout| {
            let before = firsts.iter().take_while(|&first| first / self.length < row).count();
            let here = firsts[before..].iter().take_while(|&first| first / self.length == row);
            let image_slots: Vec<usize> = here.map(|first| first % self.length).collect();
            let pixels = &pixels[before * size..][..image_slots.len() * size];
            let (length, image_slots) = (self.length, &image_slots[..]);
            model.hidden(compute, &Input { rows: 1, length, ids, layout, pixels, image_slots })
        })
    }

    /// Compares the rows that `hidden` gives, of a row's number and ids `[1, t, d]` behind the last norm, and
    /// what the head of `lm` makes of them.
    fn compare_hidden(
        &self,
        compute: &Compute,
        lm: &Lm,
        hidden: impl Fn(usize, &[u32], &Layout) -> Result<Tensor<3>>,
    ) -> Result<Agreement> {
        let [vocab, dim] = lm.embedding.dims();
        for (name, values, wanted) in [("logits", &self.logits, vocab), ("hidden", &self.hidden, dim)] {
            let Some(values) = values else { continue };
            let width = values.len() / self.ids.len();
            ensure!(width == wanted, "`{name}` has {width} values a position, the model {wanted}");
        }
        let outside = self.ids.iter().find(|&&id| id as usize >= vocab);
        if let Some(id) = outside {
            bail!("`input_ids` has {id}, but the model's vocabulary is {vocab}");
        }
        let (mut found, mut same) = (Agreement::default(), 0);
        // A row at a time: the logits of one are enough to hold.
        for (row, &(start, len)) in self.texts.iter().enumerate() {
            let ids = &self.ids[row * self.length..][..self.length];
            let spans = vec![Span { row: 0, start, len }];
            let layout = Layout { spans, sight: Sight::Causal };
            let hidden = hidden(row, ids, &layout)?;
            let first = row * self.length + start;
            found.positions += len;
            if let Some(expected) = &self.hidden {
                found.add(&values(hidden.clone(), start, len), &expected[first * dim..][..len * dim], dim);
            }
            if let Some(expected) = &self.logits {
                let got = values(lm.logits(compute, hidden), start, len);
                let expected = &expected[first * vocab..][..len * vocab];
                found.add(&got, expected, vocab);
                let pairs = got.chunks_exact(vocab).zip(expected.chunks_exact(vocab));
                same += pairs.filter(|(got, expected)| largest(got) == largest(expected)).count();
            }
        }
        found.top1 = self.logits.as_ref().map(|_| same as f64 / found.positions as f64);
        Ok(found)
    }
}

impl Agreement {
    /// Takes positions of `width` values in. What is no number is infinitely far.
    fn add(&mut self, got: &[f32], expected: &[f32], width: usize) {
        for (got, expected) in got.chunks_exact(width).zip(expected.chunks_exact(width)) {
            let apart = |(a, b): (&f32, &f32)| if (a - b).is_nan() { f32::INFINITY } else { (a - b).abs() };
            let apart = got.iter().zip(expected).map(apart).fold(0.0, f32::max);
            let scale = expected.iter().fold(f32::MIN_POSITIVE, |most, value| most.max(value.abs()));
            self.max_absolute = self.max_absolute.max(apart);
            self.max_relative = self.max_relative.max(apart / scale);
        }
    }
}

/// Pictures, channels last, and their side.
fn pictures(tensor: &FileTensor) -> Result<(Vec<f32>, usize)> {
    let &[n, 3, h, w] = &*tensor.shape else {
        bail!("`pixel_values` is {:?}, needs [n, 3, s, s]", tensor.shape)
    };
    ensure!(h == w && n * h > 0, "`pixel_values` is {:?}, needs [n, 3, s, s]", tensor.shape);
    let (given, area) = (tensor.read().context("`pixel_values`")?, h * w);
    let values = (0..given.len()).map(|i| given[i / (3 * area) * 3 * area + i % 3 * area + i / 3 % area]);
    Ok((values.collect(), h))
}

/// Where the ones of a row's mask begin, and how many they are.
fn text(mask: &[i64]) -> Result<(usize, usize)> {
    let start = mask.iter().position(|&sees| sees == 1).context("`attention_mask` has a row without text")?;
    let len = mask[start..].iter().take_while(|&&sees| sees == 1).count();
    let others = mask[..start].iter().chain(&mask[start + len..]);
    ensure!(
        others.into_iter().all(|&sees| sees == 0),
        "`attention_mask` must have one run of ones in each row, and zeros around it"
    );
    Ok((start, len))
}

/// The values of `len` positions of one row, from `start` on.
fn values(x: Tensor<3>, start: usize, len: usize) -> Vec<f32> {
    x.narrow(1, start, len).into_data().iter::<f32>().collect()
}

/// The index of the largest value, the first of equal ones.
fn largest(values: &[f32]) -> usize {
    let better = |best: usize, i: usize| if values[i] > values[best] { i } else { best };
    (1..values.len()).fold(0, better)
}
