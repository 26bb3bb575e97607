//! AdamW by the kernels of [`mm1_gpu_kernels`], where tensors are on a GPU.

use burn::backend::Cube;
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use mm1_gpu_kernels::Client;
use mm1_gpu_kernels::adamw::{self, Pair, ParameterStep, StepNumbers};
use mm1_kernels::adamw::{AdamWStep, StepFactors};

/// Whether `tensor` is where these kernels run.
pub(crate) fn has(tensor: &Tensor<1>) -> bool {
    tensor.clone().try_into_primitive::<Cube>().is_ok_and(|tensor| tensor.dtype == DType::F32)
}

/// One step of parameters that are on a GPU, in a few launches together.
#[derive(Default)]
pub(crate) struct Steps {
    parameters: Vec<ParameterStep>,
    numbers: Option<StepNumbers>,
}

impl Steps {
    /// Adds a parameter with `values` and its `moments`, without a gradient if that is 0. They are written in
    /// place where nothing else refers to them, and must not be read before [`Self::launch`]. That multiplies
    /// gradients, not the `rule`.
    pub(crate) fn add(
        &mut self,
        rule: &AdamWStep,
        values: Tensor<1>,
        grad: Option<Tensor<1>>,
        moments: &mut [Tensor<1>; 2],
    ) -> Tensor<1> {
        // In the place of each moment stands, for now, something that there is anyway.
        let [first, second] = moments.each_mut().map(|moment| own(std::mem::replace(moment, values.clone())));
        let buffer = |tensor: &CubeTensor| tensor.clone().into_buffer_arg();
        let (first_buffer, second_buffer) = (buffer(&first), buffer(&second));
        *moments = [first, second].map(Tensor::from_primitive::<Cube>);
        let values = own(values);
        let StepFactors { rate, keep, root } = rule.factors();
        let AdamWStep { beta1, beta2, eps, .. } = *rule;
        self.numbers = Some(StepNumbers { beta1, beta2, root, eps });
        self.parameters.push(ParameterStep {
            values: buffer(&values),
            grad: grad.map(|grad| there(grad).into_buffer_arg()),
            first: first_buffer,
            second: second_buffer,
            count: values.meta.shape().num_elements(),
            rate,
            keep,
        });
        Tensor::from_primitive::<Cube>(values)
    }

    /// Takes the steps, with gradients multiplied by `scale` `[1]`.
    pub(crate) fn launch(self, scale: &Tensor<1>) {
        if let Some(numbers) = self.numbers {
            let scale = there(scale.clone());
            adamw::step(&scale.client, numbers, || scale.clone().into_buffer_arg(), self.parameters);
        }
    }
}

/// Sums of tensors on a GPU, in a few launches together.
#[derive(Default)]
pub(crate) struct Sums {
    pairs: Vec<Pair>,
    client: Option<Client>,
}

impl Sums {
    /// `sum + other`, written in place of `sum` where nothing else refers to that. It must not be read before
    /// [`Self::launch`].
    pub(crate) fn add(&mut self, sum: Tensor<1>, other: Tensor<1>) -> Tensor<1> {
        let (sum, other) = (own(sum), there(other));
        self.client = Some(sum.client.clone());
        let buffer = sum.clone().into_buffer_arg();
        let count = sum.meta.shape().num_elements();
        self.pairs.push(Pair { sum: buffer, other: other.into_buffer_arg(), count });
        Tensor::from_primitive::<Cube>(sum)
    }

    /// Adds them.
    pub(crate) fn launch(self) {
        if let Some(client) = self.client {
            adamw::add(&client, self.pairs);
        }
    }
}

/// One step of one parameter by itself.
pub(crate) fn step(
    rule: &AdamWStep,
    values: Tensor<1>,
    grad: Tensor<1>,
    moments: &mut [Tensor<1>; 2],
) -> Tensor<1> {
    let scale = Tensor::from_data([rule.grad_scale], &grad.device());
    let mut steps = Steps::default();
    let values = steps.add(rule, values, Some(grad), moments);
    steps.launch(&scale);
    values
}

/// Sums of squares that `count` values have.
pub(crate) fn pieces(count: usize) -> usize {
    adamw::pieces(count)
}

/// The sums of squares of the [`pieces`] of each of `tensors`, all on one GPU, of which there must be one.
pub(crate) fn sums_of_squares<'a>(tensors: impl Iterator<Item = &'a Tensor<1>>) -> Tensor<1> {
    let tensors: Vec<CubeTensor> = tensors.map(|tensor| there(tensor.clone())).collect();
    let count = |tensor: &CubeTensor| tensor.meta.shape().num_elements();
    let sums = empty(&tensors[0], tensors.iter().map(|tensor| pieces(count(tensor))).sum());
    let with_count = |tensor: CubeTensor| {
        let count = count(&tensor);
        (tensor.into_buffer_arg(), count)
    };
    let tensors = tensors.into_iter().map(with_count).collect();
    adamw::sums_of_squares(&sums.client, tensors, || sums.clone().into_buffer_arg());
    Tensor::from_primitive::<Cube>(sums)
}

/// Writes to `scale` `[1]` what gradients are multiplied by, so that their norm is at most `most`: the root
/// of the first `count` of `sums`. It is -1 once one of all `sums` is not finite, and stays so.
pub(crate) fn clip(sums: &Tensor<1>, count: usize, scale: Tensor<1>, most: f64) -> Tensor<1> {
    let (sums, scale) = (there(sums.clone()), own(scale));
    let to = scale.clone().into_buffer_arg();
    adamw::clip(&scale.client, sums.into_buffer_arg(), count, to, most as f32);
    Tensor::from_primitive::<Cube>(scale)
}

/// Room for `count` values of f32, beside `like`.
fn empty(like: &CubeTensor, count: usize) -> CubeTensor {
    let handle = like.client.empty(count * size_of::<f32>());
    let (client, device) = (like.client.clone(), like.device.clone());
    CubeTensor::new_contiguous(client, device, Shape::from([count]), handle, DType::F32)
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
