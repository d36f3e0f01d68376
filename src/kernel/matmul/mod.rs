//! Matrix products on strided views.
//!
//! The right-hand side is packed once into panels of 32 columns (`[k][32]`, zero-padded) and used many times:
//! a weight by every piece of rows, a head's keys by every block of queries. The left-hand side is read where it
//! lies, in either orientation, one broadcast element a row. A tile is 12 rows × 32 columns with AVX-512 and 6 × 16
//! with AVX2, which keeps its sums in registers and runs at the speed of the multiply-add units; elsewhere a tile of
//! 4 × 16 is left to the compiler (NEON by default).
//!
//! In [`Precision::Bf16`] both sides are rounded to bfloat16 and multiplied in pairs along the inner axis, with
//! sums in f32 (`vdpbf16ps`, twice the rate of f32 multiply-adds).
//!
//! These shapes (128 to 512 wide, a head of 32) are too small for a general library, which packs both sides anew
//! in every call.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::buffer::{Buffer, as_floats};
use portable::portable_panel;

/// A read-only matrix inside a slice.
#[derive(Debug, Clone, Copy)]
pub struct Mat<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Mat<'a> {
    /// A row-major matrix that fills the slice.
    ///
    /// # Panics
    /// If the slice is shorter than the matrix.
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// A row-major matrix whose rows begin `row_stride` floats apart.
    ///
    /// # Panics
    /// If the slice is shorter than the matrix.
    pub fn strided(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(
            rows == 0
                || ((rows - 1).saturating_mul(row_stride)).saturating_add(columns) <= data.len(),
            "matrix outside its slice"
        );
        Self { data, rows, columns, row_stride, column_stride: 1 }
    }

    /// The transposed matrix, without moving anything.
    pub fn t(self) -> Self {
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

/// How the products of a block's linear layers are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// In 32-bit floats.
    #[default]
    F32,
    /// Factors rounded to bfloat16, sums in 32-bit floats. Machines without the instruction use f32.
    Bf16,
}

impl Precision {
    /// What this machine makes of it.
    pub fn on_this_machine(self) -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512bw") {
            return self;
        }
        Precision::F32
    }
}

/// Columns of a panel: two AVX-512 registers.
const PANEL: usize = 32;

/// Longest stretch of the inner axis that is multiplied at once: 512 × 32 floats of a panel are 64 KB.
const INNER: usize = 512;

/// A right-hand side cut into panels.
#[derive(Debug)]
pub struct Packed {
    /// f32: `[panel][k][32]`. bf16: `[panel][k/2][32]`, each place the bits of two values.
    panels: Buffer,
    rows: usize,
    columns: usize,
    precision: Precision,
}

impl Packed {
    /// Packs a matrix for products in the given precision, as far as the machine has it.
    pub fn in_precision(b: Mat<'_>, precision: Precision) -> Self {
        let mut packed = Self::unfilled(b, precision);
        let len = packed.panel_len();
        for (j, panel) in packed.panels.bits_mut().chunks_exact_mut(len).enumerate() {
            pack_panel(b, packed.precision, j * PANEL, panel);
        }
        packed
    }

    /// [`Packed::in_precision`] on all threads, for a right-hand side with many rows.
    pub(crate) fn in_parallel(b: Mat<'_>, precision: Precision) -> Self {
        let mut packed = Self::unfilled(b, precision);
        let (len, precision) = (packed.panel_len(), packed.precision);
        packed
            .panels
            .bits_mut()
            .par_chunks_exact_mut(len)
            .enumerate()
            .for_each(|(j, panel)| pack_panel(b, precision, j * PANEL, panel));
        packed
    }

    /// Packs a matrix of 32-bit floats.
    pub fn new(b: Mat<'_>) -> Self {
        Self::in_precision(b, Precision::F32)
    }

    fn unfilled(b: Mat<'_>, precision: Precision) -> Self {
        let (rows, columns) = (b.rows, b.columns);
        let precision = precision.on_this_machine();
        let mut packed = Self { panels: Buffer::stale(0), rows, columns, precision };
        packed.panels = Buffer::stale(columns.div_ceil(PANEL) * rows.min(1) * packed.panel_len());
        packed
    }

    /// Words of a panel, at least 1.
    fn panel_len(&self) -> usize {
        let rows = match self.precision {
            Precision::F32 => self.rows,
            Precision::Bf16 => self.rows.div_ceil(2),
        };
        (rows * PANEL).max(1)
    }
}

/// Fills the panel of the columns from `first` on.
fn pack_panel(b: Mat<'_>, precision: Precision, first: usize, panel: &mut [u32]) {
    let width = PANEL.min(b.columns - first);
    let by_rows = b.column_stride == 1;
    assert!(by_rows || b.row_stride == 1, "a matrix is contiguous along one axis");
    let data = &b.data[first * b.column_stride..];
    #[cfg(target_arch = "x86_64")]
    {
        let half = precision == Precision::Bf16;
        // SAFETY: bf16 is only packed where it was detected, with AVX-512BW; so were the features for the
        // transposition of floats. The functions check the bounds.
        unsafe {
            if by_rows && half {
                return avx512::pair_rows(data, b.rows, b.row_stride, width, panel, PANEL);
            }
            if !by_rows && half {
                return avx512::pair_columns(data, b.rows, b.column_stride, width, panel);
            }
            if !by_rows && is_x86_feature_detected!("avx512f") {
                return avx512::pack_columns(data, b.rows, b.column_stride, width, panel);
            }
            if !by_rows && is_x86_feature_detected!("avx2") {
                let panel = as_floats(panel);
                return avx2::pack_columns(data, b.rows, b.column_stride, width, panel);
            }
        }
    }
    assert_eq!(precision, Precision::F32, "bf16 is packed where the machine multiplies it");
    if by_rows {
        pack_rows(data, b.row_stride, width, as_floats(panel));
    } else {
        pack_columns(data, b.column_stride, width, as_floats(panel));
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
    #[cfg(target_arch = "x86_64")]
    if b.precision == Precision::Bf16 {
        return multiply_bf16(c, c_stride, into, alpha, a, b);
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
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                // SAFETY: the features were just detected; the function checks the bounds.
                unsafe { avx2::panel(c, c_stride, add, alpha, a, panel, width) };
                continue;
            }
            portable_panel(c, c_stride, add, alpha, a, panel, width);
        }
    }
}

/// [`multiply`] with both sides in bfloat16.
#[cfg(target_arch = "x86_64")]
fn multiply_bf16(c: &mut [f32], c_stride: usize, into: Into, alpha: f32, a: Mat<'_>, b: &Packed) {
    let (m, n, pairs) = (a.rows, b.columns, a.columns.div_ceil(2));
    let mut left = Buffer::stale(m * pairs);
    let (row_stride, column_stride) = if a.column_stride == 1 {
        for (row, to) in left.bits_mut().chunks_exact_mut(pairs).enumerate() {
            // SAFETY: a bf16 right-hand side is only made where the feature was detected.
            unsafe { avx512::pair_neighbors(&a.data[row * a.row_stride..][..a.columns], to) };
        }
        (pairs, 1)
    } else {
        assert_eq!(a.row_stride, 1, "a matrix is contiguous along one axis");
        // SAFETY: as above; the function checks the bounds.
        unsafe { avx512::pair_rows(a.data, a.columns, a.column_stride, m, left.bits_mut(), m) };
        (1, m)
    };
    let left = left.bits();
    for at in (0..pairs).step_by(INNER) {
        let len = INNER.min(pairs - at);
        let add = into == Into::Add || at > 0;
        for (j, panel) in b.panels.bits().chunks_exact(pairs * PANEL).enumerate() {
            let width = PANEL.min(n - j * PANEL);
            let a = avx512::Pairs {
                data: &left[at * column_stride..],
                rows: m,
                pairs: len,
                row_stride,
                column_stride,
            };
            let panel = &panel[at * PANEL..(at + len) * PANEL];
            // SAFETY: a bf16 right-hand side is only made where the feature was detected; the function
            // checks the bounds.
            unsafe {
                avx512::panel_bf16(&mut c[j * PANEL..], c_stride, add, alpha, a, panel, width)
            };
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
    precision: Precision,
) {
    multiply(c, c_stride, into, alpha, a, &Packed::in_precision(b, precision));
}

/// Writes the row-major product `a · b` over `c`, on the calling thread.
///
/// # Panics
/// If the sizes do not fit.
pub fn product(c: &mut [f32], a: Mat<'_>, b: &Packed) {
    multiply(c, b.columns, Into::Set, 1.0, a, b);
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
            let half = Packed::in_precision(b, Precision::Bf16);
            let mut rounded = before.clone();
            multiply(&mut rounded, stride, if add { Into::Add } else { Into::Set }, 0.5, a, &half);
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
                // Each of the k products is off by at most 2^-8 of values below 1, at random.
                let loose = 0.01 * (k as f64).sqrt();
                for (name, got, most) in [
                    ("dispatched", fast[i], 1e-4),
                    ("portable", portable[i], 1e-4),
                    ("bf16", rounded[i], loose),
                ] {
                    let off = (f64::from(got) - expected).abs();
                    assert!(off < most, "case {case}, {name}, cell ({r}, {c}): off by {off}");
                }
            }
        }
    }
}
