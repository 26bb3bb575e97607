//! A walk over a module's parameters by their paths (`vision.blocks.0.attention.qkv`): the one that weights
//! files, the optimizer, checkpoints and counts share.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;

/// Looks at parameters.
pub trait ParameterVisitor {
    /// Looks at the one at `path`. `parameter.val()` draws its first values if nothing has yet;
    /// `parameter.lazy_shape()` does not.
    fn visit<const D: usize>(&mut self, path: &str, parameter: &Param<Tensor<D>>);
}

/// Replaces parameters.
pub trait ParameterMapper {
    /// Gives what takes the place of the one at `path`.
    fn map<const D: usize>(&mut self, path: &str, parameter: Param<Tensor<D>>) -> Param<Tensor<D>>;
}

/// Goes through all parameters of `module`, in its order.
pub fn visit<M: Module>(module: &M, visitor: &mut impl ParameterVisitor) {
    module.visit(&mut Walk { path: Vec::new(), each: visitor });
}

/// Replaces all parameters of `module`, in its order.
pub fn map<M: Module>(module: M, mapper: &mut impl ParameterMapper) -> M {
    module.map(&mut Walk { path: Vec::new(), each: mapper })
}

/// The engine's walk, with the names of the modules that it is in.
struct Walk<'a, T> {
    path: Vec<String>,
    each: &'a mut T,
}

impl<T> Walk<'_, T> {
    /// The variant of an enum is no part of a path: another connector has the same names for the same
    /// parameters.
    fn enter(&mut self, name: &str, container: &str) {
        if !container.starts_with("Enum:") {
            self.path.push(name.to_owned());
        }
    }

    fn exit(&mut self, container: &str) {
        if !container.starts_with("Enum:") {
            self.path.pop();
        }
    }
}

impl<T: ParameterVisitor> ModuleVisitor for Walk<'_, T> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        self.each.visit(&self.path.join("."), parameter);
    }
}

impl<T: ParameterMapper> ModuleMapper for Walk<'_, T> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.exit(container);
    }

    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.each.map(&self.path.join("."), parameter)
    }
}
