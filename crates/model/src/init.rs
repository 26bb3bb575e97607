//! Every initial value of the network, in one file.
//!
//! A parameter's values are a function of (seed, its path) alone, so adding one changes no other. They are drawn when
//! they are first read: a network that is only counted, or whose weights come from a file, costs no memory and no time.
//! (A list of paths and shapes beside the constructors would say everything twice; a constructor that counts in place of
//! drawing would need a second kind of tensor.)
//!
//! | parameters | values |
//! |---|---|
//! | gammas of norms | 1 |
//! | betas of norms, biases | 0 |
//! | class token, learned queries | normal 0.02, cut at two standard deviations (ViT) |
//! | position tables | the same with 0.3: ViT's 0.02 stands beside patches of its small maps, here it would be lost beside patches of about 1 (docs/LOG.md) |
//! | every linear map and convolution, embedding and head too | the same with 1 / sqrt(fan in) (LeCun); GPT-2's 0.02 is about half of that at its width of 768, but a quarter of it at 128, and then a small model takes hundreds of steps before it sees (docs/LOG.md) |
//! | the blocks' linear maps that write to the residual stream (`attention.out`, `mlp.down`) | the same, divided by sqrt(2 * layers) (GPT-2) |

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Standard deviation of what is no map: class token, queries.
pub const STD: f64 = 0.02;
/// Standard deviation of position tables.
pub const POSITION: f64 = 0.3;

/// Where a parameter's first values come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fill {
    /// 0.
    Zeros,
    /// 1.
    Ones,
    /// This value.
    Constant(f64),
    /// Normal of this standard deviation, cut at twice that.
    Normal(f64),
}

impl Fill {
    /// Normal of 1 / sqrt(`fan_in`).
    pub fn fan_in(fan_in: usize) -> Self {
        Self::Normal((fan_in as f64).sqrt().recip())
    }

    /// Normal of 1 / sqrt(2 * `layers` * `fan_in`), for the two maps of each block that write to the residual stream.
    pub fn residual(fan_in: usize, layers: usize) -> Self {
        Self::Normal((2.0 * layers.max(1) as f64 * fan_in as f64).sqrt().recip())
    }
}

/// Makes parameters, knowing their place in the network.
#[derive(Clone, Debug)]
pub struct Init<'a> {
    seed: u64,
    device: &'a Device,
    path: String,
}

impl<'a> Init<'a> {
    /// At the root of the network.
    pub fn new(seed: u64, device: &'a Device) -> Self {
        Self { seed, device, path: String::new() }
    }

    /// One level down: the field or index `name`.
    pub fn at(&self, name: impl std::fmt::Display) -> Self {
        let path = if self.path.is_empty() { name.to_string() } else { format!("{}.{name}", self.path) };
        Self { path, ..*self }
    }

    /// The parameter in the field `name`, without values until they are read. Its id is a function of its path, so that
    /// an optimizer's state finds it again in another process.
    pub fn param<const D: usize>(&self, name: &str, shape: [usize; D], fill: Fill) -> Param<Tensor<D>> {
        let (seed, path) = (self.seed, self.at(name).path);
        let id = ParamId::from(fnv1a(path.as_bytes()));
        let draw = move |device: &Device, trained: bool| {
            let values = values(seed, &path, shape.iter().product(), fill);
            Tensor::from_data(TensorData::new(values, shape), device).set_require_grad(trained)
        };
        Param::uninitialized(id, draw, self.device.clone(), true, shape.into())
    }
}

/// The first `count` values of the parameter at `path`.
fn values(seed: u64, path: &str, count: usize, fill: Fill) -> Vec<f32> {
    let std = match fill {
        Fill::Zeros => return vec![0.0; count],
        Fill::Ones => return vec![1.0; count],
        Fill::Constant(value) => return vec![value as f32; count],
        Fill::Normal(std) => std,
    };
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&fnv1a(path.as_bytes()).to_le_bytes());
    let mut rng = ChaCha8Rng::from_seed(key);
    (0..count).map(|_| (cut_normal(&mut rng) * std) as f32).collect()
}

/// A standard normal value in [-2, 2] (Box and Muller, drawn again outside).
fn cut_normal(rng: &mut ChaCha8Rng) -> f64 {
    loop {
        let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
        let z = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
        if z.abs() <= 2.0 {
            return z;
        }
    }
}

/// 64-bit FNV-1a.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}
