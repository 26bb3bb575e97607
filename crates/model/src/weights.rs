//! Parameters by their paths (`vision.blocks.0.attention.qkv`), in and out of safetensors files. Strict: a
//! missing or superfluous name or another shape is an error that names both sides.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use burn::module::{Module, Param};
use burn::tensor::{Gradients, Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::tensor_file::{self, FileTensor};
use crate::walk::{self, ParameterMapper, ParameterVisitor};

/// One parameter, or its gradient: path, shape, values in row-major order.
pub type Named = (String, Vec<usize>, Vec<f32>);

/// Every parameter of a module, in its order.
pub fn parameters<M: Module>(module: &M) -> Vec<Named> {
    struct ReadValues(Vec<Named>);
    impl ParameterVisitor for ReadValues {
        fn visit<const D: usize>(&mut self, path: &str, parameter: &Param<Tensor<D>>) {
            let value = parameter.val();
            self.0.push((path.to_owned(), value.dims().to_vec(), value.into_data().iter::<f32>().collect()));
        }
    }
    let mut read = ReadValues(Vec::new());
    walk::visit(module, &mut read);
    read.0
}

/// The gradient of every parameter that has one, in the order of the module.
pub fn gradients<M: Module>(module: &M, gradients: &Gradients) -> Vec<Named> {
    struct ReadGradients<'a>(&'a Gradients, Vec<Named>);
    impl ParameterVisitor for ReadGradients<'_> {
        fn visit<const D: usize>(&mut self, path: &str, parameter: &Param<Tensor<D>>) {
            if let Some(gradient) = parameter.val().grad(self.0) {
                let (shape, values) =
                    (gradient.dims().to_vec(), gradient.into_data().iter::<f32>().collect());
                self.1.push((path.to_owned(), shape, values));
            }
        }
    }
    let mut read = ReadGradients(gradients, Vec::new());
    walk::visit(module, &mut read);
    read.1
}

/// Path and shape of every parameter, in the order of the module. No value is drawn for it.
pub fn shapes<M: Module>(module: &M) -> Vec<(String, Vec<usize>)> {
    struct ReadShapes(Vec<(String, Vec<usize>)>);
    impl ParameterVisitor for ReadShapes {
        fn visit<const D: usize>(&mut self, path: &str, parameter: &Param<Tensor<D>>) {
            self.0.push((path.to_owned(), parameter.lazy_shape().as_slice().to_vec()));
        }
    }
    let mut read = ReadShapes(Vec::new());
    walk::visit(module, &mut read);
    read.0
}

/// Lets the parameters collect gradients, save those whose path is `frozen`.
pub fn freeze<M: Module>(module: M, frozen: impl Fn(&str) -> bool) -> M {
    struct Freeze<F>(F);
    impl<F: Fn(&str) -> bool> ParameterMapper for Freeze<F> {
        fn map<const D: usize>(&mut self, path: &str, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
            // Drawn first: clones share values that are not drawn yet, and with them this setting. A teacher
            // that begins as its student would thaw with it.
            let drawn = parameter.map(|value| value);
            drawn.set_require_grad(!(self.0)(path))
        }
    }
    walk::map(module, &mut Freeze(frozen))
}

/// Writes every parameter of a module as f32.
///
/// # Errors
/// When the file can't be written.
pub fn save<M: Module>(module: &M, file: &Path) -> Result<()> {
    let parameters = parameters(module);
    // safetensors borrows bytes, and a float's are little-endian in the file whatever the machine.
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
pub fn load<M: Module>(module: M, file: &Path) -> Result<M> {
    load_as(module, "the model", file, Some)
}

/// Puts the tensors under `part.` of a file that [`save`] wrote, with these names shortened, into `module`:
/// the encoder of a larger network, say.
///
/// # Errors
/// As [`load`].
pub fn load_part<M: Module>(module: M, part: &str, file: &Path) -> Result<M> {
    load_as(module, &format!("`{part}`"), file, |path| shorten(&path, part))
}

/// The path below `part`, if it is there.
fn shorten(path: &str, part: &str) -> Option<String> {
    Some(path.strip_prefix(part)?.strip_prefix('.')?.to_owned())
}

/// Puts the tensors of a file into a module, which errors call `what`: those for whose paths `name` gives
/// one.
fn load_as<M: Module>(
    module: M,
    what: &str,
    file: &Path,
    name: impl Fn(String) -> Option<String>,
) -> Result<M> {
    let tensors = floats(file)?
        .into_iter()
        .filter_map(|(path, tensor)| Some((name(path)?, (tensor.shape.clone(), FlatValues::File(tensor)))));
    put(module, tensors.collect()).with_context(|| format!("{} does not fit {what}", file.display()))
}

/// The tensors under `part.` of a file that [`save`] wrote, with these names shortened, in the order of their
/// paths. The others are not read.
///
/// # Errors
/// As [`load`].
pub fn read_part(file: &Path, part: &str) -> Result<Vec<Named>> {
    let tensors = floats(file)?.into_iter();
    let own = tensors.filter_map(|(path, tensor)| Some((shorten(&path, part)?, tensor)));
    own.map(|(path, tensor)| Ok((path, tensor.shape.clone(), tensor.read()?)))
        .collect::<Result<_>>()
        .with_context(|| format!("cannot read {}", file.display()))
}

/// The tensors of a file, which have to be f32.
fn floats(file: &Path) -> Result<BTreeMap<String, FileTensor>> {
    let tensors = tensor_file::open(file).context("cannot read the weights")?;
    for (path, tensor) in &tensors {
        ensure!(
            tensor.dtype == Dtype::F32,
            "cannot use {}: `{path}` is {:?}; only F32 can be read",
            file.display(),
            tensor.dtype
        );
    }
    Ok(tensors)
}

/// The tensors of a safetensors file's bytes, in the order of their paths.
///
/// # Errors
/// When the bytes are damaged or a tensor is not f32.
pub fn decode(bytes: &[u8]) -> Result<Vec<Named>> {
    let file = SafeTensors::deserialize(bytes).context("not a whole safetensors file")?;
    let mut tensors = Vec::new();
    for (path, view) in file.tensors() {
        ensure!(view.dtype() == Dtype::F32, "`{path}` is {:?}; only F32 can be read", view.dtype());
        let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        tensors.push((path, view.shape().to_vec(), values.collect()));
    }
    tensors.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    Ok(tensors)
}

/// Values for a parameter, in row-major order.
enum FlatValues {
    Floats(Vec<f32>),
    /// In a file, from which they are read when it is their turn.
    File(FileTensor),
    /// Made when it is their turn.
    Made(MakeValues),
}

/// Makes the values of one parameter.
pub(crate) type MakeValues = Box<dyn FnOnce() -> Result<Vec<f32>>>;

impl FlatValues {
    fn into_floats(self) -> Result<Vec<f32>> {
        match self {
            Self::Floats(values) => Ok(values),
            Self::File(tensor) => tensor.read(),
            Self::Made(make) => make(),
        }
    }
}

/// Shapes and values by path.
type Given = BTreeMap<String, (Vec<usize>, FlatValues)>;

/// Puts values into a module of the same shape.
///
/// # Errors
/// When a parameter is missing, a name is not of the module, or a shape differs; both sides are named.
pub fn assign<M: Module>(module: M, tensors: Vec<Named>) -> Result<M> {
    let given = |(path, shape, values)| (path, (shape, FlatValues::Floats(values)));
    put(module, tensors.into_iter().map(given).collect())
}

/// The same with values that are made one parameter after another: beside the module there is one at a time.
///
/// # Errors
/// As [`assign`]; what making them refuses.
pub(crate) fn assign_made<M: Module>(
    module: M,
    tensors: impl Iterator<Item = (String, Vec<usize>, MakeValues)>,
) -> Result<M> {
    let given = |(path, shape, make)| (path, (shape, FlatValues::Made(make)));
    put(module, tensors.map(given).collect())
}

/// See [`assign`].
fn put<M: Module>(module: M, given: Given) -> Result<M> {
    let wanted = shapes(&module);
    // All names are compared before the first value is written: a module is never left half loaded.
    let missing: Vec<_> = wanted.iter().filter(|(path, _)| !given.contains_key(path)).collect();
    let extra: Vec<_> =
        given.iter().filter(|(path, _)| wanted.iter().all(|(wanted, _)| wanted != *path)).collect();
    if let (Some((path, shape)), Some((other, (other_shape, _)))) = (missing.first(), extra.first()) {
        bail!(
            "{} of the model's parameters are missing, such as `{path}` {shape:?}, \
             and {} are not of the model, such as `{other}` {other_shape:?}",
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
        // A file's were counted when it was opened.
        if let FlatValues::Floats(values) = values {
            ensure!(values.len() == count, "`{path}` {shape:?} has {} values, needs {count}", values.len());
        }
    }
    let mut write = WriteValues { given, failed: None };
    let module = walk::map(module, &mut write);
    match write.failed {
        Some(error) => Err(error),
        None => Ok(module),
    }
}

/// Puts values in the place of a parameter's own, which are never drawn if nothing has read them.
struct WriteValues {
    given: Given,
    /// The first value that could not be read.
    failed: Option<anyhow::Error>,
}

impl ParameterMapper for WriteValues {
    fn map<const D: usize>(&mut self, path: &str, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some((shape, values)) = self.given.remove(path) else {
            return parameter; // a parameter shared by two places, already written
        };
        match values.into_floats() {
            Ok(values) => {
                let (id, device) = (parameter.id, parameter.lazy_device());
                let values = Tensor::from_data(TensorData::new(values, shape), &device);
                parameter.transform_for_load(values, id)
            }
            Err(error) => {
                self.failed.get_or_insert(error.context(format!("`{path}` can't be read")));
                parameter
            }
        }
    }
}
