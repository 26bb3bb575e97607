//! [`Generator`]: prompts to answers. Reading a prompt and making a token are the same step, so that a finished answer
//! leaves the batch at once and the next prompt takes its place.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use burn::tensor::{Tensor, TensorData};
use mm1_data::document::{Image, Segment, Special};
use mm1_data::image::{ImageSpec, normalise_into, prepare};
use mm1_data::tokenizer::Tokenizer;
use mm1_model::ops::{Precision, on_pool};
use mm1_model::{Cache, Mm1, Piece, Placed};

use crate::answer::Answer;
use crate::sampler::{Sampler, Sampling};
pub use crate::session::Session;

/// Positions that a prompt and its answer may take together, unless told otherwise: the paper's sequence length.
const CONTEXT: usize = 4096;

/// Positions of prompts that are read in one step: bounds the memory, and no result depends on it.
pub(crate) const POSITIONS_PER_STEP: usize = 2048;

/// A model that answers.
pub struct Generator {
    model: Mm1,
    precision: Precision,
    tokenizer: Arc<Tokenizer>,
    image: ImageSpec,
    context: usize,
}

/// A stretch of a prompt whose pictures are looked at in one resolution.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// Its text and pictures.
    pub segments: &'a [Segment],
    /// Pixels a side of its pictures, whole patches; `None`: as many as the model was trained with.
    pub side: Option<usize>,
}

impl<'a, S: AsRef<[Segment]> + ?Sized> From<&'a S> for Part<'a> {
    fn from(segments: &'a S) -> Self {
        Self { segments: segments.as_ref(), side: None }
    }
}

/// Is told the index of a prompt and the next piece of its answer.
pub type OnToken<'a> = &'a mut dyn FnMut(usize, &str);

/// What an answer may be.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateOptions {
    /// The most tokens of an answer; at least 1.
    pub max_tokens: usize,
    /// The answer ends before the first of these; it always ends at [`Special::End`].
    pub stop: Vec<String>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Answers that are made side by side; at least 1.
    pub batch: usize,
}

impl Generator {
    /// The tokenizer and the picture's size and range must be those that the model was trained with; products are in
    /// `precision`.
    pub fn new(model: Mm1, precision: Precision, tokenizer: Arc<Tokenizer>, image: ImageSpec) -> Self {
        Self { model: model.read_only(precision), precision, tokenizer, image, context: CONTEXT }
    }

    /// The same with another limit on the positions of a prompt and its answer together.
    pub fn with_context(self, positions: usize) -> Self {
        Self { context: positions, ..self }
    }

    /// Positions that a prompt and its answer may take together: 4096, or what [`Self::with_context`] was given.
    pub fn context(&self) -> usize {
        self.context
    }

    /// How pictures are prepared.
    pub fn image(&self) -> &ImageSpec {
        &self.image
    }

    /// Positions that the segments take.
    pub fn tokens(&self, segments: &[Segment]) -> usize {
        let tokens = |segment: &Segment| match segment {
            Segment::Text { text, .. } => self.tokenizer.encode(text).len(),
            Segment::Image(_) => self.image_tokens(),
            Segment::Token { .. } => 1,
        };
        segments.iter().map(tokens).sum()
    }

    /// One answer for each prompt. `on_token` is told the prompt's index and a piece of its answer as soon as no
    /// further token can change it; the pieces of an answer join to it.
    ///
    /// # Errors
    /// Before any work: an option out of its range, a prompt that is empty or has no room for its answer. Later: a
    /// picture that can't be prepared, logits that are no numbers.
    pub fn generate(
        &self,
        prompts: &[Vec<Segment>],
        options: &GenerateOptions,
        on_token: Option<OnToken<'_>>,
    ) -> Result<Vec<String>> {
        let prompts: Vec<Vec<Part<'_>>> = prompts.iter().map(|prompt| vec![prompt.into()]).collect();
        self.generate_after(&[], &prompts, options, on_token)
    }

    /// As [`Self::generate`] for prompts of parts that all begin with those `shared`, which are read once.
    ///
    /// # Errors
    /// As [`Self::generate`].
    pub fn generate_after(
        &self,
        shared: &[Part<'_>],
        prompts: &[Vec<Part<'_>>],
        options: &GenerateOptions,
        mut on_token: Option<OnToken<'_>>,
    ) -> Result<Vec<String>> {
        options.check()?;
        for (i, prompt) in prompts.iter().enumerate() {
            let tokens =
                |parts: &[Part<'_>]| parts.iter().map(|part| self.tokens(part.segments)).sum::<usize>();
            let (before, own) = (tokens(shared), tokens(prompt));
            ensure!(own > 0, "prompt {i}: there is nothing to answer: it is empty");
            self.check_room(before + own, options.max_tokens).with_context(|| format!("prompt {i}"))?;
        }
        let mut texts = vec![String::new(); prompts.len()];
        let mut waiting = prompts.iter().enumerate();
        let mut active: Vec<(usize, Answer)> = Vec::new();
        // Sequence 0 has read what is shared; those of the answers follow.
        let mut cache = self.begin(shared)?;
        loop {
            let mut positions = active.len();
            while active.len() < options.batch && positions < POSITIONS_PER_STEP {
                let Some((i, prompt)) = waiting.next() else { break };
                let reading = self.read_parts(prompt).with_context(|| format!("prompt {i}"))?;
                positions += reading.ids.len();
                active.push((i, Answer::new(reading, options, i as u64)?));
                cache.fork(0);
            }
            if active.is_empty() {
                return Ok(texts);
            }
            let unread: Vec<&Reading> = active.iter().map(|(_, answer)| &answer.unread).collect();
            let logits = self.extend(1, &unread, &mut cache)?;
            let mut done = Vec::with_capacity(active.len());
            for ((i, answer), logits) in active.iter_mut().zip(&logits) {
                done.push(answer.take(logits, &self.tokenizer)?);
                let piece = answer.text.show();
                if let Some(on_token) = on_token.as_mut().filter(|_| !piece.is_empty()) {
                    on_token(*i, piece);
                }
            }
            cache.retain(|sequence| sequence == 0 || !done[sequence - 1]);
            let mut done = done.into_iter();
            for (i, answer) in active.extract_if(.., |_| done.next().unwrap_or(false)) {
                texts[i] = answer.text.into_string();
            }
        }
    }

    /// A conversation that has not begun.
    pub fn session(&self) -> Session<'_> {
        Session::new(self)
    }

    /// The parts as the model reads them, one behind the other.
    pub(crate) fn read_parts(&self, parts: &[Part<'_>]) -> Result<Reading> {
        let mut reading = Reading::default();
        for part in parts {
            reading.append(self.read(*part)?);
        }
        Ok(reading)
    }

    /// A part as the model reads it.
    pub(crate) fn read(&self, part: Part<'_>) -> Result<Reading> {
        let image = self.image.at(part.side.unwrap_or(self.image.size));
        let mut reading = Reading::default();
        for segment in part.segments {
            match segment {
                Segment::Text { text, .. } => reading.ids.extend(self.tokenizer.encode(text)),
                Segment::Image(picture) => {
                    let (slot, size) = (reading.ids.len(), [image.size; 2]);
                    let places = std::iter::repeat_n(self.tokenizer.id(Special::Image), self.image_tokens());
                    reading.ids.extend(places);
                    let mut pixels = Vec::new();
                    normalise_into(&prepare(picture, &image)?, &image, &mut pixels);
                    reading.pictures.push(Placed { slot, size, pixels });
                }
                Segment::Token { token: token @ (Special::Image | Special::Pad), .. } => {
                    bail!("the token {token:?} can't be given by itself; give the picture")
                }
                Segment::Token { token, .. } => reading.ids.push(self.tokenizer.id(*token)),
            }
        }
        Ok(reading)
    }

    /// Sequence `first + i` of the cache reads `unread[i]`; gives the logits `[v]` after each.
    pub(crate) fn extend(
        &self,
        first: usize,
        unread: &[&Reading],
        cache: &mut Cache,
    ) -> Result<Vec<Vec<f32>>> {
        Ok(rows(on_pool(self.precision, || self.model.extend(&pieces(first, unread), cache))?))
    }

    /// The same with the logits after every token of every piece.
    pub(crate) fn extend_all(
        &self,
        first: usize,
        unread: &[&Reading],
        cache: &mut Cache,
    ) -> Result<Vec<Vec<f32>>> {
        Ok(rows(on_pool(self.precision, || self.model.extend_all(&pieces(first, unread), cache))?))
    }

    /// A cache whose one sequence has read `shared`, which may be empty.
    pub(crate) fn begin(&self, shared: &[Part<'_>]) -> Result<Cache> {
        let (mut cache, reading) = (self.new_cache(), self.read_parts(shared)?);
        if !reading.ids.is_empty() {
            self.extend(0, &[&reading], &mut cache)?;
        }
        Ok(cache)
    }

    /// What the image encoder makes of a picture: the mean of its patches' features, `[d]`.
    ///
    /// # Errors
    /// A picture that can't be prepared.
    pub fn features(&self, picture: &Image) -> Result<Vec<f32>> {
        let mut pixels = Vec::new();
        normalise_into(&prepare(picture, &self.image)?, &self.image, &mut pixels);
        let pixels = TensorData::new(pixels, [1, self.image.size, self.image.size, 3]);
        let pixels = Tensor::from_data(pixels, &self.model.device());
        let features = on_pool(self.precision, || self.model.vision.forward(pixels));
        Ok(features.mean_dim(1).into_data().iter::<f32>().collect())
    }

    pub(crate) fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    pub(crate) fn new_cache(&self) -> Cache {
        self.model.cache(1)
    }

    /// Whether `read` positions and an answer fit.
    pub(crate) fn check_room(&self, read: usize, max_tokens: usize) -> Result<()> {
        ensure!(read > 0, "there is nothing to answer: it is empty");
        ensure!(
            read + max_tokens <= self.context,
            "{read} tokens and an answer of up to {max_tokens} do not fit into the context of {}: shorten it, or take fewer pictures or shots",
            self.context
        );
        Ok(())
    }

    fn image_tokens(&self) -> usize {
        self.model.config().connector.tokens()
    }
}

/// What each sequence from `first` on reads.
fn pieces<'a>(first: usize, unread: &[&'a Reading]) -> Vec<Piece<'a>> {
    unread.iter().enumerate().map(|(i, reading)| reading.piece(first + i)).collect()
}

/// The rows of `[n, v]`.
fn rows(logits: Tensor<2>) -> Vec<Vec<f32>> {
    let [_, vocab] = logits.dims();
    let values: Vec<f32> = logits.into_data().iter::<f32>().collect();
    values.chunks_exact(vocab).map(<[f32]>::to_vec).collect()
}

impl GenerateOptions {
    /// Checks the ranges.
    ///
    /// # Errors
    /// One line that names the option.
    pub(crate) fn check(&self) -> Result<()> {
        ensure!(self.max_tokens > 0, "max_tokens = 0: give at least 1");
        ensure!(self.batch > 0, "batch = 0: give at least 1");
        ensure!(!self.stop.iter().any(String::is_empty), "a stop string is empty: leave it out");
        Sampler::new(self.sampling, 0)?;
        Ok(())
    }
}

/// Token ids and pictures in the form that the model reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reading {
    pub(crate) ids: Vec<u32>,
    pub(crate) pictures: Vec<Placed>,
}

impl Reading {
    pub(crate) fn token(id: u32) -> Self {
        Self::tokens(&[id])
    }

    pub(crate) fn tokens(ids: &[u32]) -> Self {
        Self { ids: ids.to_vec(), ..Self::default() }
    }

    /// As sequence `sequence` of a cache reads it.
    fn piece(&self, sequence: usize) -> Piece<'_> {
        Piece { sequence, ids: &self.ids, pictures: &self.pictures }
    }

    /// Appends what is read after.
    pub(crate) fn append(&mut self, after: Self) {
        let before = self.ids.len();
        self.pictures.extend(after.pictures.into_iter().map(|p| Placed { slot: before + p.slot, ..p }));
        self.ids.extend(after.ids);
    }
}
