use crate::check::{assert_same_on_any_threads, numbers, rounded};
use mm1_kernels::embedding::{Blocks, gather, scatter_add};

#[test]
fn gathers_rows_and_adds_them_back() {
    let table = numbers(1, 5 * 3);
    let ids = [4, 0, 4, 2];
    let mut rows = vec![0.0; 4 * 3];
    gather(&table, 3, &ids, &mut rows);
    for (row, id) in rows.chunks_exact(3).zip(ids) {
        assert_eq!(row, &table[id as usize * 3..][..3]);
    }
    let (table, mut halves) = (rounded(&table), rounded(&[0.0; 12]));
    gather(&table, 3, &ids, &mut halves);
    assert_eq!(halves, rounded(&rows));

    let grad: Vec<f32> = (1..=12).map(|v| v as f32).collect();
    let mut sums = vec![0.0; 5 * 3];
    scatter_add(&grad, 3, &ids, &mut sums);
    assert_eq!(sums, [4.0, 5.0, 6.0, 0.0, 0.0, 0.0, 10.0, 11.0, 12.0, 0.0, 0.0, 0.0, 8.0, 10.0, 12.0]);
}

#[test]
fn places_blocks_and_takes_them_back() {
    let blocks = Blocks { starts: &[3, 0], rows: 2, dim: 2 };
    let mut rows = vec![0.0; 5 * 2];
    blocks.place(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], &mut rows);
    assert_eq!(rows, [5.0, 6.0, 7.0, 8.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0]);
    let mut back = vec![0.0; 8];
    blocks.take(&rows, &mut back);
    assert_eq!(back, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
}

#[test]
#[should_panic(expected = "outside of a table of 5 rows")]
fn refuses_an_id_outside_of_the_table() {
    scatter_add(&[0.0; 3], 3, &[5], &mut [0.0; 15]);
}

#[test]
fn threads_change_no_bit() {
    let ids: Vec<u32> = (0..1000).map(|i| i * i % 200).collect();
    let grad = numbers(2, 1000 * 9);
    assert_same_on_any_threads(|| {
        let mut table = vec![0.0; 200 * 9];
        scatter_add(&grad, 9, &ids, &mut table);
        table
    });
}
