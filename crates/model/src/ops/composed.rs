//! The operations of [`super`] made of the engine's own: on every backend, and the reference of fused forms.

use std::cell::RefCell;

use burn::backend::GradientCheckpointingStrategy;
use burn::tensor::{Device, Int, Tensor, TensorData, activation};

use super::{Activation, Heads, Layout, Norm, Rope, Sight, Weight};

/// A score that the softmax turns into an exact zero.
const MASKED: f32 = -1e30;

/// See [`super::norm`].
pub fn norm(x: Tensor<3>, norm: &Norm) -> Tensor<3> {
    match norm {
        Norm::Rms { gamma, eps } => {
            let scale = x.clone().square().mean_dim(2).add_scalar(*eps).sqrt();
            x / scale * gamma.clone().unsqueeze()
        }
        Norm::Layer { gamma, beta, eps } => {
            let x = x.clone() - x.mean_dim(2);
            let scale = x.clone().square().mean_dim(2).add_scalar(*eps).sqrt();
            x / scale * gamma.clone().unsqueeze() + beta.clone().unsqueeze()
        }
    }
}

/// See [`super::norm_activation`].
pub fn norm_activation(x: Tensor<3>, by: &Norm, activation: Activation) -> Tensor<3> {
    activate(norm(x, by), activation)
}

fn activate(x: Tensor<3>, by: Activation) -> Tensor<3> {
    match by {
        Activation::Swiglu => {
            let width = x.dims()[2] / 2;
            activation::silu(x.clone().narrow(2, 0, width)) * x.narrow(2, width, width)
        }
        Activation::Gelu => activation::gelu(x),
        Activation::QuickGelu => x.clone() * activation::sigmoid(x.mul_scalar(1.702)),
        Activation::GeluTanh => {
            // (1 + tanh u) / 2 = sigmoid(2 u)
            let twice = x.clone().square().mul_scalar(0.044_715).add_scalar(1.0) * x.clone();
            x * activation::sigmoid(twice.mul_scalar((8.0 / std::f64::consts::PI).sqrt()))
        }
        Activation::Silu => activation::silu(x),
        Activation::None => x,
    }
}

/// See [`super::add_activation`].
pub fn add_activation(x: Tensor<3>, y: Tensor<3>, activation: Activation) -> Tensor<3> {
    activate(x + y, activation)
}

/// See [`super::gate`].
pub fn gate(x: Tensor<3>, gates: Tensor<3>) -> Tensor<3> {
    x * gates
}

/// See [`super::linear`].
pub fn linear(x: Tensor<3>, w: impl Into<Weight>, bias: Option<&Tensor<1>>) -> Tensor<3> {
    let w = match w.into() {
        Weight::Table(table) => table.transpose(),
        weight => weight.unpacked(),
    };
    let ([b, t, i], [_, o]) = (x.dims(), w.dims());
    let y = x.reshape([b * t, i]).matmul(w).reshape([b, t, o]);
    match bias {
        None => y,
        Some(bias) => y + bias.clone().unsqueeze(),
    }
}

/// See [`super::norm_linear`].
pub fn norm_linear(x: Tensor<3>, by: &Norm, w: impl Into<Weight>, bias: Option<&Tensor<1>>) -> Tensor<3> {
    linear(norm(x, by), w, bias)
}

/// See [`super::act_linear_residual`].
pub fn act_linear_residual(
    h: Tensor<3>,
    activation: Activation,
    w: impl Into<Weight>,
    bias: Option<&Tensor<1>>,
    residual: Option<Tensor<3>>,
) -> Tensor<3> {
    let y = linear(activate(h, activation), w, bias);
    match residual {
        None => y,
        Some(residual) => residual + y,
    }
}

/// See [`super::attention`].
pub fn attention(qkv: Tensor<3>, heads: Heads, layout: &Layout, rope: Option<&Rope>) -> Tensor<3> {
    let ([b, t, _], Heads { heads: h, kv_heads: g, width: c }) = (qkv.dims(), heads);
    let device = qkv.device();
    let part = |start: usize, heads: usize| {
        qkv.clone().narrow(2, start * c, heads * c).reshape([b, t, heads, c]).swap_dims(1, 2)
    };
    let (mut q, mut k, v) = (part(0, h), part(h, g), part(h + g, g));
    let Places { angles, mask, inside } = places(layout, [b, t], rope, &device);
    if let Some((cos, sin)) = angles {
        q = turn(q, &cos, &sin);
        k = turn(k, &cos, &sin);
    }
    let scores = q.matmul(repeat(k, h).transpose()).mul_scalar((c as f64).sqrt().recip());
    let scores = mask.into_iter().fold(scores, |scores, mask| scores + mask);
    let mixed = activation::softmax(scores, 3).matmul(repeat(v, h));
    let mixed = mixed.swap_dims(1, 2).reshape([b, t, h * c]);
    inside.into_iter().fold(mixed, |mixed, inside| mixed * inside)
}

/// What attention needs to know of the positions, on its device: nothing where the answer is 0 or 1 everywhere.
#[derive(Clone)]
struct Places {
    /// See [`angles`].
    angles: Option<(Tensor<4>, Tensor<4>)>,
    /// See [`mask`].
    mask: Option<Tensor<4>>,
    /// See [`inside`].
    inside: Option<Tensor<3>>,
}

/// Of which positions [`Places`] are, and where.
#[derive(PartialEq)]
struct Asked {
    layout: Layout,
    shape: [usize; 2],
    rope: Option<Rope>,
    device: Device,
    graph: (bool, Option<GradientCheckpointingStrategy>),
}

thread_local! {
    /// All layers of a network ask for the same places, which take longer to send to a device than to use there.
    static LAST: RefCell<Option<(Asked, Places)>> = const { RefCell::new(None) };
}

fn places(layout: &Layout, shape: [usize; 2], rope: Option<&Rope>, device: &Device) -> Places {
    let graph = (device.is_autodiff(), device.gradient_checkpointing_strategy());
    let asked = Asked { layout: layout.clone(), shape, rope: rope.cloned(), device: device.clone(), graph };
    let last = LAST.with_borrow(|last| last.as_ref().filter(|l| l.0 == asked).map(|l| l.1.clone()));
    last.unwrap_or_else(|| {
        let whole = layout.spans.len() == shape[0] && layout.spans.iter().all(|s| s.len == shape[1]);
        let all = whole && layout.sight == Sight::All;
        let places = Places {
            angles: rope.map(|rope| angles(rope, layout, shape, device)),
            mask: (!all).then(|| mask(layout, shape, device)),
            inside: (!whole).then(|| inside(layout, shape, device)),
        };
        LAST.set(Some((asked, places.clone())));
        places
    })
}

/// Key-value heads as the query heads read them: `[b, g, t, c] -> [b, h, t, c]`.
fn repeat(x: Tensor<4>, heads: usize) -> Tensor<4> {
    let [b, g, t, c] = x.dims();
    if g == heads {
        return x;
    }
    x.unsqueeze_dim::<5>(2).expand([b, g, heads / g, t, c]).reshape([b, heads, t, c])
}

/// Cosines and sines of the positions in their spans, each `[b, 1, t, c / 2]`; 1 and 0 outside.
fn angles(rope: &Rope, layout: &Layout, [b, t]: [usize; 2], device: &Device) -> (Tensor<4>, Tensor<4>) {
    let half = rope.width() / 2;
    let (mut cos, mut sin) = (vec![1.0; b * t * half], vec![0.0; b * t * half]);
    for span in &layout.spans {
        for i in 0..span.len {
            let at = (span.row * t + span.start + i) * half;
            let (cosines, sines) = rope.at(i);
            cos[at..at + half].copy_from_slice(cosines);
            sin[at..at + half].copy_from_slice(sines);
        }
    }
    let tensor = |values| Tensor::from_data(TensorData::new(values, [b, 1, t, half]), device);
    (tensor(cos), tensor(sin))
}

/// Turns component `i` of each head together with component `i + c / 2`.
fn turn(x: Tensor<4>, cos: &Tensor<4>, sin: &Tensor<4>) -> Tensor<4> {
    let half = x.dims()[3] / 2;
    let (a, b) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
    let turned = a.clone() * cos.clone() - b.clone() * sin.clone();
    Tensor::cat(vec![turned, b * cos.clone() + a * sin.clone()], 3)
}

/// What is added to the scores: 0 where a position sees another, else [`MASKED`]; `[b, 1, t, t]`.
fn mask(layout: &Layout, [b, t]: [usize; 2], device: &Device) -> Tensor<4> {
    let mut mask = vec![MASKED; b * t * t];
    for (span, prefix) in layout.spans.iter().zip(layout.prefixes()) {
        for i in 0..span.len {
            let row = (span.row * t + span.start + i) * t + span.start;
            mask[row..row + (i + 1).max(prefix).min(span.len)].fill(0.0);
        }
    }
    Tensor::from_data(TensorData::new(mask, [b, 1, t, t]), device)
}

/// 1 inside a span, 0 outside: `[b, t, 1]`.
fn inside(layout: &Layout, [b, t]: [usize; 2], device: &Device) -> Tensor<3> {
    let mut inside = vec![0f32; b * t];
    for span in &layout.spans {
        inside[span.row * t + span.start..][..span.len].fill(1.0);
    }
    Tensor::from_data(TensorData::new(inside, [b, t, 1]), device)
}

/// See [`super::cross_attention`].
pub fn cross_attention(q: Tensor<3>, kv: Tensor<3>, heads: usize) -> Tensor<3> {
    let ([n, k, d], p) = (q.dims(), kv.dims()[1]);
    let width = d / heads;
    let split = |x: Tensor<3>, rows: usize| x.reshape([n, rows, heads, width]).swap_dims(1, 2);
    let (q, keys, values) = (split(q, k), split(kv.clone().narrow(2, 0, d), p), split(kv.narrow(2, d, d), p));
    let scores = q.matmul(keys.transpose()).mul_scalar((width as f64).sqrt().recip());
    activation::softmax(scores, 3).matmul(values).swap_dims(1, 2).reshape([n, k, d])
}

/// See [`super::linear_cross_entropy`].
pub fn linear_cross_entropy(
    x: Tensor<3>,
    head: impl Into<Weight>,
    targets: &[u32],
    weights: &[f32],
) -> Tensor<1> {
    let ([b, t, d], device) = (x.dims(), x.device());
    let n = b * t;
    let scores = linear(x.reshape([1, n, d]), head, None).squeeze_dim::<2>(0);
    let targets = indices(targets.iter().map(|&id| id as usize), &device).reshape([n, 1]);
    let weights = Tensor::from_data(TensorData::new(weights.to_vec(), [n, 1]), &device);
    (activation::log_softmax(scores, 1).gather(1, targets) * weights).sum().neg()
}

fn indices(values: impl Iterator<Item = usize>, device: &Device) -> Tensor<1, Int> {
    let values: Vec<i64> = values.map(|i| i as i64).collect();
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}

/// See [`super::embedding`].
pub fn embedding(table: &Tensor<2>, ids: &[u32], rows: usize, length: usize) -> Tensor<3> {
    let d = table.dims()[1];
    let ids = indices(ids.iter().map(|&id| id as usize), &table.device());
    table.clone().select(0, ids).reshape([rows, length, d])
}

/// See [`super::splice`].
pub fn splice(embeds: Tensor<3>, image_tokens: Tensor<3>, slots: &[usize]) -> Tensor<3> {
    let ([b, t, d], [n, k, _]) = (embeds.dims(), image_tokens.dims());
    let mut sources: Vec<usize> = (0..b * t).collect();
    for (picture, &slot) in slots.iter().enumerate() {
        for token in 0..k {
            sources[slot + token] = b * t + picture * k + token;
        }
    }
    let sources = indices(sources.into_iter(), &embeds.device());
    let all = Tensor::cat(vec![embeds.reshape([b * t, d]), image_tokens.reshape([n * k, d])], 0);
    all.select(0, sources).reshape([b, t, d])
}

/// See [`super::patches`].
pub fn patches(pixels: Tensor<4>, patch: usize) -> Tensor<3> {
    let [n, height, width, c] = pixels.dims();
    let (h, w) = (height / patch, width / patch);
    let cut: Tensor<6> = pixels.reshape([n, h, patch, w, patch, c]).permute([0, 1, 3, 2, 4, 5]);
    cut.reshape([n, h * w, patch * patch * c])
}

/// The 3x3 neighbours of every `stride`-th place, zeros outside: `[n, h, w, c] -> [n, h' w' 9, c]`, and h', w'.
fn neighbours(x: Tensor<4>, stride: usize) -> (Tensor<3>, [usize; 2]) {
    let ([n, h, w, c], device) = (x.dims(), x.device());
    let (rows, columns) = (h.div_ceil(stride), w.div_ceil(stride));
    let mut sources = Vec::with_capacity(rows * columns * 9);
    for place in 0..rows * columns {
        let (row, column) = (place / columns * stride, place % columns * stride);
        for offset in 0..9 {
            let (y, x) = (row + offset / 3, column + offset % 3); // one too far down and right, for the padding
            let outside = y == 0 || x == 0 || y > h || x > w;
            sources.push(if outside { h * w } else { (y - 1) * w + x - 1 });
        }
    }
    let padded = Tensor::cat(vec![x.reshape([n, h * w, c]), Tensor::zeros([n, 1, c], &device)], 1);
    (padded.select(1, indices(sources.into_iter(), &device)), [rows, columns])
}

/// See [`super::conv3x3`].
pub fn conv3x3(x: Tensor<4>, weight: &Tensor<2>, bias: Option<&Tensor<1>>, stride: usize) -> Tensor<4> {
    let ([n, _, _, c], o) = (x.dims(), weight.dims()[1]);
    let (x, [h, w]) = neighbours(x, stride);
    linear(x.reshape([n, h * w, 9 * c]), weight, bias).reshape([n, h, w, o])
}

/// See [`super::depthwise3x3`].
pub fn depthwise3x3(x: Tensor<4>, weight: &Tensor<2>) -> Tensor<4> {
    let [n, _, _, c] = x.dims();
    let (x, [h, w]) = neighbours(x, 1);
    let products: Tensor<4> = x.reshape([n, h * w, 9, c]) * weight.clone().unsqueeze();
    products.sum_dim(2).reshape([n, h, w, c])
}

/// See [`super::adaptive_avg_pool`].
pub fn adaptive_avg_pool(x: Tensor<4>, out: usize) -> Tensor<4> {
    let [n, h, w, c] = x.dims();
    let window = |i: usize, size: usize| i * size / out..((i + 1) * size).div_ceil(out);
    let mut weights = vec![0f32; out * out * h * w];
    for place in 0..out * out {
        let (rows, columns) = (window(place / out, h), window(place % out, w));
        let share = ((rows.len() * columns.len()) as f32).recip();
        for row in rows {
            weights[(place * h + row) * w..][columns.clone()].fill(share);
        }
    }
    let weights: Tensor<3> = Tensor::from_data(TensorData::new(weights, [1, out * out, h * w]), &x.device());
    weights.expand([n, out * out, h * w]).matmul(x.reshape([n, h * w, c])).reshape([n, out, out, c])
}
