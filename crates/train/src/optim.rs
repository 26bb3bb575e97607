//! AdamW with parameter groups and clipping by the global norm, which may stay on a GPU.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::{Context as _, Result, bail};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use mm1_kernels::adamw::{self, PIECE};
use mm1_kernels::rows;

use crate::config::OptimizerConfig;
use crate::exchange::{self, Bucket, Exchange};
#[cfg(feature = "gpu")]
use crate::gpu;
#[cfg(feature = "gpu")]
use crate::moments::MomentFormat;
use crate::moments::Moments;
#[cfg(feature = "gpu")]
use crate::norm::SumsOfSquares;
use crate::norm::{self, Norm};
use crate::parameters;

/// Gradients by path of the parameter, flat.
pub type Gradients = BTreeMap<String, Tensor<1>>;

/// Of each trained parameter the sum of the gradients of this rank's part, by path.
pub(crate) type PartSums = BTreeMap<String, Vec<f32>>;

/// The optimizer and its moments.
#[derive(Debug)]
pub(crate) struct AdamW {
    config: OptimizerConfig,
    rank: usize,
    /// Paths of trained parameters that cross between ranks together, all in order.
    buckets: Vec<Vec<String>>,
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
    parts: Vec<Range<usize>>,
    /// Of the values of this rank's part.
    moments: Moments,
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
    /// With moments of 0 for the part of every trained parameter that is of rank `rank` of `ranks`.
    pub(crate) fn new<M: Module>(config: OptimizerConfig, model: &M, (rank, ranks): (usize, usize)) -> Self {
        let all = parameters::collect(model);
        let decay = config.layer_decay.factors(all.keys());
        let trained = all.into_iter().filter(|(_, p)| p.trained).enumerate().map(|(index, (path, p))| {
            let parts = exchange::parts(ranks, index, p.shape.iter().product());
            let moments = Moments::zeros(config.moments, parts[rank].len(), &p.values.device());
            let scale = config.scale_of(&path) * decay[&path];
            (path, TrainedParameter { shape: p.shape, scale, parts, moments })
        });
        let trained: BTreeMap<String, TrainedParameter> = trained.collect();
        let paths: Vec<&String> = trained.keys().collect();
        let buckets = exchange::buckets(trained.values().map(TrainedParameter::count));
        let of = |bucket: Range<usize>| paths[bucket].iter().map(|&path| path.clone()).collect();
        let buckets = buckets.into_iter().map(of).collect();
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
        let zeros = |trained: &TrainedParameter| vec![0.0; trained.parts[self.rank].len()];
        self.trained.iter().map(|(path, trained)| (path.clone(), zeros(trained))).collect()
    }

    /// Adds the gradients of one micro-batch of each rank, in the order of the ranks. Every rank takes part
    /// with every parameter: where one has no gradient it is 0.
    pub(crate) fn add_parts(
        &self,
        exchange: &dyn Exchange,
        mut grads: Gradients,
        sums: &mut PartSums,
    ) -> Result<()> {
        for paths in &self.buckets {
            let whole = |path: &String| match grads.remove(path) {
                Some(grad) => floats(grad),
                None => Ok(vec![0.0; self.trained[path].count()]),
            };
            let whole = paths.iter().map(whole).collect::<Result<Vec<_>>>()?;
            let bucket = self.bucket(paths);
            let given = self.config.exchange.scatter(exchange, &bucket.pack(&whole), bucket.ranks())?;
            let own = bucket.ranks()[self.rank].len();
            for mut of_rank in given.chunks_exact(own.max(1)) {
                for path in paths {
                    let sum = sums.get_mut(path).context("a parameter without a sum")?;
                    let (part, behind) = of_rank.split_at(sum.len());
                    rows::add(sum, part);
                    of_rank = behind;
                }
            }
        }
        Ok(())
    }

    /// How the parameters at `paths` cross together.
    fn bucket(&self, paths: &[String]) -> Bucket<'_> {
        Bucket::new(paths.iter().map(|path| self.trained[path].parts.as_slice()).collect())
    }

    /// The norm of the gradients of which each rank has a part.
    pub(crate) fn norm_of_parts(&self, exchange: &dyn Exchange, sums: &PartSums) -> Result<f64> {
        let squares = sums.values().flat_map(|sum| sum.chunks(PIECE)).map(adamw::sum_of_squares);
        let own: Vec<u8> = squares.flat_map(f64::to_le_bytes).collect();
        let of_ranks = exchange.gather(&own)?;
        let mut rest: Vec<&[u8]> = of_ranks.iter().map(Vec::as_slice).collect();
        let mut all = Vec::with_capacity(self.trained.len());
        for trained in self.trained.values() {
            let pieces = trained.parts.iter().zip(&mut rest).map(|(part, rest)| {
                let (pieces, behind) = rest
                    .split_at_checked(8 * part.len().div_ceil(PIECE))
                    .context("a rank with another model")?;
                *rest = behind;
                Ok(pieces)
            });
            let pieces = pieces.collect::<Result<Vec<_>>>()?;
            let in_order = exchange::in_order(&trained.parts, &pieces).concat();
            all.push(in_order.as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).sum());
        }
        norm::of(self.trained.keys().map(|path| (path, 1)), all)
    }

    /// [`Self::update`] by gradients of which each rank has a part: it moves this part, and all ranks give
    /// theirs to each other. Gives the new values of all trained parameters.
    pub(crate) fn update_parts<M: Module>(
        &mut self,
        exchange: &dyn Exchange,
        model: &M,
        mut sums: PartSums,
        update: Update<'_>,
    ) -> Result<Gradients> {
        let (mut here, mut moved) = (parameters::collect(model), Gradients::new());
        let device = model.devices().into_iter().next().context("the model has no parameters")?;
        let device = device.without_autodiff();
        for paths in self.buckets.clone() {
            let mut own = Vec::new();
            for path in &paths {
                let (Some(trained), Some(p), Some(sum)) =
                    (self.trained.get_mut(path), here.remove(path), sums.remove(path))
                else {
                    bail!("{path} is no parameter any more")
                };
                let part = trained.parts[self.rank].clone();
                if !part.is_empty() {
                    let (rule, begin) = (trained.rule(&self.config, update), part.start);
                    let values = upload(floats(p.values.slice([part]))?, &device);
                    own.extend(floats(trained.moments.step(&rule, values, upload(sum, &device), begin))?);
                }
            }
            let bucket = self.bucket(&paths);
            let mut all = vec![0.0; bucket.len()];
            all[bucket.ranks()[self.rank].clone()].copy_from_slice(&own);
            exchange.collect(&mut all, bucket.ranks())?;
            let values = bucket.unpack(&all).into_iter().map(|values| upload(values, &device));
            moved.extend(paths.iter().cloned().zip(values));
        }
        Ok(moved)
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
        let mut all = BTreeMap::new();
        for (path, trained) in &self.trained {
            let own = trained.moments.export(&[trained.parts[self.rank].len()]);
            let layout = trained.moments.layout(&trained.shape);
            for ((name, shape, dtype), (_, own)) in layout.into_iter().zip(own) {
                let Some(of_ranks) = exchange.gather_at_first(own.bytes())? else { continue };
                let of_ranks: Vec<&[u8]> = of_ranks.iter().map(Vec::as_slice).collect();
                let bytes = exchange::in_order(&trained.parts, &of_ranks).concat();
                let data = TensorData::try_from_bytes_vec(bytes, shape, dtype);
                all.insert(format!("{path}.{name}"), data.context("moments of ranks with other models")?);
            }
        }
        Ok((exchange.rank() == 0).then_some(all))
    }

    /// Takes the moments that [`AdamW::export`] gave, of ranks their parts; they must be those of the same
    /// parameters.
    pub(crate) fn import(&mut self, tensors: BTreeMap<String, TensorData>, device: &Device) -> Result<()> {
        let expected = self.trained.iter().flat_map(|(path, trained)| {
            let layout = trained.moments.layout(&trained.shape).into_iter();
            layout.map(move |(name, shape, dtype)| (format!("{path}.{name}"), shape, dtype))
        });
        let mut loaded = parameters::check(tensors, expected)?;
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

/// `[n]` on `device`.
fn upload(values: Vec<f32>, device: &Device) -> Tensor<1> {
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}

/// Values on the host.
fn floats(values: Tensor<1>) -> Result<Vec<f32>> {
    values.into_data().try_to_vec().context("values in f32")
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
