//! AdamW by the kernels of [`mm1_gpu_kernels`], where tensors are on a GPU.

use burn::backend::Cube;
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use mm1_gpu_kernels::adamw::{self, ParameterBuffers, StepNumbers};
use mm1_kernels::adamw::{AdamWStep, StepFactors};

/// Whether `tensor` is where these kernels run.
pub(crate) fn has(tensor: &Tensor<1>) -> bool {
    tensor.clone().try_into_primitive::<Cube>().is_ok_and(|tensor| tensor.dtype == DType::F32)
}

/// One step of a parameter with `values` and its `moments`, all on a GPU: in one launch, and in place where
/// nothing else refers to them.
pub(crate) fn step(
    rule: &AdamWStep,
    values: Tensor<1>,
    grad: Tensor<1>,
    moments: &mut [Tensor<1>; 2],
) -> Tensor<1> {
    // In the place of each moment stands, for now, something that there is anyway.
    let [first, second] = moments.each_mut().map(|moment| own(std::mem::replace(moment, grad.clone())));
    let (values, grad) = (own(values), there(grad));
    let StepFactors { rate, keep, root } = rule.factors();
    let AdamWStep { beta1, beta2, eps, grad_scale, .. } = *rule;
    let buffers = ParameterBuffers {
        values: values.clone().into_buffer_arg(),
        grad: grad.into_buffer_arg(),
        first: first.clone().into_buffer_arg(),
        second: second.clone().into_buffer_arg(),
        count: values.meta.shape().num_elements(),
    };
    let numbers = StepNumbers { grad_scale, beta1, beta2, rate, keep, root, eps };
    adamw::step(&values.client, &numbers, buffers);
    *moments = [first, second].map(Tensor::from_primitive::<Cube>);
    Tensor::from_primitive::<Cube>(values)
}

/// The sum of squares of each of `grads`, of which there must be one, all on a GPU: a launch each, and one
/// transfer of all sums.
pub(crate) fn sums_of_squares<'a>(grads: impl Iterator<Item = &'a Tensor<1>>) -> Vec<f64> {
    let grads: Vec<CubeTensor> = grads.map(|grad| there(grad.clone())).collect();
    let counts: Vec<usize> = grads.iter().map(|grad| grad.meta.shape().num_elements()).collect();
    let Some(one) = grads.first() else { return Vec::new() };
    let total: usize = counts.iter().map(|&count| adamw::pieces(count)).sum();
    let handle = one.client.empty(total * size_of::<f32>());
    let (client, device) = (one.client.clone(), one.device.clone());
    let sums = CubeTensor::new_contiguous(client.clone(), device, Shape::from([total]), handle, DType::F32);
    let mut at = 0;
    for (grad, &count) in grads.into_iter().zip(&counts) {
        adamw::sums_of_squares(&client, grad.into_buffer_arg(), count, sums.clone().into_buffer_arg(), at);
        at += adamw::pieces(count);
    }
    let sums: Vec<f64> = Tensor::<1>::from_primitive::<Cube>(sums).into_data().iter().collect();
    let mut sums = sums.into_iter();
    counts.iter().map(|&count| sums.by_ref().take(adamw::pieces(count)).sum()).collect()
}

/// The tensor on its device, in its order.
fn there(tensor: Tensor<1>) -> CubeTensor {
    into_contiguous(tensor.try_into_primitive::<Cube>().expect("a parameter is where its gradient is"))
}

/// The same for writing: a copy, where something else refers to it.
fn own(tensor: Tensor<1>) -> CubeTensor {
    let tensor = there(tensor);
    if tensor.can_mut() { tensor } else { tensor.copy() }
}
