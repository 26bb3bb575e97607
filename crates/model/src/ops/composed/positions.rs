//! What attention needs to know of positions, as tensors on a device: rotations, and masks.

use burn::backend::GradientCheckpointingStrategy;
use burn::tensor::{Device, Tensor, TensorData};

use crate::ops::{Layout, Rope, Sight};

/// A score that the softmax turns into an exact zero.
const MASKED: f32 = -1e30;

/// What attention needs to know of the positions, on its device: nothing where the answer is 0 or 1
/// everywhere.
#[derive(Clone, Debug)]
pub(super) struct Positions {
    /// See [`angles`].
    pub(super) angles: Option<(Tensor<4>, Tensor<4>)>,
    /// See [`mask`].
    pub(super) mask: Option<Tensor<4>>,
    /// See [`inside`].
    pub(super) inside: Option<Tensor<3>>,
}

/// The positions of the last attention, and what they are of.
#[derive(Debug)]
pub(super) struct LastPositions {
    of: PositionsOf,
    positions: Positions,
}

/// Of which positions [`Positions`] are, and where.
#[derive(Debug, PartialEq)]
struct PositionsOf {
    layout: Layout,
    shape: [usize; 2],
    rope: Option<Rope>,
    device: Device,
    graph: (bool, Option<GradientCheckpointingStrategy>),
}

/// The positions of `layout` in rows of the shape `[b, t]`: the `last` ones, if they are the same.
pub(super) fn positions(
    last: &mut Option<LastPositions>,
    layout: &Layout,
    shape: [usize; 2],
    rope: Option<&Rope>,
    device: &Device,
) -> Positions {
    let graph = (device.is_autodiff(), device.gradient_checkpointing_strategy());
    let of =
        PositionsOf { layout: layout.clone(), shape, rope: rope.cloned(), device: device.clone(), graph };
    if let Some(last) = last.as_ref().filter(|last| last.of == of) {
        return last.positions.clone();
    }
    let whole = layout.spans.len() == shape[0] && layout.spans.iter().all(|s| s.len == shape[1]);
    let all = whole && layout.sight == Sight::All;
    let positions = Positions {
        angles: rope.map(|rope| angles(rope, layout, shape, device)),
        mask: (!all).then(|| mask(layout, shape, device)),
        inside: (!whole).then(|| inside(layout, shape, device)),
    };
    *last = Some(LastPositions { of, positions: positions.clone() });
    positions
}

/// [`Layout::turns`], each `[b, 1, t, c / 2]`.
fn angles(rope: &Rope, layout: &Layout, [b, t]: [usize; 2], device: &Device) -> (Tensor<4>, Tensor<4>) {
    let tensor = |values| Tensor::from_data(TensorData::new(values, [b, 1, t, rope.width() / 2]), device);
    layout.turns(rope, [b, t]).map(tensor).into()
}

/// What is added to the scores: 0 where a position sees another, else [`MASKED`]; `[b, 1, t, t]`.
fn mask(layout: &Layout, [b, t]: [usize; 2], device: &Device) -> Tensor<4> {
    let mut mask = vec![MASKED; b * t * t];
    for (span, prefix) in layout.spans.iter().zip(layout.prefixes()) {
        for i in 0..span.len {
            let row = (span.row * t + span.start + i) * t + span.start;
            mask[row..row + (i + 1).max(prefix).min(span.len)].fill(0.0);
        }
    }
    Tensor::from_data(TensorData::new(mask, [b, 1, t, t]), device)
}

/// 1 inside a span, 0 outside: `[b, t, 1]`.
fn inside(layout: &Layout, [b, t]: [usize; 2], device: &Device) -> Tensor<3> {
    let mut inside = vec![0f32; b * t];
    for span in &layout.spans {
        inside[span.row * t + span.start..][..span.len].fill(1.0);
    }
    Tensor::from_data(TensorData::new(inside, [b, t, 1]), device)
}
