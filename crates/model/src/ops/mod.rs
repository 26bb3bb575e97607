//! The differentiable operations that model code calls, one function each. On the CPU they are fused, over the kernels
//! of `mm1_kernels`; [`composed`] has them made of the engine's own operations: the path of other backends, and the
//! reference in tests.

pub mod composed;
mod fused;
mod mode;

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use mm1_kernels::attention::{CachedAttention, KvCache};
use mm1_kernels::gemm::PackedB;
use mm1_kernels::{allocator, arena};

pub use mm1_kernels::attention::{Heads, RopeTable as Rope};
pub use mode::{Precision, on_pool, training_step, with_precision, with_recomputation};
use mode::{precision, recomputes};

/// A normalisation over the last axis.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "made for one call and passed by reference")]
pub enum Norm {
    /// `x / sqrt(mean(x^2) + eps) * gamma` (Zhang and Sennrich 2019).
    Rms {
        /// `[d]`
        gamma: Tensor<1>,
        /// Added to the mean square.
        eps: f64,
    },
    /// `(x - mean) / sqrt(var + eps) * gamma + beta`, the variance divided by `d` (Ba et al. 2016).
    Layer {
        /// `[d]`
        gamma: Tensor<1>,
        /// `[d]`
        beta: Tensor<1>,
        /// Added to the variance.
        eps: f64,
    },
}

/// What happens to a value before the next linear map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// The input is gate|up of width `2f`: `silu(gate) * up` of width `f` (Shazeer 2020).
    Swiglu,
    /// `x * Phi(x)` with the exact error function.
    Gelu,
    /// `x * sigmoid(1.702 x)`: GELU's approximation in CLIP.
    QuickGelu,
    /// `x * (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`: GELU's approximation in SigLIP.
    GeluTanh,
    /// `x * sigmoid(x)`.
    Silu,
    /// The value itself.
    None,
}

impl Activation {
    /// The kernel that computes it, if there is something to compute.
    fn kernel(self) -> Option<mm1_kernels::activation::Activation> {
        match self {
            Self::Swiglu => Some(mm1_kernels::activation::Activation::Swiglu),
            Self::Gelu => Some(mm1_kernels::activation::Activation::Gelu),
            Self::QuickGelu => Some(mm1_kernels::activation::Activation::QuickGelu),
            Self::GeluTanh => Some(mm1_kernels::activation::Activation::GeluTanh),
            Self::Silu => Some(mm1_kernels::activation::Activation::Silu),
            Self::None => None,
        }
    }

    /// The width after the activation of an input of width `width`.
    pub fn width(self, width: usize) -> usize {
        if self == Self::Swiglu { width / 2 } else { width }
    }
}

/// A run of consecutive positions of one row that belong to one example. Attention never leaves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The row.
    pub row: usize,
    /// First position in the row.
    pub start: usize,
    /// Number of positions.
    pub len: usize,
}

/// What a position sees of its span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// All of it.
    All,
    /// Itself and those before it.
    Causal,
    /// Position `i` of a span sees the first `max(i + 1, prefix)` (prefix attention of AIM, El-Nouby et al. 2024, section
    /// 3.2): a prefix for each span, in their order. 0 and 1 are causal, the span's length and more are all.
    Prefix(Vec<usize>),
}

/// Which positions see which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The examples; they do not overlap. Positions outside every span are padding.
    pub spans: Vec<Span>,
    /// What a position sees of its span.
    pub sight: Sight,
}

impl Layout {
    /// One span a row: `rows` examples of `length` positions.
    pub fn full(rows: usize, length: usize, sight: Sight) -> Self {
        Self { spans: (0..rows).map(|row| Span { row, start: 0, len: length }).collect(), sight }
    }

    /// For each span the number of its first positions that all of it see.
    ///
    /// # Panics
    /// When there is not one prefix for each span.
    fn prefixes(&self) -> Vec<usize> {
        match &self.sight {
            Sight::All => self.spans.iter().map(|span| span.len).collect(),
            Sight::Causal => vec![0; self.spans.len()],
            Sight::Prefix(prefixes) => {
                let (given, spans) = (prefixes.len(), self.spans.len());
                assert_eq!(given, spans, "{given} prefixes for {spans} spans");
                prefixes.clone()
            }
        }
    }

    /// Positions of the longest span.
    pub fn longest(&self) -> usize {
        self.spans.iter().map(|s| s.len).max().unwrap_or(0)
    }
}

/// The weight of a linear map of `i` inputs and `o` outputs.
#[derive(Clone, Debug)]
pub enum Weight {
    /// `[i, o]`
    Matrix(Tensor<2>),
    /// `[o, i]`: an embedding table as the decoder's output head.
    Table(Tensor<2>),
    /// Only read.
    Packed(PackedWeight),
}

/// A weight as products take it, in the precision that it was packed for. There is no way back through it.
#[derive(Module, Debug)]
pub struct PackedWeight {
    #[module(skip)]
    panels: Arc<PackedB>,
}

impl Weight {
    /// The same for reading only, where the backend is the CPU's: products in `precision` give the same bits.
    pub fn packed(self, precision: Precision) -> Self {
        fused::packed(self, precision)
    }

    /// The matrix or table.
    ///
    /// # Panics
    /// If it is packed.
    fn unpacked(self) -> Tensor<2> {
        match self {
            Self::Matrix(weight) | Self::Table(weight) => weight,
            Self::Packed(_) => panic!("a packed weight is only read, and only on the CPU"),
        }
    }
}

impl From<&Tensor<2>> for Weight {
    fn from(matrix: &Tensor<2>) -> Self {
        Self::Matrix(matrix.clone())
    }
}

/// The new tokens of one sequence among the new tokens of all that are in one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The sequence in the cache.
    pub sequence: usize,
    /// Number of its new tokens.
    pub len: usize,
}

/// `norm(x)`: `[b, t, d] -> [b, t, d]`.
pub fn norm(x: Tensor<3>, norm: &Norm) -> Tensor<3> {
    if fused::takes(&x) { fused::norm(x, norm) } else { composed::norm(x, norm) }
}

/// `activation(norm(x))`: `[b, t, d] -> [b, t, d]` (Swiglu: `[b, t, d / 2]`).
pub fn norm_activation(x: Tensor<3>, norm: &Norm, activation: Activation) -> Tensor<3> {
    if fused::takes(&x) {
        fused::norm_activation(x, norm, activation)
    } else {
        composed::norm_activation(x, norm, activation)
    }
}

/// `activation(x + y)`: `[b, t, d] -> [b, t, d]` (Swiglu: `[b, t, d / 2]`).
pub fn add_activation(x: Tensor<3>, y: Tensor<3>, activation: Activation) -> Tensor<3> {
    if fused::takes(&x) {
        fused::add_activation(x, y, activation)
    } else {
        composed::add_activation(x, y, activation)
    }
}

/// `x * gates`, one gate for each picture and channel: `[n, p, c]` and `[n, 1, c]` -> `[n, p, c]`.
pub fn gate(x: Tensor<3>, gates: Tensor<3>) -> Tensor<3> {
    if fused::takes(&x) { fused::gate(x, gates) } else { composed::gate(x, gates) }
}

/// `x w + bias`: `[b, t, i] -> [b, t, o]` with a weight `w` of `i` inputs and `o` outputs and `bias` `[o]`.
pub fn linear(x: Tensor<3>, w: impl Into<Weight>, bias: Option<&Tensor<1>>) -> Tensor<3> {
    if fused::takes(&x) { fused::linear(x, w.into(), bias) } else { composed::linear(x, w, bias) }
}

/// `norm(x) w + bias`: `[b, t, d] -> [b, t, o]` with a weight `w` of `d` inputs and `o` outputs and `bias` `[o]`.
pub fn norm_linear(x: Tensor<3>, norm: &Norm, w: impl Into<Weight>, bias: Option<&Tensor<1>>) -> Tensor<3> {
    norm_linear_made(x, norm, w.into(), bias, Precision::F32)
}

/// [`norm_linear`] in the precision of products, on the CPU: for [`attention`], [`attention_cached`] and [`act_linear_residual`].
pub fn norm_linear_rounded(
    x: Tensor<3>,
    norm: &Norm,
    w: impl Into<Weight>,
    bias: Option<&Tensor<1>>,
) -> Tensor<3> {
    norm_linear_made(x, norm, w.into(), bias, precision())
}

fn norm_linear_made(
    x: Tensor<3>,
    norm: &Norm,
    w: Weight,
    bias: Option<&Tensor<1>>,
    made: Precision,
) -> Tensor<3> {
    if fused::takes(&x) {
        fused::norm_linear(x, norm, w, bias, made)
    } else {
        composed::norm_linear(x, norm, w, bias)
    }
}

/// Self-attention on packed queries, keys and values: `[b, t, (h + 2g) c] -> [b, t, h c]`.
///
/// Attention never leaves a span of `layout`, which says what it sees there; positions for `rope` (half-split: component `i` turns with `i + c / 2`)
/// start at 0 at the start of each span, so `rope` must reach the longest. Positions outside every span give zeros. On the CPU the
/// result is in the precision of products, for [`at`] and [`act_linear_residual`].
pub fn attention(qkv: Tensor<3>, heads: Heads, layout: &Layout, rope: Option<&Rope>) -> Tensor<3> {
    if fused::takes(&qkv) {
        fused::attention(qkv, heads, layout, rope)
    } else {
        composed::attention(qkv, heads, layout, rope)
    }
}

/// Attention of queries `[n, k, d]` over keys and values packed as `[n, p, 2d]` -> `[n, k, d]`; each query sees all.
pub fn cross_attention(q: Tensor<3>, kv: Tensor<3>, heads: usize) -> Tensor<3> {
    if fused::takes(&q) {
        fused::cross_attention(q, kv, heads)
    } else {
        composed::cross_attention(q, kv, heads)
    }
}

/// `activation(h) w + bias + residual`: `h` is `[b, t, f]` (Swiglu: `[b, t, 2f]`), `w` has `f` inputs and `o` outputs, the rest is `[b, t, o]`.
pub fn act_linear_residual(
    h: Tensor<3>,
    activation: Activation,
    w: impl Into<Weight>,
    bias: Option<&Tensor<1>>,
    residual: Option<Tensor<3>>,
) -> Tensor<3> {
    if fused::takes(&h) {
        fused::act_linear_residual(h, activation, w.into(), bias, residual)
    } else {
        composed::act_linear_residual(h, activation, w, bias, residual)
    }
}

/// `run(module, x)`: `[b, t, d] -> [b, t, d]`. Under [`with_recomputation`] only `x` is kept for the way back, where `run`
/// runs again, bit for bit (activation checkpointing, Chen et al. 2016): a third more time, for memory that does not
/// grow with what the module keeps. On other backends than the CPU everything is kept.
pub fn recomputed<M: Module + Sync + 'static>(
    module: &M,
    x: Tensor<3>,
    run: impl Fn(&M, Tensor<3>) -> Tensor<3> + Send + Sync + 'static,
) -> Tensor<3> {
    if recomputes() && fused::takes(&x) { fused::recomputed(module, x, run) } else { run(module, x) }
}

/// The SUM over positions of `weight * -log softmax(head(x))[target]` as `[1]`; the caller divides by the whole step's
/// weight. `x` is `[b, t, d]`, `targets` and `weights` have `b * t` entries.
///
/// # Panics
/// If the head is packed.
pub fn linear_cross_entropy(
    x: Tensor<3>,
    head: impl Into<Weight>,
    targets: &[u32],
    weights: &[f32],
) -> Tensor<1> {
    if fused::takes(&x) {
        fused::linear_cross_entropy(x, head.into(), targets, weights)
    } else {
        composed::linear_cross_entropy(x, head, targets, weights)
    }
}

/// The rows `ids` of `table` `[v, d]` as `[rows, length, d]`.
pub fn embedding(table: &Tensor<2>, ids: &[u32], rows: usize, length: usize) -> Tensor<3> {
    if fused::takes(table) {
        fused::embedding(table, ids, rows, length)
    } else {
        composed::embedding(table, ids, rows, length)
    }
}

/// The vectors of `x` `[b, t, d]` at some flat positions (`row * t + column`), as `[1, n, d]`.
pub fn at(x: Tensor<3>, positions: &[u32]) -> Tensor<3> {
    let [b, t, d] = x.dims();
    embedding(&x.reshape([b * t, d]), positions, 1, positions.len())
}

/// Puts image tokens `[n, k, d]` into `embeds` `[b, t, d]`: picture `i`'s take the `k` flat positions
/// (`row * t + column`) from `slots[i]` on.
pub fn splice(embeds: Tensor<3>, image_tokens: Tensor<3>, slots: &[usize]) -> Tensor<3> {
    if fused::takes(&embeds) {
        fused::splice(embeds, image_tokens, slots)
    } else {
        composed::splice(embeds, image_tokens, slots)
    }
}

/// Vectors along `dim` at length 1: `[m, d] -> [m, d]`.
pub fn unit(x: Tensor<2>, dim: usize) -> Tensor<2> {
    let length = x.clone().square().sum_dim(dim).sqrt().clamp_min(1e-12);
    x / length
}

/// Cuts pictures `[n, h, w, 3]` into patches `[n, (h / patch) (w / patch), patch * patch * 3]`, both row by row.
pub fn patches(pixels: Tensor<4>, patch: usize) -> Tensor<3> {
    composed::patches(pixels, patch)
}

/// 3x3 convolution with padding 1: `[n, h, w, c] -> [n, ceil(h / stride), ceil(w / stride), o]`; `weight` is
/// `[9 * c, o]` in the order (ky, kx, c).
pub fn conv3x3(x: Tensor<4>, weight: &Tensor<2>, bias: Option<&Tensor<1>>, stride: usize) -> Tensor<4> {
    if fused::takes(&x) {
        fused::conv3x3(x, weight, bias, stride)
    } else {
        composed::conv3x3(x, weight, bias, stride)
    }
}

/// Each channel's own 3x3 convolution with padding 1: `[n, h, w, c] -> [n, h, w, c]`; `weight` is `[9, c]` in the
/// order (ky, kx).
pub fn depthwise3x3(x: Tensor<4>, weight: &Tensor<2>) -> Tensor<4> {
    if fused::takes(&x) { fused::depthwise3x3(x, weight) } else { composed::depthwise3x3(x, weight) }
}

/// Means over `out * out` windows, the i-th from `floor(i h / out)` to `ceil((i + 1) h / out)`:
/// `[n, h, w, c] -> [n, out, out, c]`.
pub fn adaptive_avg_pool(x: Tensor<4>, out: usize) -> Tensor<4> {
    if fused::takes(&x) { fused::adaptive_avg_pool(x, out) } else { composed::adaptive_avg_pool(x, out) }
}

/// Hands over the sum of a parameter's gradients in the micro-batches so far: the way back through the next one adds to it where it
/// is. What it does not use is to be had from [`take_sum`]. A backend that cannot add so gives the sum back.
pub fn sum_into<const D: usize>(parameter: Tensor<D>, sum: Tensor<1>) -> Option<Tensor<1>> {
    if fused::takes(&parameter) { fused::sum_into(parameter, sum) } else { Some(sum) }
}

/// The sum that was handed over for a parameter, if the way back has not used it.
pub fn take_sum<const D: usize>(parameter: Tensor<D>) -> Option<Tensor<1>> {
    if fused::takes(&parameter) { fused::take_sum(parameter) } else { None }
}

/// From here on until [`end_training`] the process gets its memory in small pages, where the system is Linux: of huge ones a part
/// stays in use, and so the whole, when a step gives memory back. (Decoding reads each weight once for a token and is faster with huge ones.)
pub fn begin_training() {
    small_pages(true);
    allocator::give_back_after(allocator::IN_TRAINING);
}

/// Gives the memory that training steps leave to one another back to the system.
pub fn end_training() {
    arena::give_back();
    small_pages(false);
    allocator::give_back_after(allocator::ELSEWHERE);
}

fn small_pages(small: bool) {
    // A system without huge pages may refuse: then there is nothing to do.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(small);
    #[cfg(not(target_os = "linux"))]
    let _ = small;
}

/// Causal attention of new tokens to those in the cache and to themselves, without gradients:
/// `[1, n, (h + 2g) c] -> [1, n, h c]`. It is computed on the host, whatever the backend.
///
/// `steps` says whose the `n` tokens are, in order; a sequence comes once. Its new tokens follow its cached ones, at
/// positions from `cache[sequence].len()` on, which `rope` must reach; their keys and values are appended in place. A
/// sequence's result does not depend on the others.
pub fn attention_cached(
    qkv: Tensor<3>,
    heads: Heads,
    rope: &Rope,
    steps: &[Step],
    cache: &mut [KvCache],
) -> Tensor<3> {
    let ([_, n, _], device) = (qkv.dims(), qkv.device());
    let mut caches: Vec<Option<&mut KvCache>> = cache.iter_mut().map(Some).collect();
    let mut steps: Vec<(&mut KvCache, usize)> = steps
        .iter()
        .map(|step| (caches[step.sequence].take().expect("a sequence comes once in a step"), step.len))
        .collect();
    let qkv: Vec<f32> = qkv.into_data().convert::<f32>().try_into_vec().expect("they are f32 now");
    let mut out = vec![0.0; n * heads.out_width()];
    CachedAttention { heads, rope: Some(rope), precision: precision() }.attend(&qkv, &mut steps, &mut out);
    Tensor::from_data(TensorData::new(out, [1, n, heads.out_width()]), &device)
}
