//! Rows of the embedding table, and image tokens among them.

use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::{Shape, Tensor};
use mm1_kernels::embedding::{Blocks, gather, scatter_add};

use super::memory::{Number as _, Values, lies_in, owned, rounded, vector, zeros};
use super::{Back, Operand, floats, record, tensor};

/// See [`crate::ops::embedding`].
pub(in crate::ops) fn embedding(table: &Tensor<2>, ids: &[u32], rows: usize, length: usize) -> Tensor<3> {
    let [v, d] = table.dims();
    let table = Operand::new(table.clone());
    let y = rounded!(lies_in(&table.value), T => {
        let mut y = Values::<T>::some(ids.len() * d);
        gather(T::of(&table.value), d, ids, &mut y);
        tensor(y, [rows, length, d])
    });
    record(Embedding, [table.node], y, || (Arc::new(ids.to_vec()), [v, d]))
}

#[derive(Debug)]
struct Embedding;

impl Backward<Flex, 1> for Embedding {
    type State = (Arc<Vec<u32>>, [usize; 2]);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (dy, (ids, [v, d]), mut back) = Back::start(ops, grads);
        let sum = back.sum(0);
        back.give(0, || {
            let mut table = sum.unwrap_or_else(|| zeros(v * d));
            scatter_add(floats(&dy), d, &ids, &mut table);
            tensor(table, [v, d])
        });
    }
}

/// See [`crate::ops::splice`].
pub(in crate::ops) fn splice(embeds: Tensor<3>, image_tokens: Tensor<3>, slots: &[usize]) -> Tensor<3> {
    let ([_, _, dim], [n, k, _], shape) = (embeds.dims(), image_tokens.dims(), embeds.shape());
    let (embeds, image_tokens) = (Operand::new(embeds), Operand::new(image_tokens));
    let mut y = owned(embeds.value);
    Blocks { starts: slots, rows: k, dim }.place(image_tokens.values(), &mut y);
    let state = || (Arc::new(slots.to_vec()), [n, k, dim]);
    record(Splice, [embeds.node, image_tokens.node], tensor(y, shape), state)
}

#[derive(Debug)]
struct Splice;

impl Backward<Flex, 2> for Splice {
    type State = (Arc<Vec<usize>>, [usize; 3]);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (dy, (slots, [n, rows, dim]), mut back) = Back::start(ops, grads);
        let (blocks, shape) =
            (Blocks { starts: &slots, rows, dim }, Shape::from(dy.layout().shape().dims::<3>()));
        back.give(1, || {
            let mut tokens = vector(n * rows * dim);
            blocks.take(floats(&dy), &mut tokens);
            tensor(tokens, [n, rows, dim])
        });
        back.give(0, || {
            let mut embeds = owned(dy);
            blocks.place(&vec![0.0; n * rows * dim], &mut embeds);
            tensor(embeds, shape)
        });
    }
}
