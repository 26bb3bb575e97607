//! [`Glances`]: which positions look at which picture, where they look at pictures beside their sequence.

use burn::tensor::Tensor;

use crate::compute::Compute;
use crate::ops::Layout;

/// A run of positions that look at the same picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Glance {
    /// The flat position (`row * length + column`) of the first.
    pub(crate) start: usize,
    /// Their number.
    pub(crate) len: usize,
}

/// For each picture the positions that look at it. They lie side by side in rows, the shorter ones filled up,
/// so that one attention serves all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glances {
    /// One for each picture, in the order of keys and values.
    glances: Vec<Glance>,
    /// Positions of the longest.
    longest: usize,
}

impl Glances {
    pub(crate) fn new(glances: Vec<Glance>) -> Self {
        let longest = glances.iter().map(|glance| glance.len).max().unwrap_or(0);
        Self { glances, longest }
    }

    /// The vectors of the positions that look, by pictures: `[b, t, d] -> [n, longest, d]`. What fills a row
    /// up is any vector.
    pub(crate) fn gather(&self, compute: &Compute, x: Tensor<3>) -> Tensor<3> {
        let [b, t, d] = x.dims();
        let row = |glance: &Glance| {
            let (start, len) = (glance.start, glance.len);
            (0..self.longest).map(move |i| (start + i.min(len - 1)) as u32)
        };
        let places: Vec<u32> = self.glances.iter().flat_map(row).collect();
        compute.ops().embedding(&x.reshape([b * t, d]), &places, self.glances.len(), self.longest)
    }

    /// Back to their positions, 0 elsewhere: `[n, longest, d] -> [b, t, d]`, of the shape `[b, t, d]`.
    pub(crate) fn scatter(&self, compute: &Compute, seen: Tensor<3>, [b, t, d]: [usize; 3]) -> Tensor<3> {
        let nothing = Tensor::zeros([1, d], &seen.device());
        let rows = self.glances.len() * self.longest;
        let table = Tensor::cat(vec![seen.reshape([rows, d]), nothing], 0);
        let mut places = vec![rows as u32; b * t];
        for (i, glance) in self.glances.iter().enumerate() {
            for j in 0..glance.len {
                places[glance.start + j] = (i * self.longest + j) as u32;
            }
        }
        compute.ops().embedding(&table, &places, b, t)
    }
}

/// The positions that look at each picture of packed rows of `length` positions: from its own, `slots`, to
/// the next picture's or the end of its example.
pub(crate) fn glances(layout: &Layout, length: usize, slots: &[usize]) -> Vec<Glance> {
    let glance = |&start: &usize| {
        let inside = layout.spans.iter().find_map(|span| {
            let first = span.row * length + span.start;
            (first..first + span.len).contains(&start).then_some(first + span.len)
        });
        let next = slots.iter().copied().filter(|&slot| slot > start).min();
        // Outside of every example nobody looks at it but its own position.
        let end = inside.unwrap_or(start + 1).min(next.unwrap_or(usize::MAX));
        Glance { start, len: end - start }
    };
    slots.iter().map(glance).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Sight, Span};

    #[test]
    fn a_position_looks_at_the_last_picture_of_its_own_example() {
        let spans = vec![Span { row: 0, start: 0, len: 7 }, Span { row: 0, start: 7, len: 3 }];
        let spans = [spans, vec![Span { row: 1, start: 2, len: 6 }]].concat();
        let layout = Layout { spans, sight: Sight::Causal };
        let of = |slots: &[usize]| -> Vec<[usize; 2]> {
            glances(&layout, 10, slots).iter().map(|glance| [glance.start, glance.len]).collect()
        };
        // Two pictures in the first example, none in the second, one in the next row; in any order.
        assert_eq!(of(&[2, 5, 13]), [[2, 3], [5, 2], [13, 5]]);
        assert_eq!(of(&[13, 5, 2]), [[13, 5], [5, 2], [2, 3]]);
        assert_eq!(of(&[9, 18]), [[9, 1], [18, 1]], "the last position, and padding");
        assert!(of(&[]).is_empty());
    }
}
