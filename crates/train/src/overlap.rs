//! The exchange of gradients: of a round of micro-batches while others of it are still computed, by a thread
//! that takes each bucket when the last of its gradients is there; or after the backward pass, of several
//! rounds together.
// Rejected: a thread exchanges the gradients of a round of micro-batches while those of the next are
// computed. It hides nothing of a step with one micro-batch for each rank, as large runs have, and holds a
// second set of gradients.

use std::panic;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use anyhow::{Result, bail};
use burn::module::Module;
use burn::tensor::Tensor;
use mm1_kernels::arena::Buffer;
use mm1_kernels::rows;
use mm1_model::ops::GradientHook;

use crate::exchange::{self, Bucket, Crossing, Exchange, PartSums, Round};
use crate::parameters::{self, Gradients};

/// The rounds of a step, in each of which every rank has a micro-batch.
pub(crate) struct Rounds<'a> {
    crossing: Crossing<'a>,
    /// The sums of the gradients of this rank's parts.
    sums: PartSums,
    /// Whether gradients cross while others of their round are computed.
    beside: bool,
    rounds: usize,
    done: usize,
    /// How many cross together.
    together: usize,
    /// Of each bucket what crosses with that of a later round.
    held: Vec<Option<Buffer<f32>>>,
}

/// The gradient of a parameter, by its number among the members of all buckets. It is 0 where there is none.
/// In the place of one: no more come.
type Message = Option<(usize, Option<Tensor<1>>)>;

/// Where a micro-batch gives its gradients.
pub(crate) struct Outlet<'a> {
    crossing: Crossing<'a>,
    to: Sender<Message>,
    hook: Option<Arc<GradientHook>>,
}

impl<'a> Rounds<'a> {
    /// So many `rounds`, whose gradients are added to `sums`: `beside` the computing of others, if that gives
    /// them away and `exchange` allows it.
    pub(crate) fn new(
        exchange: &dyn Exchange,
        crossing: Crossing<'a>,
        sums: PartSums,
        (rounds, beside): (usize, bool),
    ) -> Self {
        let count = crossing.buckets.iter().map(Bucket::len).sum();
        // The same at all ranks, whatever their devices give away.
        let together = exchange::rounds_together(count, exchange.overlaps());
        let held = crossing.buckets.iter().map(|_| None).collect();
        Self { crossing, sums, beside: beside && exchange.overlaps(), rounds, done: 0, together, held }
    }

    /// Whether gradients cross while others are computed.
    pub(crate) fn beside(&self) -> bool {
        self.beside
    }

    /// Runs `work`, which gives the gradients of the next micro-batch to the [`Outlet`]. Adds them and those
    /// of the other ranks' micro-batches to the sums, in the order of the rounds and of the ranks in each:
    /// meanwhile, after it, or after that of a later round.
    ///
    /// # Errors
    /// As `work`; the network's own.
    pub(crate) fn add_while<R>(
        &mut self,
        exchange: &dyn Exchange,
        work: impl FnOnce(&mut Outlet<'a>) -> Result<R>,
    ) -> Result<R> {
        let (to, come) = mpsc::channel();
        let mut outlet = Outlet { crossing: self.crossing, to, hook: None };
        if !self.beside {
            let done = work(&mut outlet)?;
            drop(outlet);
            self.add(exchange, &come)?;
            return Ok(done);
        }
        thread::scope(|scope| {
            let crossing = scope.spawn(move || self.add(exchange, &come));
            // It ends with this function, so that the thread does, whatever becomes of the work.
            let mut outlet = outlet;
            exchange.computes_beside(true);
            let done = work(&mut outlet);
            drop(outlet);
            exchange.computes_beside(false);
            let crossed = crossing.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked));
            let done = done?;
            crossed?;
            Ok(done)
        })
    }

    /// The sums, once all rounds are done.
    pub(crate) fn into_sums(self) -> PartSums {
        debug_assert!(
            self.done == self.rounds && self.held.iter().all(Option::is_none),
            "gradients are held"
        );
        self.sums
    }

    /// The next round among those that it crosses with.
    fn round(&self) -> Round {
        let number = self.done % self.together;
        Round { number, of: self.together.min(self.rounds + number - self.done) }
    }

    /// Exchanges the gradients that come, bucket by bucket, or holds them for a later round. Every rank takes
    /// part with every parameter.
    ///
    /// Nothing here runs on the threads of the pool, which may all compute.
    fn add(&mut self, exchange: &dyn Exchange, come: &Receiver<Message>) -> Result<()> {
        let (crossing, round) = (self.crossing, self.round());
        let mut there: Vec<Option<Option<Tensor<1>>>> = vec![None; crossing.members().count()];
        let mut first = 0;
        for ((bucket, sums), held) in crossing.buckets.iter().zip(&mut self.sums).zip(&mut self.held) {
            let members = first..first + bucket.members().len();
            first = members.end;
            while there[members.clone()].iter().any(Option::is_none) {
                match come.recv() {
                    Ok(Some((number, grad))) => there[number] = Some(grad),
                    // The work has failed, and says why.
                    Ok(None) | Err(_) => return Ok(()),
                }
            }
            let mut packed = held.take().unwrap_or_else(|| Buffer::new(round.of * bucket.len()));
            for (member, number) in bucket.members().iter().zip(members) {
                match there[number].take().flatten() {
                    Some(grad) => {
                        parameters::read(grad, |grad| member.pack(bucket, round, Some(grad), &mut packed))?;
                    }
                    None => member.pack(bucket, round, None, &mut packed),
                }
            }
            if round.number + 1 < round.of {
                *held = Some(packed);
                continue;
            }
            let given = crossing.precision.scatter(exchange, &packed, &bucket.ranks_of(round.of))?;
            add_rounds(sums, &given, round.of);
        }
        self.done += 1;
        Ok(())
    }
}

/// Adds the gradients of `rounds` rounds, `given` rank by rank, to `sums`: round by round.
fn add_rounds(sums: &mut [f32], given: &[f32], rounds: usize) {
    let count = sums.len();
    for round in 0..rounds {
        let of_ranks = given.chunks_exact((rounds * count).max(1));
        of_ranks.for_each(|of_rank| rows::add_alone(sums, &of_rank[round * count..][..count]));
    }
}

impl Outlet<'_> {
    /// What gives the gradients of `model` away during the backward pass. They have numbers as `number` says
    /// by the path, which are those of [`Bucket`]s in their order.
    pub(crate) fn hook<M: Module>(
        &mut self,
        model: &M,
        number: impl Fn(&str) -> Option<usize>,
    ) -> Arc<GradientHook> {
        let to = self.to.clone();
        // Who takes them may have failed, and says so.
        let give = move |number, grad| to.send(Some((number, Some(grad)))).unwrap_or_default();
        let hook = Arc::new(GradientHook::new(give));
        parameters::watch(model, &hook, number);
        self.hook = Some(hook.clone());
        hook
    }

    /// Gives all gradients that the hook has not given.
    ///
    /// # Errors
    /// A part of a gradient that came after it was given; the device's own.
    pub(crate) fn give_rest(&self, mut grads: Gradients) -> Result<()> {
        let given = self.hook.as_ref().map(|hook| hook.given()).unwrap_or_default();
        for (number, path) in self.crossing.members().enumerate() {
            let grad = grads.remove(path);
            if given.contains(&number) {
                if grad.is_some() {
                    bail!("a part of the gradient of {path} came after it was given away");
                }
                continue;
            }
            let grad = grad.map(parameters::on_host).transpose()?;
            self.to.send(Some((number, grad))).unwrap_or_default();
        }
        Ok(())
    }
}

impl Drop for Outlet<'_> {
    fn drop(&mut self) {
        self.to.send(None).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Floats are added in the order of the micro-batches: rounds, and ranks in each.
    #[test]
    fn rounds_that_cross_together_are_added_one_after_the_other() {
        // Of two ranks, three rounds each, a part of two values.
        let first = [[1e8_f32, -1e8, 0.0], [1.0; 3]];
        let of = |rank: usize, round: usize| [first[rank][round], (10 * rank + round) as f32];
        let given: Vec<f32> = (0..6).flat_map(|i| of(i / 3, i % 3)).collect();
        let mut sums = [0.5_f32, 0.5];
        add_rounds(&mut sums, &given, 3);
        let mut expected = [0.5_f32, 0.5];
        for i in 0..6 {
            let values = of(i % 2, i / 2);
            expected.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        }
        assert_eq!(sums, expected);
        let by_ranks = (0..6).fold(0.5_f32, |sum, i| sum + of(i / 3, i % 3)[0]);
        assert_eq!((sums[0], by_ranks), (2.0, 3.0), "another order has other digits");
        add_rounds(&mut [], &[], 3);
    }
}
