//! The whole network: pictures and tokens in, logits and losses out.

mod places;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

use self::places::{ImageSlot, check_slots, check_spans};
use crate::cache::Cache;
use crate::compute::Compute;
use crate::config::Mm1Config;
use crate::connector::Connector;
use crate::glances::glances;
use crate::init::Init;
use crate::lm::Lm;
use crate::ops::{Layout, NewTokens};
use crate::sight::SeenPictures;
use crate::vision::Vision;

/// Image encoder, connector, decoder (paper, section 3.1).
#[derive(Module, Debug)]
pub struct Mm1 {
    /// Pictures to patch features.
    pub vision: Vision,
    /// Patch features to image tokens.
    pub connector: Connector,
    /// Image tokens and text to logits.
    pub lm: Lm,
    /// It has passed its check, and its shapes are those of the parameters.
    #[module(skip)]
    config: Mm1Config,
}

/// Packed rows with their pictures.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Number of rows.
    pub rows: usize,
    /// Positions in a row.
    pub length: usize,
    /// Token ids `[rows * length]`; at the places of image tokens any valid id.
    pub ids: &'a [u32],
    /// The examples in the rows.
    pub layout: &'a Layout,
    /// Pictures `[n, s, s, 3]`, rows from the top, normalised.
    pub pixels: &'a [f32],
    /// For each picture the flat position (`row * length + column`) of the first of its image tokens.
    pub image_slots: &'a [usize],
}

/// What one sequence reads next.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// The sequence in the cache.
    pub sequence: usize,
    /// Its new token ids, at least one; at the places of image tokens any valid id.
    pub ids: &'a [u32],
    /// Its pictures, each in its own resolution.
    pub pictures: &'a [Placed],
}

/// A picture in its place among tokens.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The index into the ids of the first of its image tokens.
    pub slot: usize,
    /// Height and width in pixels, whole patches.
    pub size: [usize; 2],
    /// What is given of it.
    pub content: PictureContent,
}

/// A picture, or what the encoder and the connector have made of it.
#[derive(Clone, Debug, PartialEq)]
pub enum PictureContent {
    /// `[h, w, 3]`, rows from the top, normalised.
    Pixels(Vec<f32>),
    /// Its image tokens `[k, d]`, or its latents where the decoder looks at pictures beside its sequence:
    /// [`Mm1::see`].
    Tokens(Arc<[f32]>),
}

/// Pictures of one size, and the flat positions of the first image token of each.
struct SameSizePictures<'a> {
    size: [usize; 2],
    content: SameSizeContent<'a>,
    slots: Cow<'a, [usize]>,
}

/// Contents of pictures of one size and kind.
enum SameSizeContent<'a> {
    /// `[n, h, w, 3]`
    Pixels(Cow<'a, [f32]>),
    /// `[n, k, d]`
    Tokens(Vec<f32>),
}

impl Mm1 {
    /// With the initial values of [`crate::init`], which are drawn when they are first read. On an autodiff
    /// device the parameters collect gradients.
    ///
    /// # Errors
    /// When `config` does not pass its check.
    pub fn new(config: &Mm1Config, seed: u64, device: &Device) -> Result<Self> {
        config.check()?;
        let init = Init::new(seed, device);
        Ok(Self {
            vision: Vision::new(&init.at("vision"), &config.vision),
            connector: Connector::new(&init.at("connector"), &config.connector, &config.vision, &config.lm),
            lm: Lm::new(&init.at("lm"), &config.lm),
            config: config.clone(),
        })
    }

    /// The image encoder of [`Self::new`] alone.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn encoder(config: &Mm1Config, seed: u64, device: &Device) -> Result<Vision> {
        config.check()?;
        Ok(Vision::new(&Init::new(seed, device).at("vision"), &config.vision))
    }

    /// The same network for reading ([`Self::extend`], [`Self::image_tokens`]): on the CPU the weights of its
    /// blocks and its head are packed once, as products of `compute` take them, instead of every time. In
    /// bfloat16 that is half of their memory where the CPU has products of it; an embedding that is the head
    /// as well stays beside its packed form. With a [`Compute`] of the same precision the results are the
    /// same bits, unless the decoder's weights are in another [`crate::ops::WeightFormat`]. It has no loss,
    /// and those weights are no parameters any more: it is not to be saved.
    pub fn read_only(self, compute: &Compute) -> Self {
        let ops = compute.ops();
        Self {
            vision: self.vision.read_only(ops),
            lm: self.lm.read_only(ops, compute.weight_format()),
            ..self
        }
    }

    /// The same network for pictures of `size` pixels a side: the tables of positions of encoder and
    /// connector are interpolated (bicubic) and trained on from there.
    ///
    /// # Errors
    /// A size that is not whole patches, or has fewer of them than the connector needs.
    pub fn with_image_size(mut self, size: usize) -> Result<Self> {
        self.config.vision.image_size = size;
        self.config.check()?;
        let (vision, connector) = (self.vision.with_image_size(size), self.connector);
        let connector = connector.with_grid(self.config.vision.grid());
        Ok(Self { vision, connector, ..self })
    }

    /// Its shape.
    pub fn config(&self) -> &Mm1Config {
        &self.config
    }

    /// An empty cache for `sequences` sequences that [`Self::extend`] reads.
    pub fn cache(&self, sequences: usize) -> Cache {
        self.lm.cache(sequences)
    }

    /// Where its parameters are.
    pub fn device(&self) -> Device {
        self.lm.embedding.lazy_device()
    }

    /// The image tokens of pictures of any shape that the patch divides, or their latents where the decoder
    /// looks at pictures beside its sequence: `[n, h, w, 3] -> [n, k, d]`.
    ///
    /// # Panics
    /// When the patch does not divide height and width.
    pub fn image_tokens(&self, compute: &Compute, pixels: Tensor<4>) -> Tensor<3> {
        let grid = self.vision.grid(&pixels);
        self.connector.forward(compute, self.vision.forward(compute, pixels), grid)
    }

    /// The image tokens of pictures that are given by their pixels, for [`PictureContent::Tokens`]: read in
    /// their place they give the same bits.
    ///
    /// # Errors
    /// Pictures that are no whole patches, or another number of pixel values than they have.
    pub fn see(&self, compute: &Compute, pictures: &[&Placed]) -> Result<Vec<Arc<[f32]>>> {
        let mut sizes: BTreeMap<[usize; 2], (Vec<usize>, Vec<f32>)> = BTreeMap::new();
        for (i, Placed { size, content, .. }) in pictures.iter().enumerate() {
            let PictureContent::Pixels(pixels) = content else { bail!("picture {i} is given by its tokens") };
            self.check_pixels(pixels.len(), 1, *size)?;
            let (indices, all) = sizes.entry(*size).or_default();
            indices.push(i);
            all.extend_from_slice(pixels);
        }
        let mut seen: Vec<Arc<[f32]>> = vec![Arc::default(); pictures.len()];
        for ([h, w], (indices, pixels)) in sizes {
            let pixels = TensorData::new(pixels, [indices.len(), h, w, 3]);
            let pixels = Tensor::from_data(pixels, &self.device());
            let tokens = compute.step(|compute| self.image_tokens(compute, pixels));
            let [_, k, d] = tokens.dims();
            let values: Vec<f32> = tokens.into_data().iter::<f32>().collect();
            for (i, tokens) in indices.into_iter().zip(values.chunks_exact(k * d)) {
                seen[i] = tokens.into();
            }
        }
        Ok(seen)
    }

    /// What the decoder reads: `[rows, length, d]`, image tokens in their places. Without pictures the
    /// encoder and the connector do nothing.
    ///
    /// # Errors
    /// When counts do not agree, a token id is outside the vocabulary, or spans or image tokens leave a row
    /// or overlap.
    pub fn embeds(&self, compute: &Compute, input: &Input<'_>) -> Result<Tensor<3>> {
        Ok(self.embeds_and_latents(compute, input)?.0)
    }

    /// What the decoder makes of every position, after its last norm: `[rows, length, d]`.
    ///
    /// # Errors
    /// As [`Self::embeds`].
    pub fn hidden(&self, compute: &Compute, input: &Input<'_>) -> Result<Tensor<3>> {
        let (embeds, latents) = self.embeds_and_latents(compute, input)?;
        let seen = self.seen(compute, input, latents);
        Ok(self.lm.forward_seeing(compute, embeds, input.layout, seen.as_ref()))
    }

    /// What the decoder reads, and what it looks at beside that.
    fn embeds_and_latents(
        &self,
        compute: &Compute,
        input: &Input<'_>,
    ) -> Result<(Tensor<3>, Option<Tensor<3>>)> {
        let Input { rows, length, .. } = *input;
        ensure!(
            input.ids.len() == rows * length,
            "{} token ids for {rows} rows of {length} positions: need {}",
            input.ids.len(),
            rows * length
        );
        check_spans(input)?;
        let side = self.config.vision.image_size;
        self.check_pixels(input.pixels.len(), input.image_slots.len(), [side; 2])?;
        let pictures = SameSizePictures {
            size: [side; 2],
            content: SameSizeContent::Pixels(input.pixels.into()),
            slots: input.image_slots.into(),
        };
        self.embed(compute, input.ids, (rows, length), &[pictures])
    }

    /// The SUM of `weight * -log p(target)` over all positions, as `[1]`; the caller divides by the weight of
    /// the whole step. `targets` and `weights` are `[rows * length]`.
    ///
    /// # Errors
    /// As [`Self::embeds`], and when a target with a weight is outside the vocabulary.
    pub fn loss(
        &self,
        compute: &Compute,
        input: &Input<'_>,
        targets: &[u32],
        weights: &[f32],
    ) -> Result<Tensor<1>> {
        let positions = input.rows * input.length;
        ensure!(
            targets.len() == positions && weights.len() == positions,
            "{} targets and {} weights for {positions} positions",
            targets.len(),
            weights.len()
        );
        ensure!(positions > 0, "nothing to learn from: no positions");
        ensure!(!self.lm.is_read_only(), "a network for reading has no loss");
        self.check_ids(targets, "target")?;
        let (embeds, latents) = self.embeds_and_latents(compute, input)?;
        let seen = self.seen(compute, input, latents);
        Ok(self.lm.loss_seeing(compute, embeds, (input.layout, seen.as_ref()), (targets, weights)))
    }

    /// What positions of packed rows look at; `None` where the decoder looks at nothing beside its sequence.
    fn seen(
        &self,
        compute: &Compute,
        input: &Input<'_>,
        latents: Option<Tensor<3>>,
    ) -> Option<SeenPictures<'_>> {
        let connector = self.connector.gated()?;
        let glances = glances(input.layout, input.length, input.image_slots);
        let new = latents.map(|latents| connector.keys_and_values(compute, latents));
        Some(SeenPictures::new(connector, glances, new.unwrap_or_default()))
    }

    /// Reads new tokens of several sequences, each after what `cache` holds of it, and gives the logits of
    /// the LAST new token of each piece: `[pieces, v]`. Reading a prompt and making a token are the same:
    /// pieces of any lengths go through the network side by side in one row. No gradients.
    ///
    /// # Errors
    /// When a piece is empty, names a sequence that the cache lacks or that another piece has, or is refused
    /// as in [`Self::embeds`]; the cache is then as it was.
    pub fn extend(&self, compute: &Compute, pieces: &[Piece<'_>], cache: &mut Cache) -> Result<Tensor<2>> {
        let mut end = 0;
        let last = |piece: &Piece<'_>| {
            end += piece.ids.len() as u32;
            end.saturating_sub(1)
        };
        let ends: Vec<u32> = pieces.iter().map(last).collect();
        compute.step(|compute| {
            Ok(rows(self.lm.finish(compute, self.read(compute, pieces, cache, Some(&ends))?)))
        })
    }

    /// Reads as [`Self::extend`] and gives the logits of EVERY new token, piece after piece: `[n, v]`.
    ///
    /// # Errors
    /// As [`Self::extend`].
    pub fn extend_all(
        &self,
        compute: &Compute,
        pieces: &[Piece<'_>],
        cache: &mut Cache,
    ) -> Result<Tensor<2>> {
        compute.step(|compute| Ok(rows(self.lm.finish(compute, self.read(compute, pieces, cache, None)?))))
    }

    /// New tokens through all blocks, `[1, n, d]`; or of them the `wanted` positions.
    fn read(
        &self,
        compute: &Compute,
        pieces: &[Piece<'_>],
        cache: &mut Cache,
        wanted: Option<&[u32]>,
    ) -> Result<Tensor<3>> {
        ensure!(!pieces.is_empty(), "nothing to read: no pieces");
        // All is checked before the cache is touched: a refused call leaves it as it was.
        ensure!(
            cache.layers.len() == self.lm.blocks.len(),
            "a cache of {} layers for a model of {}",
            cache.layers.len(),
            self.lm.blocks.len()
        );
        // Pictures are gathered by their size, so that the encoder sees each size once, whoever they belong
        // to; and by whether it has seen them.
        let (mut ids, mut pictures, mut new) = (Vec::new(), BTreeMap::new(), Vec::new());
        for piece in pieces {
            let sequence = piece.sequence;
            ensure!(!piece.ids.is_empty(), "sequence {sequence} has nothing to read");
            ensure!(
                sequence < cache.sequences(),
                "sequence {sequence} is not in the cache, which has {}",
                cache.sequences()
            );
            ensure!(
                new.iter().all(|new: &NewTokens| new.sequence != sequence),
                "sequence {sequence} comes twice in one call"
            );
            for picture in piece.pictures {
                self.check_content(picture)?;
            }
            let slots = piece.pictures.iter().map(|picture| self.slot(picture.slot, picture.size));
            check_slots(slots.collect(), (1, piece.ids.len()))?;
            for Placed { slot, size, content } in piece.pictures {
                let (seen, values) = match content {
                    PictureContent::Pixels(pixels) => (false, &pixels[..]),
                    PictureContent::Tokens(tokens) => (true, &tokens[..]),
                };
                let of_size: &mut (Vec<f32>, Vec<usize>) = pictures.entry((*size, seen)).or_default();
                of_size.0.extend_from_slice(values);
                of_size.1.push(ids.len() + slot);
            }
            ids.extend_from_slice(piece.ids);
            new.push(NewTokens { sequence, len: piece.ids.len() });
        }
        let pictures = pictures.into_iter().map(|((size, seen), (values, slots))| SameSizePictures {
            size,
            content: match seen {
                false => SameSizeContent::Pixels(values.into()),
                true => SameSizeContent::Tokens(values),
            },
            slots: slots.into(),
        });
        let pictures: Vec<SameSizePictures<'_>> = pictures.collect();
        let (embeds, latents) = self.embed(compute, &ids, (1, ids.len()), &pictures)?;
        let seen = self.connector.gated().map(|connector| {
            let slots: Vec<usize> =
                pictures.iter().flat_map(|of_size| of_size.slots.iter().copied()).collect();
            let read = latents.map(|latents| connector.keys_and_values(compute, latents));
            cache.look(connector, &new, (&slots, &read.unwrap_or_default()))
        });
        Ok(self.lm.extend_seeing(compute, embeds, (&new, cache), (wanted, seen.as_ref())))
    }

    /// Tokens and pictures as the decoder's input `[rows, length, d]`; and where it looks at pictures beside
    /// that, their latents in the order of `pictures`.
    fn embed(
        &self,
        compute: &Compute,
        ids: &[u32],
        (rows, length): (usize, usize),
        pictures: &[SameSizePictures<'_>],
    ) -> Result<(Tensor<3>, Option<Tensor<3>>)> {
        self.check_ids(ids, "token")?;
        let slots = pictures
            .iter()
            .flat_map(|of_size| of_size.slots.iter().map(|&start| self.slot(start, of_size.size)));
        check_slots(slots.collect(), (rows, length))?;
        let (mut embeds, mut latents) = (self.lm.embed(compute, ids, rows, length), Vec::new());
        for SameSizePictures { size: [h, w], content, slots } in pictures {
            // Without pictures there is no vision work, and its parameters get no gradient: the optimizer
            // counts 0.
            if slots.is_empty() {
                continue;
            }
            let image_tokens = match content {
                SameSizeContent::Pixels(pixels) => {
                    let pixels = TensorData::new(pixels.to_vec(), [slots.len(), *h, *w, 3]);
                    self.image_tokens(compute, Tensor::from_data(pixels, &self.device()))
                }
                SameSizeContent::Tokens(tokens) => {
                    let [k, d] = self.config.connector_output_of([*h, *w]);
                    Tensor::from_data(TensorData::new(tokens.clone(), [slots.len(), k, d]), &self.device())
                }
            };
            if self.config.connector.fills_the_sequence() {
                embeds = compute.ops().splice(embeds, image_tokens, slots);
            } else {
                latents.push(image_tokens);
            }
        }
        Ok((embeds, (!latents.is_empty()).then(|| Tensor::cat(latents, 0))))
    }

    fn check_ids(&self, ids: &[u32], what: &str) -> Result<()> {
        let vocab = self.config.lm.vocab();
        let bad = ids.iter().position(|&id| id as usize >= vocab);
        ensure!(
            bad.is_none(),
            "{what} id {} at position {} is not below the model's vocabulary of {vocab}",
            bad.map_or(0, |i| ids[i]),
            bad.unwrap_or(0)
        );
        Ok(())
    }

    fn check_content(&self, picture: &Placed) -> Result<()> {
        let size = picture.size;
        match &picture.content {
            PictureContent::Pixels(pixels) => self.check_pixels(pixels.len(), 1, size),
            PictureContent::Tokens(tokens) => {
                let [k, d] = self.config.connector_output_of(size);
                ensure!(tokens.len() == k * d, "{} values for {k} image tokens of {d}", tokens.len());
                Ok(())
            }
        }
    }

    fn check_pixels(&self, values: usize, pictures: usize, [h, w]: [usize; 2]) -> Result<()> {
        let (patch, need) = (self.config.vision.patch, pictures * h * w * 3);
        ensure!(values == need, "{values} pixel values for {pictures} pictures of {h}x{w}x3: need {need}");
        let whole = h.is_multiple_of(patch) && w.is_multiple_of(patch) && h * w > 0;
        ensure!(whole, "pictures of {h}x{w} pixels are not whole patches of {patch}x{patch}");
        Ok(())
    }

    /// The image tokens from `start` on of a picture of this height and width.
    fn slot(&self, start: usize, size: [usize; 2]) -> ImageSlot {
        ImageSlot { start, tokens: self.config.image_tokens_of(size) }
    }
}

/// `[1, n, v] -> [n, v]`
fn rows(logits: Tensor<3>) -> Tensor<2> {
    let [_, n, v] = logits.dims();
    logits.reshape([n, v])
}
