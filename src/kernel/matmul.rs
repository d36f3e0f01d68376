//! Matrix products on strided views, through the `gemm` crate.

/// A read-only matrix inside a slice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mat<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Mat<'a> {
    /// A row-major matrix that fills the slice.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// A row-major matrix whose rows begin `row_stride` floats apart.
    pub(crate) fn strided(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(
            rows == 0 || (rows - 1) * row_stride + columns <= data.len(),
            "matrix outside its slice"
        );
        Self { data, rows, columns, row_stride, column_stride: 1 }
    }

    /// The transposed matrix, without moving anything.
    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// What happens to the values that stand in the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Into {
    /// They are replaced.
    Set,
    /// The product is added to them.
    Add,
}

/// `c = alpha · a · b` (or `c += …`) for a row-major `c` with `c_stride` floats between rows.
///
/// Runs on the calling thread.
pub(crate) fn matmul(
    c: &mut [f32],
    c_stride: usize,
    into: Into,
    alpha: f32,
    a: Mat<'_>,
    b: Mat<'_>,
) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert_eq!(k, b.rows, "inner sizes differ");
    assert!(m == 0 || (m - 1) * c_stride + n <= c.len(), "destination too small");
    if m == 0 || n == 0 {
        return;
    }
    let add = into == Into::Add;
    // SAFETY: the views were checked against their slices when they were made, the destination just above,
    // and `c` is borrowed mutably, so it overlaps neither operand.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            c_stride as isize,
            add,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            if add { 1.0 } else { 0.0 },
            alpha,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// The row-major product `a · b` written over `c`.
pub(crate) fn product(c: &mut [f32], a: Mat<'_>, b: Mat<'_>) {
    let stride = b.columns;
    matmul(c, stride, Into::Set, 1.0, a, b);
}
