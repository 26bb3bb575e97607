//! The exchange of gradients while others are still computed: a thread takes each bucket when the last of
//! its gradients is there.
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

use crate::exchange::{Bucket, Exchange, ExchangePrecision};
use crate::optim::{Gradients, PartSums};
use crate::parameters;

/// What crosses in each micro-batch.
#[derive(Clone, Copy)]
pub(crate) struct Crossing<'a> {
    /// In the order in which they cross at all ranks, whenever their gradients come.
    pub(crate) buckets: &'a [Bucket],
    pub(crate) precision: ExchangePrecision,
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

impl<'a> Crossing<'a> {
    /// Runs `work`, which gives the gradients of one micro-batch to the [`Outlet`]. Adds them and those of
    /// the other ranks' micro-batches to `sums`, in the order of the ranks: meanwhile, where `exchange`
    /// allows it.
    ///
    /// # Errors
    /// As `work`; the network's own.
    pub(crate) fn add_while<R>(
        self,
        exchange: &dyn Exchange,
        sums: &mut PartSums,
        work: impl FnOnce(&mut Outlet<'a>) -> Result<R>,
    ) -> Result<R> {
        let (to, come) = mpsc::channel();
        let mut outlet = Outlet { crossing: self, to, hook: None };
        if !exchange.overlaps() {
            let done = work(&mut outlet)?;
            drop(outlet);
            self.add(exchange, &come, sums)?;
            return Ok(done);
        }
        thread::scope(|scope| {
            let crossing = scope.spawn(move || self.add(exchange, &come, sums));
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

    /// Exchanges the gradients that come, bucket by bucket. Every rank takes part with every parameter.
    ///
    /// Nothing here runs on the threads of the pool, which may all compute.
    fn add(self, exchange: &dyn Exchange, come: &Receiver<Message>, sums: &mut PartSums) -> Result<()> {
        let mut there: Vec<Option<Option<Tensor<1>>>> = vec![None; self.members().count()];
        let mut first = 0;
        for (bucket, sums) in self.buckets.iter().zip(sums) {
            let members = first..first + bucket.members().len();
            first = members.end;
            while there[members.clone()].iter().any(Option::is_none) {
                match come.recv() {
                    Ok(Some((number, grad))) => there[number] = Some(grad),
                    // The work has failed, and says why.
                    Ok(None) | Err(_) => return Ok(()),
                }
            }
            let mut packed = Buffer::new(bucket.len());
            for (member, number) in bucket.members().iter().zip(members) {
                match there[number].take().flatten() {
                    Some(grad) => parameters::read(grad, |grad| member.pack(Some(grad), &mut packed))?,
                    None => member.pack(None, &mut packed),
                }
            }
            let given = self.precision.scatter(exchange, &packed, bucket.ranks())?;
            given.chunks_exact(sums.len().max(1)).for_each(|of_rank| rows::add_alone(sums, of_rank));
        }
        Ok(())
    }

    /// Paths of all parameters, in the order in which they cross.
    fn members(&self) -> impl Iterator<Item = &'a str> {
        self.buckets.iter().flat_map(Bucket::members).map(|member| member.path.as_str())
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
