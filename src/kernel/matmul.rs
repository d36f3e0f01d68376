//! Matrix products on strided views.
//!
//! The right-hand side is packed once into panels of 32 columns (`[k][32]`, zero-padded) and used many times:
//! a weight by every piece of rows, a head's keys by every block of queries. The left-hand side is read where it
//! lies, in either orientation, one broadcast element a row. With AVX-512 a tile is 12 rows × 32 columns, which
//! keeps 24 accumulators in registers and runs at the speed of the multiply-add units; elsewhere a tile of
//! 4 × 16 is left to the compiler (AVX2 by run-time detection, NEON by default).
//!
//! In [`Precision::Bf16`] both sides are rounded to bfloat16 and multiplied in pairs along the inner axis, with
//! sums in f32 (`vdpbf16ps`, twice the rate of f32 multiply-adds).
//!
//! These shapes (128 to 512 wide, a head of 32) are too small for a general library, which packs both sides anew
//! in every call.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::buffer::{Buffer, as_floats};
use super::simd::multiversion;

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
    let full = |panel: &mut [f32]| {
        if b.column_stride == 1 {
            pack_rows(&b.data[first..], b.row_stride, width, panel);
        } else {
            assert_eq!(b.row_stride, 1, "a matrix is contiguous along one axis");
            pack_columns(&b.data[first * b.column_stride..], b.column_stride, width, panel);
        }
    };
    match precision {
        Precision::F32 => full(as_floats(panel)),
        Precision::Bf16 if b.column_stride == 1 && width == PANEL => {
            let end = (b.rows - 1) * b.row_stride + first + PANEL;
            pair_rows(&b.data[first..end], b.row_stride, PANEL, panel);
        }
        Precision::Bf16 => {
            let mut floats = Buffer::stale(b.rows * PANEL);
            full(&mut floats);
            pair_rows(&floats, PANEL, PANEL, panel);
        }
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
            pair_neighbors(&a.data[row * a.row_stride..][..a.columns], to);
        }
        (pairs, 1)
    } else {
        assert_eq!(a.row_stride, 1, "a matrix is contiguous along one axis");
        pair_rows(a.data, a.column_stride, m, &mut left.bits_mut()[..pairs * m]);
        if a.columns % 2 == 1 {
            // The last inner place has no partner; `pair_rows` was given one row too few to make the pair.
            let last = &a.data[(a.columns - 1) * a.column_stride..][..m];
            let to = &mut left.bits_mut()[(pairs - 1) * m..];
            to.iter_mut().zip(last).for_each(|(to, v)| *to = bf16_bits(*v));
        }
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

/// The upper half of a float, rounded to nearest even; NaN is not kept apart (a loss that is one is caught).
#[inline(always)]
fn bf16_bits(x: f32) -> u32 {
    let bits = x.to_bits();
    bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16
}

multiversion! {
    /// Pairs of neighboring values of a row; an odd last one is paired with 0.
    fn pair_neighbors(row: &[f32], to: &mut [u32]) {
        let (pairs, rest) = row.as_chunks::<2>();
        for (to, [a, b]) in to.iter_mut().zip(pairs) {
            *to = bf16_bits(*a) | bf16_bits(*b) << 16;
        }
        if let ([last], Some(to)) = (rest, to.last_mut()) {
            *to = bf16_bits(*last);
        }
    }
}

multiversion! {
    /// Pairs of values of neighboring rows of `width`, `stride` floats apart; an odd last row that fills the
    /// slice is paired with zeros.
    fn pair_rows(data: &[f32], stride: usize, width: usize, to: &mut [u32]) {
        for (p, to) in to.chunks_exact_mut(width).enumerate() {
            let even = &data[2 * p * stride..][..width];
            match data.get((2 * p + 1) * stride..).and_then(|rest| rest.get(..width)) {
                Some(odd) => {
                    for ((to, a), b) in to.iter_mut().zip(even).zip(odd) {
                        *to = bf16_bits(*a) | bf16_bits(*b) << 16;
                    }
                }
                None => to.iter_mut().zip(even).for_each(|(to, a)| *to = bf16_bits(*a)),
            }
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

/// Writes the row-major product `a · b` over `c`, on the calling thread.
///
/// # Panics
/// If the sizes do not fit.
pub fn product(c: &mut [f32], a: Mat<'_>, b: &Packed) {
    multiply(c, b.columns, Into::Set, 1.0, a, b);
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        __m512, __m512bh, __m512i, __mmask16, _mm512_dpbf16_ps, _mm512_fmadd_ps, _mm512_loadu_ps,
        _mm512_loadu_si512, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_mul_ps,
        _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps,
    };
    use std::mem::transmute;

    use super::{Mat, PANEL};

    /// Calls the tile for this number of rows and of registers a row.
    macro_rules! for_rows {
        ($rows:expr, $registers:literal, $tile:ident) => {
            match $rows {
                1 => $tile!(1, $registers),
                2 => $tile!(2, $registers),
                3 => $tile!(3, $registers),
                4 => $tile!(4, $registers),
                5 => $tile!(5, $registers),
                6 => $tile!(6, $registers),
                7 => $tile!(7, $registers),
                8 => $tile!(8, $registers),
                9 => $tile!(9, $registers),
                10 => $tile!(10, $registers),
                11 => $tile!(11, $registers),
                _ => $tile!(12, $registers),
            }
        };
    }

    /// Rows of a tile: 12 × 2 accumulators, two registers of `b` and one of `a` fit into 32. A panel of at most 16
    /// columns (a head's values) needs one register a row, and 12 sums still hide the unit's latency.
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
                    ($rows:literal, $registers:literal) => {
                        tile::<$rows, $registers>(
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
                if width > 16 {
                    for_rows!((a.rows - row).min(ROWS), 2, tile);
                } else {
                    for_rows!((a.rows - row).min(ROWS), 1, tile);
                }
            }
            row += ROWS;
        }
    }

    /// A left-hand side as bfloat16 pairs.
    #[derive(Clone, Copy)]
    pub(super) struct Pairs<'a> {
        pub(super) data: &'a [u32],
        pub(super) rows: usize,
        pub(super) pairs: usize,
        pub(super) row_stride: usize,
        pub(super) column_stride: usize,
    }

    /// [`panel`] on bfloat16 pairs.
    ///
    /// # Safety
    /// Needs AVX-512F and AVX512_BF16.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) unsafe fn panel_bf16(
        c: &mut [f32],
        c_stride: usize,
        add: bool,
        alpha: f32,
        a: Pairs<'_>,
        panel: &[u32],
        width: usize,
    ) {
        assert_eq!(panel.len(), a.pairs * PANEL);
        assert!((a.rows - 1) * a.row_stride + (a.pairs - 1) * a.column_stride < a.data.len());
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
                    ($rows:literal, $registers:literal) => {
                        tile_bf16::<$rows, $registers>(
                            a.pairs,
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
                if width > 16 {
                    for_rows!((a.rows - row).min(ROWS), 2, tile);
                } else {
                    for_rows!((a.rows - row).min(ROWS), 1, tile);
                }
            }
            row += ROWS;
        }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    #[inline]
    unsafe fn tile_bf16<const M: usize, const N: usize>(
        pairs: usize,
        a: *const u32,
        a_row: usize,
        a_column: usize,
        panel: *const u32,
        c: *mut f32,
        c_row: usize,
        add: bool,
        alpha: f32,
        masks: [__mmask16; 2],
    ) {
        // SAFETY: as in `tile`; a 512-bit register of 16 pairs is reinterpreted, not converted.
        unsafe {
            let mut sums = [[_mm512_setzero_ps(); N]; M];
            for p in 0..pairs {
                let b: [__m512bh; N] = std::array::from_fn(|n| {
                    let at = panel.add(p * PANEL + 16 * n);
                    transmute::<__m512i, __m512bh>(_mm512_loadu_si512(at.cast()))
                });
                for (i, sums) in sums.iter_mut().enumerate() {
                    let x = *a.add(i * a_row + p * a_column);
                    let x = transmute::<__m512i, __m512bh>(_mm512_set1_epi32(x.cast_signed()));
                    for (sum, b) in sums.iter_mut().zip(b) {
                        *sum = _mm512_dpbf16_ps(*sum, x, b);
                    }
                }
            }
            store(&sums, c, c_row, add, alpha, masks);
        }
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn tile<const M: usize, const N: usize>(
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
            let mut sums = [[_mm512_setzero_ps(); N]; M];
            for p in 0..k {
                let b: [__m512; N] =
                    std::array::from_fn(|n| _mm512_loadu_ps(panel.add(p * PANEL + 16 * n)));
                for (i, sums) in sums.iter_mut().enumerate() {
                    let x = _mm512_set1_ps(*a.add(i * a_row + p * a_column));
                    for (sum, b) in sums.iter_mut().zip(b) {
                        *sum = _mm512_fmadd_ps(x, b, *sum);
                    }
                }
            }
            store(&sums, c, c_row, add, alpha, masks);
        }
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn store<const M: usize, const N: usize>(
        sums: &[[__m512; N]; M],
        c: *mut f32,
        c_row: usize,
        add: bool,
        alpha: f32,
        masks: [__mmask16; 2],
    ) {
        let alpha = _mm512_set1_ps(alpha);
        for (i, sums) in sums.iter().enumerate() {
            for half in 0..N {
                // SAFETY: the caller promises that rows `0..M` of `c` are in bounds; the masks keep loads and
                // stores within its columns.
                unsafe {
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
