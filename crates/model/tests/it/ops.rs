//! Operations against loops written from their definitions.

use burn::tensor::{Device, Tensor, TensorData};
use mm1_model::ops;

use crate::case::{self, difference, values};

fn tensor<const D: usize>(shape: [usize; D], f: impl Fn(usize) -> f32) -> Tensor<D> {
    let data = (0..shape.iter().product()).map(f).collect::<Vec<_>>();
    Tensor::from_data(TensorData::new(data, shape), &Device::flex())
}

fn noise(i: usize) -> f32 {
    ((i * 7919 + 13) % 1009) as f32 / 504.5 - 1.0
}

#[test]
fn pooling_windows_overlap_where_sizes_do_not_divide() {
    // 27 places to 12, Honeybee's and MM1's final setting: the window of place 1 is 2..5.
    let x = tensor([1, 27, 27, 1], |i| (i / 27) as f32);
    let pooled = values(case::cpu().ops().adaptive_avg_pool(x, 12));
    for (i, row) in pooled.chunks(12).enumerate() {
        let (start, end) = (i * 27 / 12, ((i + 1) * 27).div_ceil(12));
        let mean = (start..end).sum::<usize>() as f32 / (end - start) as f32;
        assert!(row.iter().all(|x| (x - mean).abs() < 1e-5), "{i}: {row:?} is not {mean}");
    }
    assert_eq!(pooled[12], 3.0);
}

#[test]
fn convolutions_see_their_neighbours() {
    let ([n, h, w, c], o) = ([2, 5, 6, 3], 4);
    let (x, weight) = (tensor([n, h, w, c], noise), tensor([9 * c, o], |i| noise(i + 5)));
    let (xs, ws) = (values(x.clone()), values(weight.clone()));
    let at = |p: usize, y: isize, z: isize, channel: usize| {
        let inside = (0..h as isize).contains(&y) && (0..w as isize).contains(&z);
        if inside { xs[((p * h + y as usize) * w + z as usize) * c + channel] } else { 0.0 }
    };
    for stride in [1, 2] {
        let got = case::cpu().ops().conv3x3(x.clone(), &weight, None, stride);
        let [_, rows, columns, _] = got.dims();
        assert_eq!([rows, columns], [h.div_ceil(stride), w.div_ceil(stride)]);
        let mut expected = Vec::new();
        for place in 0..n * rows * columns * o {
            let (p, y, z, out) =
                (place / (rows * columns * o), place / (columns * o) % rows, place / o % columns, place % o);
            let sum = (0..9 * c).map(|i| {
                let (ky, kx, channel) = (i / (3 * c), i / c % 3, i % c);
                let (y, z) = ((y * stride + ky) as isize - 1, (z * stride + kx) as isize - 1);
                at(p, y, z, channel) * ws[i * o + out]
            });
            expected.push(sum.sum::<f32>());
        }
        assert!(difference(&values(got), &expected) < 1e-6, "stride {stride}");
    }
}

#[test]
fn image_tokens_take_their_places() {
    let embeds = tensor([2, 5, 2], |i| i as f32);
    let image = tensor([2, 2, 2], |i| 100.0 + i as f32);
    let spliced = values(case::cpu().ops().splice(embeds, image, &[6, 1]));
    let expected = [
        0., 1., 104., 105., 106., 107., 6., 7., 8., 9., 10., 11., 100., 101., 102., 103., 16., 17., 18., 19.,
    ];
    assert_eq!(spliced, expected);
}

#[test]
fn patches_are_in_reading_order() {
    let pixels = tensor([1, 4, 4, 3], |i| i as f32);
    let patches = ops::patches(pixels, 2);
    assert_eq!(patches.dims(), [1, 4, 12]);
    let second = &values(patches)[12..24];
    assert_eq!(second, [6., 7., 8., 9., 10., 11., 18., 19., 20., 21., 22., 23.]);
    // Two rows of three patches: the fourth starts the second row.
    let patches = ops::patches(tensor([1, 4, 6, 1], |i| i as f32), 2);
    assert_eq!(patches.dims(), [1, 6, 4]);
    assert_eq!(values(patches)[12..16], [12., 13., 18., 19.]);
}
