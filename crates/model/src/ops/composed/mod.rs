//! The operations of [`super`] made of the engine's own: on every device, and the reference of fused ones.

mod positions;

use std::f64::consts::{FRAC_1_SQRT_2, PI};
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{Device, Int, Tensor, TensorData, activation};

use super::{Activation, Affine, Heads, Layout, LowRank, Norm, Operations, Precision, QkNorm, Rope, Weight};
use positions::{LastPositions, Positions};

/// Operations made of the engine's own. Products are in the device's f32 in either precision, but for
/// attention with a cache, which the host computes.
#[derive(Clone, Debug, Default)]
pub struct Composed {
    precision: Precision,
    /// All layers of a network attend by the same masks, which take longer to send to a device than to use
    /// there.
    last_positions: Arc<Mutex<Option<LastPositions>>>,
}

impl Composed {
    /// With products in `precision`.
    pub fn new(precision: Precision) -> Self {
        Self { precision, ..Self::default() }
    }
}

impl Operations for Composed {
    fn precision(&self) -> Precision {
        self.precision
    }

    fn with_precision(&self, precision: Precision) -> Arc<dyn Operations> {
        Arc::new(Self { precision, ..self.clone() })
    }

    fn in_step(&self) -> Arc<dyn Operations> {
        Arc::new(self.clone())
    }

    fn norm_activation(&self, x: Tensor<3>, norm: &Norm, activation: Activation) -> Tensor<3> {
        activate(normed(x, norm), activation)
    }

    fn add_activation(&self, x: Tensor<3>, y: Tensor<3>, activation: Activation) -> Tensor<3> {
        activate(x + y, activation)
    }

    fn gate(&self, x: Tensor<3>, gates: Tensor<3>) -> Tensor<3> {
        x * gates
    }

    fn norm_linear(&self, x: Tensor<3>, norm: &Norm, map: Affine) -> Tensor<3> {
        self.linear(normed(x, norm), map)
    }

    fn act_linear_residual(
        &self,
        h: Tensor<3>,
        activation: Activation,
        map: Affine,
        residual: Option<Tensor<3>>,
    ) -> Tensor<3> {
        let w = match map.weight {
            Weight::Table(table) => table.transpose(),
            weight => weight.unpacked(),
        };
        let x = activate(h, activation);
        let ([b, t, i], [_, o]) = (x.dims(), w.dims());
        let mut y = x.reshape([b * t, i]).matmul(w).reshape([b, t, o]);
        if let Some(bias) = map.bias {
            y = y + bias.unsqueeze();
        }
        match residual {
            None => y,
            Some(residual) => residual + y,
        }
    }

    fn add_low_rank(
        &self,
        y: Tensor<3>,
        x: Tensor<3>,
        activation: Activation,
        maps: &[LowRank],
    ) -> Tensor<3> {
        let (seen, device) = (activate(x, activation), y.device());
        let ([b, t, i], mut y) = (seen.dims(), y);
        for map in maps {
            let seen = match map.dropout {
                None => seen.clone(),
                Some(dropout) => {
                    let mut left = vec![1.0f32; b * t * i];
                    dropout.apply(&mut left);
                    seen.clone() * Tensor::<3>::from_data(TensorData::new(left, [b, t, i]), &device)
                }
            };
            let low = seen.reshape([b * t, i]).matmul(map.a.clone()).mul_scalar(map.factor());
            let width = map.b.dims()[1];
            let columns = [0..b, 0..t, map.first..map.first + width];
            let part = y.clone().slice(columns.clone()) + low.matmul(map.b.clone()).reshape([b, t, width]);
            y = y.slice_assign(columns, part);
        }
        y
    }

    fn qk_norm(&self, qkv: Tensor<3>, heads: Heads, norm: &QkNorm) -> Tensor<3> {
        let ([b, t, _], Heads { heads: h, kv_heads: g, width: c }) = (qkv.dims(), heads);
        let part = |start: usize, heads: usize| qkv.clone().narrow(2, start * c, heads * c);
        let by_head = |start: usize, heads: usize, gamma: &Tensor<1>| {
            let norm = Norm::Rms { gamma: gamma.clone(), eps: norm.eps };
            normed(part(start, heads).reshape([b, t * heads, c]), &norm).reshape([b, t, heads * c])
        };
        Tensor::cat(vec![by_head(0, h, &norm.q), by_head(h, g, &norm.k), part(h + g, g)], 2)
    }

    fn attention(&self, qkv: Tensor<3>, heads: Heads, layout: &Layout, rope: Option<&Rope>) -> Tensor<3> {
        let ([b, t, _], Heads { heads: h, kv_heads: g, width: c }) = (qkv.dims(), heads);
        let device = qkv.device();
        let part = |start: usize, heads: usize| {
            qkv.clone().narrow(2, start * c, heads * c).reshape([b, t, heads, c]).swap_dims(1, 2)
        };
        let (mut q, mut k, v) = (part(0, h), part(h, g), part(h + g, g));
        let mut last = self.last_positions.lock().unwrap_or_else(PoisonError::into_inner);
        let Positions { angles, mask, inside } =
            positions::positions(&mut last, layout, [b, t], rope, &device);
        drop(last);
        if let Some((cos, sin)) = angles {
            q = rotated(q, &cos, &sin);
            k = rotated(k, &cos, &sin);
        }
        let scores = q.matmul(repeated(k, h).transpose()).mul_scalar((c as f64).sqrt().recip());
        let scores = mask.into_iter().fold(scores, |scores, mask| scores + mask);
        let mixed = activation::softmax(scores, 3).matmul(repeated(v, h));
        let mixed = mixed.swap_dims(1, 2).reshape([b, t, h * c]);
        inside.into_iter().fold(mixed, |mixed, inside| mixed * inside)
    }

    fn cross_attention(&self, q: Tensor<3>, kv: Tensor<3>, heads: usize) -> Tensor<3> {
        let ([n, k, d], p) = (q.dims(), kv.dims()[1]);
        let width = d / heads;
        let split = |x: Tensor<3>, rows: usize| x.reshape([n, rows, heads, width]).swap_dims(1, 2);
        let (q, keys, values) =
            (split(q, k), split(kv.clone().narrow(2, 0, d), p), split(kv.narrow(2, d, d), p));
        let scores = q.matmul(keys.transpose()).mul_scalar((width as f64).sqrt().recip());
        activation::softmax(scores, 3).matmul(values).swap_dims(1, 2).reshape([n, k, d])
    }

    fn linear_cross_entropy(
        &self,
        x: Tensor<3>,
        head: Weight,
        targets: &[u32],
        weights: &[f32],
    ) -> Tensor<1> {
        let ([b, t, d], device) = (x.dims(), x.device());
        let n = b * t;
        let scores = self.linear(x.reshape([1, n, d]), head.into()).squeeze_dim::<2>(0);
        let targets = indices(targets.iter().map(|&id| id as usize), &device).reshape([n, 1]);
        let weights = Tensor::from_data(TensorData::new(weights.to_vec(), [n, 1]), &device);
        (activation::log_softmax(scores, 1).gather(1, targets) * weights).sum().neg()
    }

    fn embedding(&self, table: &Tensor<2>, ids: &[u32], rows: usize, length: usize) -> Tensor<3> {
        let d = table.dims()[1];
        let ids = indices(ids.iter().map(|&id| id as usize), &table.device());
        table.clone().select(0, ids).reshape([rows, length, d])
    }

    fn splice(&self, embeds: Tensor<3>, image_tokens: Tensor<3>, slots: &[usize]) -> Tensor<3> {
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

    fn conv3x3(
        &self,
        x: Tensor<4>,
        weight: &Tensor<2>,
        bias: Option<&Tensor<1>>,
        stride: usize,
    ) -> Tensor<4> {
        let ([n, _, _, c], o) = (x.dims(), weight.dims()[1]);
        let (x, [h, w]) = neighbours(x, stride);
        let map = Affine { weight: weight.clone().into(), bias: bias.cloned() };
        self.linear(x.reshape([n, h * w, 9 * c]), map).reshape([n, h, w, o])
    }

    fn depthwise3x3(&self, x: Tensor<4>, weight: &Tensor<2>) -> Tensor<4> {
        let [n, _, _, c] = x.dims();
        let (x, [h, w]) = neighbours(x, 1);
        let products: Tensor<4> = x.reshape([n, h * w, 9, c]) * weight.clone().unsqueeze();
        products.sum_dim(2).reshape([n, h, w, c])
    }

    fn adaptive_avg_pool(&self, x: Tensor<4>, out: usize) -> Tensor<4> {
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
        let weights: Tensor<3> =
            Tensor::from_data(TensorData::new(weights, [1, out * out, h * w]), &x.device());
        weights.expand([n, out * out, h * w]).matmul(x.reshape([n, h * w, c])).reshape([n, out, out, c])
    }
}

/// See [`Operations::norm`].
fn normed(x: Tensor<3>, norm: &Norm) -> Tensor<3> {
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

fn activate(x: Tensor<3>, by: Activation) -> Tensor<3> {
    match by {
        Activation::Swiglu => {
            let width = x.dims()[2] / 2;
            activation::silu(x.clone().narrow(2, 0, width)) * x.narrow(2, width, width)
        }
        // Not the engine's own: on GPUs its gradient is that of tanh's approximation (burn 0.22).
        Activation::Gelu => {
            let twice = x.clone().mul_scalar(FRAC_1_SQRT_2).erf().add_scalar(1.0);
            x * twice.mul_scalar(0.5)
        }
        Activation::QuickGelu => x.clone() * activation::sigmoid(x.mul_scalar(1.702)),
        Activation::GeluTanh => {
            // (1 + tanh u) / 2 = sigmoid(2 u)
            let twice = x.clone().square().mul_scalar(0.044_715).add_scalar(1.0) * x.clone();
            x * activation::sigmoid(twice.mul_scalar((8.0 / PI).sqrt()))
        }
        Activation::Silu => activation::silu(x),
        Activation::Identity => x,
    }
}

/// Key-value heads as the query heads read them: `[b, g, t, c] -> [b, h, t, c]`.
fn repeated(x: Tensor<4>, heads: usize) -> Tensor<4> {
    let [b, g, t, c] = x.dims();
    if g == heads {
        return x;
    }
    x.unsqueeze_dim::<5>(2).expand([b, g, heads / g, t, c]).reshape([b, heads, t, c])
}

/// Turns component `i` of each head together with component `i + c / 2`: `[b, h, t, c] -> [b, h, t, c]`.
fn rotated(x: Tensor<4>, cos: &Tensor<4>, sin: &Tensor<4>) -> Tensor<4> {
    let half = x.dims()[3] / 2;
    let (a, b) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
    let turned = a.clone() * cos.clone() - b.clone() * sin.clone();
    Tensor::cat(vec![turned, b * cos.clone() + a * sin.clone()], 3)
}

fn indices(values: impl Iterator<Item = usize>, device: &Device) -> Tensor<1, Int> {
    let values: Vec<i64> = values.map(|i| i as i64).collect();
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}

/// The 3x3 neighbours of every `stride`-th place, zeros outside: `[n, h, w, c] -> [n, h' w' 9, c]`, and h',
/// w'.
fn neighbours(x: Tensor<4>, stride: usize) -> (Tensor<3>, [usize; 2]) {
    let ([n, h, w, c], device) = (x.dims(), x.device());
    let (rows, columns) = (h.div_ceil(stride), w.div_ceil(stride));
    let mut sources = Vec::with_capacity(rows * columns * 9);
    for place in 0..rows * columns {
        let (row, column) = (place / columns * stride, place % columns * stride);
        for offset in 0..9 {
            // One too far down and right, for the padding.
            let (y, x) = (row + offset / 3, column + offset % 3);
            let outside = y == 0 || x == 0 || y > h || x > w;
            sources.push(if outside { h * w } else { (y - 1) * w + x - 1 });
        }
    }
    let padded = Tensor::cat(vec![x.reshape([n, h * w, c]), Tensor::zeros([n, 1, c], &device)], 1);
    (padded.select(1, indices(sources.into_iter(), &device)), [rows, columns])
}
