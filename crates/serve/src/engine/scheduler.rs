//! [`Scheduler`]: who reads and who is answered in the next step of the model.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use mm1_data::error_line::error_line;
use mm1_model::{Cache, PictureContent, Piece, Placed};

use super::counters::Counters;
use super::pictures::PictureCache;
use super::prefixes::Prefixes;
use super::prompt::ViewDigest;
use super::queue::{Job, PICTURE_BYTES, Queue};
use super::request::{AnswerRequest, Embedding, EmbeddingInput};
use super::sequence::Sequence;
use crate::generate::Generator;

/// Positions of prompts that are read in a step while others are answered: they wait for it.
const BESIDE_ANSWERS: usize = 128;

/// The same while nobody waits for a token.
const ALONE: usize = 512;

/// The requests that are read and answered side by side. An answer depends on its prompt, options and stream
/// alone: not on the others, nor on what is known of its prompt's beginning.
pub(super) struct Scheduler {
    generator: Generator,
    /// Sequence i is that of `active[i]`.
    cache: Cache,
    /// In the order in which they came.
    active: Vec<Sequence>,
    prefixes: Prefixes,
    pictures: PictureCache,
    /// Blocks of positions that all may hold together.
    blocks: usize,
    /// Those that a picture takes beside its positions.
    picture_blocks: usize,
    counters: Counters,
}

/// What became of a sequence in a step.
enum Outcome {
    GoesOn,
    Ended,
    Failed(String),
}

impl Scheduler {
    /// With room for so many `blocks` of [`Cache::block_positions`] positions, and so many bytes of image
    /// tokens.
    pub(super) fn new(
        generator: Generator,
        (blocks, picture_bytes): (usize, usize),
        counters: Counters,
    ) -> Self {
        let (mut cache, pictures) = (generator.new_cache(), PictureCache::new(picture_bytes));
        cache.retain(|_| false);
        let (active, prefixes) = (Vec::new(), Prefixes::default());
        let picture_blocks = generator.picture_blocks();
        Self { generator, cache, active, prefixes, pictures, blocks, picture_blocks, counters }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.active.is_empty()
    }

    /// Takes as many requests as there is memory for.
    pub(super) fn admit(&mut self, queue: &Queue) {
        while let Some((job, since)) = queue.take(|job| self.has_room(job)) {
            match job {
                Job::Embed { input, reply } => {
                    reply(self.embed(&input));
                    // As soon as one has its reply, the next may come: answers would wait for all of them.
                    if !self.is_idle() {
                        break;
                    }
                }
                Job::Answer(request) => self.begin(*request, since),
            }
        }
        self.counters.waiting.set(queue.len() as i64);
    }

    fn embed(&self, input: &EmbeddingInput) -> Result<Embedding> {
        let towers = || self.generator.towers().context("there is no text tower");
        let (values, tokens) = match input {
            EmbeddingInput::Features(picture) => (self.generator.features(picture)?, 0),
            EmbeddingInput::Picture(picture) => (towers()?.picture(picture)?, 0),
            EmbeddingInput::Text(text) => towers()?.text(text)?,
        };
        self.counters.encoded_views.inc_by(u64::from(tokens == 0));
        Ok(Embedding { values, tokens })
    }

    fn begin(&mut self, request: AnswerRequest, since: Instant) {
        // Its options were checked before it was taken.
        if let Ok(sequence) = Sequence::new(request, since) {
            self.cache.push_empty();
            self.active.push(sequence);
        }
    }

    /// Whether a request fits beside the others, after kept beginnings were forgotten if need be.
    fn has_room(&mut self, job: &Job) -> bool {
        let Job::Answer(request) = job else { return true };
        if self.is_idle() {
            // What is kept of others is forgotten as far as need be.
            while self.held() + self.to_come(request) > self.blocks && self.prefixes.forget_oldest() {}
            return true;
        }
        let pictures: usize = self.active.iter().map(Sequence::picture_bytes).sum();
        // Where it would not help, nothing is forgotten.
        let active = self.in_blocks(count(self.active_blocks()), count(self.active_pictures()));
        let least = active + self.to_come(request);
        if least > self.blocks || pictures + request.prompt.picture_bytes() > PICTURE_BYTES {
            return false;
        }
        while self.held() + self.to_come(request) > self.blocks {
            if !self.prefixes.forget_oldest() {
                return false;
            }
        }
        true
    }

    /// Blocks that the active ones may yet come to, and all of another.
    fn to_come(&self, request: &AnswerRequest) -> usize {
        let grown: usize = (0..self.active.len())
            .map(|i| blocks(self.active[i].most_positions()) - self.cache.len(i) / Cache::block_positions())
            .sum();
        let views: usize = self.active.iter().map(Sequence::unread_views).sum();
        let new = blocks(request.prompt.positions() + request.options.max_tokens);
        self.in_blocks(grown + new, views + request.prompt.views())
    }

    /// Blocks that sequences and kept beginnings hold; what they share is counted once.
    fn held(&self) -> usize {
        let pictures = self.active_pictures().chain(self.prefixes.picture_addresses());
        self.in_blocks(count(self.active_blocks().chain(self.prefixes.block_addresses())), count(pictures))
    }

    /// So many blocks of positions, and pictures that take memory beside them.
    fn in_blocks(&self, blocks: usize, pictures: usize) -> usize {
        blocks + self.picture_blocks * pictures
    }

    fn active_pictures(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.active.len()).flat_map(|i| self.cache.picture_addresses(i))
    }

    fn active_blocks(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.active.len()).flat_map(|i| self.cache.block_addresses(i))
    }

    /// One step of the model: each answer gets a token, and prompts are read on.
    ///
    /// # Errors
    /// A network that does not take what it was given.
    pub(super) fn step(&mut self) -> Result<()> {
        self.drop_departed();
        let (all, last): (Vec<usize>, Vec<usize>) =
            self.choose().into_iter().partition(|&i| self.active[i].wants_all());
        for &i in all.iter().chain(&last).filter(|&&i| self.active[i].is_watched) {
            self.cache.watch(i);
        }
        let begun = Instant::now();
        let mut outcomes = Vec::new();
        if !last.is_empty() {
            let seen = self.see(&last)?;
            let logits = self.generator.read(&pieces(&self.active, &last, &seen), &mut self.cache)?;
            for (&i, logits) in last.iter().zip(logits) {
                outcomes.push((i, self.take(i, &[logits])));
            }
        }
        for i in all {
            let seen = self.see(&[i])?;
            let pieces = pieces(&self.active, &[i], &seen);
            let logits = self.generator.read_all(&pieces, &mut self.cache)?;
            outcomes.push((i, self.take(i, &logits)));
        }
        let seconds = begun.elapsed().as_secs_f64();
        self.counters.steps.inc();
        self.counters.step.observe(seconds);
        self.counters.busy.inc_by(seconds);
        self.retire(outcomes);
        Ok(())
    }

    /// The pictures of what these sequences read next, by their image tokens: those that are known are not
    /// encoded again.
    fn see(&mut self, chosen: &[usize]) -> Result<Vec<Vec<Placed>>> {
        let views = || chosen.iter().flat_map(|&i| self.active[i].views());
        let mut tokens: BTreeMap<ViewDigest, Arc<[f32]>> = BTreeMap::new();
        let mut new = BTreeMap::new();
        for (digest, picture) in views() {
            if let Some(known) = self.pictures.get(&digest) {
                tokens.insert(digest, known);
            } else {
                new.insert(digest, picture);
            }
        }
        self.counters.encoded_views.inc_by(new.len() as u64);
        self.counters.reused_views.inc_by((views().count() - new.len()) as u64);
        let made = self.generator.see(&new.values().copied().collect::<Vec<_>>())?;
        for (digest, made) in new.into_keys().zip(made) {
            self.pictures.keep(digest, Arc::clone(&made));
            tokens.insert(digest, made);
        }
        let seen = |(digest, picture): (ViewDigest, &Placed)| {
            let content = PictureContent::Tokens(tokens.get(&digest).cloned().unwrap_or_default());
            Placed { slot: picture.slot, size: picture.size, content }
        };
        Ok(chosen.iter().map(|&i| self.active[i].views().map(seen).collect()).collect())
    }

    /// Ends all that are active.
    pub(super) fn fail_all(&mut self, reason: &str) {
        self.counters.failed.inc_by(self.active.len() as u64);
        self.active.drain(..).for_each(|mut sequence| sequence.fail(reason));
        self.cache = self.generator.new_cache();
        self.cache.retain(|_| false);
        // What a broken step has left is not to be read by others.
        self.prefixes = Prefixes::default();
    }

    /// Those whose listener has gone make room.
    fn drop_departed(&mut self) {
        let gone: Vec<bool> = self.active.iter().map(Sequence::is_gone).collect();
        self.counters.left.inc_by(gone.iter().filter(|gone| **gone).count() as u64);
        self.keep(|i| !gone[i]);
    }

    fn keep(&mut self, keep: impl Fn(usize) -> bool) {
        self.cache.retain(&keep);
        let mut i = 0..self.active.len();
        self.active.retain(|_| i.next().is_some_and(&keep));
    }

    /// Who takes part in the next step: all that are answered, and of those that read as many as there is
    /// time for, in the order in which they came. Who can go on from what another reads waits for it.
    fn choose(&mut self) -> Vec<usize> {
        let (reading, mut chosen): (Vec<usize>, Vec<usize>) =
            (0..self.active.len()).partition(|&i| self.active[i].is_reading());
        let most = if chosen.is_empty() { ALONE } else { BESIDE_ANSWERS };
        let (mut positions, mut readers) = (0, Vec::<usize>::new());
        for i in reading {
            self.skip(i);
            let next = &self.active[i];
            let len = next.unread().ids.len();
            if positions > 0 && positions + len > most {
                break;
            }
            if !next.wants_all() && readers.iter().any(|&other| next.can_follow(&self.active[other])) {
                self.active[i].may_skip = true;
                continue;
            }
            positions += len;
            readers.push(i);
        }
        chosen.extend(readers);
        chosen
    }

    /// Lets a sequence go on from the longest beginning that is known.
    fn skip(&mut self, i: usize) {
        let sequence = &mut self.active[i];
        if !std::mem::take(&mut sequence.may_skip) {
            return;
        }
        let (read, most) = (sequence.read(), sequence.most_skipped());
        if let Some(known) = self.prefixes.longest(sequence.place(), read, most) {
            self.counters.cached_positions.inc_by((known.len() - read) as u64);
            self.cache.replace(i, &known);
            sequence.skip_to(known.len());
        }
    }

    /// What follows from the logits of what sequence `i` has read.
    fn take(&mut self, i: usize, logits: &[Vec<f32>]) -> Outcome {
        let Self { generator, cache, active, prefixes, counters, .. } = self;
        let sequence = &mut active[i];
        let mut take = || {
            if sequence.is_reading() {
                let positions = sequence.piece_read(logits, (i, cache), prefixes)?;
                counters.prompt_positions.inc_by(positions as u64);
                if sequence.is_reading() {
                    return Ok(Outcome::GoesOn);
                }
                counters.first_token.observe(sequence.since.elapsed().as_secs_f64());
            }
            let last = logits.last().map_or(&[][..], Vec::as_slice);
            let looked = if sequence.is_watched { cache.watched(i) } else { Vec::new() };
            let finish = sequence.take(last, &looked, generator.tokenizer())?;
            counters.answer_tokens.inc();
            Ok(finish.map_or(Outcome::GoesOn, |_| Outcome::Ended))
        };
        take().unwrap_or_else(|e: anyhow::Error| Outcome::Failed(error_line(&e)))
    }

    /// Removes what has ended.
    fn retire(&mut self, outcomes: Vec<(usize, Outcome)>) {
        let mut done = vec![false; self.active.len()];
        for (i, outcome) in outcomes {
            match outcome {
                Outcome::GoesOn => continue,
                Outcome::Ended => {
                    self.counters.answered.inc();
                    self.counters.whole_answer.observe(self.active[i].since.elapsed().as_secs_f64());
                }
                Outcome::Failed(reason) => {
                    self.counters.failed.inc();
                    self.active[i].fail(&reason);
                }
            }
            done[i] = true;
        }
        self.keep(|i| !done[i]);
        self.counters.active.set(self.active.len() as i64);
        self.counters.prefixes.set(self.prefixes.len() as i64);
        self.counters.picture_bytes.set(self.pictures.bytes() as i64);
        self.counters.cache_bytes.set((self.held() * self.cache.block_bytes()) as i64);
    }
}

/// How many different ones there are.
fn count(addresses: impl Iterator<Item = usize>) -> usize {
    let mut addresses: Vec<usize> = addresses.collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.len()
}

/// Blocks of so many positions.
pub(super) fn blocks(positions: usize) -> usize {
    positions.div_ceil(Cache::block_positions())
}

/// What the chosen sequences read next, with their pictures as they are `seen`.
fn pieces<'a>(active: &'a [Sequence], chosen: &[usize], seen: &'a [Vec<Placed>]) -> Vec<Piece<'a>> {
    let piece = |(&i, pictures): (&usize, &'a Vec<Placed>)| Piece {
        sequence: i,
        ids: &active[i].unread().ids,
        pictures,
    };
    chosen.iter().zip(seen).map(piece).collect()
}
