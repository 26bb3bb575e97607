//! The arithmetic of a training on many ranks.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use mm1_data::image::Tiling;
use mm1_model::device::DeviceKind;
use mm1_model::group::ParameterCounts;
use mm1_model::memory::{Load, Training};
use mm1_model::{Mm1, weights};
use mm1_train::exchange::buckets;
use mm1_train::moments::GRADIENT_BYTES;
use serde::Serialize;

use super::FleetArgs;
use crate::network::{Exchange, Network};
use crate::recipe::{Recipe, TrainStage};
use crate::stage_parameters::{AdapterCounts, StageParameters, trained_parts};

const DAY: f64 = 86_400.0;
/// Bytes of a weight in a step.
const WEIGHT_BYTES: u64 = 4;

/// Bytes that a rank holds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct RankMemory {
    pub(super) weights: u64,
    pub(super) gradients: u64,
    pub(super) moments: u64,
    pub(super) activations: u64,
    pub(super) total: u64,
}

/// How long it takes.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct RunTime {
    pub(super) micro_batch_seconds: f64,
    pub(super) step_seconds: f64,
    /// The share of a step in which a rank computes.
    pub(super) efficiency: f64,
    pub(super) tokens_per_day: f64,
    pub(super) seconds: f64,
    pub(super) days: f64,
    pub(super) device_hours: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cost: Option<f64>,
}

/// What is needed of a source.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct DataNeed {
    pub(super) positions: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) documents: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) epochs: Option<f64>,
}

/// What a stage takes.
#[derive(Debug, Serialize)]
pub(super) struct StageBill {
    pub(super) micro_batches_per_rank: usize,
    pub(super) images_per_micro_batch: usize,
    pub(super) positions_per_step: u64,
    pub(super) memory: RankMemory,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fits: Option<bool>,
    pub(super) exchange: Exchange,
    /// Floating-point operations of a step of all ranks.
    pub(super) operations: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) time: Option<RunTime>,
    /// Bytes of the checkpoints that are kept, and of one more while it is written.
    pub(super) checkpoint_bytes: u64,
    pub(super) data: BTreeMap<String, DataNeed>,
}

/// A training stage on ranks.
pub(super) struct StageOnRanks<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) training: &'a TrainStage,
    pub(super) ranks: u32,
    pub(super) network: Network,
    pub(super) args: &'a FleetArgs,
}

impl StageOnRanks<'_> {
    /// # Errors
    /// Micro-batches that the ranks can't share; tiles.
    pub(super) fn bill(&self) -> Result<StageBill> {
        let Self { recipe, training, ranks, network, args } = *self;
        let of_stage = recipe.as_of(&training.name);
        ensure!(of_stage.image.tiling == Tiling::default(), "--ranks plans images that are not tiled");
        let micro_batches = training.accumulate / ranks as usize;
        ensure!(
            micro_batches * ranks as usize == training.accumulate,
            "accumulate = {} can't be shared by {ranks} ranks; give a multiple of {ranks} (with --set \
             stage.{}.accumulate=… and rows), or another --ranks",
            training.accumulate,
            training.name
        );
        let model = Mm1::new(&of_stage.model, recipe.seed, &DeviceKind::Cpu.open()?)?;
        let counts = ParameterCounts::of(&model);
        let parameters = StageParameters::of_language(training, &counts, AdapterCounts::default());
        let (images, mean_images) = self.images(&of_stage);
        let memory = self.memory(&of_stage, &parameters, images);
        let trained = |(path, _): &(String, Vec<usize>)| !training.optimizer.freezes(path);
        let crossing = weights::shapes(&model).into_iter().filter(trained);
        let crossing = crossing.map(|(path, shape)| (path, shape.iter().product())).collect();
        // As between machines, where they cross beside the backward pass.
        let messages = buckets(crossing, true).len();
        let trained = parameters.trained as u64;
        let sent = [training.optimizer.exchange.bytes() * trained, WEIGHT_BYTES * trained];
        let exchange = Exchange::of(ranks, (sent, messages as u64), micro_batches as u64, network);
        let per_step = training.rows * training.accumulate;
        let operations = self.operations(&of_stage, &counts, mean_images) * per_step as f64;
        let kept = training.steps.div_ceil(training.checkpoint.every).min(training.checkpoint.keep as u64);
        let positions_per_step = (per_step * training.length) as u64;
        let checkpoint = memory.weights + self.moment_bytes(&parameters);
        Ok(StageBill {
            micro_batches_per_rank: micro_batches,
            images_per_micro_batch: images,
            positions_per_step,
            memory,
            fits: args.device_memory.map(|there| memory.total <= there),
            exchange,
            operations,
            time: self.time(operations, micro_batches, exchange),
            checkpoint_bytes: (kept + 1) * checkpoint,
            data: self.data(positions_per_step, of_stage.model.image_tokens()),
        })
    }

    /// Images of the micro-batch with most, and of a row on average. Where a source's size is not said its
    /// rows are as full of images as they can be.
    fn images(&self, of_stage: &Recipe) -> (usize, f64) {
        let (length, tokens) = (self.training.length as f64, of_stage.model.image_tokens());
        let total: f64 = self.training.mixture.values().sum();
        let (mut most, mut mean) = (0.0_f64, 0.0);
        for (name, weight) in &self.training.mixture {
            let said = self.args.sources.iter().find(|source| source.name == *name);
            let of_row = match said {
                Some(size) => length / size.positions(tokens) * size.images,
                None => (length / (tokens + 1) as f64).floor(),
            };
            most = most.max(of_row);
            mean += weight / total * of_row;
        }
        ((most * self.training.rows as f64).ceil() as usize, mean)
    }

    fn moment_bytes(&self, parameters: &StageParameters) -> u64 {
        let trained = parameters.trained as u64;
        self.training.optimizer.moments.state_bytes(parameters.trained)
            - (WEIGHT_BYTES + GRADIENT_BYTES) * trained
    }

    fn memory(&self, of_stage: &Recipe, parameters: &StageParameters, images: usize) -> RankMemory {
        let load = Load {
            positions: self.training.rows * self.training.length,
            images,
            recompute: self.training.activation_checkpointing,
            precision: of_stage.precision,
        };
        let weights = WEIGHT_BYTES * parameters.held as u64;
        let gradients = GRADIENT_BYTES * parameters.trained as u64;
        let moments = self.moment_bytes(parameters).div_ceil(u64::from(self.ranks));
        let activations = of_stage.model.activation_bytes(load, trained_parts(self.training));
        let total = weights + gradients + moments + activations;
        RankMemory { weights, gradients, moments, activations, total }
    }

    /// Operations of one row, forward and backward: 2 of each weight and position forward and 4 backward
    /// (Kaplan et al. 2020), and those of attention, whose scores are half of a square in the decoder. Blocks
    /// that are computed again cost one more pass.
    fn operations(&self, of_stage: &Recipe, counts: &ParameterCounts, images: f64) -> f64 {
        let (vision, lm) = (&of_stage.model.vision, &of_stage.model.lm);
        let parts = trained_parts(self.training);
        let passes = |part: Training<'_>| if part == Training::Frozen { 1.0 } else { 3.0 };
        let again = f64::from(u8::from(self.training.activation_checkpointing));
        let length = self.training.length as f64;
        let patches = (vision.grid() * vision.grid()) as f64 + f64::from(u8::from(vision.class_token));
        let width = (lm.heads * lm.head_width.unwrap_or(lm.dim / lm.heads)) as f64;
        let attention =
            |layers: usize, width: f64, n: f64, share: f64| 4.0 * layers as f64 * width * n * n * share;
        let decoder = 2.0 * counts.lm as f64 * length + attention(lm.layers, width, length, 0.5);
        let head = 2.0 * (lm.dim * lm.vocab()) as f64 * length;
        let encoder = 2.0 * counts.vision as f64 * patches
            + attention(vision.blocks(), vision.dim as f64, patches, 1.0);
        let connector = 2.0 * counts.connector as f64 * patches;
        decoder * (passes(parts.lm) + again)
            + head * passes(parts.lm)
            + images * (encoder * (passes(parts.vision) + again) + connector * passes(parts.connector))
    }

    fn time(&self, operations: f64, micro_batches: usize, exchange: Exchange) -> Option<RunTime> {
        let Self { training, ranks, args, .. } = *self;
        let all = (micro_batches * ranks as usize) as f64;
        let of_rate = args.tflops.map(|rate| operations / all / (1e12 * rate));
        let micro_batch_seconds = args.micro_batch_seconds.or(of_rate)?;
        let computing = micro_batch_seconds * micro_batches as f64;
        let step_seconds = computing + exchange.seconds;
        let seconds = step_seconds * training.steps as f64;
        let device_hours = seconds / 3600.0 * f64::from(ranks);
        let positions = (training.rows * training.accumulate * training.length) as f64;
        Some(RunTime {
            micro_batch_seconds,
            step_seconds,
            efficiency: computing / step_seconds,
            tokens_per_day: positions / step_seconds * DAY,
            seconds,
            days: seconds / DAY,
            device_hours,
            cost: args.price.map(|price| price * device_hours),
        })
    }

    fn data(&self, positions_per_step: u64, image_tokens: usize) -> BTreeMap<String, DataNeed> {
        let total: f64 = self.training.mixture.values().sum();
        let all = positions_per_step as f64 * self.training.steps as f64;
        let need = |(name, weight): (&String, &f64)| {
            let positions = all * weight / total;
            let said = self.args.sources.iter().find(|source| source.name == *name);
            let documents = said.map(|size| positions / size.positions(image_tokens));
            let epochs = said.zip(documents).map(|(size, documents)| documents / size.documents);
            (name.clone(), DataNeed { positions, documents, epochs })
        };
        self.training.mixture.iter().map(need).collect()
    }
}
