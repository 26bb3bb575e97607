//! Memory: what a training stage will take, and what it took.

use std::collections::BTreeMap;

use anyhow::Result;
use mm1_data::loader::{Cursor, Loader, LoaderConfig};
use mm1_data::memory::LoaderMemory;
use mm1_model::memory::Load;
use mm1_train::moments::GRADIENT_BYTES;
use serde::Serialize;

use crate::error::input;
use crate::plan::Plan;
use crate::recipe::{Stage, TrainStage};

/// Batches that are looked at for their number of pictures.
const LOOKED_AT: usize = 16;

/// What threads with their heaps, the allocator and the kernels hold beside what is counted, in MiB.
const BESIDE_MIB: u64 = 22;

/// What a training stage will need, from its sizes and its first batches.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Bill {
    /// Pictures of a step, about.
    pub(crate) images: usize,
    /// Memory at the peak in MiB, with what the process holds already.
    pub(crate) mib: u64,
    /// The loader's part of it.
    pub(crate) loader_mib: u64,
    /// The same in bytes, part by part.
    pub(crate) loader: LoaderMemory,
}

impl Plan {
    /// What each training stage will need with so many threads, by its name.
    ///
    /// # Errors
    /// If the first batches of a stage can't be read.
    pub(crate) fn bills(&self, threads: usize) -> Result<BTreeMap<String, Bill>> {
        let before = held_mib();
        let mut stages = Vec::new();
        for stage in &self.recipe.stage {
            if let Some(s) = stage.training() {
                let config = self.loader(s, threads)?;
                stages.push(((stage, s), config.sources().now, config));
            }
        }
        let bill = |(stage, open, config): ((&Stage, &TrainStage), u64, LoaderConfig)| {
            Ok((stage.1.name.clone(), Bill::of(self, stage, config, (before, open))?))
        };
        stages.into_iter().map(bill).collect()
    }
}

impl Bill {
    /// The bill of `stage`, a training stage of kind `kind`. `open` is what the sources of `config` hold of the
    /// `before` MiB of this process.
    ///
    /// # Errors
    /// If its data can't be read.
    pub(crate) fn of(
        plan: &Plan,
        (kind, stage): (&Stage, &TrainStage),
        config: LoaderConfig,
        (before, open): (u64, u64),
    ) -> Result<Self> {
        let mut loader = Loader::start(LoaderConfig { threads: 1, ..config.clone() }, Cursor::default())?;
        let images = (0..LOOKED_AT).map(|_| Ok(input(loader.next())?.0.images()));
        let images: Vec<usize> = images.collect::<Result<_>>()?;
        let load = Load {
            positions: stage.rows * stage.length,
            images: images.iter().copied().max().unwrap_or(0),
            recompute: stage.recompute_blocks,
            precision: plan.recipe.precision.into(),
        };
        let (model, parameters) = (&plan.recipe.model, &plan.derived.parameters);
        let (trained, activations) = match kind {
            Stage::Encoder(_) => (parameters.vision, model.encoder_bytes(load)),
            _ => (parameters.total(), model.activation_bytes(load)),
        };
        drop(loader);
        let loader = config.memory(load.images);
        // The batches of a step are handed over together; its pictures on the device are among the activations.
        let batches = stage.accumulate as u64 * config.batch_bytes(load.images);
        let gradients = trained as u64 * GRADIENT_BYTES;
        let state = stage.optimizer.moments.state_bytes(trained) - gradients;
        let step = if stage.accumulate > 1 { gradients + activations } else { gradients.max(activations) };
        let bytes = state + step + batches + loader.total().saturating_sub(open);
        Ok(Self {
            images: images.iter().sum::<usize>() * stage.accumulate / LOOKED_AT,
            mib: bytes.div_ceil(1 << 20) + before + BESIDE_MIB,
            loader_mib: loader.total().div_ceil(1 << 20),
            loader,
        })
    }
}

/// MiB that this process holds now; 0 where the system does not say.
pub(crate) fn held_mib() -> u64 {
    of_process("VmRSS:").unwrap_or(0)
}

/// The most memory in MiB that this process has held since the last [`forget_peak`], where the system says.
pub(crate) fn peak_mib() -> Option<u64> {
    of_process("VmHWM:")
}

/// A peak as the end of a sentence says it.
pub(crate) fn told(peak: Option<u64>) -> String {
    peak.map_or(String::new(), |mib| format!(" with at most {mib} MiB of memory"))
}

/// Lets the peak begin anew, where the system can.
pub(crate) fn forget_peak() {
    // Linux: "5" resets the high-water mark. Elsewhere there is no such file, and `peak_mib` says nothing.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn of_process(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix(field))?;
    kib.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib.div_ceil(1024))
}
