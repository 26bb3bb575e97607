//! Parameters by their paths (`vision.blocks.0.attention.qkv`), in and out of safetensors files. Strict: a missing or
//! superfluous name or another shape is an error that names both sides.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::mm1::Mm1;

/// The parts of the network that a recipe can freeze or give a learning rate of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// The image encoder.
    Vision,
    /// The vision-language connector.
    Connector,
    /// The decoder, with embedding and head.
    Lm,
}

impl Group {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Vision, Self::Connector, Self::Lm];

    /// As a recipe writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vision => "vision",
            Self::Connector => "connector",
            Self::Lm => "lm",
        }
    }

    /// The group of the parameter at `path`; `None` where `path` is not a parameter of the network.
    pub fn of(path: &str) -> Option<Self> {
        match path.split('.').next() {
            Some("vision") => Some(Self::Vision),
            Some("connector") => Some(Self::Connector),
            Some("lm") => Some(Self::Lm),
            _ => None,
        }
    }
}

/// Numbers of parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Of the image encoder.
    pub vision: usize,
    /// Of the connector.
    pub connector: usize,
    /// Of the decoder, without embedding and head: the paper's N.
    pub lm: usize,
    /// Of embedding and head.
    pub embedding: usize,
}

impl Counts {
    /// All together.
    pub fn total(&self) -> usize {
        self.vision + self.connector + self.lm + self.embedding
    }
}

/// One parameter, or its gradient: path, shape, values in row-major order.
pub type Named = (String, Vec<usize>, Vec<f32>);

/// Every parameter of a module, in its order.
pub fn parameters<M: Module>(module: &M) -> Vec<Named> {
    let mut found = Vec::new();
    read(module, &mut |path, shape, value| found.push((path, shape, value.values())));
    found
}

/// The gradient of every parameter that has one, in the order of the module.
pub fn gradients<M: Module>(module: &M, gradients: &Gradients) -> Vec<Named> {
    let mut found = Vec::new();
    read(module, &mut |path, shape, value| {
        if let Some(values) = value.gradient(gradients) {
            found.push((path, shape, values));
        }
    });
    found
}

/// Path and shape of every parameter, in the order of the module.
pub fn shapes<M: Module>(module: &M) -> Vec<(String, Vec<usize>)> {
    let mut found = Vec::new();
    read(module, &mut |path, shape, _| found.push((path, shape)));
    found
}

/// Numbers of parameters by group.
pub fn counts(model: &Mm1) -> Counts {
    let mut counts = Counts::default();
    for (path, shape) in shapes(model) {
        let count: usize = shape.iter().product();
        match Group::of(&path) {
            Some(Group::Vision) => counts.vision += count,
            Some(Group::Connector) => counts.connector += count,
            _ if path == "lm.embedding" || path == "lm.head" => counts.embedding += count,
            _ => counts.lm += count,
        }
    }
    counts
}

/// Lets the parameters collect gradients, save those whose path is `frozen`.
pub fn freeze<M: Module>(module: M, frozen: impl Fn(&str) -> bool) -> M {
    module.map(&mut Freezer { path: Path::default(), frozen })
}

/// Writes every parameter of a module as f32.
///
/// # Errors
/// When the file can't be written.
pub fn save<M: Module>(module: &M, file: &std::path::Path) -> Result<()> {
    let parameters = parameters(module);
    let bytes: Vec<(&str, &[usize], Vec<u8>)> = parameters
        .iter()
        .map(|(path, shape, values)| {
            (path.as_str(), shape.as_slice(), values.iter().flat_map(|v| v.to_le_bytes()).collect())
        })
        .collect();
    let views = bytes
        .iter()
        .map(|(path, shape, bytes)| Ok((*path, TensorView::new(Dtype::F32, shape.to_vec(), bytes)?)))
        .collect::<Result<Vec<_>>>()?;
    safetensors::serialize_to_file(views, None, file)
        .with_context(|| format!("cannot write {}", file.display()))
}

/// Puts the values of a file that [`save`] wrote into a module of the same shape.
///
/// # Errors
/// When the file can't be read, is not of safetensors with f32 only, or as [`assign`].
pub fn load<M: Module>(module: M, file: &std::path::Path) -> Result<M> {
    load_as(module, "the model", file, Some)
}

/// Puts the tensors under `part.` of a file that [`save`] wrote, with these names shortened, into `module`: the encoder of
/// a larger network, say.
///
/// # Errors
/// As [`load`].
pub fn load_part<M: Module>(module: M, part: &str, file: &std::path::Path) -> Result<M> {
    let shorten = |path: String| Some(path.strip_prefix(part)?.strip_prefix('.')?.to_string());
    load_as(module, &format!("`{part}`"), file, shorten)
}

/// Puts the tensors of a file whose paths `name` takes into a module, which errors call `what`, one after the other.
fn load_as<M: Module>(
    module: M,
    what: &str,
    file: &std::path::Path,
    name: impl Fn(String) -> Option<String>,
) -> Result<M> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let tensors = stored(&bytes).with_context(|| format!("cannot use {}", file.display()))?;
    let named = tensors.into_iter().filter_map(|(path, tensor)| Some((name(path)?, tensor)));
    put(module, named.collect()).with_context(|| format!("{} does not fit {what}", file.display()))
}

/// The tensors of a safetensors file's bytes, by their paths' order.
///
/// # Errors
/// When the bytes are damaged or a tensor is not f32.
pub fn decode(bytes: &[u8]) -> Result<Vec<Named>> {
    Ok(stored(bytes)?.into_iter().map(|(path, (shape, values))| (path, shape, values.floats())).collect())
}

/// The tensors of a safetensors file's bytes, where they are.
fn stored(bytes: &[u8]) -> Result<Given<'_>> {
    let file = SafeTensors::deserialize(bytes).context("not a whole safetensors file")?;
    let mut tensors = Given::new();
    for (path, view) in file.tensors() {
        ensure!(view.dtype() == Dtype::F32, "`{path}` is {:?}; only F32 can be read", view.dtype());
        tensors.insert(path, (view.shape().to_vec(), Values::Stored(view.data())));
    }
    Ok(tensors)
}

/// Values for a parameter.
enum Values<'a> {
    Floats(Vec<f32>),
    /// As a file has them: little-endian.
    Stored(&'a [u8]),
}

impl Values<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Floats(values) => values.len(),
            Self::Stored(bytes) => bytes.len() / 4,
        }
    }

    fn floats(self) -> Vec<f32> {
        match self {
            Self::Floats(values) => values,
            Self::Stored(bytes) => {
                bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
            }
        }
    }
}

/// Shapes and values by path.
type Given<'a> = BTreeMap<String, (Vec<usize>, Values<'a>)>;

/// Puts values into a module of the same shape.
///
/// # Errors
/// When a parameter is missing, a name is not of the module, or a shape differs; both sides are named.
pub fn assign<M: Module>(module: M, tensors: Vec<Named>) -> Result<M> {
    let given = |(path, shape, values)| (path, (shape, Values::Floats(values)));
    put(module, tensors.into_iter().map(given).collect())
}

/// See [`assign`].
fn put<M: Module>(module: M, mut given: Given<'_>) -> Result<M> {
    let wanted = shapes(&module);
    let missing: Vec<_> = wanted.iter().filter(|(path, _)| !given.contains_key(path)).collect();
    let extra: Vec<_> =
        given.iter().filter(|(path, _)| wanted.iter().all(|(wanted, _)| wanted != *path)).collect();
    if let (Some((path, shape)), Some((other, (other_shape, _)))) = (missing.first(), extra.first()) {
        bail!(
            "{} of the model's parameters are missing, such as `{path}` {shape:?}, and {} are not of the model, such \
             as `{other}` {other_shape:?}",
            missing.len(),
            extra.len()
        );
    }
    if let Some((path, shape)) = missing.first() {
        bail!(
            "{} of the model's {} parameters are missing, such as `{path}` {shape:?}",
            missing.len(),
            wanted.len()
        );
    }
    if let Some((path, (shape, _))) = extra.first() {
        bail!(
            "{} of {} parameters are not of the model, such as `{path}` {shape:?}",
            extra.len(),
            given.len()
        );
    }
    for (path, shape) in &wanted {
        let (other, values) = &given[path];
        ensure!(other == shape, "`{path}` is {other:?}, but {shape:?} in the model");
        let count: usize = shape.iter().product();
        ensure!(values.len() == count, "`{path}` {shape:?} has {} values, needs {count}", values.len());
    }
    Ok(module.map(&mut Writer { path: Path::default(), given: &mut given }))
}

/// Where a visit of a module is.
#[derive(Default)]
struct Path(Vec<String>);

impl Path {
    /// The variant of an enum is no part of a path.
    fn enter(&mut self, name: &str, container: &str) {
        if !container.starts_with("Enum:") {
            self.0.push(name.to_owned());
        }
    }

    fn exit(&mut self, container: &str) {
        if !container.starts_with("Enum:") {
            self.0.pop();
        }
    }

    fn join(&self) -> String {
        self.0.join(".")
    }
}

/// A parameter of any rank.
trait Value {
    fn values(&self) -> Vec<f32>;
    fn gradient(&self, gradients: &Gradients) -> Option<Vec<f32>>;
}

impl<const D: usize> Value for Param<Tensor<D>> {
    fn values(&self) -> Vec<f32> {
        self.val().into_data().iter::<f32>().collect()
    }

    fn gradient(&self, gradients: &Gradients) -> Option<Vec<f32>> {
        Some(self.val().grad(gradients)?.into_data().iter::<f32>().collect())
    }
}

type Each<'a> = &'a mut dyn FnMut(String, Vec<usize>, &dyn Value);

struct Reader<'a> {
    path: Path,
    each: Each<'a>,
}

fn read<M: Module>(module: &M, each: Each<'_>) {
    module.visit(&mut Reader { path: Path::default(), each });
}

impl ModuleVisitor for Reader<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        (self.each)(self.path.join(), param.dims().to_vec(), param);
    }

    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }
}

struct Writer<'a, 'b> {
    path: Path,
    given: &'a mut Given<'b>,
}

impl ModuleMapper for Writer<'_, '_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some((shape, values)) = self.given.remove(&self.path.join()) else {
            return param; // a parameter shared by two places, already written
        };
        param.map(|old| {
            let new = Tensor::from_data(TensorData::new(values.floats(), shape), &old.device());
            if old.is_require_grad() { new.require_grad() } else { new }
        })
    }

    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }
}

struct Freezer<F> {
    path: Path,
    frozen: F,
}

impl<F: Fn(&str) -> bool> ModuleMapper for Freezer<F> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let frozen = (self.frozen)(&self.path.join());
        param.set_require_grad(!frozen)
    }

    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }
}
