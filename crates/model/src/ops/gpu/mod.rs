//! The operations of [`super`] on GPUs: those of [`Composed`], but for norms, activations, attention over
//! packed rows and cross-entropy, which launch the kernels of `mm1_gpu_kernels`. A step of a small model
//! waits for launches.

mod attention;
mod cross_entropy;
mod norm;
mod record;

use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::Cube;
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::{
    Activation, Affine, Composed, Heads, Layout, LowRank, Norm, Operations, Precision, QkNorm, Rope, Weight,
};
use attention::Positions;

/// Operations for GPUs. Products are in the device's f32 in either precision.
#[derive(Clone, Debug)]
pub struct Gpu {
    composed: Composed,
    /// All layers of a network attend by the same positions.
    last_positions: Arc<Mutex<Option<Positions>>>,
}

impl Gpu {
    /// With products in `precision`.
    pub fn new(precision: Precision) -> Self {
        Self { composed: Composed::new(precision), last_positions: Arc::default() }
    }
}

impl Operations for Gpu {
    fn precision(&self) -> Precision {
        self.composed.precision()
    }

    fn with_precision(&self, precision: Precision) -> Arc<dyn Operations> {
        Arc::new(Self { composed: Composed::new(precision), ..self.clone() })
    }

    fn in_step(&self) -> Arc<dyn Operations> {
        Arc::new(self.clone())
    }

    fn norm_activation(&self, x: Tensor<3>, norm: &Norm, activation: Activation) -> Tensor<3> {
        norm::activate(norm::normed(x, norm), activation)
    }

    fn add_activation(&self, x: Tensor<3>, y: Tensor<3>, activation: Activation) -> Tensor<3> {
        norm::activate(x + y, activation)
    }

    fn gate(&self, x: Tensor<3>, gates: Tensor<3>) -> Tensor<3> {
        self.composed.gate(x, gates)
    }

    fn norm_linear(&self, x: Tensor<3>, norm: &Norm, map: Affine) -> Tensor<3> {
        self.linear(norm::normed(x, norm), map)
    }

    fn qk_norm(&self, qkv: Tensor<3>, heads: Heads, norm: &QkNorm) -> Tensor<3> {
        self.composed.qk_norm(qkv, heads, norm)
    }

    fn attention(&self, qkv: Tensor<3>, heads: Heads, layout: &Layout, rope: Option<&Rope>) -> Tensor<3> {
        let ([b, t, _], device) = (qkv.dims(), qkv.device());
        let mut last = self.last_positions.lock().unwrap_or_else(PoisonError::into_inner);
        let positions = attention::positions(&mut last, layout, [b, t], rope, &device);
        drop(last);
        attention::attention(qkv, heads, &positions, rope)
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
        let h = norm::activate(h, activation);
        self.composed.act_linear_residual(h, Activation::Identity, map, residual)
    }

    fn add_low_rank(
        &self,
        y: Tensor<3>,
        x: Tensor<3>,
        activation: Activation,
        maps: &[LowRank],
    ) -> Tensor<3> {
        self.composed.add_low_rank(y, norm::activate(x, activation), Activation::Identity, maps)
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

/// Room for f32 values, beside `like`.
fn empty(like: &CubeTensor, shape: impl Into<Shape>) -> CubeTensor {
    let shape = shape.into();
    let handle = like.client.empty(shape.num_elements() * size_of::<f32>());
    CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), shape, handle, DType::F32)
}

/// The values of a tensor without gradients, contiguous.
fn value<const D: usize>(tensor: Tensor<D>) -> CubeTensor {
    into_contiguous(tensor.try_into_primitive::<Cube>().expect("it is on the GPU, without gradients"))
}

/// The shape of a tensor.
fn dims<const D: usize>(tensor: &CubeTensor) -> [usize; D] {
    tensor.meta.shape().dims()
}
