//! [`Compute`]: where and how everything is computed.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use mm1_kernels::arena;

use crate::ops::{self, Dropout, Fused, GradientHook, GradientSums, Operations, Precision, WeightFormat};

/// Where and how everything is computed: the device, the operations for it, their precision, and what a
/// training step saves for backward. It is made once and passed to whatever computes; nothing of it is
/// ambient.
#[derive(Clone, Debug)]
pub struct Compute {
    /// Without autodiff.
    device: Device,
    /// Those for the device.
    ops: Arc<dyn Operations>,
    checkpointing: bool,
    weight_format: WeightFormat,
    /// Step and micro-batch, by which dropout draws; nothing is dropped without.
    draw: Option<[u64; 2]>,
}

impl Compute {
    /// On `device`, in f32, without activation checkpointing: with [`Fused`] operations on the CPU, else with
    /// those of GPUs.
    pub fn new(device: Device) -> Self {
        let device = device.without_autodiff();
        let ops: Arc<dyn Operations> =
            if device == Device::flex() { Arc::new(Fused::new(Precision::F32)) } else { elsewhere() };
        Self { device, ops, checkpointing: false, weight_format: WeightFormat::default(), draw: None }
    }

    /// The same with other operations, which must be of its device: [`ops::Composed`] ones are of all.
    pub fn with_ops(&self, ops: impl Operations + 'static) -> Self {
        Self { ops: Arc::new(ops), ..self.clone() }
    }

    /// The same in mixed precision: see [`Operations`].
    pub fn with_precision(&self, precision: Precision) -> Self {
        Self { ops: self.ops.with_precision(precision), ..self.clone() }
    }

    /// The same with activation checkpointing by transformer blocks, or without: see [`Self::checkpointed`].
    pub fn with_checkpointing(&self, checkpointing: bool) -> Self {
        Self { checkpointing, ..self.clone() }
    }

    /// The same with the weights of decoders that are only read in another format, where the device has it.
    pub fn with_weight_format(&self, weight_format: WeightFormat) -> Self {
        Self { weight_format, ..self.clone() }
    }

    /// The format of the weights of decoders that are only read.
    pub(crate) fn weight_format(&self) -> WeightFormat {
        self.weight_format
    }

    /// The same in micro-batch `part` of a training step: dropout draws by both. Without, nothing is dropped.
    pub fn in_micro_batch(&self, step: u64, part: u64) -> Self {
        Self { draw: Some([step, part]), ..self.clone() }
    }

    /// Dropout of so large a share where `key` says in the network; none outside of training.
    pub(crate) fn dropout(&self, share: f64, key: u64) -> Option<Dropout> {
        let [step, part] = self.draw.filter(|_| share > 0.0)?;
        Some(Dropout::new(share, &[key, step, part]))
    }

    /// Where models that answer are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Where models that learn are: the same device, recording gradients.
    pub fn training_device(&self) -> Device {
        self.device.clone().autodiff()
    }

    /// The precision of the inputs of matrix products.
    pub fn precision(&self) -> Precision {
        self.ops.precision()
    }

    /// The operations of a network.
    pub fn ops(&self) -> &dyn Operations {
        self.ops.as_ref()
    }

    /// `forward(module, x)`: `[b, t, d] -> [b, t, d]`. With activation checkpointing only `x` is saved for
    /// backward, where `forward` runs again, bit for bit (Chen et al. 2016): a third more time, for memory
    /// that does not grow with what the module saves. On other devices than the CPU everything is saved.
    pub fn checkpointed<M: Module + Sync + 'static>(
        &self,
        module: &M,
        x: Tensor<3>,
        forward: impl Fn(&M, Tensor<3>) -> Tensor<3> + Send + Sync + 'static,
    ) -> Tensor<3> {
        match self.ops.memory().filter(|_| self.checkpointing) {
            Some(memory) => ops::checkpointed(memory, module, x, forward),
            None => forward(module, x),
        }
    }

    /// Inside of a [`Self::step`] the sums of gradients that backward passes add to; none where operations
    /// leave that to the engine.
    pub fn gradient_sums(&self) -> Option<&GradientSums> {
        self.ops.memory()?.gradient_sums()
    }

    /// Whether gradients of parameters can be given away during the backward pass. Where not, nobody needs
    /// [`Self::with_gradient_hook`].
    pub fn gives_gradients_away(&self) -> bool {
        self.ops.gives_gradients_away()
    }

    /// The same giving gradients of parameters away during the backward pass, where
    /// [`Self::gives_gradients_away`].
    pub fn with_gradient_hook(&self, hook: &Arc<GradientHook>) -> Self {
        let hooked = self.ops.with_gradient_hook(hook);
        Self { ops: hooked.unwrap_or_else(|| self.ops.clone()), ..self.clone() }
    }

    /// Who takes gradients during the backward pass.
    pub fn gradient_hook(&self) -> Option<&GradientHook> {
        self.ops.memory()?.gradient_hook()
    }

    /// Runs `step`, one of training or of reading, with a `Compute` whose operations work in the memory that
    /// the step before has left, and leave it to the next step. (Reading 512 tokens in memory that the system
    /// clears for each operation took a tenth longer, docs/LOG.md, 2026-11-29.)
    pub fn step<R>(&self, step: impl FnOnce(&Self) -> R) -> R {
        let result = step(&Self { ops: self.ops.in_step(), ..self.clone() });
        arena::end_step();
        result
    }
}

/// The operations of other devices than the CPU.
fn elsewhere() -> Arc<dyn Operations> {
    #[cfg(feature = "gpu")]
    return Arc::new(ops::Gpu::new(Precision::F32));
    #[cfg(not(feature = "gpu"))]
    Arc::new(ops::Composed::new(Precision::F32))
}

/// Runs `f` on a thread of the pool. One outside would sleep and be woken at every operation: on a thread of
/// the pool a small model's step takes 0.89 of the time (docs/LOG.md, 2026-11-27).
pub fn on_pool<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| f())
}
