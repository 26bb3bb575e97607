//! Gradients that are added to those of the micro-batches before.

use burn::tensor::{Device, Tensor, TensorData};
use mm1_model::ops::Weight;

use crate::case;

fn leaf(values: [f32; 4], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values.to_vec(), [2, 2]), device).require_grad()
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

#[test]
fn the_backward_pass_adds_to_the_sum_that_was_handed_over() {
    let device = Device::flex().autodiff();
    let (used, unused) = (leaf([1.0, 2.0, 3.0, 4.0], &device), leaf([0.0; 4], &device));
    let x = Tensor::<3>::from_data(TensorData::new(vec![1.0f32, 10.0], [1, 1, 2]), &device);
    let compute = case::cpu();
    compute.step(|compute| {
        let sums = compute.gradient_sums().unwrap();
        let weight = || Weight::Matrix(used.clone());
        let backward = || compute.ops().linear(x.clone(), weight().into()).sum().backward();
        let first = used.grad_remove(&mut backward()).unwrap().reshape([4]);
        assert_eq!(values(first.clone()), [1.0, 1.0, 10.0, 10.0]);
        assert!(sums.insert(used.clone(), first).is_none());
        assert!(sums.insert(unused.clone(), Tensor::<1>::full([4], 7.0, &Device::flex())).is_none());
        let mut grads = backward();
        assert_eq!(values(used.grad_remove(&mut grads).unwrap()), [2.0, 2.0, 20.0, 20.0]);
        assert!(unused.grad_remove(&mut grads).is_none());
        assert!(sums.take(used.clone()).is_none(), "it is in the gradient");
        assert_eq!(values(sums.take(unused.clone()).unwrap()), [7.0; 4]);
        sums.insert(used.clone(), Tensor::<1>::full([4], 7.0, &Device::flex()));
    });
    assert!(compute.gradient_sums().is_none(), "there are no sums outside of a step");
    compute.step(|compute| {
        assert!(compute.gradient_sums().unwrap().take(used.clone()).is_none(), "a step leaves no sums");
    });
}
