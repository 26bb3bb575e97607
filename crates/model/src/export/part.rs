//! Which values of a parameter of ours a tensor of another program's file has, and in what order: there, and
//! back again.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::walk::{self, ParameterVisitor};

/// Values that a thread makes at once.
const PIECE: usize = 1 << 14;

/// One tensor of a file: which part of one of our parameters it is.
#[derive(Clone, Debug)]
pub(crate) struct ExportedPart {
    pub(crate) name: String,
    /// As it lies in the file.
    pub(crate) shape: Vec<usize>,
    pub(crate) part: ParameterPart,
}

/// A part of a parameter.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ParameterPart {
    /// Values in their order, from one of them on.
    Values(usize),
    /// Columns of a map `[in, out]` as rows, from one of them on. Of heads of some width, number `j` and
    /// number `j + width / 2` follow each other, where their width is given.
    Columns(usize, Option<usize>),
    /// A kernel `[(y, x, channel), out]` as `[out, channel, y, x]`.
    Kernel,
    /// A map `[d, out]` of the mean of n x n patches as the map `[out, n n d]` of these patches side by side:
    /// n n times the same, each divided by n n.
    Pooled(usize),
    /// A table `[g g, d]` of the places of a square as one of twice the side, `[2g 2g, d]`, in which the rows
    /// and columns 2i - 1 and 2i are ours of number i.
    Doubled,
    /// A table behind one row of negative zeros: of all numbers these alone change no bit of what they are
    /// added to.
    BehindRow,
    /// This number everywhere, and none of ours.
    Constant(f32),
}

impl ExportedPart {
    /// Its values, of the parameter `ours` whose last side is `width`.
    pub(crate) fn values(&self, ours: &[f32], width: usize) -> Vec<f32> {
        let mut values = vec![0.0; self.shape.iter().product()];
        values.par_chunks_mut(PIECE).enumerate().for_each(|(piece, values)| {
            for (i, value) in values.iter_mut().enumerate() {
                *value = match self.source(piece * PIECE + i, width) {
                    ValueSource::Ours(at) => ours[at] / self.divisor(),
                    ValueSource::Constant(constant) => constant,
                };
            }
        });
        values
    }

    /// Puts its values into the parameter `ours`, and says whether all that stand for one value are the same.
    pub(crate) fn put_back(&self, values: &[f32], ours: &mut [f32], width: usize) -> bool {
        for (i, value) in values.iter().enumerate() {
            if let ValueSource::Ours(at) = self.source(i, width) {
                ours[at] = value * self.divisor();
            }
        }
        let same = |(i, value): (usize, &f32)| match self.source(i, width) {
            ValueSource::Ours(at) => ours[at] == value * self.divisor(),
            ValueSource::Constant(constant) => value.to_bits() == constant.to_bits(),
        };
        values.par_iter().enumerate().all(same)
    }

    /// What its value number `i` is.
    fn source(&self, i: usize, width: usize) -> ValueSource {
        match self.part {
            ParameterPart::Constant(constant) => ValueSource::Constant(constant),
            ParameterPart::BehindRow if i < width => ValueSource::Constant(-0.0),
            _ => ValueSource::Ours(self.place(i, width)),
        }
    }

    /// The place among our values of its value number `i`, which is one of ours.
    fn place(&self, i: usize, width: usize) -> usize {
        let inputs = self.shape[1..].iter().product::<usize>().max(1);
        let (row, column) = (i / inputs, i % inputs);
        match self.part {
            ParameterPart::Values(from) => from + i,
            ParameterPart::Columns(from, head) => {
                column * width + from + head.map_or(row, |head| half_split(row, head))
            }
            ParameterPart::Kernel => {
                let (channels, area) = (self.shape[1], self.shape[2..].iter().product::<usize>());
                (column % area * channels + column / area) * width + row
            }
            ParameterPart::Pooled(side) => column % (inputs / (side * side)) * width + row,
            ParameterPart::Doubled => {
                let (doubled, own) = (self.shape[0].isqrt(), self.shape[0].isqrt() / 2);
                let [y, x] = [row / doubled, row % doubled].map(|at| at.div_ceil(2).min(own - 1));
                (y * own + x) * width + column
            }
            ParameterPart::BehindRow => i - width,
            // It has none of ours.
            ParameterPart::Constant(_) => 0,
        }
    }

    fn divisor(&self) -> f32 {
        match self.part {
            ParameterPart::Pooled(side) => (side * side) as f32,
            _ => 1.0,
        }
    }
}

/// What a value in a file is.
enum ValueSource {
    /// The one at this place of ours, divided.
    Ours(usize),
    /// The same in every model.
    Constant(f32),
}

/// Where number `row` of heads of `width` is in a file whose pairs follow each other, among ours, where the
/// second half follows the first.
fn half_split(row: usize, width: usize) -> usize {
    row / width * width + row % 2 * (width / 2) + row % width / 2
}

/// A parameter of this shape as it is.
pub(crate) fn whole(name: String, shape: &[usize]) -> Vec<ExportedPart> {
    vec![ExportedPart { name, shape: shape.to_vec(), part: ParameterPart::Values(0) }]
}

/// A vector that has the same number everywhere, and none of ours.
pub(crate) fn constant(name: String, width: usize, value: f32) -> ExportedPart {
    ExportedPart { name, shape: vec![width], part: ParameterPart::Constant(value) }
}

/// Maps of `inputs` inputs that lie side by side: names, outputs, and the width of heads that are turned.
pub(crate) fn columns(inputs: usize, maps: Vec<(String, usize, Option<usize>)>) -> Vec<ExportedPart> {
    let mut from = 0;
    let part = |(name, outputs, head)| {
        let part = ParameterPart::Columns(from, head);
        from += outputs;
        ExportedPart { name, shape: vec![outputs, inputs], part }
    };
    maps.into_iter().map(part).collect()
}

/// Vectors that lie one after another: names and widths.
pub(crate) fn joined(vectors: Vec<(String, usize)>) -> Vec<ExportedPart> {
    let mut from = 0;
    let part = |(name, width)| {
        let part = ParameterPart::Values(from);
        from += width;
        ExportedPart { name, shape: vec![width], part }
    };
    vectors.into_iter().map(part).collect()
}

/// What each parameter becomes, by its path.
pub(crate) type Places = BTreeMap<String, Vec<ExportedPart>>;

/// The parts of all parameters of `module`, in their order.
pub(crate) fn in_order<'a, M: Module>(module: &M, places: &'a Places) -> Vec<&'a ExportedPart> {
    let paths = crate::weights::shapes(module).into_iter();
    paths.flat_map(|(path, _)| places.get(&path).into_iter().flatten()).collect()
}

/// Hands the values of all parts to `put`, in the order of [`in_order`]; beside the module one parameter is
/// held at a time.
///
/// # Errors
/// The first of `put`.
pub(crate) fn visit<M: Module>(
    module: &M,
    places: &Places,
    mut put: impl FnMut(&[f32]) -> Result<()>,
) -> Result<()> {
    visit_whole(module, |path, shape, ours| {
        let mut parts = places.get(path).into_iter().flatten();
        parts.try_for_each(|part| put(&part.values(ours, shape[shape.len() - 1])))
    })
}

/// Hands path, shape and values of every parameter to `each`, in the order of the module.
///
/// # Errors
/// The first of `each`, with the path.
pub(crate) fn visit_whole<M: Module>(
    module: &M,
    each: impl FnMut(&str, &[usize], &[f32]) -> Result<()>,
) -> Result<()> {
    struct Each<F> {
        each: F,
        failed: Option<anyhow::Error>,
    }
    impl<F: FnMut(&str, &[usize], &[f32]) -> Result<()>> ParameterVisitor for Each<F> {
        fn visit<const D: usize>(&mut self, path: &str, parameter: &Param<Tensor<D>>) {
            if self.failed.is_some() {
                return;
            }
            let value = parameter.val();
            let shape = value.dims();
            let values: Vec<f32> = value.into_data().iter::<f32>().collect();
            self.failed = (self.each)(path, &shape, &values).with_context(|| format!("`{path}`")).err();
        }
    }
    let mut all = Each { each, failed: None };
    walk::visit(module, &mut all);
    all.failed.map_or(Ok(()), Err)
}

/// The values of a parameter of this shape from its parts, which `read` gives.
///
/// # Errors
/// What `read` refuses; parts that do not say the same.
pub(crate) fn put_together(
    parts: &[ExportedPart],
    shape: &[usize],
    mut read: impl FnMut(&ExportedPart) -> Result<Vec<f32>>,
) -> Result<Vec<f32>> {
    let mut ours = vec![0.0; shape.iter().product()];
    for part in parts {
        let same = part.put_back(&read(part)?, &mut ours, shape[shape.len() - 1]);
        ensure!(same, "`{}`: values that stand for one of ours differ", part.name);
    }
    Ok(ours)
}
