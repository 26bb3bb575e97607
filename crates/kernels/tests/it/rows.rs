use crate::check::{assert_near, assert_same_on_any_threads, numbers};
use mm1_kernels::rows::{Columns, add, add_bias, column_sums, copy, fill_rows, scale};

#[test]
fn sums_columns_of_a_part_of_each_row() {
    for (n, columns) in [
        (1, Columns::all(1)),
        (200, Columns::all(37)),
        (65, Columns { stride: 10, start: 3, width: 5 }),
        (3, Columns { stride: 4, start: 4, width: 0 }),
    ] {
        let y = numbers(1, n * columns.stride);
        let mut wanted = vec![0.0; columns.width];
        for row in y.chunks_exact(columns.stride) {
            for (w, &v) in wanted.iter_mut().zip(&row[columns.start..]) {
                *w += f64::from(v);
            }
        }
        assert_near("sums", &column_sums(&y, columns), &wanted, 1e-6);
    }
}

#[test]
fn adds_scales_and_fills() {
    let mut y = vec![1.0, 2.0, 3.0, 4.0];
    add_bias(&mut y, &[10.0, 20.0]);
    assert_eq!(y, [11.0, 22.0, 13.0, 24.0]);
    add(&mut y, &[1.0, 1.0, 1.0, 1.0]);
    scale(&mut y, 2.0);
    assert_eq!(y, [24.0, 46.0, 28.0, 50.0]);
    fill_rows(&mut y, Columns { stride: 2, start: 1, width: 1 }, &[7.0]);
    assert_eq!(y, [24.0, 7.0, 28.0, 7.0]);
    let mut z = vec![0.0; 4];
    copy(&mut z, &y);
    assert_eq!(z, y);
}

#[test]
fn threads_change_no_bit() {
    let y = numbers(2, 1000 * 13);
    assert_same_on_any_threads(|| column_sums(&y, Columns::all(13)));
}
