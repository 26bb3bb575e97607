//! Where tensors are and operations run.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};
use burn::tensor::Device;
#[cfg(feature = "gpu")]
use burn::tensor::Tensor;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A kind of device. All but the CPU need a program that was built with the feature of that name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceKind {
    /// The CPU.
    #[default]
    Cpu,
    /// A GPU by Vulkan; or a CPU, where the driver is Mesa's lavapipe.
    Vulkan,
    /// A GPU of NVIDIA by CUDA.
    Cuda,
    /// A GPU of Apple by Metal.
    Metal,
    /// A GPU of AMD by ROCm.
    Rocm,
}

impl DeviceKind {
    /// All of them, built in or not.
    pub const ALL: [Self; 5] = [Self::Cpu, Self::Vulkan, Self::Cuda, Self::Metal, Self::Rocm];

    /// As recipes and `--device` write it, and the feature that builds it in.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Vulkan => "vulkan",
            Self::Cuda => "cuda",
            Self::Metal => "metal",
            Self::Rocm => "rocm",
        }
    }

    /// How many there are of it on this machine; 1 of the CPU, and by Vulkan and Metal, whose devices are not
    /// alike.
    pub fn count(self) -> usize {
        match self {
            #[cfg(feature = "cuda")]
            Self::Cuda => Device::enumerate(burn::tensor::DeviceType::Cuda).into_iter().count(),
            #[cfg(feature = "rocm")]
            Self::Rocm => Device::enumerate(burn::tensor::DeviceType::Rocm).into_iter().count(),
            _ => 1,
        }
    }

    /// The first device of this kind, without autodiff.
    ///
    /// # Errors
    /// As [`DeviceName::open`].
    pub fn open(self) -> Result<Device> {
        DeviceName::from(self).open()
    }
}

/// A device by its name, as recipes and `--device` write it: `cpu`, `cuda`, or `cuda:1` for the second of
/// several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceName {
    kind: DeviceKind,
    /// Among the devices of its kind, from 0.
    index: usize,
}

impl DeviceName {
    /// What kind it is of.
    pub fn kind(self) -> DeviceKind {
        self.kind
    }

    /// That of rank `rank` of those on a machine with `devices` of this kind: they take them in turn, from
    /// this one on.
    #[must_use]
    pub fn of_rank(self, rank: usize, devices: usize) -> Self {
        match self.kind {
            DeviceKind::Cpu => self,
            kind => Self { kind, index: (self.index + rank) % devices.max(1) },
        }
    }

    /// The device itself, without autodiff.
    ///
    /// # Errors
    /// If this program was built without it, or there is none (of CUDA and ROCm that shows at the first
    /// operation): one line that names the remedy.
    pub fn open(self) -> Result<Device> {
        match self.kind {
            DeviceKind::Cpu => Ok(Device::flex()),
            #[cfg(feature = "vulkan")]
            DeviceKind::Vulkan => self.open_by(burn::tensor::wgpu::WgpuBackend::Vulkan),
            #[cfg(feature = "metal")]
            DeviceKind::Metal => self.open_by(burn::tensor::wgpu::WgpuBackend::Metal),
            #[cfg(feature = "cuda")]
            DeviceKind::Cuda => Ok(Device::cuda(self.index)),
            #[cfg(feature = "rocm")]
            DeviceKind::Rocm => Ok(Device::rocm(self.index)),
            #[cfg(not(all(feature = "vulkan", feature = "metal", feature = "cuda", feature = "rocm")))]
            kind => {
                let name = kind.name();
                bail!(
                    "device {self}: this program was built without it; build with `--features {name}`, or \
                     take the device cpu"
                )
            }
        }
    }

    /// The device behind a graphics API. The engine's kernels are WGSL there, which every driver takes.
    /// (Those that it makes of SPIR-V itself end Mesa's lavapipe: docs/guide/gpu.md.)
    #[cfg(any(feature = "vulkan", feature = "metal"))]
    fn open_by(self, api: burn::tensor::wgpu::WgpuBackend) -> Result<Device> {
        use burn::backend::{WgpuDevice, WgpuDeviceKind};
        use burn::tensor::wgpu::WgpuInitError;

        let (asked, kind) = match self.index {
            // The best there is: a GPU before a CPU.
            0 => (burn::tensor::DeviceKind::DefaultDevice, WgpuDeviceKind::DefaultDevice),
            index => (burn::tensor::DeviceKind::DiscreteGpu(index), WgpuDeviceKind::DiscreteGpu(index)),
        };
        match Device::wgpu_options().device_kind(asked).graphics_api(api).init() {
            // The second: it is open already.
            Ok(_) | Err(WgpuInitError::Registration { .. }) => Ok(WgpuDevice::new(kind).on(api).into()),
            Err(why) => {
                let why = why.to_string();
                let why = why.lines().next().unwrap_or_default();
                bail!("device {self}: none found ({why}); install its driver, or take the device cpu")
            }
        }
    }
}

/// What the device at hand calls itself, such as the model of a GPU; nothing of the CPU.
pub fn hardware(device: &Device) -> Option<String> {
    #[cfg(any(feature = "vulkan", feature = "metal", feature = "cuda", feature = "rocm"))]
    if *device != Device::flex() {
        return device.identity().map(|identity| identity.name);
    }
    let _ = device;
    None
}

/// What a GPU says of its memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    /// All of it. By Vulkan and Metal not known: WebGPU, by which the engine speaks with them, does not say.
    pub total: Option<u64>,
    /// The largest tensor it takes.
    pub largest: u64,
}

/// The memory of the device at hand; nothing of the CPU.
pub fn memory(device: &Device) -> Option<DeviceMemory> {
    #[cfg(feature = "gpu")]
    if let Ok(tensor) = Tensor::<1>::empty([1], device).try_into_primitive::<burn::backend::Cube>() {
        let memory = &tensor.client.properties().memory;
        return Some(DeviceMemory { total: memory.max_memory(), largest: memory.max_page_size });
    }
    let _ = device;
    None
}

/// Whether the device at hand multiplies in bfloat16 where it is asked to. One that does not multiplies in
/// f32.
pub fn has_bf16(device: &Device) -> bool {
    #[cfg(feature = "gpu")]
    if let Ok(tensor) = Tensor::<1>::empty([1], device).try_into_primitive::<burn::backend::Cube>() {
        return mm1_gpu_kernels::Number::Bf16.is_known_to(&tensor.client);
    }
    let _ = device;
    true
}

impl From<DeviceKind> for DeviceName {
    fn from(kind: DeviceKind) -> Self {
        Self { kind, index: 0 }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            0 => f.write_str(self.kind.name()),
            index => write!(f, "{}:{index}", self.kind.name()),
        }
    }
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let (kind, index) = name.split_once(':').unwrap_or((name, "0"));
        let Some(kind) = DeviceKind::ALL.into_iter().find(|known| known.name() == kind) else {
            let known = DeviceKind::ALL.map(|kind| format!("`{}`", kind.name())).join(", ");
            return Err(format!("unknown variant `{kind}`, expected one of {known}"));
        };
        match index.parse() {
            Ok(0) => Ok(kind.into()),
            Ok(index) if kind != DeviceKind::Cpu => Ok(Self { kind, index }),
            _ => Err(format!("device {name}: write {0}, or cuda:1 for the second GPU", kind.name())),
        }
    }
}

impl TryFrom<String> for DeviceName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}

impl From<DeviceName> for String {
    fn from(name: DeviceName) -> Self {
        name.to_string()
    }
}

impl JsonSchema for DeviceName {
    fn schema_name() -> Cow<'static, str> {
        "DeviceName".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(cpu|(vulkan|cuda|metal|rocm)(:[0-9]+)?)$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_take_devices_in_turn() {
        let of = |name: &str, devices: usize| -> Vec<String> {
            let device: DeviceName = name.parse().expect("a device");
            (0..5).map(|rank| device.of_rank(rank, devices).to_string()).collect()
        };
        assert_eq!(of("cuda", 4), ["cuda", "cuda:1", "cuda:2", "cuda:3", "cuda"]);
        assert_eq!(of("rocm:1", 2), ["rocm:1", "rocm", "rocm:1", "rocm", "rocm:1"]);
        assert_eq!(of("cuda", 1), ["cuda"; 5]);
        // None is found: opening the first says so.
        assert_eq!(of("cuda", 0), ["cuda"; 5]);
        assert_eq!(of("cpu", 8), ["cpu"; 5]);
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for name in ["cpu", "vulkan", "cuda", "cuda:1", "metal:12", "rocm"] {
            assert_eq!(name.parse::<DeviceName>().map(|device| device.to_string()).as_deref(), Ok(name));
        }
        assert_eq!("cuda:0".parse(), Ok(DeviceName::from(DeviceKind::Cuda)));
        assert_eq!("cpu".parse(), Ok(DeviceName::default()));
        for wrong in ["tpu", "cpu:1", "cuda:", "cuda:-1", "cuda:one", "CUDA", ""] {
            assert!(wrong.parse::<DeviceName>().is_err(), "{wrong}");
        }
    }
}
