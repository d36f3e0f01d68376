//! Matrix products on strided views.
//!
//! The right-hand side is packed once into panels of 32 columns (`[k][32]`, zero-padded) and used many times:
//! a weight by every piece of rows, a head's keys by every block of queries. The left-hand side is read where it
//! lies, in either orientation, one broadcast element a row. With AVX-512 a tile is 12 rows × 32 columns, which
//! keeps 24 accumulators in registers and runs at the speed of the multiply-add units; elsewhere a tile of
//! 4 × 16 is left to the compiler (AVX2 by run-time detection, NEON by default).
//!
//! These shapes (128 to 512 wide, a head of 32) are too small for a general library, which packs both sides anew
//! in every call.

use super::buffer::Buffer;
use super::simd::multiversion;

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

/// Columns of a panel: two AVX-512 registers.
const PANEL: usize = 32;

/// Longest stretch of the inner axis that is multiplied at once: 512 × 32 floats of a panel are 64 KB.
const INNER: usize = 512;

/// A right-hand side cut into panels.
#[derive(Debug)]
pub(crate) struct Packed {
    panels: Buffer,
    rows: usize,
    columns: usize,
}

impl Packed {
    /// Packs a matrix.
    pub(crate) fn new(b: Mat<'_>) -> Self {
        let (k, n) = (b.rows, b.columns);
        let mut panels = Buffer::stale(n.div_ceil(PANEL) * k * PANEL);
        for (j, panel) in panels.chunks_exact_mut((k * PANEL).max(1)).enumerate() {
            let first = j * PANEL;
            let width = PANEL.min(n - first);
            if b.column_stride == 1 {
                pack_rows(&b.data[first..], b.row_stride, width, panel);
            } else {
                assert_eq!(b.row_stride, 1, "a matrix is contiguous along one axis");
                pack_columns(&b.data[first * b.column_stride..], b.column_stride, width, panel);
            }
        }
        Self { panels, rows: k, columns: n }
    }
}

/// A panel from a row-major matrix.
fn pack_rows(data: &[f32], row_stride: usize, width: usize, panel: &mut [f32]) {
    for (p, to) in panel.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
        let row = &data[p * row_stride..];
        if width == PANEL {
            to.copy_from_slice(&row[..PANEL]);
        } else {
            to[..width].copy_from_slice(&row[..width]);
            to[width..].fill(0.0);
        }
    }
}

/// A panel from a column-major matrix, eight inner places at a time.
fn pack_columns(data: &[f32], column_stride: usize, width: usize, panel: &mut [f32]) {
    let k = panel.len() / PANEL;
    if width < PANEL {
        panel.fill(0.0);
    }
    for at in (0..k).step_by(8) {
        let n = 8.min(k - at);
        for c in 0..width {
            let from = &data[c * column_stride + at..c * column_stride + at + n];
            for (i, v) in from.iter().enumerate() {
                panel[(at + i) * PANEL + c] = *v;
            }
        }
    }
}

/// `c = alpha · a · b` (or `c += …`) for a row-major `c` with `c_stride` floats between rows.
///
/// Runs on the calling thread.
pub(crate) fn multiply(
    c: &mut [f32],
    c_stride: usize,
    into: Into,
    alpha: f32,
    a: Mat<'_>,
    b: &Packed,
) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert_eq!(k, b.rows, "inner sizes differ");
    assert!(m == 0 || (m - 1) * c_stride + n <= c.len(), "destination too small");
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        if into == Into::Set {
            c.chunks_mut(c_stride).take(m).for_each(|row| row[..n].fill(0.0));
        }
        return;
    }
    for at in (0..k).step_by(INNER) {
        let len = INNER.min(k - at);
        let add = into == Into::Add || at > 0;
        let a = Mat { data: &a.data[at * a.column_stride..], columns: len, ..a };
        for (j, panel) in b.panels.chunks_exact(k * PANEL).enumerate() {
            let panel = &panel[at * PANEL..(at + len) * PANEL];
            let width = PANEL.min(n - j * PANEL);
            let c = &mut c[j * PANEL..];
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx512f") {
                // SAFETY: the feature was just detected; the assertions above and in `Mat::strided` bound
                // every access, as `avx512::panel` states.
                unsafe { avx512::panel(c, c_stride, add, alpha, a, panel, width) };
                continue;
            }
            portable_panel(c, c_stride, add, alpha, a, panel, width);
        }
    }
}

/// [`multiply`] with a right-hand side that is packed for this one product.
pub(crate) fn matmul(
    c: &mut [f32],
    c_stride: usize,
    into: Into,
    alpha: f32,
    a: Mat<'_>,
    b: Mat<'_>,
) {
    multiply(c, c_stride, into, alpha, a, &Packed::new(b));
}

/// The row-major product `a · b` written over `c`.
pub(crate) fn product(c: &mut [f32], a: Mat<'_>, b: &Packed) {
    multiply(c, b.columns, Into::Set, 1.0, a, b);
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        __mmask16, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
        _mm512_mul_ps, _mm512_set1_ps, _mm512_setzero_ps,
    };

    use super::{Mat, PANEL};

    /// Rows of a tile: 12 × 2 accumulators, two registers of `b` and one of `a` fit into 32.
    const ROWS: usize = 12;

    /// All rows of `c` in the columns of one panel.
    ///
    /// # Safety
    /// Needs AVX-512F. `a`'s last element must lie in its slice, `panel` hold `a.columns` rows of 32, and
    /// `c` reach to `(a.rows - 1) * c_stride + width`.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn panel(
        c: &mut [f32],
        c_stride: usize,
        add: bool,
        alpha: f32,
        a: Mat<'_>,
        panel: &[f32],
        width: usize,
    ) {
        assert_eq!(panel.len(), a.columns * PANEL);
        assert!((a.rows - 1) * a.row_stride + (a.columns - 1) * a.column_stride < a.data.len());
        assert!((a.rows - 1) * c_stride + width <= c.len());
        let masks =
            [width.min(16), width.saturating_sub(16)].map(|n| ((1u32 << n) - 1) as __mmask16);
        let mut row = 0;
        while row < a.rows {
            // SAFETY: by the assertions above, rows `row..row + M` of `a` and `c` are in bounds.
            unsafe {
                let a_row = a.data.as_ptr().add(row * a.row_stride);
                let c_row = c.as_mut_ptr().add(row * c_stride);
                macro_rules! tile {
                    ($rows:literal) => {
                        tile::<$rows>(
                            a.columns,
                            a_row,
                            a.row_stride,
                            a.column_stride,
                            panel.as_ptr(),
                            c_row,
                            c_stride,
                            add,
                            alpha,
                            masks,
                        )
                    };
                }
                match (a.rows - row).min(ROWS) {
                    1 => tile!(1),
                    2 => tile!(2),
                    3 => tile!(3),
                    4 => tile!(4),
                    5 => tile!(5),
                    6 => tile!(6),
                    7 => tile!(7),
                    8 => tile!(8),
                    9 => tile!(9),
                    10 => tile!(10),
                    11 => tile!(11),
                    _ => tile!(12),
                }
            }
            row += ROWS;
        }
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn tile<const M: usize>(
        k: usize,
        a: *const f32,
        a_row: usize,
        a_column: usize,
        panel: *const f32,
        c: *mut f32,
        c_row: usize,
        add: bool,
        alpha: f32,
        masks: [__mmask16; 2],
    ) {
        // SAFETY: the caller promises that rows `0..M` of `a` and `c` and `k` rows of the panel are in bounds;
        // the masks keep loads and stores of `c` within its columns.
        unsafe {
            let mut sums = [[_mm512_setzero_ps(); 2]; M];
            for p in 0..k {
                let b = [
                    _mm512_loadu_ps(panel.add(p * PANEL)),
                    _mm512_loadu_ps(panel.add(p * PANEL + 16)),
                ];
                for (i, sums) in sums.iter_mut().enumerate() {
                    let x = _mm512_set1_ps(*a.add(i * a_row + p * a_column));
                    sums[0] = _mm512_fmadd_ps(x, b[0], sums[0]);
                    sums[1] = _mm512_fmadd_ps(x, b[1], sums[1]);
                }
            }
            let alpha = _mm512_set1_ps(alpha);
            for (i, sums) in sums.iter().enumerate() {
                for half in 0..2 {
                    let to = c.add(i * c_row + 16 * half);
                    let value = if add {
                        let old = _mm512_maskz_loadu_ps(masks[half], to);
                        _mm512_fmadd_ps(alpha, sums[half], old)
                    } else {
                        _mm512_mul_ps(alpha, sums[half])
                    };
                    _mm512_mask_storeu_ps(to, masks[half], value);
                }
            }
        }
    }
}

multiversion! {
    fn portable_panel(
        c: &mut [f32], c_stride: usize, add: bool, alpha: f32, a: Mat<'_>, panel: &[f32], width: usize,
    ) {
        const ROWS: usize = 4;
        const HALF: usize = PANEL / 2;
        for row in (0..a.rows).step_by(ROWS) {
            let m = ROWS.min(a.rows - row);
            for half in 0..2 {
                let first = half * HALF;
                let n = HALF.min(width.saturating_sub(first));
                if n == 0 {
                    continue;
                }
                let mut sums = [[0f32; HALF]; ROWS];
                for (p, b) in panel.as_chunks::<PANEL>().0.iter().enumerate() {
                    let b: &[f32; HALF] = b[first..first + HALF].try_into().expect("half a panel");
                    for (i, sums) in sums.iter_mut().enumerate() {
                        // Rows beyond the last repeat it; they are not stored.
                        let i = i.min(m - 1);
                        let x = a.data[(row + i) * a.row_stride + p * a.column_stride];
                        for (sum, b) in sums.iter_mut().zip(b) {
                            *sum = x.mul_add(*b, *sum);
                        }
                    }
                }
                for (i, sums) in sums.iter().enumerate().take(m) {
                    let at = (row + i) * c_stride + first;
                    for (c, sum) in c[at..at + n].iter_mut().zip(sums) {
                        *c = if add { alpha.mul_add(*sum, *c) } else { alpha * sum };
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;
    use crate::rng::stream;

    #[test]
    fn products_equal_the_naive_sum_for_all_shapes_and_orientations() {
        let mut rng = stream(0, "test", "matmul", 0);
        for case in 0..200 {
            let (m, k, n) =
                (rng.random_range(1..40), rng.random_range(1..700), rng.random_range(1..80));
            let a: Vec<f32> = (0..m * k).map(|_| rng.random_range(-1.0..1.0)).collect();
            let b: Vec<f32> = (0..k * n).map(|_| rng.random_range(-1.0..1.0)).collect();
            let (a_t, b_t, add) = (rng.random(), rng.random(), rng.random());
            let a = if a_t { Mat::new(&a, k, m).t() } else { Mat::new(&a, m, k) };
            let b = if b_t { Mat::new(&b, n, k).t() } else { Mat::new(&b, k, n) };
            let stride = n + rng.random_range(0..5);
            let before: Vec<f32> = (0..m * stride).map(|_| rng.random_range(-1.0..1.0)).collect();
            let at = |x: Mat<'_>, r: usize, c: usize| {
                f64::from(x.data[r * x.row_stride + c * x.column_stride])
            };
            let packed = Packed::new(b);
            let mut fast = before.clone();
            multiply(&mut fast, stride, if add { Into::Add } else { Into::Set }, 0.5, a, &packed);
            let mut portable = before.clone();
            for (j, panel) in packed.panels.chunks_exact(k * PANEL).enumerate() {
                portable_panel(
                    &mut portable[j * PANEL..],
                    stride,
                    add,
                    0.5,
                    a,
                    panel,
                    PANEL.min(n - j * PANEL),
                );
            }
            for i in 0..m * stride {
                let (r, c) = (i / stride, i % stride);
                let old = if add { f64::from(before[i]) } else { 0.0 };
                let expected = if c < n {
                    old + 0.5 * (0..k).map(|p| at(a, r, p) * at(b, p, c)).sum::<f64>()
                } else {
                    f64::from(before[i])
                };
                for (name, got) in [("dispatched", fast[i]), ("portable", portable[i])] {
                    let off = (f64::from(got) - expected).abs();
                    assert!(off < 1e-4, "case {case}, {name}, cell ({r}, {c}): off by {off}");
                }
            }
        }
    }
}
