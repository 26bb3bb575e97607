//! Activations of rows, forward and backward: SwiGLU (Shazeer 2020), GELU with the exact error function and
//! its two approximations (Hendrycks and Gimpel 2016), SiLU.

#![expect(unstable_name_collisions, reason = "std has no erf yet; by its trait kernels can't call it")]

use cubecl::client::Client;
use cubecl::prelude::*;

use crate::rows::{UNITS, cubes_of_values};

/// What happens to a value; of [`Self::Swiglu`] a row is gate|up, and the result `silu(gate) * up`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// Of two halves.
    Swiglu,
    /// `x * Phi(x)`.
    Gelu,
    /// `x * sigmoid(1.702 x)`.
    QuickGelu,
    /// `x * sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3))`.
    GeluTanh,
    /// `x * sigmoid(x)`.
    Silu,
}

/// Writes the activation of `h` `[n, width]` (Swiglu: `[n, 2 width]`) to `y` `[n, width]`, `count` values.
pub fn forward(client: &Client, function: Function, width: usize, h: BufferArg, y: BufferArg, count: usize) {
    let (cubes, units) = (cubes_of_values(count), CubeDim::new_1d(UNITS));
    match function {
        Function::Swiglu => forward_halves::launch(client, cubes, units, h, y, width as u32),
        function => forward_values::launch(client, cubes, units, h, y, function),
    }
}

/// Writes the gradient of `h`, from that of `y`, which has `count` values.
pub fn backward(
    client: &Client,
    function: Function,
    width: usize,
    [h, dy]: [BufferArg; 2],
    dh: BufferArg,
    count: usize,
) {
    let (cubes, units) = (cubes_of_values(count), CubeDim::new_1d(UNITS));
    match function {
        Function::Swiglu => backward_halves::launch(client, cubes, units, h, dy, dh, width as u32),
        function => backward_values::launch(client, cubes, units, h, dy, dh, function),
    }
}

/// `1 / (1 + exp(-x))`, without an infinity on the way.
#[cube]
fn sigmoid(x: f32) -> f32 {
    let mut low = x;
    if low < f32::new(-80.0) {
        low = f32::new(-80.0);
    }
    1.0f32 / (1.0f32 + (-low).exp())
}

#[cube]
fn value(x: f32, #[comptime] function: Function) -> f32 {
    match comptime!(function) {
        Function::Gelu => x * (0.5f32 * (1.0f32 + (x * 0.707_106_77f32).erf())),
        Function::QuickGelu => x * sigmoid(1.702f32 * x),
        Function::GeluTanh => x * sigmoid(1.595_769_1f32 * (x + 0.044_715f32 * x * x * x)),
        Function::Silu | Function::Swiglu => x * sigmoid(x),
    }
}

#[cube]
fn slope(x: f32, #[comptime] function: Function) -> f32 {
    match comptime!(function) {
        Function::Gelu => {
            let phi = 0.5f32 * (1.0f32 + (x * 0.707_106_77f32).erf());
            phi + x * 0.398_942_28f32 * (-0.5f32 * x * x).exp()
        }
        Function::QuickGelu => {
            let s = sigmoid(1.702f32 * x);
            s + 1.702f32 * x * s * (1.0f32 - s)
        }
        Function::GeluTanh => {
            let s = sigmoid(1.595_769_1f32 * (x + 0.044_715f32 * x * x * x));
            s + x * s * (1.0f32 - s) * 1.595_769_1f32 * (1.0f32 + 0.134_145f32 * x * x)
        }
        Function::Silu | Function::Swiglu => {
            let s = sigmoid(x);
            s * (1.0f32 + x * (1.0f32 - s))
        }
    }
}

#[cube(launch)]
fn forward_values(h: &[f32], y: &mut [f32], #[comptime] function: Function) {
    let stride = CUBE_DIM as usize * CUBE_COUNT;
    let mut i = ABSOLUTE_POS;
    while i < y.len() {
        y[i] = value(h[i], function);
        i += stride;
    }
}

#[cube(launch)]
fn backward_values(h: &[f32], dy: &[f32], dh: &mut [f32], #[comptime] function: Function) {
    let stride = CUBE_DIM as usize * CUBE_COUNT;
    let mut i = ABSOLUTE_POS;
    while i < dh.len() {
        dh[i] = dy[i] * slope(h[i], function);
        i += stride;
    }
}

#[cube(launch)]
fn forward_halves(h: &[f32], y: &mut [f32], width: u32) {
    let stride = CUBE_DIM as usize * CUBE_COUNT;
    let width = width as usize;
    let mut i = ABSOLUTE_POS;
    while i < y.len() {
        let gate = i / width * width + i;
        y[i] = value(h[gate], comptime!(Function::Swiglu)) * h[gate + width];
        i += stride;
    }
}

#[cube(launch)]
fn backward_halves(h: &[f32], dy: &[f32], dh: &mut [f32], width: u32) {
    let stride = CUBE_DIM as usize * CUBE_COUNT;
    let width = width as usize;
    let mut i = ABSOLUTE_POS;
    while i < dy.len() {
        let gate = i / width * width + i;
        let x = h[gate];
        dh[gate] = dy[i] * h[gate + width] * slope(x, comptime!(Function::Swiglu));
        dh[gate + width] = dy[i] * value(x, comptime!(Function::Swiglu));
        i += stride;
    }
}
