//! The operations of [`super`] on GPUs: those of [`Composed`], but for linear maps, norms, activations,
//! attention over packed rows and cross-entropy, which launch the kernels of `mm1_gpu_kernels`. A step of a
//! small model waits for launches.

mod attention;
mod cross_entropy;
mod linear;
mod norm;
mod record;

use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::Cube;
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use mm1_gpu_kernels::{BufferArg, Client, Number};

use super::{
    Activation, Affine, Composed, Heads, Layout, LowRank, MlpMaps, Norm, Operations, Precision, QkNorm, Rope,
    Weight,
};
use attention::Positions;

/// Operations for GPUs. In bf16 the products of linear maps and of attention over packed rows read it, where
/// the device has it; what lies between operations is f32, and so is all else.
#[derive(Clone, Debug)]
pub struct Gpu {
    composed: Composed,
    products: Products,
    /// All layers of a network attend by the same positions.
    last_positions: Arc<Mutex<Option<Positions>>>,
}

/// What products read.
#[derive(Clone, Copy, Debug)]
enum Products {
    F32,
    /// f32 on a device without.
    Bf16,
    F16,
}

impl Products {
    /// On the device of `client`.
    fn on(self, client: &Client) -> Number {
        match self {
            Self::Bf16 if Number::Bf16.is_known_to(client) => Number::Bf16,
            Self::F16 => Number::F16,
            Self::F32 | Self::Bf16 => Number::F32,
        }
    }
}

impl From<Precision> for Products {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Bf16 => Self::Bf16,
        }
    }
}

impl Gpu {
    /// With products in `precision`.
    pub fn new(precision: Precision) -> Self {
        let (composed, products) = (Composed::new(precision), precision.into());
        Self { composed, products, last_positions: Arc::default() }
    }

    /// With products that read f16. Its range is too small for the gradients of large models: it is for tests
    /// of what bf16 does, on devices that have this one alone.
    pub fn in_f16() -> Self {
        Self { products: Products::F16, ..Self::new(Precision::Bf16) }
    }
}

impl Operations for Gpu {
    fn precision(&self) -> Precision {
        self.composed.precision()
    }

    fn with_precision(&self, precision: Precision) -> Arc<dyn Operations> {
        let (composed, products) = (Composed::new(precision), precision.into());
        Arc::new(Self { composed, products, ..self.clone() })
    }

    fn in_step(&self) -> Arc<dyn Operations> {
        Arc::new(self.clone())
    }

    fn norm_activation(&self, x: Tensor<3>, norm: &Norm, activation: Activation) -> Tensor<3> {
        norm::activate(norm::normed(x, norm, Products::F32), activation, None, Products::F32)
    }

    fn add_activation(&self, x: Tensor<3>, y: Tensor<3>, activation: Activation) -> Tensor<3> {
        norm::activate(x + y, activation, None, Products::F32)
    }

    fn gate(&self, x: Tensor<3>, gates: Tensor<3>) -> Tensor<3> {
        self.composed.gate(x, gates)
    }

    fn norm_linear(&self, x: Tensor<3>, norm: &Norm, map: Affine) -> Tensor<3> {
        linear::linear(norm::normed(x, norm, self.products), map, None, self.products)
    }

    fn mlp(&self, x: Tensor<3>, maps: MlpMaps) -> Tensor<3> {
        let MlpMaps { norm, up: Affine { weight, bias }, activation, down } = maps;
        let hidden = self.norm_linear(x.clone(), &norm, weight.into());
        let activated = norm::activate(hidden, activation, bias, self.products);
        linear::linear(activated, down, Some(x), self.products)
    }

    fn qk_norm(&self, qkv: Tensor<3>, heads: Heads, norm: &QkNorm) -> Tensor<3> {
        self.composed.qk_norm(qkv, heads, norm)
    }

    fn attention(&self, qkv: Tensor<3>, heads: Heads, layout: &Layout, rope: Option<&Rope>) -> Tensor<3> {
        let ([b, t, _], device) = (qkv.dims(), qkv.device());
        let mut last = self.last_positions.lock().unwrap_or_else(PoisonError::into_inner);
        let positions = attention::positions(&mut last, layout, [b, t], rope, &device);
        drop(last);
        attention::attention(qkv, heads, &positions, rope, self.products)
    }

    fn cross_attention(&self, q: Tensor<3>, kv: Tensor<3>, heads: usize) -> Tensor<3> {
        self.composed.cross_attention(q, kv, heads)
    }

    fn act_linear_residual(
        &self,
        h: Tensor<3>,
        activation: Activation,
        map: Affine,
        residual: Option<Tensor<3>>,
    ) -> Tensor<3> {
        let activated = norm::activate(h, activation, None, self.products);
        linear::linear(activated, map, residual, self.products)
    }

    fn add_low_rank(
        &self,
        y: Tensor<3>,
        x: Tensor<3>,
        activation: Activation,
        maps: &[LowRank],
    ) -> Tensor<3> {
        let seen = norm::activate(x, activation, None, Products::F32);
        self.composed.add_low_rank(y, seen, Activation::Identity, maps)
    }

    fn linear_cross_entropy(
        &self,
        x: Tensor<3>,
        head: Weight,
        targets: &[u32],
        weights: &[f32],
    ) -> Tensor<1> {
        let [b, t, d] = x.dims();
        let scores = self.linear(x.reshape([1, b * t, d]), head.into());
        cross_entropy::cross_entropy(scores, targets, weights)
    }

    fn embedding(&self, table: &Tensor<2>, ids: &[u32], rows: usize, length: usize) -> Tensor<3> {
        self.composed.embedding(table, ids, rows, length)
    }

    fn splice(&self, embeds: Tensor<3>, image_tokens: Tensor<3>, slots: &[usize]) -> Tensor<3> {
        self.composed.splice(embeds, image_tokens, slots)
    }

    fn conv3x3(
        &self,
        x: Tensor<4>,
        weight: &Tensor<2>,
        bias: Option<&Tensor<1>>,
        stride: usize,
    ) -> Tensor<4> {
        self.composed.conv3x3(x, weight, bias, stride)
    }

    fn depthwise3x3(&self, x: Tensor<4>, weight: &Tensor<2>) -> Tensor<4> {
        self.composed.depthwise3x3(x, weight)
    }

    fn adaptive_avg_pool(&self, x: Tensor<4>, out: usize) -> Tensor<4> {
        self.composed.adaptive_avg_pool(x, out)
    }
}

/// A tensor as kernels take it: its buffer, which it keeps.
fn arg(tensor: &CubeTensor) -> BufferArg {
    tensor.clone().into_buffer_arg()
}

/// Room for f32 values, beside `like`.
fn empty(like: &CubeTensor, shape: impl Into<Shape>) -> CubeTensor {
    empty_of(like, shape, Number::F32)
}

/// Room for values in `number`, beside `like`.
fn empty_of(like: &CubeTensor, shape: impl Into<Shape>, number: Number) -> CubeTensor {
    let (shape, dtype) = (shape.into(), dtype(number));
    let handle = like.client.empty(shape.num_elements() * dtype.size());
    CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), shape, handle, dtype)
}

/// As the engine names it.
fn dtype(number: Number) -> DType {
    match number {
        Number::F32 => DType::F32,
        Number::F16 => DType::F16,
        Number::Bf16 => DType::BF16,
    }
}

/// The same values, which are contiguous, in another shape.
fn reshaped(tensor: &CubeTensor, shape: impl Into<Shape>) -> CubeTensor {
    let (client, device) = (tensor.client.clone(), tensor.device.clone());
    CubeTensor::new_contiguous(client, device, shape.into(), tensor.handle.clone(), tensor.dtype)
}

/// The values of a tensor without gradients, contiguous.
fn value<const D: usize>(tensor: Tensor<D>) -> CubeTensor {
    into_contiguous(tensor.try_into_primitive::<Cube>().expect("it is on the GPU, without gradients"))
}

/// The shape of a tensor.
fn dims<const D: usize>(tensor: &CubeTensor) -> [usize; D] {
    tensor.meta.shape().dims()
}
