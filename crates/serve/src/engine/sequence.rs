//! [`Sequence`]: a request on its way, as the cache's sequence of the same number.

use std::time::Instant;

use anyhow::Result;
use mm1_data::tokenizer::Tokenizer;
use mm1_model::{Cache, Placed};

use super::prompt::{ReadyPrompt, Unit, ViewDigest};
use super::request::{AnswerEvent, AnswerRequest, Listener, PromptLogProbs};
use crate::answer::{Finish, PartialAnswer};
use crate::input::ModelInput;
use crate::log_probs::TokenLogProb;

pub(super) struct Sequence {
    prompt: ReadyPrompt,
    /// Positions of the prompt that are read.
    read: usize,
    /// Of them those that had been read before.
    cached: usize,
    answer: PartialAnswer,
    max_tokens: usize,
    log_probs: Option<usize>,
    prompt_log_probs: Option<PromptLogProbs>,
    /// Of the positions before the next that is read, where they are asked for.
    told: Vec<Option<TokenLogProb>>,
    /// Whether its listener gets where it looks.
    pub(super) is_watched: bool,
    listener: Box<dyn Listener>,
    /// When it came.
    pub(super) since: Instant,
    /// Whether the store of prefixes is to be asked before it reads on.
    pub(super) may_skip: bool,
}

impl Sequence {
    pub(super) fn new(request: AnswerRequest, since: Instant) -> Result<Self> {
        let AnswerRequest {
            client: _,
            prompt,
            options,
            grammar,
            stream,
            log_probs,
            prompt_log_probs,
            attention,
            listener,
        } = request;
        let answer = PartialAnswer::new(ModelInput::default(), &options, stream)?;
        Ok(Self {
            answer: answer.with_grammar(grammar),
            max_tokens: options.max_tokens,
            told: prompt_log_probs.map_or_else(Vec::new, |_| vec![None]),
            may_skip: true,
            prompt,
            read: 0,
            cached: 0,
            log_probs,
            prompt_log_probs,
            is_watched: attention,
            listener,
            since,
        })
    }

    /// What it reads next.
    pub(super) fn unread(&self) -> &ModelInput {
        self.prompt.pieces.front().map_or(&self.answer.unread, AsRef::as_ref)
    }

    /// The views of pictures in what it reads next, each with its digest.
    pub(super) fn views(&self) -> impl Iterator<Item = (ViewDigest, &Placed)> {
        self.unread().pictures.iter().filter_map(|picture| {
            match self.prompt.units.get(self.read + picture.slot) {
                Some(Unit::View(digest, _)) => Some((*digest, picture)),
                _ => None,
            }
        })
    }

    /// Whether its prompt is not read yet.
    pub(super) fn is_reading(&self) -> bool {
        !self.prompt.pieces.is_empty()
    }

    /// Whether it asks for the logits after each position of what it reads next.
    pub(super) fn wants_all(&self) -> bool {
        // A position is judged by the logits after the one before.
        let judged = |asked: PromptLogProbs| asked.from <= self.read + self.unread().ids.len();
        self.is_reading() && self.prompt_log_probs.is_some_and(judged)
    }

    pub(super) fn is_gone(&self) -> bool {
        self.listener.is_gone()
    }

    /// The most positions that it can come to.
    pub(super) fn most_positions(&self) -> usize {
        self.prompt.positions() + self.max_tokens
    }

    /// Views of pictures that it has not read yet.
    pub(super) fn unread_views(&self) -> usize {
        self.prompt.views()
    }

    /// As [`ReadyPrompt::picture_bytes`].
    pub(super) fn picture_bytes(&self) -> usize {
        self.prompt.picture_bytes()
    }

    /// Whether it can go on from what `other` reads next: it would read the same after the same. Its last
    /// piece it reads itself, for the logits behind it.
    pub(super) fn can_follow(&self, other: &Self) -> bool {
        let end = |sequence: &Self| sequence.read + sequence.unread().ids.len();
        self.prompt.pieces.len() > 1
            && self.read == other.read
            && end(self) == end(other)
            && self.prompt.units[..end(self)] == other.prompt.units[..end(other)]
    }

    /// Its units and its cuts.
    pub(super) fn place(&self) -> (&[Unit], &[usize]) {
        (&self.prompt.units, &self.prompt.cuts)
    }

    /// How many positions are read.
    pub(super) fn read(&self) -> usize {
        self.read
    }

    /// The most positions that it need not read itself: after the others it is asked for logits.
    pub(super) fn most_skipped(&self) -> usize {
        let judged = self.prompt_log_probs.map_or(usize::MAX, |asked| asked.from);
        judged.min(self.prompt.positions()).saturating_sub(1)
    }

    /// It goes on from `len`, which others have read.
    pub(super) fn skip_to(&mut self, len: usize) {
        self.cached += len - self.read;
        while self.read < len
            && let Some(piece) = self.prompt.pieces.pop_front()
        {
            self.read += piece.ids.len();
        }
        if self.prompt_log_probs.is_some() {
            self.told.resize(self.read + 1, None);
        }
    }

    /// A piece of the prompt is read; `all` are the logits after each of its positions where
    /// [`Self::wants_all`]. What is read is kept in `prefixes`.
    pub(super) fn piece_read(
        &mut self,
        all: &[Vec<f32>],
        (sequence, cache): (usize, &Cache),
        prefixes: &mut super::prefixes::Prefixes,
    ) -> Result<usize> {
        let judged = self.wants_all();
        let piece = self.prompt.pieces.pop_front().unwrap_or_default();
        let begin = self.read;
        self.read += piece.ids.len();
        if let Some(PromptLogProbs { top, from }) = self.prompt_log_probs {
            let units = self.prompt.units.iter().enumerate().skip(begin + 1).take(piece.ids.len());
            for (position, unit) in units {
                self.told.push(match unit {
                    Unit::Token(id) if judged && position >= from => {
                        Some(TokenLogProb::of(&all[position - 1 - begin], *id, top)?)
                    }
                    Unit::Token(_) | Unit::View(..) => None,
                });
            }
        }
        prefixes.keep(&self.prompt.units, &self.prompt.cuts, cache.beginning(sequence, self.read));
        if !self.is_reading() {
            let log_probs = std::mem::take(&mut self.told);
            self.listener.hear(AnswerEvent::Start { cached: self.cached, log_probs });
        }
        Ok(piece.ids.len())
    }

    /// Takes the next token of the answer from its logits; `looked` is where the position looks from which
    /// they are predicted.
    pub(super) fn take(
        &mut self,
        logits: &[f32],
        looked: &[f32],
        tokenizer: &Tokenizer,
    ) -> Result<Option<Finish>> {
        let token = self.answer.take(logits, tokenizer)?;
        let log_prob = self.log_probs.map(|top| TokenLogProb::of(logits, token.id, top)).transpose()?;
        let text = self.answer.text.show().to_owned();
        let views = self.prompt.units.iter().zip(looked).filter(|(unit, _)| matches!(unit, Unit::View(..)));
        let attention = views.map(|(_, weight)| *weight).collect();
        self.listener.hear(AnswerEvent::Token { text, log_prob, attention });
        if let Some(finish) = token.finish {
            self.listener.hear(AnswerEvent::End { finish });
        }
        Ok(token.finish)
    }

    pub(super) fn fail(&mut self, reason: &str) {
        self.listener.hear(AnswerEvent::Failure(reason.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::ClientId;
    use super::*;
    use crate::options::AnswerOptions;

    struct Nobody;

    impl Listener for Nobody {
        fn hear(&mut self, _: AnswerEvent) {}

        fn is_gone(&self) -> bool {
            false
        }
    }

    fn sequence(len: u32) -> Sequence {
        let ids: Vec<u32> = (0..len).collect();
        let request = AnswerRequest {
            client: ClientId::default(),
            prompt: ReadyPrompt::new(ModelInput::tokens(&ids), 16),
            options: AnswerOptions::greedy(1),
            grammar: None,
            stream: 0,
            log_probs: None,
            prompt_log_probs: None,
            attention: false,
            listener: Box::new(Nobody),
        };
        Sequence::new(request, Instant::now()).unwrap()
    }

    #[test]
    fn nobody_waits_for_another_to_read_a_last_piece() {
        // It is not kept to its end, so waiting would read equal prompts one after the other.
        assert!(!sequence(100).can_follow(&sequence(100)));
        assert!(sequence(200).can_follow(&sequence(200)));
        assert!(sequence(200).can_follow(&sequence(300)));
    }
}
