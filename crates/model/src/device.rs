//! Where tensors are and operations run.

use anyhow::Result;
#[cfg(not(feature = "cuda"))]
use anyhow::bail;
use burn::tensor::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A kind of device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// The CPU.
    #[default]
    Cpu,
    /// The first GPU of NVIDIA, in a program that was built with the feature `cuda`.
    Cuda,
}

impl DeviceKind {
    /// All of them, built in or not.
    pub const ALL: [Self; 2] = [Self::Cpu, Self::Cuda];

    /// As recipes and `--device` write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }

    /// The device itself, without autodiff.
    ///
    /// # Errors
    /// If this program was built without it: one line that names the feature.
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::flex()),
            #[cfg(feature = "cuda")]
            Self::Cuda => Ok(Device::cuda(0)),
            #[cfg(not(feature = "cuda"))]
            Self::Cuda => bail!(
                "device cuda: this program was built without it; build with `--features cuda`, or take the \
                 device cpu"
            ),
        }
    }
}
