//! How likely texts are after a prompt: multiple choice without generation.

use anyhow::{Context as _, Result, ensure};
pub use mm1_data::likelihood::Likelihood;
use mm1_model::Cache;

use crate::generate::{Generator, POSITIONS_PER_STEP};
use crate::input::{EncodedPrompt, ModelInput};
use crate::sampler::highest;

/// A prompt, and the ids of texts that may follow it.
#[derive(Clone, Debug)]
pub struct LikelihoodRequest {
    /// What comes before.
    pub prompt: EncodedPrompt,
    /// Each is judged by itself.
    pub continuations: Vec<Vec<u32>>,
}

impl Generator {
    /// The likelihoods of each prompt's continuations; all prompts begin with `shared`, which is read once,
    /// as each prompt is. No figure depends on the neighbours.
    ///
    /// # Errors
    /// An empty prompt or text, one that does not fit, a picture that can't be prepared, logits that are no
    /// numbers.
    pub fn likelihoods(
        &self,
        shared: &EncodedPrompt,
        requests: &[&LikelihoodRequest],
    ) -> Result<Vec<Vec<Likelihood>>> {
        let cache = self.begin(shared)?;
        let mut likelihoods = Vec::with_capacity(requests.len());
        for (i, request) in requests.iter().enumerate() {
            let judged = self.judge(cache.clone(), request);
            likelihoods.push(judged.with_context(|| format!("prompt {i}"))?);
        }
        Ok(likelihoods)
    }

    fn judge(&self, mut cache: Cache, request: &LikelihoodRequest) -> Result<Vec<Likelihood>> {
        let LikelihoodRequest { prompt, continuations: texts } = request;
        ensure!(prompt.positions > 0, "there is nothing that a text could follow: it is empty");
        let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
        ensure!(texts.iter().all(|ids| !ids.is_empty()), "a text that is to be judged is empty");
        self.check_room(cache.len(0) + prompt.positions, longest)?;
        let first = self.extend(0, &[&self.prepare(prompt)?], &mut cache)?.remove(0);
        let mut judged = Vec::with_capacity(texts.len());
        for texts in texts.chunks((POSITIONS_PER_STEP / longest.max(1)).max(1)) {
            // The last token of a text is predicted, not read.
            let inputs: Vec<ModelInput> =
                texts.iter().map(|ids| ModelInput::tokens(&ids[..ids.len() - 1])).collect();
            let read: Vec<&ModelInput> = inputs.iter().filter(|input| !input.ids.is_empty()).collect();
            for _ in &read {
                cache.fork(0);
            }
            let after = if read.is_empty() { Vec::new() } else { self.extend_all(1, &read, &mut cache)? };
            cache.retain(|sequence| sequence == 0);
            let mut after = after.iter();
            for ids in texts {
                let logits = std::iter::once(&first).chain(after.by_ref().take(ids.len() - 1));
                judged.push(likelihood(ids, logits)?);
            }
        }
        Ok(judged)
    }
}

/// Of `ids`, with the logits before each.
fn likelihood<'a>(ids: &[u32], logits: impl Iterator<Item = &'a Vec<f32>>) -> Result<Likelihood> {
    let mut likelihood = Likelihood { log_prob: 0.0, tokens: ids.len(), greedy: true };
    for (&id, logits) in ids.iter().zip(logits) {
        let best = highest(logits)?;
        let over = |logit: f32| f64::from(logit - logits[best]);
        let sum: f64 = logits.iter().map(|&logit| over(logit).exp()).sum();
        likelihood.log_prob += over(logits[id as usize]) - sum.ln();
        likelihood.greedy &= best == id as usize;
    }
    Ok(likelihood)
}
