//! One optimisation step and all it takes to resume it.

mod among;
mod bundle;
pub mod checkpoint;
pub mod config;
pub mod exchange;
#[cfg(feature = "gpu")]
mod gpu;
pub mod law;
pub mod layer_decay;
mod micro_batch;
pub mod moments;
mod norm;
pub mod objective;
mod optim;
mod overlap;
mod parameters;
pub mod report;
pub mod schedule;
pub mod step;
mod step_result;
mod tensors;
pub mod whole_step;

pub use checkpoint::{Checkpoint, Snapshot};
pub use config::{GroupScale, OptimizerConfig};
pub use exchange::{Exchange, ExchangePrecision};
pub use layer_decay::LayerDecay;
pub use micro_batch::{MicroBatch, PlacedBatch, Preceding, Step};
pub use moments::MomentFormat;
pub use report::{Figures, StepReport};
pub use schedule::Schedule;
pub use step::{Objective, Trainer};
pub use step_result::{Loss, StepResult};
pub use whole_step::WholeStep;
