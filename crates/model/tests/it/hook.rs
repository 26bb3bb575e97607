//! Gradients that are given away during the backward pass.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use mm1_model::ops::{GradientHook, Weight};
use mm1_model::walk::{self, ParameterVisitor};
use mm1_model::{Compute, Mm1, weights};

use crate::case;

/// What a hook has given, by number.
type Given = Arc<Mutex<BTreeMap<usize, Vec<f32>>>>;

fn hook() -> (Arc<GradientHook>, Given) {
    let given = Given::default();
    let to = given.clone();
    let give = move |number, grad: Tensor<1>| {
        let before = to.lock().unwrap().insert(number, grad.into_data().try_into_vec().unwrap());
        assert!(before.is_none(), "{number} came twice");
    };
    (Arc::new(GradientHook::new(give)), given)
}

/// Lets a hook watch all parameters, by their numbers in the order of the model, or looks for what is left.
struct Watch<'a> {
    hook: &'a GradientHook,
    before: bool,
    number: usize,
}

impl ParameterVisitor for Watch<'_> {
    fn visit<const D: usize>(&mut self, path: &str, parameter: &Param<Tensor<D>>) {
        if self.before {
            self.hook.watch(self.number, parameter.val());
        } else {
            assert!(self.hook.rest(parameter.val()).is_none(), "{path} was not given as a whole");
        }
        self.number += 1;
    }
}

/// Those of a whole network, blocks that are computed again included; a table that is used twice comes once.
#[test]
fn a_hook_gives_the_gradients_of_the_pass() {
    let device = Device::flex().autodiff();
    for name in case::NAMES {
        let case = case::read(name);
        let model = case.model(&device);
        for checkpointing in [false, true] {
            let compute = case::cpu().with_checkpointing(checkpointing);
            let gradients = |compute: &Compute| {
                let loss = model.loss(compute, &case.input(), &case.targets, case.weights()).unwrap();
                weights::gradients(&model, &loss.backward())
            };
            let expected = compute.step(gradients);
            let (hook, given) = hook();
            let watch = |before| walk::visit(&model, &mut Watch { hook: &hook, before, number: 0 });
            watch(true);
            let left = compute.step(|compute| gradients(&compute.with_gradient_hook(&hook)));
            watch(false);
            let given = given.lock().unwrap();
            assert!(hook.given().iter().eq(given.keys()));
            compare(&model, &expected, &given, &left);
            assert!(given.len() > expected.len() / 2, "{name}: {} of {}", given.len(), expected.len());
        }
    }
}

/// Path, shape and values of gradients.
type Gradients = [(String, Vec<usize>, Vec<f32>)];

fn compare(model: &Mm1, expected: &Gradients, given: &BTreeMap<usize, Vec<f32>>, left: &Gradients) {
    let paths = weights::shapes(model);
    let given = given.iter().map(|(number, values)| (&paths[*number].0, values));
    let found: Vec<_> = given.chain(left.iter().map(|(path, _, values)| (path, values))).collect();
    assert_eq!(found.len(), expected.len());
    assert_eq!(found.iter().map(|(path, _)| path).collect::<BTreeSet<_>>().len(), found.len());
    for (path, values) in found {
        let (_, _, of_pass) = expected.iter().find(|(of_pass, ..)| of_pass == path).unwrap();
        let same = values.len() == of_pass.len()
            && values.iter().zip(of_pass).all(|(x, y)| x.to_bits() == y.to_bits());
        assert!(same, "{path}");
    }
}

/// The engine's own operations are not counted: what comes of them is found after the pass.
#[test]
fn a_part_that_comes_of_no_operation_stays_with_the_pass() {
    let device = Device::flex().autodiff();
    let leaf = || Tensor::<2>::from_data(TensorData::new(vec![1.0f32; 4], [2, 2]), &device).require_grad();
    let (weight, other) = (leaf(), leaf());
    let x = Tensor::<3>::from_data(TensorData::new(vec![1.0f32, 10.0], [1, 1, 2]), &device);
    let (hook, given) = hook();
    hook.watch(0, weight.clone());
    hook.watch(1, other.clone());
    let compute = case::cpu().with_gradient_hook(&hook);
    let linear = |weight: &Tensor<2>| compute.ops().linear(x.clone(), Weight::Matrix(weight.clone()).into());
    // Used, but in no part of the loss: then it is not known that no more comes.
    let unused = linear(&other);
    let loss = (linear(&weight) + linear(&weight) + linear(&other)).sum() + weight.clone().sum();
    let mut grads = loss.backward();
    drop(unused);
    assert_eq!(*given.lock().unwrap(), BTreeMap::from([(0, vec![2.0, 2.0, 20.0, 20.0])]));
    let values = |tensor: Tensor<1>| tensor.into_data().try_into_vec::<f32>().unwrap();
    assert_eq!(values(weight.grad_remove(&mut grads).unwrap().reshape([4])), [1.0; 4]);
    assert!(hook.rest(weight).is_none());
    assert!(other.grad_remove(&mut grads).is_none());
    assert_eq!(values(hook.rest(other).unwrap()), [1.0, 1.0, 10.0, 10.0]);
    assert_eq!(hook.given(), BTreeSet::from([0]));
}
