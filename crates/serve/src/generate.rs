//! [`Generator`]: prompts to answers. Reading a prompt and making a token are the same step, so that a
//! finished answer leaves the batch at once and the next prompt takes its place.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use burn::tensor::{Tensor, TensorData};
use mm1_data::document::{Image, Segment};
use mm1_data::image::{ImageSpec, normalise_into, prepare};
use mm1_data::tokenizer::Tokenizer;
use mm1_model::compute::on_pool;
use mm1_model::{Cache, Compute, Mm1, Piece, Placed};

use crate::answer::PartialAnswer;
pub use crate::answer::{Finish, FinishedAnswer};
use crate::input::ModelInput;
pub use crate::input::{EncodedPrompt, PromptPart};
pub use crate::options::{AnswerOptions, GenerateOptions};
use crate::prompts::PromptTokenizer;
use crate::towers::Towers;

/// Positions of prompts that are read in one step: bounds the memory, and no result depends on it.
pub(crate) const POSITIONS_PER_STEP: usize = 2048;

/// A model that answers.
pub struct Generator {
    model: Mm1,
    compute: Compute,
    prompts: PromptTokenizer,
    image: ImageSpec,
    towers: Option<Box<dyn Towers>>,
}

/// Called with the index of a prompt and the next piece of its answer.
pub type OnToken<'a> = &'a mut dyn FnMut(usize, &str);

impl Generator {
    /// Answers are computed by `compute`, on whose device `model` is. The tokenizer and the picture's size
    /// and range must be those that the model was trained with.
    pub fn new(compute: &Compute, model: Mm1, tokenizer: Arc<Tokenizer>, image: ImageSpec) -> Self {
        let model = model.read_only(compute);
        let prompts = PromptTokenizer::new(tokenizer, image.clone(), model.config().image_tokens());
        Self { model, compute: compute.clone(), prompts, image, towers: None }
    }

    /// The same with another limit on the positions of a prompt and its answer together.
    pub fn with_context(self, positions: usize) -> Self {
        Self { prompts: self.prompts.with_context(positions), ..self }
    }

    /// The same with towers beside it.
    pub fn with_towers(self, towers: Box<dyn Towers>) -> Self {
        Self { towers: Some(towers), ..self }
    }

    /// How pictures are prepared.
    pub fn image(&self) -> &ImageSpec {
        &self.image
    }

    /// Encodes a prompt: [`PromptTokenizer::encode`].
    ///
    /// # Errors
    /// As there.
    pub fn encode(&self, parts: &[PromptPart<'_>]) -> Result<EncodedPrompt> {
        self.prompts.encode(parts)
    }

    /// What encodes prompts.
    pub fn prompts(&self) -> &PromptTokenizer {
        &self.prompts
    }

    /// One answer for each prompt. `on_token` is given the prompt's index and a piece of its answer as soon
    /// as no further token can change it; the pieces of an answer join to it.
    ///
    /// # Errors
    /// Before any work: an option out of its range, a prompt that is empty or has no room for its answer.
    /// Later: a picture that can't be prepared, logits that are no numbers.
    pub fn generate(
        &self,
        prompts: &[Vec<Segment>],
        options: &GenerateOptions,
        on_token: Option<OnToken<'_>>,
    ) -> Result<Vec<String>> {
        let encode = |(i, prompt): (usize, &Vec<Segment>)| {
            self.encode(&[prompt.into()]).with_context(|| format!("prompt {i}"))
        };
        let prompts = prompts.iter().enumerate().map(encode).collect::<Result<Vec<_>>>()?;
        let prompts: Vec<&EncodedPrompt> = prompts.iter().collect();
        self.generate_after(&EncodedPrompt::default(), &prompts, options, on_token)
    }

    /// As [`Self::generate`] for prompts that all begin with `shared`, which is read once and may be empty.
    ///
    /// # Errors
    /// As [`Self::generate`].
    pub fn generate_after(
        &self,
        shared: &EncodedPrompt,
        prompts: &[&EncodedPrompt],
        options: &GenerateOptions,
        on_token: Option<OnToken<'_>>,
    ) -> Result<Vec<String>> {
        let numbered: Vec<(u64, &EncodedPrompt)> = (0..).zip(prompts.iter().copied()).collect();
        let answers = self.answer_numbered(shared, &numbered, options, on_token)?;
        Ok(answers.into_iter().map(|answer| answer.text).collect())
    }

    /// As [`Self::generate_after`] for prompts with the numbers of their random draws: a prompt of the same
    /// number gets the same answer, whatever it is asked beside.
    ///
    /// # Errors
    /// As [`Self::generate`].
    pub fn answer_numbered(
        &self,
        shared: &EncodedPrompt,
        prompts: &[(u64, &EncodedPrompt)],
        options: &GenerateOptions,
        mut on_token: Option<OnToken<'_>>,
    ) -> Result<Vec<FinishedAnswer>> {
        options.check()?;
        self.check_prompts(shared, prompts, options.answer.max_tokens)?;
        let mut answers = vec![FinishedAnswer { text: String::new(), finish: Finish::Length }; prompts.len()];
        let mut waiting = prompts.iter().enumerate();
        let mut active: Vec<(usize, PartialAnswer)> = Vec::new();
        // Sequence 0 has read what is shared; those of the answers follow.
        let mut cache = self.begin(shared)?;
        loop {
            let mut positions = active.len();
            while active.len() < options.batch && positions < POSITIONS_PER_STEP {
                let Some((i, &(number, prompt))) = waiting.next() else { break };
                let input = self.prepare(prompt).with_context(|| format!("prompt {i}"))?;
                positions += input.ids.len();
                active.push((i, PartialAnswer::new(input, &options.answer, number)?));
                cache.fork(0);
            }
            if active.is_empty() {
                return Ok(answers);
            }
            let unread: Vec<&ModelInput> = active.iter().map(|(_, answer)| &answer.unread).collect();
            let logits = self.extend(1, &unread, &mut cache)?;
            let mut done = Vec::with_capacity(active.len());
            for ((i, answer), logits) in active.iter_mut().zip(&logits) {
                done.push(answer.take(logits, self.tokenizer())?.finish);
                let piece = answer.text.show();
                if let Some(on_token) = on_token.as_mut().filter(|_| !piece.is_empty()) {
                    on_token(*i, piece);
                }
            }
            cache.retain(|sequence| sequence == 0 || done[sequence - 1].is_none());
            let mut finished = done.iter().flatten();
            let mut ends = done.iter();
            for (i, answer) in active.extract_if(.., |_| ends.next().is_some_and(Option::is_some)) {
                let finish = finished.next().copied().unwrap_or(Finish::Length);
                answers[i] = FinishedAnswer { text: answer.text.into_string(), finish };
            }
        }
    }

    /// Refuses a prompt that is empty or has no room for its answer, before any work.
    fn check_prompts(
        &self,
        shared: &EncodedPrompt,
        prompts: &[(u64, &EncodedPrompt)],
        max_tokens: usize,
    ) -> Result<()> {
        for (i, (_, prompt)) in prompts.iter().enumerate() {
            ensure!(prompt.positions > 0, "prompt {i}: there is nothing to answer: it is empty");
            self.check_room(shared.positions + prompt.positions, max_tokens)
                .with_context(|| format!("prompt {i}"))?;
        }
        Ok(())
    }

    /// The prompt as the model reads it: [`PromptTokenizer::prepare`].
    pub(crate) fn prepare(&self, prompt: &EncodedPrompt) -> Result<ModelInput> {
        self.prompts.prepare(prompt)
    }

    /// Sequence `first + i` of the cache reads `unread[i]`; gives the logits `[v]` after each.
    pub(crate) fn extend(
        &self,
        first: usize,
        unread: &[&ModelInput],
        cache: &mut Cache,
    ) -> Result<Vec<Vec<f32>>> {
        self.read(&pieces(first, unread), cache)
    }

    /// What each piece's sequence reads; gives the logits `[v]` after each.
    pub(crate) fn read(&self, pieces: &[Piece<'_>], cache: &mut Cache) -> Result<Vec<Vec<f32>>> {
        Ok(rows(on_pool(|| self.model.extend(&self.compute, pieces, cache))?))
    }

    /// The same with the logits after every token of every piece.
    pub(crate) fn read_all(&self, pieces: &[Piece<'_>], cache: &mut Cache) -> Result<Vec<Vec<f32>>> {
        Ok(rows(on_pool(|| self.model.extend_all(&self.compute, pieces, cache))?))
    }

    /// The same with the logits after every token of every piece.
    pub(crate) fn extend_all(
        &self,
        first: usize,
        unread: &[&ModelInput],
        cache: &mut Cache,
    ) -> Result<Vec<Vec<f32>>> {
        self.read_all(&pieces(first, unread), cache)
    }

    /// The image tokens of pictures: [`Mm1::see`].
    pub(crate) fn see(&self, pictures: &[&Placed]) -> Result<Vec<Arc<[f32]>>> {
        if pictures.is_empty() {
            return Ok(Vec::new());
        }
        on_pool(|| self.model.see(&self.compute, pictures))
    }

    /// A cache whose one sequence has read `shared`, which may be empty.
    pub(crate) fn begin(&self, shared: &EncodedPrompt) -> Result<Cache> {
        let (mut cache, input) = (self.new_cache(), self.prepare(shared)?);
        if !input.ids.is_empty() {
            self.extend(0, &[&input], &mut cache)?;
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
        let features = on_pool(|| self.model.vision.forward(&self.compute, pixels));
        Ok(features.mean_dim(1).into_data().iter::<f32>().collect())
    }

    /// The towers beside it, if there are any.
    pub(crate) fn towers(&self) -> Option<&dyn Towers> {
        self.towers.as_deref()
    }

    pub(crate) fn tokenizer(&self) -> &Tokenizer {
        self.prompts.tokenizer()
    }

    /// Blocks of positions that take as much memory as what a sequence keeps of a picture beside its
    /// positions.
    pub(crate) fn picture_blocks(&self) -> usize {
        self.model.config().picture_cache_bytes().div_ceil(self.new_cache().block_bytes())
    }

    pub(crate) fn new_cache(&self) -> Cache {
        self.model.cache(1)
    }

    /// Whether `read` positions and an answer fit.
    pub(crate) fn check_room(&self, read: usize, max_tokens: usize) -> Result<()> {
        ensure!(read > 0, "there is nothing to answer: it is empty");
        let context = self.prompts.context();
        ensure!(
            read.saturating_add(max_tokens) <= context,
            "{read} tokens and an answer of up to {max_tokens} do not fit into the context of {context}: \
             shorten it, or take fewer pictures or shots"
        );
        Ok(())
    }
}

/// What each sequence from `first` on reads.
fn pieces<'a>(first: usize, unread: &[&'a ModelInput]) -> Vec<Piece<'a>> {
    unread.iter().enumerate().map(|(i, input)| input.piece(first + i)).collect()
}

/// The rows of `[n, v]`.
fn rows(logits: Tensor<2>) -> Vec<Vec<f32>> {
    let [_, vocab] = logits.dims();
    let values: Vec<f32> = logits.into_data().iter::<f32>().collect();
    values.chunks_exact(vocab).map(<[f32]>::to_vec).collect()
}
