//! A module's parameters without the engine's types: path, shape and flat values.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use burn::backend::Flex;
use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use mm1_model::Compute;
use mm1_model::ops::{GradientHook, GradientSums};
use mm1_model::walk::{self, ParameterMapper, ParameterVisitor};

#[cfg(feature = "gpu")]
use crate::gpu;

/// Gradients by path of the parameter, flat.
pub(crate) type Gradients = BTreeMap<String, Tensor<1>>;

/// One parameter.
#[derive(Clone, Debug)]
pub(crate) struct Parameter {
    pub(crate) shape: Vec<usize>,
    /// Its values, flat and outside of any graph.
    pub(crate) values: Tensor<1>,
    /// Whether it gets a gradient.
    pub(crate) trained: bool,
}

/// All parameters by path.
pub(crate) fn collect<M: Module>(model: &M) -> BTreeMap<String, Parameter> {
    let mut collect = Collect::default();
    walk::visit(model, &mut collect);
    collect.0
}

/// Runs the backward pass of `loss` and adds the gradients of `model` to `sums`, by path. Gives those of
/// other tensors.
pub(crate) fn add_gradients<M: Module>(
    compute: &Compute,
    model: &M,
    loss: &Tensor<1>,
    sums: &mut Gradients,
) -> burn::tensor::Gradients {
    let step_sums = compute.gradient_sums();
    if let Some(step_sums) = step_sums {
        walk::visit(model, &mut HandOver { sums, step_sums });
    }
    let grads = loss.backward();
    #[cfg(feature = "gpu")]
    let mut there = gpu::Sums::default();
    let mut add = Add {
        grads,
        sums,
        step_sums,
        hook: compute.gradient_hook(),
        #[cfg(feature = "gpu")]
        there: &mut there,
    };
    walk::visit(model, &mut add);
    let Add { grads, .. } = add;
    #[cfg(feature = "gpu")]
    there.launch();
    grads
}

/// Lets `hook` watch the parameters that have a `number`.
pub(crate) fn watch<M: Module>(model: &M, hook: &GradientHook, number: impl Fn(&str) -> Option<usize>) {
    walk::visit(model, &mut Watch { hook, number });
}

/// All values on the host, by path.
pub(crate) fn export<M: Module>(model: &M) -> BTreeMap<String, TensorData> {
    let all = collect(model).into_iter();
    all.map(|(path, p)| (path, download(&p.values, &p.shape))).collect()
}

/// Replaces the values of each parameter by what `change` makes of its path, shape and flat values, which
/// nothing else refers to, if nothing else refers to `model`: they can be written in place.
pub(crate) fn map<M: Module>(model: M, change: impl FnMut(&str, &[usize], Tensor<1>) -> Tensor<1>) -> M {
    walk::map(model, &mut ReplaceValues(change))
}

/// `values` on the host, with the shape of its parameter.
pub(crate) fn download(values: &Tensor<1>, shape: &[usize]) -> TensorData {
    let (bytes, _, dtype) = values.to_data().into_parts();
    TensorData::from_bytes(bytes, shape.to_vec(), dtype)
}

/// What `of` makes of `values`, which are copied only where they are not on the host.
pub(crate) fn read<R>(values: Tensor<1>, of: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let Ok(here) = values.clone().try_into_primitive::<Flex>() else {
        let copied: Vec<f32> = values.into_data().try_into_vec().context("values in f32")?;
        return Ok(of(&copied));
    };
    Ok(match here.as_slice() {
        Some(values) => of(values),
        None => of(here.to_contiguous().storage()),
    })
}

/// The same on the host.
pub(crate) fn on_host(values: Tensor<1>) -> Result<Tensor<1>> {
    if values.clone().try_into_primitive::<Flex>().is_ok() {
        return Ok(values);
    }
    let data = values.try_into_data().context("a gradient on its device")?;
    Ok(Tensor::from_data(data, &Device::flex()))
}

/// `tensors`, if their names, shapes and types are the `expected` ones.
pub(crate) fn check(
    mut tensors: BTreeMap<String, TensorData>,
    expected: impl Iterator<Item = (String, Vec<usize>, DType)>,
) -> Result<BTreeMap<String, TensorData>> {
    let mut found = BTreeMap::new();
    for (name, shape, dtype) in expected {
        let data = tensors.remove(&name).with_context(|| format!("the checkpoint lacks {name}"))?;
        let there = data.shape().as_slice();
        ensure!(there == shape, "{name} is {there:?} in the checkpoint and {shape:?} in this model");
        ensure!(
            data.dtype() == dtype,
            "{name} is {:?} in the checkpoint and {dtype:?} in this run",
            data.dtype()
        );
        found.insert(name, data);
    }
    match tensors.keys().next() {
        Some(name) => bail!("the checkpoint's {name} has no place in this model and its optimizer"),
        None => Ok(found),
    }
}

/// `data` as flat values on `device`.
pub(crate) fn upload(data: TensorData, device: &Device) -> Tensor<1> {
    let (bytes, shape, dtype) = data.into_parts();
    Tensor::from_data(TensorData::from_bytes(bytes, [shape.num_elements()], dtype), (device, dtype))
}

#[derive(Default)]
struct Collect(BTreeMap<String, Parameter>);

impl ParameterVisitor for Collect {
    fn visit<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        let (shape, trained) = (tensor.dims().to_vec(), tensor.is_require_grad());
        self.0.insert(path.to_owned(), Parameter { shape, trained, values: flat(tensor.inner()) });
    }
}

/// Hands the sums to the backward pass, which adds to them where they are. Adding each micro-batch's
/// gradients apart holds a second set of them and takes 1.09 of the time in place of 1.03 (four micro-batches
/// of the 34M decoder).
struct HandOver<'a> {
    sums: &'a mut Gradients,
    step_sums: &'a GradientSums,
}

impl ParameterVisitor for HandOver<'_> {
    fn visit<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
        if let Some(sum) = self.sums.remove(path).and_then(|sum| self.step_sums.insert(param.val(), sum)) {
            self.sums.insert(path.to_owned(), sum);
        }
    }
}

/// Takes the gradients, and what the backward pass has left of the sums.
struct Add<'a> {
    grads: burn::tensor::Gradients,
    sums: &'a mut Gradients,
    step_sums: Option<&'a GradientSums>,
    hook: Option<&'a GradientHook>,
    #[cfg(feature = "gpu")]
    there: &'a mut gpu::Sums,
}

impl ParameterVisitor for Add<'_> {
    fn visit<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        let grad = tensor.grad_remove(&mut self.grads).map(flat);
        let rest = self.hook.and_then(|hook| hook.rest(tensor.clone()));
        let left = self.sums.remove(path).or_else(|| self.step_sums?.take(tensor));
        let left = [left, rest].into_iter().flatten().reduce(|sum, part| sum + part);
        let sum = match (left, grad) {
            #[cfg(feature = "gpu")]
            (Some(sum), Some(grad)) if gpu::has(&sum) && gpu::has(&grad) => Some(self.there.add(sum, grad)),
            (Some(sum), Some(grad)) => Some(sum + grad),
            (sum, grad) => sum.or(grad),
        };
        if let Some(sum) = sum {
            self.sums.insert(path.to_owned(), sum);
        }
    }
}

struct Watch<'a, F> {
    hook: &'a GradientHook,
    number: F,
}

impl<F: Fn(&str) -> Option<usize>> ParameterVisitor for Watch<'_, F> {
    fn visit<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
        if let Some(number) = (self.number)(path) {
            self.hook.watch(number, param.val());
        }
    }
}

struct ReplaceValues<F>(F);

impl<F: FnMut(&str, &[usize], Tensor<1>) -> Tensor<1>> ParameterMapper for ReplaceValues<F> {
    fn map<const D: usize>(&mut self, path: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        // `consume` drops the parameter's own reference to its values.
        let (id, tensor, mapper) = param.consume();
        let (dims, trained) = (tensor.dims(), tensor.is_require_grad());
        let graph = tensor.gradient_checkpointing_strategy();
        let values = (self.0)(path, &dims, flat(tensor.inner())).reshape(dims);
        let tensor = match graph {
            Some(strategy) => {
                values.autodiff().with_gradient_checkpointing_strategy(strategy).set_require_grad(trained)
            }
            None => values,
        };
        Param::from_mapped_value(id, tensor, mapper)
    }
}

fn flat<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let count = tensor.dims().iter().product::<usize>();
    tensor.reshape([count])
}
