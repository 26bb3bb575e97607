//! Foreign tensors by their names, each taken once and read when it is taken.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::gguf::GgufTensor;
use crate::tensor_file::{self, FileTensor};

/// What is left of one model's tensors.
pub(super) struct ForeignTensors {
    from: String,
    tensors: BTreeMap<String, ForeignTensor>,
    account: TensorAccount,
}

/// What became of the tensors of a model's files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TensorAccount {
    /// How many there are.
    pub found: usize,
    /// Names of those that have no place in the network, or say again what others say, and are left.
    pub left: Vec<String>,
}

/// One tensor.
pub(crate) struct ForeignTensor {
    pub(crate) shape: Vec<usize>,
    /// Whether it is a matrix `[in, out]`; PyTorch's are `[out, in]`.
    pub(super) transposed: bool,
    pub(crate) values: TensorValues,
}

/// Where its values are.
pub(crate) enum TensorValues {
    /// In a file of safetensors.
    File(FileTensor),
    /// In a file of GGUF.
    Gguf(GgufTensor),
    /// Here.
    Values(Vec<f32>),
}

impl ForeignTensors {
    /// Of a model that `from` names in messages.
    pub(super) fn new(from: String, tensors: BTreeMap<String, ForeignTensor>) -> Self {
        let account = TensorAccount { found: tensors.len(), left: Vec::new() };
        Self { from, tensors, account }
    }

    /// The same of a file that has others as well, which were left.
    pub(super) fn beside(self, left: Vec<String>) -> Self {
        let found = self.account.found + left.len();
        Self { account: TensorAccount { found, left }, ..self }
    }

    /// How many are still there.
    pub(super) fn len(&self) -> usize {
        self.tensors.len()
    }

    /// What names it in messages.
    pub(super) fn from(&self) -> &str {
        &self.from
    }

    /// The shape of a tensor that is still there.
    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(&self.tensors.get(name)?.shape)
    }

    /// The values of the tensor `name`, which must have this shape but for leading axes of 1.
    pub(super) fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let stored = self.take_stored(name, shape)?;
        stored.values.read().with_context(|| format!("{}: `{name}` can't be read", self.from))
    }

    /// The same before its values are read.
    pub(super) fn take_stored(&mut self, name: &str, shape: &[usize]) -> Result<ForeignTensor> {
        let found = self.tensors.remove(name);
        let stored = found.with_context(|| format!("{}: `{name}` {shape:?} is missing", self.from))?;
        ensure!(
            plain(&stored.shape) == plain(shape),
            "{}: `{name}` is {:?}, but by its settings {shape:?}",
            self.from,
            stored.shape
        );
        Ok(stored)
    }

    /// The values of the matrix `name`, as `[inputs, outputs]`.
    pub(super) fn matrix(&mut self, name: &str, [inputs, outputs]: [usize; 2]) -> Result<Vec<f32>> {
        if self.tensors.get(name).is_some_and(|stored| stored.transposed) {
            return self.take(name, &[inputs, outputs]);
        }
        let values = self.take(name, &[outputs, inputs])?;
        Ok((0..inputs * outputs).map(|i| values[i % outputs * inputs + i / outputs]).collect())
    }

    /// Keeps what is of the encoder, under names without what all of them begin with: what is before
    /// `landmark` in the one name that ends so. Of the others, those that begin as one of `beside` says are
    /// left.
    pub(super) fn narrow(&mut self, landmark: &str, beside: &[&str]) -> Result<()> {
        let mut prefixes = self.tensors.keys().filter_map(|name| name.strip_suffix(landmark));
        // A whole model has its encoder below some name, which differs from file to file; one tensor's full
        // name tells it.
        let prefix = match (prefixes.next(), prefixes.next()) {
            (Some(prefix), None) => prefix.to_owned(),
            (None, _) => bail!("{}: there is no `{landmark}`", self.from),
            (Some(a), Some(b)) => {
                bail!("{}: `{a}{landmark}` and `{b}{landmark}` are two encoders", self.from)
            }
        };
        self.leave(beside);
        let all = std::mem::take(&mut self.tensors).into_iter();
        self.tensors = all
            .map(|(name, stored)| (name.strip_prefix(&prefix).map_or(name.clone(), str::to_owned), stored))
            .collect();
        Ok(())
    }

    /// Takes out the tensors whose names begin so.
    pub(super) fn split(&mut self, beginnings: &[&str]) -> Self {
        let begins = |name: &str| beginnings.iter().any(|beginning| name.starts_with(beginning));
        let (taken, left) = std::mem::take(&mut self.tensors).into_iter().partition(|(name, _)| begins(name));
        self.tensors = left;
        Self::new(self.from.clone(), taken)
    }

    /// Whether there is a tensor whose name begins so.
    pub(super) fn has(&self, beginning: &str) -> bool {
        self.tensors.keys().any(|name| name.starts_with(beginning))
    }

    /// Forgets the tensors whose names begin so.
    pub(super) fn leave(&mut self, beginnings: &[&str]) {
        self.leave_if(|name| beginnings.iter().any(|beginning| name.starts_with(beginning)));
    }

    /// Forgets the tensors of such names.
    pub(super) fn leave_if(&mut self, is_left: impl Fn(&str) -> bool) {
        self.account.left.extend(self.tensors.keys().filter(|name| is_left(name)).cloned());
        self.tensors.retain(|name, _| !is_left(name));
    }

    /// Refuses what was not taken; `what` says what it has no place in.
    pub(super) fn finish(self, what: &str) -> Result<TensorAccount> {
        if let Some((name, stored)) = self.tensors.first_key_value() {
            bail!(
                "{}: {} tensors have no place in the {what} of its settings, such as `{name}` {:?}",
                self.from,
                self.tensors.len(),
                stored.shape
            );
        }
        Ok(self.account)
    }
}

impl ForeignTensor {
    /// Refuses a type that can't be read.
    pub(super) fn check_type(&self) -> Result<()> {
        match &self.values {
            TensorValues::File(tensor) => tensor.check_type(),
            // Other types are refused when its file is opened.
            TensorValues::Gguf(_) | TensorValues::Values(_) => Ok(()),
        }
    }

    /// Its bytes as they are stored, piece after piece.
    pub(super) fn bytes(&self, mut each: impl FnMut(&[u8])) -> Result<()> {
        match &self.values {
            TensorValues::File(tensor) => tensor.bytes(each),
            TensorValues::Gguf(tensor) => tensor.bytes(each),
            TensorValues::Values(values) => {
                values.iter().for_each(|value| each(&value.to_le_bytes()));
                Ok(())
            }
        }
    }
}

/// A shape without leading axes of 1.
fn plain(shape: &[usize]) -> &[usize] {
    &shape[shape.iter().take_while(|&&side| side == 1).count()..]
}

impl TensorValues {
    pub(crate) fn read(self) -> Result<Vec<f32>> {
        match self {
            Self::Values(values) => Ok(values),
            Self::File(tensor) => tensor.read(),
            Self::Gguf(tensor) => tensor.read(),
        }
    }
}

/// The tensors of a safetensors file. Values stay where they are: a text tower beside the encoder costs
/// nothing.
pub(super) fn safetensors(file: &Path) -> Result<BTreeMap<String, ForeignTensor>> {
    let foreign = |tensor: FileTensor| ForeignTensor {
        shape: tensor.shape.clone(),
        transposed: false,
        values: TensorValues::File(tensor),
    };
    Ok(tensor_file::open(file)?.into_iter().map(|(name, tensor)| (name, foreign(tensor))).collect())
}
