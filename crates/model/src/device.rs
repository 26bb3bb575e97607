//! Where tensors are and operations run.

use anyhow::{Result, bail};
use burn::tensor::Device;

/// The CPU by the name `cpu`; in a build with the feature `cuda` the first GPU of NVIDIA by the name `cuda`.
///
/// # Errors
/// If this build has no device of that name.
pub fn named(name: &str) -> Result<Device> {
    match name {
        "cpu" => Ok(Device::flex()),
        #[cfg(feature = "cuda")]
        "cuda" => Ok(Device::cuda(0)),
        "cuda" => bail!("device cuda: this program was built without the feature `cuda`"),
        other => bail!("device {other}: need cpu or cuda"),
    }
}
