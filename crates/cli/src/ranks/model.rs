//! [`SharedModel`]: a model that every rank has, asked by all of them together.

use anyhow::{Context as _, Result};
use mm1_data::document::Image;
use mm1_eval::model::{AnswerLimits, Lengths, Likelihood, Model, OnReply, PromptReader, Reply};
use mm1_eval::no_answer::NoAnswer;
use mm1_eval::prompt::Prompt;

use super::Ranks;

/// The same model at each rank. All ask the same in the same order; each answers its part, and is given all
/// answers. They are those of one process, since no answer depends on its neighbours.
pub(crate) struct SharedModel<'a, M> {
    pub(crate) own: &'a mut M,
    pub(crate) ranks: &'a Ranks,
}

impl<M: Model> PromptReader for SharedModel<'_, M> {
    type Encoded = M::Encoded;

    fn encode(&self, prompt: &Prompt, continuations: &[String]) -> Result<M::Encoded> {
        self.own.encode(prompt, continuations)
    }

    fn lengths(&self, encoded: &M::Encoded) -> Option<Lengths> {
        self.own.lengths(encoded)
    }
}

impl<M: Model> Model for SharedModel<'_, M> {
    fn generate(
        &mut self,
        prompts: &[M::Encoded],
        limits: &AnswerLimits,
        on_reply: OnReply<'_>,
    ) -> Result<()> {
        let replies = self.ranks.divide(prompts, |own| {
            let mut replies: Vec<Option<Result<String, NoAnswer>>> = vec![None; own.len()];
            self.own.generate(own, limits, &mut |i, reply| {
                *replies.get_mut(i).context("a reply to no prompt")? = Some(match reply {
                    Reply::Words(words) => Ok(words),
                    Reply::Nothing(why) => Err(why),
                });
                Ok(())
            })?;
            Ok(replies)
        })?;
        let replies = replies.into_iter().enumerate().filter_map(|(i, reply)| Some((i, reply?)));
        replies
            .map(|(i, reply)| (i, reply.map_or_else(Reply::Nothing, Reply::Words)))
            .try_for_each(|(i, reply)| on_reply(i, reply))
    }

    fn likelihoods(&mut self, prompts: &[M::Encoded]) -> Result<Vec<Vec<Likelihood>>> {
        // In bits: a number may lose some in JSON.
        type Sent = (u64, usize, bool);
        let all = self.ranks.divide(prompts, |own| {
            let send = |l: Likelihood| -> Sent { (l.log_prob.to_bits(), l.tokens, l.greedy) };
            let of_prompts = self.own.likelihoods(own)?.into_iter();
            Ok(of_prompts.map(|of_prompt| of_prompt.into_iter().map(send).collect::<Vec<_>>()).collect())
        })?;
        let receive = |(log_prob, tokens, greedy): Sent| {
            let log_prob = f64::from_bits(log_prob);
            Likelihood { log_prob, tokens, greedy }
        };
        Ok(all.into_iter().map(|of_prompt| of_prompt.into_iter().map(receive).collect()).collect())
    }

    fn features(&mut self, pictures: &[Image]) -> Result<Vec<Vec<f32>>> {
        let all = self.ranks.divide(pictures, |own| {
            let of_pictures = self.own.features(own)?.into_iter();
            Ok(of_pictures.map(|x| x.into_iter().map(f32::to_bits).collect::<Vec<_>>()).collect())
        })?;
        Ok(all.into_iter().map(|bits| bits.into_iter().map(f32::from_bits).collect()).collect())
    }
}
