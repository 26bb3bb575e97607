//! The norm of all gradients together, by which they are clipped. It may stay on a GPU.

use anyhow::{Result, ensure};
use burn::backend::Flex;
use burn::tensor::Tensor;
use mm1_kernels::adamw;

#[cfg(feature = "gpu")]
use crate::gpu;
use crate::parameters::Gradients;

/// The norm of all gradients together, each of which is finite.
#[derive(Debug)]
pub(crate) enum Norm {
    Known(f64),
    /// On a GPU, not read yet. The update that it scales changes nothing if a gradient or loss is not finite,
    /// nor do those after it.
    #[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "the kernels of GPUs make it"))]
    There(Box<SumsOfSquares>),
}

/// What the norm of gradients is made of.
#[derive(Debug)]
pub(crate) struct SumsOfSquares {
    /// Some for each gradient, in the order of their paths, and whatever else must be finite.
    pub(crate) sums: Tensor<1>,
    /// The paths, and how many sums each has.
    of: Vec<(String, usize)>,
}

impl Norm {
    /// What the host multiplies gradients by, so that their norm is at most `most`.
    pub(crate) fn clip(&self, most: f64) -> f64 {
        match self {
            Self::Known(norm) => (most / (norm + 1e-6)).min(1.0),
            // The kernels multiply by what is there.
            Self::There(_) => 1.0,
        }
    }
}

impl SumsOfSquares {
    /// Of gradients on a GPU, of which there must be one, and of `losses` there.
    #[cfg(feature = "gpu")]
    pub(crate) fn there<'a>(grads: &'a Gradients, losses: impl Iterator<Item = &'a Tensor<1>>) -> Self {
        let sums = gpu::sums_of_squares(grads.values().chain(losses));
        let of = grads.iter().map(|(path, grad)| (path.clone(), gpu::pieces(grad.dims()[0]))).collect();
        Self { sums, of }
    }

    /// How many of the sums are those of gradients; they come first.
    #[cfg(feature = "gpu")]
    pub(crate) fn of_grads(&self) -> usize {
        self.of.iter().map(|(_, count)| count).sum()
    }

    /// The norm, from the sums as they were read.
    ///
    /// # Errors
    /// Names the first parameter whose gradient is not finite.
    pub(crate) fn norm(&self, read: impl IntoIterator<Item = f64>) -> Result<f64> {
        of(self.of.iter().map(|(path, count)| (path, *count)), read)
    }
}

/// The norm, read where the gradients are not here.
///
/// # Errors
/// Names the first parameter whose gradient is not finite.
pub(crate) fn known(grads: &Gradients) -> Result<f64> {
    let here = |grad: &Tensor<1>| {
        let flex = grad.clone().try_into_primitive::<Flex>().ok()?;
        Some(adamw::sum_of_squares(flex.to_contiguous().storage::<f32>()))
    };
    let squares: Vec<f64> = match grads.values().map(here).collect() {
        Some(squares) => squares,
        None => {
            // On another device: all in one transfer.
            let squares = grads.values().map(|grad| grad.clone().square().sum()).collect();
            Tensor::cat(squares, 0).into_data().iter().collect()
        }
    };
    of(grads.keys().map(|path| (path, 1)), squares)
}

/// The norm of gradients by their paths, each of so many sums of squares: added in f64, in their order.
///
/// # Errors
/// Names the first parameter whose gradient is not finite.
pub(crate) fn of<'a>(
    grads: impl Iterator<Item = (&'a String, usize)>,
    squares: impl IntoIterator<Item = f64>,
) -> Result<f64> {
    let (mut squares, mut sum) = (squares.into_iter(), 0.0);
    for (path, count) in grads {
        let of_grad: f64 = squares.by_ref().take(count).sum();
        ensure!(of_grad.is_finite(), "the gradient of {path} is not finite");
        sum += of_grad;
    }
    Ok(f64::sqrt(sum))
}
