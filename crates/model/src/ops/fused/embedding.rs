//! Rows of the embedding table, and image tokens among them.

use std::sync::Arc;

use burn::tensor::{Shape, Tensor};
use burn_flex::FlexTensor;
use mm1_kernels::embedding::{Blocks, gather, scatter_add};

use super::memory::{Number as _, precision_of, with_number};
use super::record::{BackwardPass, Operation, record};
use super::{Fused, Operand, floats, tensor};

/// See [`crate::ops::Operations::embedding`].
pub(super) fn embedding(
    fused: &Fused,
    table: &Tensor<2>,
    ids: &[u32],
    [rows, length]: [usize; 2],
) -> Tensor<3> {
    let ([v, d], memory) = (table.dims(), &fused.memory);
    let table = Operand::new(table.clone());
    let y = with_number!(precision_of(&table.value), T => {
        let mut y = memory.uninitialised::<T>(ids.len() * d);
        gather(T::of(&table.value), d, ids, &mut y);
        tensor(y, [rows, length, d])
    });
    record(Embedding, memory, [table.node], y, || (Arc::new(ids.to_vec()), [v, d]))
}

#[derive(Debug)]
struct Embedding;

impl Operation<1> for Embedding {
    /// The ids, and the table's shape.
    type State = (Arc<Vec<u32>>, [usize; 2]);

    fn backward((ids, [v, d]): Self::State, dy: FlexTensor, mut pass: BackwardPass<'_, 1>) {
        let memory = pass.memory.clone();
        let (dy, sum) = (memory.in_f32(dy), pass.sum(0));
        pass.give(0, || {
            let mut table = sum.unwrap_or_else(|| memory.zeros(v * d));
            scatter_add(floats(&dy), d, &ids, &mut table);
            tensor(table, [v, d])
        });
    }
}

/// See [`crate::ops::Operations::splice`].
pub(super) fn splice(
    fused: &Fused,
    embeds: Tensor<3>,
    image_tokens: Tensor<3>,
    slots: &[usize],
) -> Tensor<3> {
    let ([_, _, dim], [n, k, _], shape) = (embeds.dims(), image_tokens.dims(), embeds.shape());
    let (embeds, image_tokens) = (Operand::new(embeds), Operand::new(image_tokens));
    let mut y = fused.memory.to_change(embeds.value);
    Blocks { starts: slots, rows: k, dim }.place(image_tokens.values(), &mut y);
    let state = || (Arc::new(slots.to_vec()), [n, k, dim]);
    record(Splice, &fused.memory, [embeds.node, image_tokens.node], tensor(y, shape), state)
}

#[derive(Debug)]
struct Splice;

impl Operation<2> for Splice {
    /// The slots, and the image tokens' shape.
    type State = (Arc<Vec<usize>>, [usize; 3]);

    fn backward((slots, [n, rows, dim]): Self::State, dy: FlexTensor, mut pass: BackwardPass<'_, 2>) {
        let memory = pass.memory.clone();
        let dy = memory.in_f32(dy);
        let (blocks, shape) =
            (Blocks { starts: &slots, rows, dim }, Shape::from(dy.layout().shape().dims::<3>()));
        pass.give(1, || {
            let mut tokens = memory.floats(n * rows * dim);
            blocks.take(floats(&dy), &mut tokens);
            tensor(tokens, [n, rows, dim])
        });
        pass.give(0, || {
            let mut embeds = memory.to_change(dy);
            blocks.place(&vec![0.0; n * rows * dim], &mut embeds);
            tensor(embeds, shape)
        });
    }
}
