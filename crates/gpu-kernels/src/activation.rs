//! Activations of rows, forward and backward: SwiGLU (Shazeer 2020), GELU with the exact error function and
//! its two approximations (Hendrycks and Gimpel 2016), SiLU.

#![expect(unstable_name_collisions, reason = "std has no erf yet; by its trait kernels can't call it")]

use cubecl::client::Client;
use cubecl::prelude::*;

use crate::Number;
use crate::rows::cubes_of_values;

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

/// What goes into an activation.
#[derive(Clone, Copy, Debug)]
pub struct Activated {
    /// What happens to it.
    pub function: Function,
    /// Values in a row of results, of which an input of Swiglu has twice as many.
    pub width: usize,
    /// Number of results.
    pub count: usize,
    /// Whether a bias is added to the input, one for each of a row's values.
    pub biased: bool,
}

impl Activated {
    /// Values in a row of inputs.
    fn inputs(self) -> u32 {
        self.width as u32 * if self.function == Function::Swiglu { 2 } else { 1 }
    }
}

/// Writes the activation of `h` `[n, width]` (Swiglu: `[n, 2 width]`) plus `bias`, which is not read where
/// there is none, to `y` `[n, width]`, in `number`.
pub fn forward(client: &Client, of: Activated, [h, bias]: [BufferArg; 2], y: BufferArg, number: Number) {
    let (cubes, units) = cubes_of_values(of.count);
    let (inputs, biased, number) = (of.inputs(), of.biased, number.elem());
    match of.function {
        Function::Swiglu => {
            forward_halves::launch(client, cubes, units, h, bias, y, inputs, biased, number);
        }
        function => {
            forward_values::launch(client, cubes, units, h, bias, y, inputs, function, biased, number)
        }
    }
}

/// Writes the gradient of `h`, which is that of `h` plus `bias`, from that of `y`.
pub fn backward(client: &Client, of: Activated, [h, bias, dy]: [BufferArg; 3], dh: BufferArg) {
    let (cubes, units) = cubes_of_values(of.count);
    let (inputs, biased) = (of.inputs(), of.biased);
    match of.function {
        Function::Swiglu => backward_halves::launch(client, cubes, units, h, bias, dy, dh, inputs, biased),
        function => backward_values::launch(client, cubes, units, h, bias, dy, dh, inputs, function, biased),
    }
}

/// The input at `at`, of rows of `width`.
#[cube]
fn input(h: &[f32], bias: &[f32], at: usize, width: usize, #[comptime] biased: bool) -> f32 {
    let mut x = h[at];
    if comptime!(biased) {
        x += bias[at % width];
    }
    x
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
        Function::GeluTanh => x * sigmoid(1.595_769_f32 * (x + 0.044_715f32 * x * x * x)),
        Function::Silu | Function::Swiglu => x * sigmoid(x),
    }
}

#[cube]
fn slope(x: f32, #[comptime] function: Function) -> f32 {
    match comptime!(function) {
        Function::Gelu => {
            let phi = 0.5f32 * (1.0f32 + (x * 0.707_106_77f32).erf());
            phi + x * 0.398_942_3_f32 * (-0.5f32 * x * x).exp()
        }
        Function::QuickGelu => {
            let s = sigmoid(1.702f32 * x);
            s + 1.702f32 * x * s * (1.0f32 - s)
        }
        Function::GeluTanh => {
            let s = sigmoid(1.595_769_f32 * (x + 0.044_715f32 * x * x * x));
            s + x * s * (1.0f32 - s) * 1.595_769_f32 * (1.0f32 + 0.134_145f32 * x * x)
        }
        Function::Silu | Function::Swiglu => {
            let s = sigmoid(x);
            s * (1.0f32 + x * (1.0f32 - s))
        }
    }
}

#[cube(launch)]
fn forward_values<F: Float>(
    h: &[f32],
    bias: &[f32],
    y: &mut [F],
    width: u32,
    #[comptime] function: Function,
    #[comptime] biased: bool,
    #[define(F)] _number: ElemType,
) {
    let stride = CUBE_DIM as usize * CUBE_COUNT;
    let width = width as usize;
    let mut i = ABSOLUTE_POS;
    while i < y.len() {
        y[i] = F::cast_from(value(input(h, bias, i, width, biased), function));
        i += stride;
    }
}

#[cube(launch)]
fn backward_values(
    h: &[f32],
    bias: &[f32],
    dy: &[f32],
    dh: &mut [f32],
    width: u32,
    #[comptime] function: Function,
    #[comptime] biased: bool,
) {
    let stride = CUBE_DIM as usize * CUBE_COUNT;
    let width = width as usize;
    let mut i = ABSOLUTE_POS;
    while i < dh.len() {
        dh[i] = dy[i] * slope(input(h, bias, i, width, biased), function);
        i += stride;
    }
}

/// `width` is that of gate and other half together.
#[cube(launch)]
fn forward_halves<F: Float>(
    h: &[f32],
    bias: &[f32],
    y: &mut [F],
    width: u32,
    #[comptime] biased: bool,
    #[define(F)] _number: ElemType,
) {
    let stride = CUBE_DIM as usize * CUBE_COUNT;
    let width = width as usize;
    let half = width / 2;
    let mut i = ABSOLUTE_POS;
    while i < y.len() {
        let gate = i / half * half + i;
        let other = input(h, bias, gate + half, width, biased);
        y[i] = F::cast_from(value(input(h, bias, gate, width, biased), comptime!(Function::Swiglu)) * other);
        i += stride;
    }
}

#[cube(launch)]
fn backward_halves(
    h: &[f32],
    bias: &[f32],
    dy: &[f32],
    dh: &mut [f32],
    width: u32,
    #[comptime] biased: bool,
) {
    let stride = CUBE_DIM as usize * CUBE_COUNT;
    let width = width as usize;
    let half = width / 2;
    let mut i = ABSOLUTE_POS;
    while i < dy.len() {
        let gate = i / half * half + i;
        let x = input(h, bias, gate, width, biased);
        let other = input(h, bias, gate + half, width, biased);
        dh[gate] = dy[i] * other * slope(x, comptime!(Function::Swiglu));
        dh[gate + half] = dy[i] * value(x, comptime!(Function::Swiglu));
        i += stride;
    }
}
