//! AdamW with parameter groups and clipping by the global norm, which may stay on a GPU.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::{Context as _, Result, bail};
use burn::backend::Flex;
use burn::module::Module;
use burn::tensor::{DType, Device, Tensor, TensorData};
use mm1_kernels::adamw::{self, PIECE};
use mm1_kernels::arena::Buffer;
use mm1_kernels::rows;
use mm1_model::weights;

use crate::bundle::{Bundles, SharedTensor};
use crate::config::OptimizerConfig;
use crate::exchange::{self, Bucket, Crossing, Exchange, PartSums, Parts};
#[cfg(feature = "gpu")]
use crate::gpu;
#[cfg(feature = "gpu")]
use crate::moments::MomentFormat;
use crate::moments::Moments;
#[cfg(feature = "gpu")]
use crate::norm::SumsOfSquares;
use crate::norm::{self, Norm};
use crate::parameters::{self, Gradients};

/// The optimizer and its moments.
#[derive(Debug)]
pub(crate) struct AdamW {
    config: OptimizerConfig,
    rank: usize,
    /// Trained parameters that cross between ranks together.
    buckets: Vec<Bucket>,
    /// By path of the parameter.
    trained: BTreeMap<String, TrainedParameter>,
    /// What gradients are multiplied by, where that stays on a GPU: see [`Norm::There`].
    scale: Option<Tensor<1>>,
}

/// What is kept of a trained parameter.
#[derive(Debug)]
struct TrainedParameter {
    shape: Vec<usize>,
    /// The factor on the learning rate.
    scale: f64,
    /// The part of each rank, of this one alone the whole.
    parts: Parts,
    place: Place,
    /// Of the values of this rank's part.
    moments: Moments,
}

/// Where a parameter crosses.
#[derive(Clone, Debug, Default)]
struct Place {
    bucket: usize,
    /// Which of its members it is.
    member: usize,
    /// Which of the members of all buckets.
    number: usize,
    /// Where this rank's part lies in the [`PartSums`] of the bucket.
    own: Range<usize>,
}

/// New values of all trained parameters, as they have crossed.
pub(crate) struct MovedParameters<'a> {
    optimizer: &'a AdamW,
    /// Of each bucket.
    packed: Vec<Buffer<f32>>,
}

/// The numbers of one update.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Update<'a> {
    pub(crate) lr: f64,
    pub(crate) norm: &'a Norm,
    /// The update, from 1, for the correction of the moments' bias.
    pub(crate) time: u32,
}

impl AdamW {
    /// With moments of 0 for every trained parameter; of a rank of an `exchange`, for its part.
    pub(crate) fn new<M: Module>(
        config: OptimizerConfig,
        model: &M,
        exchange: Option<&dyn Exchange>,
    ) -> Self {
        let of = |exchange: &dyn Exchange| (exchange.rank(), exchange.ranks(), exchange.overlaps());
        let (rank, ranks, beside) = exchange.map_or((0, 1, false), of);
        let all = parameters::collect(model);
        let decay = config.layer_decay.factors(all.keys());
        let trained = all.into_iter().filter(|(_, p)| p.trained).enumerate().map(|(index, (path, p))| {
            let parts: Parts = exchange::parts(ranks, index, p.shape.iter().product()).into();
            let moments = Moments::zeros(config.moments, parts[rank].len(), &p.values.device());
            let scale = config.scale_of(&path) * decay[&path];
            (path, TrainedParameter { shape: p.shape, scale, parts, place: Place::default(), moments })
        });
        let mut trained: BTreeMap<String, TrainedParameter> = trained.collect();
        let count = |(path, _): (String, Vec<usize>)| {
            let count = trained.get(&path)?.count();
            Some((path, count))
        };
        let in_order: Vec<_> = weights::shapes(model).into_iter().filter_map(count).collect();
        let parts = |path: String| (path.clone(), trained[&path].parts.clone());
        let bucket = |together: Vec<String>| Bucket::new(ranks, together.into_iter().map(parts));
        let buckets: Vec<Bucket> = exchange::buckets(in_order, beside).into_iter().map(bucket).collect();
        let mut number = 0;
        for (index, bucket) in buckets.iter().enumerate() {
            for (member_index, member) in bucket.members().iter().enumerate() {
                if let Some(trained) = trained.get_mut(&member.path) {
                    let own = member.place_of(rank, bucket);
                    trained.place = Place { bucket: index, member: member_index, number, own };
                }
                number += 1;
            }
        }
        Self { config, rank, buckets, trained, scale: None }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.trained.is_empty()
    }

    /// The norm of all gradients together. It may stay on a GPU, and then looks after `losses` too, which are
    /// not read yet.
    ///
    /// # Errors
    /// Names the first parameter whose gradient is not finite.
    pub(crate) fn norm<'a>(
        &mut self,
        grads: &'a Gradients,
        losses: impl Iterator<Item = &'a Tensor<1>>,
    ) -> Result<Norm> {
        #[cfg(feature = "gpu")]
        if self.config.moments == MomentFormat::F32
            && let Some(one) = grads.values().next()
            && grads.values().all(gpu::has)
        {
            let squares = SumsOfSquares::there(grads, losses);
            let scale = self.scale.take().unwrap_or_else(|| Tensor::ones([1], &one.device()));
            self.scale = Some(gpu::clip(&squares.sums, squares.of_grads(), scale, self.config.clip_norm));
            return Ok(Norm::There(Box::new(squares)));
        }
        let _ = losses;
        norm::known(grads).map(Norm::Known)
    }

    /// Updates again after a gradient or loss that was not finite on a GPU.
    pub(crate) fn recover(&mut self) {
        self.scale = None;
    }

    /// Updates every trained parameter; one without a gradient (the encoder's, in a step without pictures)
    /// has a gradient of 0, so that a step means the same however it is cut into micro-batches.
    pub(crate) fn update<M: Module>(&mut self, model: M, mut grads: Gradients, update: Update<'_>) -> M {
        #[cfg(feature = "gpu")]
        let mut there = gpu::Steps::default();
        let model = parameters::map(model, |path, _, values| {
            let Some(trained) = self.trained.get_mut(path) else { return values };
            let (rule, grad) = (trained.rule(&self.config, update), grads.remove(path));
            #[cfg(feature = "gpu")]
            if let (Norm::There(_), Moments::Floats(moments)) = (update.norm, &mut trained.moments) {
                return there.add(&rule, values, grad, moments);
            }
            let grad = grad.unwrap_or_else(|| values.zeros_like());
            trained.moments.step(&rule, values, grad, 0)
        });
        #[cfg(feature = "gpu")]
        if let Some(scale) = &self.scale {
            there.launch(scale);
        }
        model
    }

    /// A sum of 0 for this rank's part of every trained parameter.
    pub(crate) fn part_sums(&self) -> PartSums {
        let zeros = |bucket: &Bucket| {
            let mut sums = Buffer::new(bucket.ranks()[self.rank].len());
            rows::clear(&mut sums);
            sums
        };
        self.buckets.iter().map(zeros).collect()
    }

    /// What crosses in each micro-batch.
    pub(crate) fn crossing(&self) -> Crossing<'_> {
        Crossing { buckets: &self.buckets, precision: self.config.exchange }
    }

    /// Which of the parameters that cross is the one at `path`.
    pub(crate) fn number_of(&self, path: &str) -> Option<usize> {
        self.trained.get(path).map(|trained| trained.place.number)
    }

    /// The sums of squares of the pieces of this rank's parts, in the order of their paths, for
    /// [`Self::norm_of_parts`].
    pub(crate) fn squares_of_parts(&self, sums: &PartSums) -> Vec<f64> {
        let of = |trained: &TrainedParameter| {
            let Place { bucket, own, .. } = &trained.place;
            sums[*bucket][own.clone()].chunks(PIECE).map(adamw::sum_of_squares).collect::<Vec<_>>()
        };
        self.trained.values().flat_map(of).collect()
    }

    /// The norm of the gradients of which each rank has a part, from the squares that each has found.
    pub(crate) fn norm_of_parts(&self, of_ranks: &[Vec<f64>]) -> Result<f64> {
        let mut rest: Vec<&[f64]> = of_ranks.iter().map(Vec::as_slice).collect();
        let mut all = Vec::with_capacity(self.trained.len());
        for trained in self.trained.values() {
            let pieces = trained.parts.iter().zip(&mut rest).map(|(part, rest)| {
                let (pieces, behind) =
                    rest.split_at_checked(part.len().div_ceil(PIECE)).context("a rank with another model")?;
                *rest = behind;
                Ok(pieces)
            });
            let pieces = pieces.collect::<Result<Vec<_>>>()?;
            all.push(exchange::in_order(&trained.parts, &pieces).concat().into_iter().sum());
        }
        norm::of(self.trained.keys().map(|path| (path, 1)), all)
    }

    /// [`Self::update`] by gradients of which each rank has a part: it moves this part, and all ranks give
    /// theirs to each other.
    pub(crate) fn update_parts<M: Module>(
        &mut self,
        exchange: &dyn Exchange,
        model: &M,
        sums: PartSums,
        update: Update<'_>,
    ) -> Result<MovedParameters<'_>> {
        let mut here = parameters::collect(model);
        let mut packed = Vec::with_capacity(self.buckets.len());
        for (bucket, sums) in self.buckets.iter().zip(sums) {
            let mut own = Buffer::new(sums.len());
            for member in bucket.members() {
                let (Some(trained), Some(p)) =
                    (self.trained.get_mut(&member.path), here.remove(&member.path))
                else {
                    bail!("{} is no parameter any more", member.path)
                };
                let (part, place) = (trained.parts[self.rank].clone(), trained.place.own.clone());
                if part.is_empty() {
                    continue;
                }
                let (rule, at) = (trained.rule(&self.config, update), (part.start, p.values.device()));
                let own = &mut own[place.clone()];
                parameters::read(p.values.slice([part]), |values| own.copy_from_slice(values))?;
                trained.moments.step_values(&rule, own, &sums[place], at)?;
            }
            let mut all = Buffer::new(bucket.len());
            exchange.collect(&own, bucket.ranks(), &mut all)?;
            packed.push(all);
        }
        Ok(MovedParameters { optimizer: self, packed })
    }

    /// The moments as they are kept, named by the parameter's path and `.m`, `.v` or `.scales`.
    pub(crate) fn export(&self) -> BTreeMap<String, TensorData> {
        let of = |(path, trained): (&String, &TrainedParameter)| {
            let tensors = trained.moments.export(&trained.shape).into_iter();
            tensors.map(|(name, data)| (format!("{path}.{name}"), data)).collect::<Vec<_>>()
        };
        self.trained.iter().flat_map(of).collect()
    }

    /// [`Self::export`] of the moments of which each rank has a part, at rank 0.
    pub(crate) fn export_of_all(
        &self,
        exchange: &dyn Exchange,
    ) -> Result<Option<BTreeMap<String, TensorData>>> {
        let mut bundles = Bundles::new(exchange, &self.shared_moments());
        for trained in self.trained.values() {
            for (_, own) in trained.moments.export(&[trained.parts[self.rank].len()]) {
                bundles.give(own.bytes())?;
            }
        }
        let Some(whole) = bundles.finish()? else { return Ok(None) };
        let tensor = |((name, shape, dtype), bytes)| {
            let data = TensorData::try_from_bytes_vec(bytes, shape, dtype);
            Ok((name, data.context("moments of ranks with other models")?))
        };
        self.layout().zip(whole).map(tensor).collect::<Result<_>>().map(Some)
    }

    /// Names, shapes and types of the moments of whole parameters.
    fn layout(&self) -> impl Iterator<Item = (String, Vec<usize>, DType)> {
        self.trained.iter().flat_map(|(path, trained)| {
            let layout = trained.moments.layout(&trained.shape).into_iter();
            layout.map(move |(name, shape, dtype)| (format!("{path}.{name}"), shape, dtype))
        })
    }

    /// Which bytes of the moments are of each rank, in the order of [`Self::layout`].
    fn shared_moments(&self) -> Vec<SharedTensor> {
        let of = |trained: &TrainedParameter| {
            // A part begins with a block of moments: what is before it is what as many values have.
            let bytes = |values: usize| {
                let of_values = trained.moments.layout(&[values]).into_iter();
                of_values.map(|(_, shape, dtype)| shape.iter().product::<usize>() * dtype.size())
            };
            let tensor = |number: usize| {
                let of = |values: usize| bytes(values).nth(number).unwrap_or_default();
                let parts = trained.parts.iter().map(|part| of(part.start)..of(part.end)).collect();
                SharedTensor { bytes: of(trained.count()), parts }
            };
            (0..bytes(0).count()).map(tensor).collect::<Vec<_>>()
        };
        self.trained.values().flat_map(of).collect()
    }

    /// Takes the moments that [`AdamW::export`] gave, of ranks their parts; they must be those of the same
    /// parameters.
    pub(crate) fn import(&mut self, tensors: BTreeMap<String, TensorData>, device: &Device) -> Result<()> {
        let mut loaded = parameters::check(tensors, self.layout())?;
        for (path, trained) in &mut self.trained {
            let part = trained.parts[self.rank].clone();
            // A part begins with a block of moments: the numbers before it are those of as many values.
            let [before, through] = [part.start, part.end].map(|values| trained.moments.layout(&[values]));
            let mut own = BTreeMap::new();
            for ((name, begin, _), (_, end, _)) in before.into_iter().zip(through) {
                let [begin, end] = [begin, end].map(|shape| shape.iter().product::<usize>());
                let whole = loaded.remove(&format!("{path}.{name}"));
                own.extend(whole.map(|whole| (name, part_of(whole, begin..end))));
            }
            trained.moments.import(|name| own.remove(name), device)?;
        }
        Ok(())
    }
}

impl TrainedParameter {
    /// Of all ranks.
    fn count(&self) -> usize {
        self.shape.iter().product()
    }

    fn rule(&self, config: &OptimizerConfig, update: Update<'_>) -> adamw::AdamWStep {
        adamw::AdamWStep {
            lr: (update.lr * self.scale) as f32,
            beta1: config.beta1 as f32,
            beta2: config.beta2 as f32,
            eps: config.eps as f32,
            weight_decay: if self.shape.len() >= 2 { config.weight_decay as f32 } else { 0.0 },
            time: update.time,
            grad_scale: update.norm.clip(config.clip_norm) as f32,
        }
    }
}

impl MovedParameters<'_> {
    /// The new values of the parameter at `path`, in the place of its `values` where they are on the host and
    /// nothing else refers to them; those of one that is not trained as they are.
    pub(crate) fn take_place_of(&self, path: &str, values: Tensor<1>) -> Tensor<1> {
        let Some(trained) = self.optimizer.trained.get(path) else { return values };
        let Place { bucket, member, .. } = trained.place;
        let (packed, member) = (&self.packed[bucket], &self.optimizer.buckets[bucket].members()[member]);
        let device = values.device();
        let Ok(here) = values.try_into_primitive::<Flex>() else {
            let mut whole = vec![0.0; trained.count()];
            member.unpack(packed, &mut whole);
            return Tensor::from_data(TensorData::new(whole, [trained.count()]), &device);
        };
        let mut whole = here.to_contiguous();
        drop(here);
        member.unpack(packed, whole.storage_mut());
        Tensor::from_primitive::<Flex>(whole)
    }
}

/// These numbers of `whole`, flat.
fn part_of(whole: TensorData, numbers: Range<usize>) -> TensorData {
    if numbers == (0..whole.num_elements()) {
        return whole;
    }
    let width = whole.dtype().size();
    let bytes = whole.bytes()[numbers.start * width..numbers.end * width].to_vec();
    TensorData::from_bytes_vec(bytes, [numbers.len()], whole.dtype())
}
