//! Memory: what a training stage will take, and what it took.

use anyhow::Result;
use mm1_data::loader::{Cursor, Loader};
use mm1_model::memory::{Load, STATE_BYTES};

use crate::error::input;
use crate::plan::Plan;
use crate::recipe::{Stage, TrainStage};

/// Batches that are looked at for their number of pictures.
const LOOKED_AT: usize = 16;
/// Batches that exist at a time.
const BATCHES: usize = 5;

/// What a training stage will need, from its sizes and its first batches.
pub(crate) struct Bill {
    /// Pictures of a step, about.
    pub(crate) images: usize,
    /// Memory at the peak, with what the process holds already.
    pub(crate) mib: u64,
}

impl Bill {
    /// The bill of `stage`, a training stage of kind `kind`.
    ///
    /// # Errors
    /// If its data can't be read.
    pub(crate) fn of(plan: &Plan, kind: &Stage, stage: &TrainStage) -> Result<Self> {
        let mut loader = Loader::start(plan.loader(stage, 1)?, Cursor::default())?;
        let batches: Vec<_> = (0..LOOKED_AT).map(|_| input(loader.next())).collect::<Result<_>>()?;
        let images = batches.iter().map(|(batch, _)| batch.images());
        let load = Load {
            positions: stage.rows * stage.length,
            images: images.clone().max().unwrap_or(0),
            recompute: stage.recompute_blocks,
        };
        let (model, parameters) = (&plan.recipe.model, &plan.derived.parameters);
        let (trained, activations) = match kind {
            Stage::Encoder(_) => (parameters.vision, model.encoder_bytes(load)),
            _ => (parameters.total(), model.activation_bytes(load)),
        };
        // Batches are held ready by the loader, handed over, and copied to the device.
        let pixels = load.images * plan.image.bytes() * size_of::<f32>();
        let bytes = trained as u64 * STATE_BYTES + activations + (BATCHES * pixels) as u64;
        let mib = bytes.div_ceil(1 << 20) + of_process("VmRSS:").unwrap_or(0);
        Ok(Self { images: images.sum::<usize>() * stage.accumulate / LOOKED_AT, mib })
    }
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
