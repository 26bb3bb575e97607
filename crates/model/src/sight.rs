//! [`SeenPictures`]: what positions look at, where a connector has the decoder look at pictures beside its
//! sequence ([`CrossAttention`]).

use std::sync::Arc;

use burn::tensor::Tensor;

use crate::cache::{Cache, CachedPicture};
use crate::compute::Compute;
use crate::connector::CrossAttention;
use crate::glances::{Glance, Glances};
use crate::ops::NewTokens;

/// What the decoder looks at in a pass.
#[derive(Debug)]
pub(crate) struct SeenPictures<'a> {
    connector: &'a CrossAttention,
    glances: Glances,
    /// Of each gated layer those of the pictures of `glances`, `[n, k, 2D]`; empty where there are none.
    keys_and_values: Vec<Tensor<3>>,
}

impl<'a> SeenPictures<'a> {
    pub(crate) fn new(
        connector: &'a CrossAttention,
        glances: Vec<Glance>,
        keys_and_values: Vec<Tensor<3>>,
    ) -> Self {
        Self { connector, glances: Glances::new(glances), keys_and_values }
    }

    /// What goes into block `block` of the decoder: `[b, t, D] -> [b, t, D]`.
    pub(crate) fn before(&self, compute: &Compute, x: Tensor<3>, block: usize) -> Tensor<3> {
        match self.connector.before(block) {
            Some((number, layer)) => {
                layer.forward(compute, x, (&self.glances, self.keys_and_values.get(number).cloned()))
            }
            None => x,
        }
    }
}

impl Cache {
    /// What new tokens in one row look at: those before a sequence's first new picture at its last one in the
    /// cache. The new pictures, with their `slots` in the row and their keys and values of each gated layer,
    /// are kept.
    pub(crate) fn look<'a>(
        &mut self,
        connector: &'a CrossAttention,
        new: &[NewTokens],
        (slots, read): (&[usize], &[Tensor<3>]),
    ) -> SeenPictures<'a> {
        let (mut glances, mut pictures, mut first) = (Vec::new(), Vec::<Arc<[Tensor<3>]>>::new(), 0);
        for &NewTokens { sequence, len } in new {
            let (end, before) = (first + len, self.lens[sequence]);
            let mut own: Vec<(usize, usize)> =
                slots.iter().copied().enumerate().filter(|(_, slot)| (first..end).contains(slot)).collect();
            own.sort_by_key(|(_, slot)| *slot);
            let until = own.first().map_or(end, |(_, slot)| *slot);
            if let Some(last) = self.pictures[sequence].last().filter(|_| until > first) {
                glances.push(Glance { start: first, len: until - first });
                pictures.push(Arc::clone(&last.keys_and_values));
            }
            for (i, &(picture, slot)) in own.iter().enumerate() {
                let next = own.get(i + 1).map_or(end, |(_, slot)| *slot);
                let keys_and_values: Arc<[Tensor<3>]> =
                    read.iter().map(|layer| layer.clone().narrow(0, picture, 1)).collect();
                glances.push(Glance { start: slot, len: next - slot });
                pictures.push(Arc::clone(&keys_and_values));
                let position = before + slot - first;
                self.pictures[sequence].push(CachedPicture { position, keys_and_values });
            }
            first = end;
        }
        let layers = if pictures.is_empty() { 0 } else { connector.gated.len() };
        let of_layer = |layer: usize| {
            Tensor::cat(pictures.iter().map(|picture| picture[layer].clone()).collect::<Vec<_>>(), 0)
        };
        SeenPictures::new(connector, glances, (0..layers).map(of_layer).collect())
    }
}
