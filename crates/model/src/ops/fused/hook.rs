//! [`GradientHook`]: gradients of parameters while the backward pass goes on.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::backend::Flex;
use burn::backend::autodiff::NodeId;
use burn::tensor::{Shape, Tensor};
use burn_flex::FlexTensor;

use super::{Operand, shape};

/// Gives away the gradient of a parameter as soon as the backward pass has its last part, as PyTorch's hooks
/// behind the accumulation of a gradient do. It is for one forward and one backward pass.
///
/// The forward pass counts the operations that a parameter goes into. Operations of the engine are not seen:
/// a gradient that comes from them alone is given away by nobody, but stays with the pass's other gradients.
pub struct GradientHook {
    give: Box<dyn Fn(usize, Tensor<1>) + Send + Sync>,
    parameters: Mutex<HashMap<NodeId, Watched>>,
}

struct Watched {
    number: usize,
    /// Operations whose part of the gradient has not come.
    uses: usize,
    /// The parts that have come.
    sum: Option<FlexTensor>,
    given: bool,
}

impl GradientHook {
    /// `give` is called in the backward pass, with a parameter's number and its gradient, flat.
    pub fn new(give: impl Fn(usize, Tensor<1>) + Send + Sync + 'static) -> Self {
        Self { give: Box::new(give), parameters: Mutex::default() }
    }

    /// Gives away the gradient of `parameter`, which is on the CPU, as that of `number`. Before the forward
    /// pass.
    pub fn watch<const D: usize>(&self, number: usize, parameter: Tensor<D>) {
        if let Some(node) = Operand::new(parameter).node {
            self.lock().insert(node.id(), Watched { number, uses: 0, sum: None, given: false });
        }
    }

    /// After the backward pass: what operations have given to a parameter whose gradient was not given away.
    /// Of one that was it is a part that came too late.
    pub fn rest<const D: usize>(&self, parameter: Tensor<D>) -> Option<Tensor<1>> {
        let node = Operand::new(parameter).node?;
        self.lock().get_mut(&node.id())?.sum.take().map(flat)
    }

    /// The numbers of parameters whose gradients were given away.
    pub fn given(&self) -> BTreeSet<usize> {
        self.lock().values().filter(|watched| watched.given).map(|watched| watched.number).collect()
    }

    /// An operation takes the tensor of `node`.
    pub(super) fn count_use(&self, node: NodeId) {
        if let Some(watched) = self.lock().get_mut(&node) {
            watched.uses += 1;
        }
    }

    /// Takes a part of a node's gradient, and adds it to those before by `add`. Gives that of another node
    /// back.
    pub(super) fn take(
        &self,
        node: NodeId,
        grad: FlexTensor,
        add: impl FnOnce(FlexTensor, FlexTensor) -> FlexTensor,
    ) -> Option<FlexTensor> {
        let mut parameters = self.lock();
        let Some(watched) = parameters.get_mut(&node) else { return Some(grad) };
        let sum = match watched.sum.take() {
            Some(before) => add(before, grad),
            None => grad,
        };
        watched.uses = watched.uses.saturating_sub(1);
        if watched.uses > 0 || watched.given {
            watched.sum = Some(sum);
            return None;
        }
        watched.given = true;
        let number = watched.number;
        drop(parameters);
        (self.give)(number, flat(sum));
        None
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Watched>> {
        self.parameters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for GradientHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GradientHook of {} parameters", self.lock().len())
    }
}

fn flat(tensor: FlexTensor) -> Tensor<1> {
    let count = shape(&tensor).num_elements();
    Tensor::from_primitive::<Flex>(tensor.reshape(Shape::from([count])))
}
