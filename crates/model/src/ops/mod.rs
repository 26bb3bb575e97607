//! The differentiable operations that model code calls: one trait, [`Operations`], and an implementation for
//! each kind of device. On the CPU they are [`Fused`], over the kernels of `mm1_kernels`. [`Composed`] ones
//! are made of the engine's own operations, for any device, and are the reference in tests. GPUs have `Gpu`
//! ones, where the program is built for them: kernels of `mm1_gpu_kernels` for some, composed ones for the
//! rest.

mod composed;
mod fused;
#[cfg(feature = "gpu")]
mod gpu;
mod layout;
mod low_rank;
mod norm;
mod weight;

use std::fmt::Debug;
use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use mm1_kernels::attention::{CachedAttention, KvCache};

pub use composed::Composed;
pub use fused::{Fused, GradientHook, GradientSums, StepMemory, checkpointed};
#[cfg(feature = "gpu")]
pub use gpu::Gpu;
pub use layout::{Layout, Sight, Span};
pub use low_rank::LowRank;
pub use mm1_kernels::activation::Activation;
pub use mm1_kernels::attention::{Heads, RopeTable as Rope};
pub use mm1_kernels::dropout::Dropout;
pub use mm1_kernels::gemm::Precision;
pub use norm::{Norm, QkNorm};
pub use weight::{Affine, PackedWeight, Weight, WeightFormat};

/// The new tokens of one sequence among the new tokens of all that are in one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewTokens {
    /// The sequence in the cache.
    pub sequence: usize,
    /// Number of its new tokens.
    pub len: usize,
}

/// Keys and values of one layer, and who reads on.
#[derive(Debug)]
pub struct CachedLayer<'a> {
    /// Rotations of the positions; reaches all of them, the new ones too.
    pub rope: &'a Rope,
    /// Whose the new tokens of a row are, in order; a sequence comes once.
    pub new: &'a [NewTokens],
    /// Keys and values of each sequence.
    pub cache: &'a mut [KvCache],
}

impl<'a> CachedLayer<'a> {
    /// The cache and the number of new tokens of each sequence that has some.
    fn steps(self) -> Vec<(&'a mut KvCache, usize)> {
        let mut caches: Vec<Option<&mut KvCache>> = self.cache.iter_mut().map(Some).collect();
        let take = |new: &NewTokens| {
            (caches[new.sequence].take().expect("a sequence comes once in a step"), new.len)
        };
        self.new.iter().map(take).collect()
    }
}

/// What the two-layer network of a block is made of.
#[derive(Clone, Debug)]
pub struct MlpMaps {
    /// Of the input.
    pub norm: Norm,
    /// To the hidden width; of Swiglu to twice that.
    pub up: Affine,
    /// Of what is hidden.
    pub activation: Activation,
    /// Back to the width of the input.
    pub down: Affine,
}

/// The operations of a network, with their backward passes.
///
/// Shapes are those of the crate's legend. In mixed precision the inputs of matrix products are rounded;
/// trained weights and their gradients, sums of a product, norms, softmax, loss and the residual stream stay
/// f32. What lies between two operations of a block, its gradient, and what is saved for backward are then
/// bfloat16 tensors, which only operations of this trait take. Cross-attention and [`Self::conv3x3`] save
/// f32.
pub trait Operations: Debug + Send + Sync {
    /// The precision of the inputs of matrix products.
    fn precision(&self) -> Precision;

    /// The same operations with products in `precision`.
    fn with_precision(&self, precision: Precision) -> Arc<dyn Operations>;

    /// The same operations working in the memory of one [`crate::Compute::step`], where there is such a
    /// memory.
    fn in_step(&self) -> Arc<dyn Operations>;

    /// Whether they can give gradients of parameters away during the backward pass: not where the engine runs
    /// that, as on GPUs.
    fn gives_gradients_away(&self) -> bool {
        false
    }

    /// The same operations giving gradients of parameters to a hook; none where they can't.
    fn with_gradient_hook(&self, _hook: &Arc<GradientHook>) -> Option<Arc<dyn Operations>> {
        None
    }

    /// The memory they work in, of operations with backward passes of their own. Activation checkpointing and
    /// adding to the gradients of earlier micro-batches need it; without, all activations are saved and
    /// gradients are added afterwards.
    fn memory(&self) -> Option<&StepMemory> {
        None
    }

    /// A weight for reading only, laid out as products of this precision take it, which give the same bits,
    /// or in another format. As it is where the device has no such layout.
    fn packed(&self, weight: Weight, _format: WeightFormat) -> Weight {
        weight
    }

    /// `norm(x)`: `[b, t, d] -> [b, t, d]`.
    fn norm(&self, x: Tensor<3>, norm: &Norm) -> Tensor<3> {
        self.norm_activation(x, norm, Activation::Identity)
    }

    /// `activation(norm(x))`: `[b, t, d] -> [b, t, d]` (Swiglu: `[b, t, d / 2]`).
    fn norm_activation(&self, x: Tensor<3>, norm: &Norm, activation: Activation) -> Tensor<3>;

    /// `activation(x + y)`: `[b, t, d] -> [b, t, d]` (Swiglu: `[b, t, d / 2]`).
    fn add_activation(&self, x: Tensor<3>, y: Tensor<3>, activation: Activation) -> Tensor<3>;

    /// `x * gates`, one gate for each picture and channel: `[n, p, c]` and `[n, 1, c]` -> `[n, p, c]`.
    fn gate(&self, x: Tensor<3>, gates: Tensor<3>) -> Tensor<3>;

    /// `x w + bias`: `[b, t, i] -> [b, t, o]` with a `map` of `i` inputs and `o` outputs.
    fn linear(&self, x: Tensor<3>, map: Affine) -> Tensor<3> {
        self.act_linear_residual(x, Activation::Identity, map, None)
    }

    /// `norm(x) w + bias`: `[b, t, d] -> [b, t, o]` with a `map` of `d` inputs and `o` outputs.
    fn norm_linear(&self, x: Tensor<3>, norm: &Norm, map: Affine) -> Tensor<3>;

    /// [`Self::norm_linear`] whose result may be in the precision of products: for [`Self::attention`],
    /// [`Self::attention_cached`] and [`Self::act_linear_residual`].
    fn norm_linear_rounded(&self, x: Tensor<3>, norm: &Norm, map: Affine) -> Tensor<3> {
        self.norm_linear(x, norm, map)
    }

    /// Each head of queries and of keys normed by itself: `[b, t, (h + 2g) c] -> [b, t, (h + 2g) c]`, for
    /// [`Self::attention`] and [`Self::attention_cached`]; what comes in may be in the precision of products,
    /// and so is the result then.
    fn qk_norm(&self, qkv: Tensor<3>, heads: Heads, norm: &QkNorm) -> Tensor<3>;

    /// Self-attention on packed queries, keys and values: `[b, t, (h + 2g) c] -> [b, t, h c]`.
    ///
    /// Attention never leaves a span of `layout`, which says what it sees there; positions for `rope`
    /// (half-split: component `i` turns with `i + c / 2`) start at 0 at the start of each span, so `rope`
    /// must reach the longest. Positions outside every span give zeros. The result may be in the precision of
    /// products, for [`Self::at`] and [`Self::act_linear_residual`].
    fn attention(&self, qkv: Tensor<3>, heads: Heads, layout: &Layout, rope: Option<&Rope>) -> Tensor<3>;

    /// Attention of queries `[n, k, d]` over keys and values packed as `[n, p, 2d]` -> `[n, k, d]`; each
    /// query sees all.
    fn cross_attention(&self, q: Tensor<3>, kv: Tensor<3>, heads: usize) -> Tensor<3>;

    /// `activation(h) w + bias + residual`: `h` is `[b, t, f]` (Swiglu: `[b, t, 2f]`), `map` has `f` inputs
    /// and `o` outputs, the rest is `[b, t, o]`.
    fn act_linear_residual(
        &self,
        h: Tensor<3>,
        activation: Activation,
        map: Affine,
        residual: Option<Tensor<3>>,
    ) -> Tensor<3>;

    /// `x + activation(norm(x) up + bias) down + bias`: `[b, t, d] -> [b, t, d]`.
    fn mlp(&self, x: Tensor<3>, maps: MlpMaps) -> Tensor<3> {
        let MlpMaps { norm, up, activation, down } = maps;
        let hidden = self.norm_linear_rounded(x.clone(), &norm, up);
        self.act_linear_residual(hidden, activation, down, Some(x))
    }

    /// Adds low-rank maps of `activation(x)` to columns of `y`: `[b, t, o]` and `[b, t, i]` (Swiglu:
    /// `[b, t, 2i]`) -> `[b, t, o]`, for each of at most three `maps` `scale * dropout(activation(x)) a b`.
    fn add_low_rank(&self, y: Tensor<3>, x: Tensor<3>, activation: Activation, maps: &[LowRank])
    -> Tensor<3>;

    /// `x` in the precision of products, where operations save it so: `[b, t, d] -> [b, t, d]`. Who takes it
    /// twice saves it once.
    fn rounded(&self, x: Tensor<3>) -> Tensor<3> {
        x
    }

    /// The SUM over positions of `weight * -log softmax(head(x))[target]` as `[1]`; the caller divides by the
    /// whole step's weight. `x` is `[b, t, d]`, `targets` and `weights` have `b * t` entries.
    ///
    /// # Panics
    /// If the head is packed.
    fn linear_cross_entropy(&self, x: Tensor<3>, head: Weight, targets: &[u32], weights: &[f32])
    -> Tensor<1>;

    /// The rows `ids` of `table` `[v, d]` as `[rows, length, d]`.
    fn embedding(&self, table: &Tensor<2>, ids: &[u32], rows: usize, length: usize) -> Tensor<3>;

    /// The vectors of `x` `[b, t, d]` at some flat positions (`row * t + column`), as `[1, n, d]`.
    fn at(&self, x: Tensor<3>, positions: &[u32]) -> Tensor<3> {
        let [b, t, d] = x.dims();
        self.embedding(&x.reshape([b * t, d]), positions, 1, positions.len())
    }

    /// Puts image tokens `[n, k, d]` into `embeds` `[b, t, d]`: picture `i`'s take the `k` flat positions
    /// (`row * t + column`) from `slots[i]` on.
    fn splice(&self, embeds: Tensor<3>, image_tokens: Tensor<3>, slots: &[usize]) -> Tensor<3>;

    /// 3x3 convolution with padding 1: `[n, h, w, c] -> [n, ceil(h / stride), ceil(w / stride), o]`; the
    /// weight is `[9 * c, o]` in the order (ky, kx, c).
    fn conv3x3(&self, x: Tensor<4>, weight: &Tensor<2>, bias: Option<&Tensor<1>>, stride: usize)
    -> Tensor<4>;

    /// Each channel's own 3x3 convolution with padding 1: `[n, h, w, c] -> [n, h, w, c]`; `weight` is
    /// `[9, c]` in the order (ky, kx).
    fn depthwise3x3(&self, x: Tensor<4>, weight: &Tensor<2>) -> Tensor<4>;

    /// Means over `out * out` windows, the i-th from `floor(i h / out)` to `ceil((i + 1) h / out)`:
    /// `[n, h, w, c] -> [n, out, out, c]`.
    fn adaptive_avg_pool(&self, x: Tensor<4>, out: usize) -> Tensor<4>;

    /// Causal attention of new tokens to those in the cache and to themselves, without gradients:
    /// `[1, n, (h + 2g) c] -> [1, n, h c]`. It is computed on the host, whatever the device.
    ///
    /// `layer` says whose the `n` tokens are. The new tokens of a sequence follow its cached ones, at
    /// positions from the length of its cache on; their keys and values are appended in place. A sequence's
    /// result does not depend on the others. The result may be in the precision of products, as that of
    /// [`Self::attention`].
    fn attention_cached(&self, qkv: Tensor<3>, heads: Heads, layer: CachedLayer<'_>) -> Tensor<3> {
        let ([_, n, _], device) = (qkv.dims(), qkv.device());
        let attention = CachedAttention { heads, rope: Some(layer.rope), precision: self.precision() };
        let qkv: Vec<f32> = qkv.into_data().convert::<f32>().try_into_vec().expect("they are f32 now");
        let mut out = vec![0.0; n * heads.out_width()];
        attention.attend(&qkv, &mut layer.steps(), &mut out);
        Tensor::from_data(TensorData::new(out, [1, n, heads.out_width()]), &device)
    }
}

/// Vectors along `dim` at length 1: `[m, d] -> [m, d]`.
pub fn unit(x: Tensor<2>, dim: usize) -> Tensor<2> {
    let length = x.clone().square().sum_dim(dim).sqrt().clamp_min(1e-12);
    x / length
}

/// Cuts pictures `[n, h, w, 3]` into patches `[n, (h / patch) (w / patch), patch * patch * 3]`, both row by
/// row.
pub fn patches(pixels: Tensor<4>, patch: usize) -> Tensor<3> {
    let [n, height, width, c] = pixels.dims();
    let (h, w) = (height / patch, width / patch);
    let cut: Tensor<6> = pixels.reshape([n, h, patch, w, patch, c]).permute([0, 1, 3, 2, 4, 5]);
    cut.reshape([n, h * w, patch * patch * c])
}
