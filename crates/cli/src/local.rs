//! [`Local`]: a trained model of ours, as evaluation asks it.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use mm1_data::document::{Image, Segment};
use mm1_eval::model::{Continuations, Likelihood, Limits, Model};
use mm1_eval::shots::Prompt;
use mm1_serve::generate::{GenerateOptions, Generator, Part};
use mm1_serve::sampler::Sampling;

use crate::error::Interrupted;

/// A model in this process.
pub(crate) struct Local<'a> {
    pub(crate) generator: &'a Generator,
    /// Answers that are made side by side.
    pub(crate) batch: usize,
    /// Set by an interrupt.
    pub(crate) stop: &'a AtomicBool,
}

impl Local<'_> {
    fn check_stop(&self) -> Result<()> {
        ensure!(!self.stop.load(Ordering::Relaxed), Interrupted);
        Ok(())
    }
}

impl Model for Local<'_> {
    fn context(&self) -> Option<usize> {
        Some(self.generator.context())
    }

    fn tokens(&self, segments: &[Segment]) -> usize {
        self.generator.tokens(segments)
    }

    fn generate(&mut self, prompts: &[Prompt], limits: &Limits) -> Result<Vec<String>> {
        self.check_stop()?;
        let options = GenerateOptions {
            max_tokens: limits.max_tokens,
            stop: limits.stop.clone(),
            sampling: Sampling::Greedy,
            batch: self.batch,
        };
        let own: Vec<_> = prompts.iter().map(own).collect();
        self.generator.generate_after(&shared(prompts.first()), &own, &options, None)
    }

    fn likelihoods(&mut self, asked: &[Continuations]) -> Result<Vec<Vec<Likelihood>>> {
        let mut likelihoods = Vec::with_capacity(asked.len());
        // A piece at a time, so that an interrupt is heard.
        for asked in asked.chunks(self.batch) {
            self.check_stop()?;
            let own: Vec<_> = asked.iter().map(|a| (own(&a.prompt), a.texts.clone())).collect();
            let judged = self.generator.likelihoods(&shared(asked.first().map(|a| &a.prompt)), &own)?;
            let likelihood = |l: mm1_serve::likelihood::Likelihood| Likelihood {
                log_prob: l.log_prob,
                tokens: l.tokens,
                greedy: l.greedy,
            };
            likelihoods.extend(judged.into_iter().map(|of| of.into_iter().map(likelihood).collect()));
        }
        Ok(likelihoods)
    }

    fn features(&mut self, pictures: &[Image]) -> Result<Vec<Vec<f32>>> {
        self.check_stop()?;
        pictures.iter().map(|picture| self.generator.features(picture)).collect()
    }
}

/// What all prompts begin with.
fn shared(first: Option<&Prompt>) -> Vec<Part<'_>> {
    first.filter(|prompt| prompt.shared).map(|prompt| parts(prompt)[..2].to_vec()).unwrap_or_default()
}

/// What a prompt has of its own.
fn own(prompt: &Prompt) -> Vec<Part<'_>> {
    parts(prompt)[if prompt.shared { 2 } else { 0 }..].to_vec()
}

/// Demonstrations whose pictures are looked at in a resolution of their own, the others, and the question.
fn parts(prompt: &Prompt) -> [Part<'_>; 3] {
    let (before, question) = prompt.segments.split_at(prompt.before);
    let (small, sharp) = before.split_at(prompt.sharp_from());
    [Part { segments: small, side: prompt.small.map(|(side, _)| side) }, sharp.into(), question.into()]
}
