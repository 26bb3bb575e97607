//! [`LocalModel`]: a trained model of ours, as evaluation asks it.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use mm1_data::document::Image;
use mm1_eval::model::{AnswerLimits, Lengths, Likelihood, Model, OnReply, PromptReader, Reply};
use mm1_eval::prompt::Prompt;
use mm1_serve::generate::{AnswerOptions, EncodedPrompt, GenerateOptions, Generator, PromptPart};
use mm1_serve::likelihood::LikelihoodRequest;
use mm1_serve::prompts::PromptTokenizer;

use crate::error::Interrupted;

/// A model in this process.
pub(crate) struct LocalModel<'a> {
    pub(crate) generator: &'a Generator,
    /// Answers that are made side by side.
    pub(crate) batch: usize,
    /// Set by an interrupt.
    pub(crate) stop: &'a AtomicBool,
}

impl LocalModel<'_> {
    fn check_stop(&self) -> Result<()> {
        ensure!(!self.stop.load(Ordering::Relaxed), Interrupted);
        Ok(())
    }
}

/// A prompt of ours, its text tokenised.
pub(crate) struct LocalPrompt {
    /// What all prompts begin with; empty where demonstrations differ, or a chat template writes them
    /// otherwise before each question.
    shared: EncodedPrompt,
    /// What follows it, with the texts that are scored after it.
    own: LikelihoodRequest,
}

impl PromptReader for LocalModel<'_> {
    type Encoded = LocalPrompt;

    fn encode(&self, prompt: &Prompt, continuations: &[String]) -> Result<LocalPrompt> {
        LocalPrompts(self.generator.prompts()).encode(prompt, continuations)
    }

    fn lengths(&self, encoded: &LocalPrompt) -> Option<Lengths> {
        LocalPrompts(self.generator.prompts()).lengths(encoded)
    }
}

/// What a model of this program will be given: there need be no weights yet.
pub(crate) struct LocalPrompts<'a>(pub(crate) &'a PromptTokenizer);

impl PromptReader for LocalPrompts<'_> {
    type Encoded = LocalPrompt;

    fn encode(&self, prompt: &Prompt, continuations: &[String]) -> Result<LocalPrompt> {
        let parts = parts(prompt);
        let whole = self.0.encode(&parts)?;
        let continuations = continuations.iter().map(|text| self.0.encode_after(&parts, text)).collect();
        let begins =
            if prompt.shared_demonstrations { self.0.encode(&parts[..2])? } else { EncodedPrompt::default() };
        let (shared, prompt) = match whole.after(&begins) {
            Some(own) => (begins, own),
            None => (EncodedPrompt::default(), whole),
        };
        Ok(LocalPrompt { shared, own: LikelihoodRequest { prompt, continuations } })
    }

    fn lengths(&self, encoded: &LocalPrompt) -> Option<Lengths> {
        let LocalPrompt { shared, own } = encoded;
        Some(Lengths {
            prompt: shared.positions() + own.prompt.positions(),
            continuation: own.continuations.iter().map(Vec::len).max(),
            context: self.0.context(),
        })
    }
}

impl Model for LocalModel<'_> {
    fn generate(
        &mut self,
        prompts: &[LocalPrompt],
        limits: &AnswerLimits,
        on_reply: OnReply<'_>,
    ) -> Result<()> {
        self.check_stop()?;
        let Some(LocalPrompt { shared, .. }) = prompts.first() else { return Ok(()) };
        let answer = AnswerOptions { stop: limits.stop.clone(), ..AnswerOptions::greedy(limits.max_tokens) };
        let options = GenerateOptions { answer, batch: self.batch };
        let own: Vec<_> = prompts.iter().map(|prompt| &prompt.own.prompt).collect();
        let texts = self.generator.generate_after(shared, &own, &options, None)?;
        texts.into_iter().enumerate().try_for_each(|(i, text)| on_reply(i, Reply::Words(text)))
    }

    fn likelihoods(&mut self, prompts: &[LocalPrompt]) -> Result<Vec<Vec<Likelihood>>> {
        let mut likelihoods = Vec::with_capacity(prompts.len());
        // A batch at a time, so that an interrupt is heard.
        for prompts in prompts.chunks(self.batch) {
            self.check_stop()?;
            let own: Vec<_> = prompts.iter().map(|prompt| &prompt.own).collect();
            likelihoods.extend(self.generator.likelihoods(&prompts[0].shared, &own)?);
        }
        Ok(likelihoods)
    }

    fn features(&mut self, pictures: &[Image]) -> Result<Vec<Vec<f32>>> {
        self.check_stop()?;
        pictures.iter().map(|picture| self.generator.features(picture)).collect()
    }
}

/// Demonstrations of whose pictures less is shown, the others, and the question.
fn parts(prompt: &Prompt) -> [PromptPart<'_>; 3] {
    let (demonstrations, question) = prompt.segments.split_at(prompt.demonstration_segments);
    let (reduced, others) = demonstrations.split_at(prompt.full_resolution_from());
    let side = prompt.reduced.and_then(|reduced| reduced.side);
    let overviews = prompt.reduced.is_some_and(|reduced| reduced.overviews);
    [PromptPart { segments: reduced, side, overviews }, others.into(), question.into()]
}
