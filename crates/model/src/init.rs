//! Every initial value of the network, in one file.
//!
//! A parameter's values are a function of (seed, its path) alone, so adding one changes no other. They are
//! drawn when they are first read: a network that is only counted, or whose weights come from a file, costs
//! no memory and no time. (A list of paths and shapes beside the constructors would say everything twice; a
//! constructor that counts in place of drawing would need a second kind of tensor.)
//!
//! | parameters | values |
//! |---|---|
//! | gammas of norms | 1 |
//! | betas of norms, biases | 0 |
//! | class token, learned queries | normal 0.02, cut at two standard deviations (ViT) |
//! | position tables | the same with 0.3 |
//! | linear maps, convolutions, embedding, head | the same with 1 / sqrt(fan in) (LeCun) |
//! | `attention.out` and `mlp.down` of a block | the same, divided by sqrt(2 * layers) (GPT-2) |
//! | `lora_a` of an adapter | uniform up to 1 / sqrt(fan in): Kaiming's with a = sqrt(5), as in peft |
//! | `lora_b` of an adapter | 0 |
//!
//! `attention.out` and `mlp.down` write to the residual stream. Rejected (docs/LOG.md): ViT's 0.02 for
//! positions stands beside patches of its small maps and would be lost beside patches of about 1 here: 66% of
//! the names learned in place of 72%. GPT-2's 0.02 for all maps is about half of LeCun's at its width of 768,
//! but a quarter of it at 128: a small model then takes hundreds of steps before it sees.

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
pub enum Initializer {
    /// 0.
    Zeros,
    /// 1.
    Ones,
    /// This value.
    Constant(f64),
    /// Normal of this standard deviation, cut at twice that.
    Normal(f64),
    /// Uniform between minus this and this.
    Uniform(f64),
}

impl Initializer {
    /// Normal of 1 / sqrt(`fan_in`).
    pub fn fan_in(fan_in: usize) -> Self {
        Self::Normal((fan_in as f64).sqrt().recip())
    }

    /// Normal of 1 / sqrt(2 * `layers` * `fan_in`), for the two maps of each block that write to the residual
    /// stream.
    pub fn residual(fan_in: usize, layers: usize) -> Self {
        Self::Normal((2.0 * layers.max(1) as f64 * fan_in as f64).sqrt().recip())
    }
}

/// Makes parameters, knowing their place in the network.
#[derive(Clone, Debug)]
pub struct Init<'a> {
    seed: u64,
    device: &'a Device,
    /// Fields and indices from the root, joined by dots; empty at the root.
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

    /// A number for what is drawn in training at this place of the network: a function of seed and path.
    pub fn key(&self) -> u64 {
        self.seed ^ fnv1a(self.path.as_bytes())
    }

    /// The parameter in the field `name`, without values until they are read. Its id is a function of its
    /// path, so that an optimizer's state finds it again in another process.
    pub fn param<const D: usize>(
        &self,
        name: &str,
        shape: [usize; D],
        fill: Initializer,
    ) -> Param<Tensor<D>> {
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
fn values(seed: u64, path: &str, count: usize, fill: Initializer) -> Vec<f32> {
    let draw: fn(&mut ChaCha8Rng) -> f64;
    let scale = match fill {
        Initializer::Zeros => return vec![0.0; count],
        Initializer::Ones => return vec![1.0; count],
        Initializer::Constant(value) => return vec![value as f32; count],
        Initializer::Normal(std) => {
            draw = cut_normal;
            std
        }
        Initializer::Uniform(bound) => {
            draw = |rng| 2.0 * rng.random::<f64>() - 1.0;
            bound
        }
    };
    // A generator of its own for each parameter: one stream for all would move every value behind a new
    // parameter.
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&fnv1a(path.as_bytes()).to_le_bytes());
    let mut rng = ChaCha8Rng::from_seed(key);
    (0..count).map(|_| (draw(&mut rng) * scale) as f32).collect()
}

/// A standard normal value in [-2, 2] (Box and Muller, drawn again outside).
fn cut_normal(rng: &mut ChaCha8Rng) -> f64 {
    loop {
        // The logarithm needs a number above 0, and `random` gives 0 but never 1.
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
