//! Views of matrices in slices.

use crate::number::{Elements, ElementsMut};
use std::ops::Range;

/// A matrix `[rows, cols]` in a slice; element `(i, j)` is at `i * row_stride + j * col_stride`. Every
/// element lies in the slice (checked where a view is made): microkernels rely on it.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    data: Elements<'a>,
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// `[rows, cols]`, rows one after another.
    ///
    /// # Panics
    /// If `data` is not `rows * cols` long.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::of(Elements::Floats(data), rows, cols)
    }

    /// As [`Self::new`], of either kind of elements.
    ///
    /// # Panics
    /// If `data` is not `rows * cols` long.
    pub fn of(data: Elements<'a>, rows: usize, cols: usize) -> Self {
        assert_eq!(
            Some(data.len()),
            rows.checked_mul(cols),
            "{} values are not [{rows}, {cols}]",
            data.len()
        );
        Self { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// `[rows, cols]`, rows and columns so many values apart.
    ///
    /// # Panics
    /// If an element lies outside of `data`.
    pub fn strided(data: &'a [f32], [rows, cols]: [usize; 2], [row_stride, col_stride]: [usize; 2]) -> Self {
        if rows > 0 && cols > 0 {
            let last =
                (rows - 1).saturating_mul(row_stride).saturating_add((cols - 1).saturating_mul(col_stride));
            assert!(
                last < data.len(),
                "[{rows}, {cols}] with strides {row_stride}, {col_stride} in {}",
                data.len()
            );
        }
        Self { data: Elements::Floats(data), rows, cols, row_stride, col_stride }
    }

    /// Rows and columns exchanged.
    pub fn transposed(self) -> Self {
        let Self { data, rows, cols, row_stride, col_stride } = self;
        Self { data, rows: cols, cols: rows, row_stride: col_stride, col_stride: row_stride }
    }

    /// Some of the rows.
    ///
    /// # Panics
    /// If the range is outside of the matrix.
    pub fn row_range(self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.rows, "rows {range:?} of {}", self.rows);
        let start = if range.is_empty() || self.cols == 0 { 0 } else { range.start * self.row_stride };
        Self { data: self.data.starting_at(start), rows: range.len(), ..self }
    }

    /// Some of the columns.
    ///
    /// # Panics
    /// If the range is outside of the matrix.
    pub fn col_range(self, range: Range<usize>) -> Self {
        self.transposed().row_range(range).transposed()
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Elements between the starts of two rows.
    pub(crate) fn row_stride(&self) -> usize {
        self.row_stride
    }

    /// Elements between two of a row.
    pub(crate) fn col_stride(&self) -> usize {
        self.col_stride
    }

    /// Whether rows lie side by side: a column is one piece of memory.
    pub(crate) fn is_across(&self) -> bool {
        self.row_stride == 1 && self.col_stride > 1
    }

    /// The elements, the first being `(0, 0)`.
    pub(crate) fn data(&self) -> Elements<'a> {
        self.data
    }
}

/// Rows of `cols` sums in f32, `stride` values apart.
pub(crate) struct SumRows<'a> {
    pub(crate) values: &'a mut [f32],
    pub(crate) cols: usize,
    pub(crate) stride: usize,
}

impl<'a> SumRows<'a> {
    /// Rows one after another.
    pub(crate) fn dense(values: &'a mut [f32], cols: usize) -> Self {
        Self { values, cols, stride: cols }
    }
}

/// A matrix `[rows, cols]` to write to; rows are `row_stride` apart, elements of a row side by side. Rows lie
/// in the slice and do not overlap (checked where a view is made): microkernels rely on it.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    data: ElementsMut<'a>,
    rows: usize,
    cols: usize,
    row_stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// `[rows, cols]`, rows one after another.
    ///
    /// # Panics
    /// If `data` is not `rows * cols` long.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        Self::of(ElementsMut::Floats(data), rows, cols)
    }

    /// As [`Self::new`], of either kind of elements.
    ///
    /// # Panics
    /// If `data` is not `rows * cols` long.
    pub fn of(data: ElementsMut<'a>, rows: usize, cols: usize) -> Self {
        let len = match &data {
            ElementsMut::Floats(data) => data.len(),
            ElementsMut::Halves(data) => data.len(),
        };
        assert_eq!(Some(len), rows.checked_mul(cols), "{len} values are not [{rows}, {cols}]");
        Self { data, rows, cols, row_stride: cols }
    }

    /// Rows `row_stride` apart: with `&mut data[start..]`, some columns of a wider matrix.
    ///
    /// # Panics
    /// If an element lies outside of `data`, or rows overlap.
    pub fn strided(data: &'a mut [f32], [rows, cols]: [usize; 2], row_stride: usize) -> Self {
        assert!(rows < 2 || cols <= row_stride, "rows of {cols} overlap at stride {row_stride}");
        if rows > 0 && cols > 0 {
            let end = (rows - 1).saturating_mul(row_stride).saturating_add(cols);
            assert!(end <= data.len(), "[{rows}, {cols}] is outside of {}", data.len());
        }
        Self { data: ElementsMut::Floats(data), rows, cols, row_stride }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    pub(crate) fn row_stride(&self) -> usize {
        self.row_stride
    }

    pub(crate) fn into_data(self) -> ElementsMut<'a> {
        self.data
    }
}
