use crate::check::{
    assert_near, assert_same_on_any_threads, floats, gradient, inner, numbers, rounded, wide,
};
use mm1_kernels::conv::{Conv, Grid, Windows};
use mm1_kernels::depthwise;
use mm1_kernels::gemm::Precision;
use mm1_kernels::pool::AdaptivePool;

const GRIDS: [Grid; 4] = [
    Grid { height: 1, width: 1, channels: 1 },
    Grid { height: 5, width: 4, channels: 3 },
    Grid { height: 2, width: 7, channels: 5 },
    Grid { height: 6, width: 6, channels: 17 },
];

/// Pixel `(y, x)` of picture `n`, channel `k`; 0 outside.
fn pixel(grid: Grid, x: &[f64], (n, i, j, k): (usize, isize, isize, usize)) -> f64 {
    let inside = i >= 0 && j >= 0 && (i as usize) < grid.height && (j as usize) < grid.width;
    if inside {
        x[((n * grid.height + i as usize) * grid.width + j as usize) * grid.channels + k]
    } else {
        0.0
    }
}

/// All windows by their definition.
fn unfold(windows: Windows, x: &[f64]) -> Vec<f64> {
    let (grid, mut out) = (windows.input, Vec::new());
    for n in 0..x.len() / grid.values() {
        for i in 0..windows.height() {
            for j in 0..windows.width() {
                for tap in 0..9 {
                    let at = |o: usize, t: usize| (o * windows.stride + t) as isize - 1;
                    let (y, x_) = (at(i, tap / 3), at(j, tap % 3));
                    out.extend((0..grid.channels).map(|k| pixel(grid, x, (n, y, x_, k))));
                }
            }
        }
    }
    out
}

#[test]
fn windows_and_their_transpose_match_the_definition() {
    for input in GRIDS {
        for stride in [1, 2, 3] {
            let windows = Windows { input, stride };
            let x = numbers(1, 2 * input.values());
            let mut unfolded = vec![f32::NAN; 2 * windows.values()];
            windows.unfold(&x, &mut unfolded);
            assert_near("windows", &unfolded, &unfold(windows, &wide(&x)), 0.0);

            let probe = numbers(2, unfolded.len());
            let mut dx = vec![f32::NAN; x.len()];
            windows.fold(&probe, &mut dx);
            assert_near("dx", &dx, &gradient(&x, |x| inner(&unfold(windows, x), &probe)), 1e-6);
        }
    }
}

/// The convolution by its definition, the weight being `[9 c, o]`.
fn conv_reference(windows: Windows, x: &[f64], weight: &[f64], outputs: usize) -> Vec<f64> {
    let taps = 9 * windows.input.channels;
    let product =
        |window: &[f64], o: usize| (0..taps).map(|tap| window[tap] * weight[tap * outputs + o]).sum();
    unfold(windows, x)
        .chunks_exact(taps)
        .flat_map(|window| (0..outputs).map(|o| product(window, o)).collect::<Vec<f64>>())
        .collect()
}

#[test]
fn convolution_and_its_gradients_match_the_definition() {
    for (input, outputs) in GRIDS.into_iter().zip([1, 4, 7, 9]) {
        for stride in [1, 2] {
            let windows = Windows { input, stride };
            let (x, weight) = (numbers(1, 3 * input.values()), numbers(2, 9 * input.channels * outputs));
            let conv = Conv { windows, weight: &weight, precision: Precision::F32 };
            let (wx, ww) = (wide(&x), wide(&weight));
            let mut y = vec![f32::NAN; 3 * windows.height() * windows.width() * outputs];
            conv.forward(&x, &mut y, false);
            let by = |x: &[f64], w: &[f64]| conv_reference(windows, x, w, outputs);
            assert_near("y", &y, &by(&wx, &ww), 1e-6);

            let probe = numbers(3, y.len());
            let mut dx = vec![f32::NAN; x.len()];
            conv.input_grad(&probe, &mut dx);
            assert_near("dx", &dx, &gradient(&x, |x| inner(&by(x, &ww), &probe)), 1e-5);
            let dw = conv.weight_grad(&x, &probe);
            assert_near("dw", &dw, &gradient(&weight, |w| inner(&by(&wx, w), &probe)), 1e-5);
        }
    }
}

/// The depthwise convolution by its definition.
fn depthwise_reference(grid: Grid, x: &[f64], weight: &[f64]) -> Vec<f64> {
    let windows = unfold(Windows { input: grid, stride: 1 }, x);
    let c = grid.channels;
    windows
        .chunks_exact(9 * c)
        .flat_map(|window| {
            (0..c).map(move |k| (0..9).map(|tap| window[tap * c + k] * weight[tap * c + k]).sum())
        })
        .collect()
}

#[test]
fn depthwise_and_its_gradients_match_the_definition() {
    for grid in GRIDS {
        let (x, weight) = (numbers(1, 2 * grid.values()), numbers(2, 9 * grid.channels));
        let probe = numbers(3, x.len());
        let (wx, ww) = (wide(&x), wide(&weight));
        let mut y = vec![f32::NAN; x.len()];
        depthwise::forward(grid, &x, &weight, &mut y);
        assert_near("y", &y, &depthwise_reference(grid, &wx, &ww), 1e-6);

        let mut dx = vec![f32::NAN; x.len()];
        depthwise::input_grad(grid, &probe, &weight, &mut dx);
        assert_near("dx", &dx, &gradient(&x, |x| inner(&depthwise_reference(grid, x, &ww), &probe)), 1e-6);
        let dw = depthwise::weight_grad(grid, &x, &probe);
        let halves = rounded(&x);
        assert_eq!(
            depthwise::weight_grad(grid, &halves, &probe),
            depthwise::weight_grad(grid, &floats(&halves), &probe)
        );
        assert_near(
            "dw",
            &dw,
            &gradient(&weight, |w| inner(&depthwise_reference(grid, &wx, w), &probe)),
            1e-6,
        );
    }
}

/// Adaptive pooling by its definition.
fn pool_reference(pool: AdaptivePool, x: &[f64]) -> Vec<f64> {
    let (grid, mut out) = (pool.input, Vec::new());
    let window = |i: usize, side: usize, cells: usize| i * side / cells..((i + 1) * side).div_ceil(cells);
    for n in 0..x.len() / grid.values() {
        for i in 0..pool.height {
            for j in 0..pool.width {
                let (rows, columns) =
                    (window(i, grid.height, pool.height), window(j, grid.width, pool.width));
                for k in 0..grid.channels {
                    let cells = rows.clone().flat_map(|y| columns.clone().map(move |x| (y, x)));
                    let sum: f64 = cells.map(|(y, x_)| pixel(grid, x, (n, y as isize, x_ as isize, k))).sum();
                    out.push(sum / (rows.len() * columns.len()) as f64);
                }
            }
        }
    }
    out
}

#[test]
fn pooling_and_its_gradient_match_the_definition() {
    for input in GRIDS {
        for (height, width) in [(1, 1), (2, 3), (4, 4), (7, 5)] {
            let pool = AdaptivePool { input, height, width };
            let x = numbers(1, 2 * input.values());
            let probe = numbers(2, 2 * height * width * input.channels);
            let mut y = vec![f32::NAN; probe.len()];
            pool.forward(&x, &mut y);
            assert_near("y", &y, &pool_reference(pool, &wide(&x)), 1e-6);
            let mut dx = vec![f32::NAN; x.len()];
            pool.backward(&probe, &mut dx);
            assert_near("dx", &dx, &gradient(&x, |x| inner(&pool_reference(pool, x), &probe)), 1e-6);
        }
    }
}

#[test]
fn threads_change_no_bit() {
    let grid = Grid { height: 5, width: 6, channels: 7 };
    let x = numbers(1, 13 * grid.values());
    assert_same_on_any_threads(|| depthwise::weight_grad(grid, &x, &numbers(2, x.len())));
    let windows = Windows { input: Grid { height: 24, width: 30, channels: 5 }, stride: 1 };
    let (x, weight) = (numbers(3, 13 * windows.input.values()), numbers(4, 9 * 5 * 6));
    let conv = Conv { windows, weight: &weight, precision: Precision::F32 };
    assert_same_on_any_threads(|| conv.weight_grad(&x, &numbers(5, 13 * 24 * 30 * 6)));
    assert_same_on_any_threads(|| {
        let (mut unfolded, mut dx) = (vec![0.0; 13 * windows.values()], vec![0.0; x.len()]);
        windows.unfold(&x, &mut unfolded);
        windows.fold(&unfolded, &mut dx);
        dx
    });
}
