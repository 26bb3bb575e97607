//! Position tables at other resolutions. A picture of another size has another grid of patches; their
//! positions are interpolated in the table as ViT does (Dosovitskiy et al. 2021, section 3.2), with the
//! numbers of PyTorch's `interpolate(mode="bicubic", align_corners=False, antialias=False)`, which CLIP's,
//! SigLIP's and DINOv2's code calls.

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};

/// The parameter of the cubic kernel (Keys 1981): PyTorch's.
const A: f64 = -0.75;

/// A table of the grid `from` (rows, columns) for the grid `to`: `[p, d] -> [p', d]`, both row by row. It is
/// linear in the table, so gradients reach it. Between equal grids it is the table itself.
///
/// # Panics
/// When the table does not have the rows of `from`.
pub fn resample(table: Tensor<2>, from: [usize; 2], to: [usize; 2]) -> Tensor<2> {
    let ([p, d], [h, w], [rows, columns]) = (table.dims(), from, to);
    assert_eq!(p, h * w, "a table of {p} positions for a grid of {h}x{w}");
    if from == to {
        return table;
    }
    let device = table.device();
    // One axis after the other: two small matrices instead of one of [p', p].
    let x = cubic(h, rows, &device).matmul(table.reshape([h, w * d]));
    let x = x.reshape([rows, w, d]).swap_dims(0, 1).reshape([w, rows * d]);
    let x = cubic(w, columns, &device).matmul(x);
    x.reshape([columns, rows, d]).swap_dims(0, 1).reshape([rows * columns, d])
}

/// [`resample`] on values, for weights that were trained at another picture size: `[p * d] -> [p' * d]`.
///
/// # Panics
/// When the values are not whole rows for the grid `from`.
pub fn resize_positions(table: &[f32], from: [usize; 2], to: [usize; 2]) -> Vec<f32> {
    let ([h, w], values) = (from, table.len());
    let d = values / (h * w);
    assert_eq!(values, h * w * d, "{values} values for a grid of {h}x{w}");
    let table = Tensor::from_data(TensorData::new(table.to_vec(), [h * w, d]), &Device::flex());
    resample(table, from, to).into_data().iter::<f32>().collect()
}

/// The learned table of a square for a square of `side` rows and columns: the parameter goes on from there.
pub(crate) fn for_side(table: Param<Tensor<2>>, side: usize) -> Param<Tensor<2>> {
    let [p, d] = table.lazy_shape().dims();
    let from = p.isqrt();
    if from == side {
        return table;
    }
    let values: Vec<f32> = table.val().into_data().iter::<f32>().collect();
    let values = resize_positions(&values, [from; 2], [side; 2]);
    let (id, device) = (table.id, table.lazy_device());
    let values = Tensor::from_data(TensorData::new(values, [side * side, d]), &device);
    table.transform_for_load(values, id)
}

/// The weights of `from` places in each of `to`: `[to, from]`.
fn cubic(from: usize, to: usize, device: &Device) -> Tensor<2> {
    // Dense rows of which four entries count: tables are small, and the product makes the gradient by itself.
    let mut weights = vec![0.0; to * from];
    for (place, row) in weights.chunks_exact_mut(from).enumerate() {
        let at = (place as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        for neighbour in -1..=2 {
            let place = at.floor() + f64::from(neighbour);
            // Beyond the edge the last place counts once more.
            row[place.clamp(0.0, (from - 1) as f64) as usize] += kernel((at - place).abs()) as f32;
        }
    }
    Tensor::from_data(TensorData::new(weights, [to, from]), device)
}

/// Keys' kernel at a distance of 0 to 2.
fn kernel(x: f64) -> f64 {
    if x <= 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else {
        ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A
    }
}
