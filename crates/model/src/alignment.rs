//! Alignment of image tokens with a decoder's token embeddings, before the decoder has read a picture:
//! the image tokens of a picture are to be the embeddings of its caption's tokens, in their order, so
//! that the decoder finds words where pictures will be. What a short caption leaves over is free. Where
//! image tokens are patches, one row of them is to say the caption, another for each caption: behind LLaVA's
//! connector all rows have the same weights. It needs no pass through the decoder: a connector from
//! random weights sees many more pictures in the same time. MM1 has no such stage; BLIP-2 (Li et al. 2023,
//! section 3.2) prepares its connector with a text tower in the place of the embeddings.
// A contrast of mean image tokens with mean embeddings was here first. A frozen SmolLM2 can't read such a
// mean: captions cost 7.24 nats a token behind nothing, 9.17 behind their mean embedding and 2.43 behind
// their embeddings one by one (docs/LOG.md).

use burn::module::Module;
use burn::tensor::{Int, Tensor, TensorData};

use crate::clip::PackedCaptions;
use crate::compute::Compute;
use crate::connector::Connector;
use crate::lm::Lm;
use crate::mm1::Mm1;
use crate::ops::Weight;
use crate::vision::Vision;

/// The logit of a token at its own embedding, in the mean: sharp enough that what is near to it is that
/// token.
const OWN_LOGIT: f64 = 32.0;

/// The whole model, of which the decoder gives its embeddings alone.
#[derive(Module, Debug)]
pub struct Alignment {
    /// Pictures to patch features.
    pub vision: Vision,
    /// Patch features to image tokens.
    pub connector: Connector,
    /// The decoder as it is.
    pub lm: Lm,
    /// Image tokens that say a caption.
    #[module(skip)]
    words: usize,
    /// Mean square of the entries of the embeddings: what a distance is measured by.
    #[module(skip)]
    spread: f64,
    /// The token that ends a document: no word of a caption.
    #[module(skip)]
    end: u32,
}

impl Alignment {
    /// Of `model`, whose documents end with token `end`.
    pub fn new(model: Mm1, end: u32) -> Self {
        let words = model.config().connector.caption_tokens([model.config().vision.grid(); 2]);
        let Mm1 { vision, connector, lm, .. } = model;
        let spread = lm.embedding_spread();
        Self { vision, connector, lm, words, spread, end }
    }

    /// The SUM over the n pictures of their loss: `[n, s, s, 3]` and n captions, each of one token or more.
    pub fn loss(&self, compute: &Compute, pixels: Tensor<4>, captions: PackedCaptions<'_>) -> AlignmentLoss {
        let grid = self.vision.grid(&pixels);
        let tokens = self.connector.forward(compute, self.vision.forward(compute, pixels), grid);
        let tokens = one_line(tokens, captions, self.words);
        let [n, k, width] = tokens.dims();
        let (targets, weights) = targets(captions, k, self.end);
        let table = self.lm.embedding.val();
        let embeddings = compute.ops().embedding(&table, &targets, n, k);
        let share = Tensor::<3>::from_data(TensorData::new(weights.clone(), [n, k, 1]), &table.device());
        let distance = ((tokens.clone() - embeddings).square() * share).sum() / (width as f64 * self.spread);
        let logits = tokens * (OWN_LOGIT / (width as f64 * self.spread));
        let words = compute.ops().linear_cross_entropy(logits, Weight::Table(table), &targets, &weights);
        AlignmentLoss { words, distance }
    }
}

/// The parts of a loss, each `[1]`.
#[derive(Debug)]
pub struct AlignmentLoss {
    /// The mean over a picture's words of `-log softmax(c E z)`, where z is the image token of that place, E
    /// are the embeddings, and c makes the logit of a token at its own embedding 32 in the mean.
    pub words: Tensor<1>,
    /// The mean squared distance of those image tokens from the words' embeddings, by the mean square of all
    /// embeddings. The first part alone leaves open how long image tokens are: the decoder would meet vectors
    /// of another size than those it knows.
    pub distance: Tensor<1>,
}

/// Of each picture's image tokens, which are lines of k, those of one: `[n, lines * k, d] -> [n, k, d]`. Its
/// caption chooses which, so that nothing depends on how a step is cut into batches.
// All lines of a picture cost a product with the vocabulary each, eight times that of one, and have the same
// weights.
fn one_line(tokens: Tensor<3>, captions: PackedCaptions<'_>, k: usize) -> Tensor<3> {
    let [n, all, width] = tokens.dims();
    let lines = all / k;
    if lines == 1 {
        return tokens;
    }
    let (mut rest, device) = (captions.ids, tokens.device());
    let chosen = captions.lens.iter().enumerate().map(|(i, &len)| {
        let (caption, after) = rest.split_at(len);
        rest = after;
        let line = caption.iter().map(|&id| id as usize).sum::<usize>() % lines;
        (i * lines + line) as i64
    });
    let chosen = TensorData::new(chosen.collect::<Vec<i64>>(), [n]);
    let rows = tokens.reshape([n * lines, k, width]);
    rows.select(0, Tensor::<1, Int>::from_data(chosen, &device))
}

/// The token that each of `k` image tokens of each picture is to be, and the weights of these. The words
/// of a caption come in their order: those after the first k have no image token, and of a shorter
/// caption the last image tokens weigh nothing. Each picture counts the same.
// To begin anew where a caption ends gave each image token words of all places: which, hung on the length.
fn targets(captions: PackedCaptions<'_>, k: usize, end: u32) -> (Vec<u32>, Vec<f32>) {
    let (mut rest, mut targets, mut weights) = (captions.ids, Vec::new(), Vec::new());
    for &len in captions.lens {
        let (caption, after) = rest.split_at(len);
        let first = targets.len();
        targets.extend(caption.iter().filter(|&&id| id != end).take(k));
        let words = targets.len() - first;
        targets.resize(first + k, 0);
        weights.extend((0..k).map(|j| if j < words { 1.0 / words as f32 } else { 0.0 }));
        rest = after;
    }
    (targets, weights)
}
