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

    pub(crate) fn columns(self) -> usize {
        self.columns
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
        // SAFETY: bf16 is only packed where it was detected, with AVX-512BW; so was AVX-512F for the transposition
        // of floats. The functions check the bounds.
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

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        __m512, __m512bh, __m512i, __mmask16, _mm512_castps_si512, _mm512_cvtne2ps_pbh,
        _mm512_dpbf16_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512,
        _mm512_mask_storeu_epi32, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_mul_ps,
        _mm512_permutexvar_epi16, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps,
        _mm512_setzero_si512, _mm512_shuffle_i32x4, _mm512_storeu_si512, _mm512_unpackhi_epi32,
        _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
    };
    use std::mem::transmute;

    use super::{Mat, PANEL};

    /// The lowest `n` of 16 lanes; all for 16 and more.
    fn lanes(n: usize) -> __mmask16 {
        ((1u32 << n.min(16)) - 1) as __mmask16
    }

    /// 32 floats as bfloat16, rounded to nearest even; `low` comes first.
    #[target_feature(enable = "avx512f,avx512bf16")]
    #[inline]
    fn halves(low: __m512, high: __m512) -> __m512i {
        // SAFETY: 512 bits are reinterpreted, not converted.
        unsafe { transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) }
    }

    /// Pairs of neighboring values of a row; an odd last one is paired with 0.
    ///
    /// # Safety
    /// Needs AVX-512F and AVX512_BF16.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) unsafe fn pair_neighbors(row: &[f32], to: &mut [u32]) {
        assert_eq!(to.len(), row.len().div_ceil(2));
        for at in (0..row.len()).step_by(32) {
            let n = row.len() - at;
            // SAFETY: the masks keep loads within the row and stores within its pairs; a register whose
            // lanes are all masked is not accessed.
            unsafe {
                let from = row.as_ptr().add(at);
                let low = _mm512_maskz_loadu_ps(lanes(n), from);
                let high =
                    _mm512_maskz_loadu_ps(lanes(n.saturating_sub(16)), from.wrapping_add(16));
                let to = to.as_mut_ptr().add(at / 2).cast();
                _mm512_mask_storeu_epi32(to, lanes(n.div_ceil(2)), halves(low, high));
            }
        }
    }

    /// For each place of 32 halves the place that it is taken from: the first of the low half, the first of the
    /// high half, the second of the low half.
    const INTERLEAVED: [u16; 32] = {
        let mut places = [0; 32];
        let mut i = 0;
        while i < 16 {
            places[2 * i] = i as u16;
            places[2 * i + 1] = i as u16 + 16;
            i += 1;
        }
        places
    };

    /// Pairs of values of neighboring rows, which lie `stride` floats apart: `[rows/2][to_width]`, zeros in the
    /// columns from `width` on; an odd last row is paired with zeros.
    ///
    /// # Safety
    /// Needs AVX-512F, AVX-512BW and AVX512_BF16.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(super) unsafe fn pair_rows(
        data: &[f32],
        rows: usize,
        stride: usize,
        width: usize,
        to: &mut [u32],
        to_width: usize,
    ) {
        assert!(rows == 0 || (rows - 1) * stride + width <= data.len());
        assert!(width <= to_width && to.len() == rows.div_ceil(2) * to_width);
        // SAFETY: 64 bytes of a constant.
        let places = unsafe { _mm512_loadu_si512(INTERLEAVED.as_ptr().cast()) };
        for (row, to) in (0..rows).step_by(2).zip(to.chunks_exact_mut(to_width.max(1))) {
            for at in (0..to_width).step_by(16) {
                let mask = lanes(width.saturating_sub(at));
                // SAFETY: the masks keep loads within the rows and stores within the row of pairs; what is
                // masked is not accessed.
                unsafe {
                    let from = data.as_ptr().wrapping_add(row * stride + at);
                    let even = _mm512_maskz_loadu_ps(mask, from);
                    let mask = if row + 1 < rows { mask } else { 0 };
                    let odd = _mm512_maskz_loadu_ps(mask, from.wrapping_add(stride));
                    let pairs = _mm512_permutexvar_epi16(places, halves(even, odd));
                    let to = to.as_mut_ptr().add(at).cast();
                    _mm512_mask_storeu_epi32(to, lanes(to_width - at), pairs);
                }
            }
        }
    }

    /// A panel of pairs from a column-major matrix of `k` rows, whose columns lie `stride` floats apart.
    ///
    /// # Safety
    /// Needs AVX-512F and AVX512_BF16.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) unsafe fn pair_columns(
        data: &[f32],
        k: usize,
        stride: usize,
        width: usize,
        panel: &mut [u32],
    ) {
        assert!(width == 0 || (width - 1) * stride + k <= data.len());
        let load = |column: usize, pair: usize| {
            let n = k - 2 * pair;
            let from = data.as_ptr().wrapping_add(column * stride + 2 * pair);
            // SAFETY: the caller's machine has the features; the masks keep the loads within the column.
            unsafe {
                let low = _mm512_maskz_loadu_ps(lanes(n), from);
                let high =
                    _mm512_maskz_loadu_ps(lanes(n.saturating_sub(16)), from.wrapping_add(16));
                halves(low, high)
            }
        };
        // SAFETY: as this function's.
        unsafe { transpose_panel(k.div_ceil(2), width, panel, load) };
    }

    /// [`pair_columns`] for floats.
    ///
    /// # Safety
    /// Needs AVX-512F.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn pack_columns(
        data: &[f32],
        k: usize,
        stride: usize,
        width: usize,
        panel: &mut [u32],
    ) {
        assert!(width == 0 || (width - 1) * stride + k <= data.len());
        let load = |column: usize, row: usize| {
            let from = data.as_ptr().wrapping_add(column * stride + row);
            // SAFETY: the caller's machine has the feature; the mask keeps the load within the column.
            unsafe { _mm512_castps_si512(_mm512_maskz_loadu_ps(lanes(k - row), from)) }
        };
        // SAFETY: as this function's.
        unsafe { transpose_panel(k, width, panel, load) };
    }

    /// Fills a panel of `rows` rows with columns of words: `load` gives 16 words of a column from a row on.
    ///
    /// # Safety
    /// Needs AVX-512F.
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn transpose_panel(
        rows: usize,
        width: usize,
        panel: &mut [u32],
        load: impl Fn(usize, usize) -> __m512i,
    ) {
        assert_eq!(panel.len(), rows * PANEL);
        for row in (0..rows).step_by(16) {
            for column in (0..PANEL).step_by(16) {
                let mut words = [_mm512_setzero_si512(); 16];
                for (c, words) in words.iter_mut().enumerate().take(width.saturating_sub(column)) {
                    *words = load(column + c, row);
                }
                let words = transposed(words);
                for (r, words) in words.iter().enumerate().take(rows - row) {
                    let to = panel[(row + r) * PANEL + column..][..16].as_mut_ptr();
                    // SAFETY: 16 words of the panel.
                    unsafe { _mm512_storeu_si512(to.cast(), *words) };
                }
            }
        }
    }

    /// 16 × 16 words, rows as columns: in pairs, in fours, then in groups of four lanes.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn transposed(rows: [__m512i; 16]) -> [__m512i; 16] {
        let mut twos = rows;
        for i in (0..16).step_by(2) {
            twos[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
            twos[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
        }
        // Afterwards lane l of register 4·g + j holds column 4·l + j of rows 4·g to 4·g + 3.
        let mut fours = twos;
        for i in (0..16).step_by(4) {
            for j in 0..2 {
                fours[i + 2 * j] = _mm512_unpacklo_epi64(twos[i + j], twos[i + j + 2]);
                fours[i + 2 * j + 1] = _mm512_unpackhi_epi64(twos[i + j], twos[i + j + 2]);
            }
        }
        let mut columns = fours;
        for j in 0..4 {
            let [a, b, c, d] = [fours[j], fours[j + 4], fours[j + 8], fours[j + 12]];
            // 0x88 takes the even lanes of both, 0xdd the odd ones.
            let (even_ab, even_cd) =
                (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0x88>(c, d));
            let (odd_ab, odd_cd) =
                (_mm512_shuffle_i32x4::<0xdd>(a, b), _mm512_shuffle_i32x4::<0xdd>(c, d));
            columns[j] = _mm512_shuffle_i32x4::<0x88>(even_ab, even_cd);
            columns[j + 4] = _mm512_shuffle_i32x4::<0x88>(odd_ab, odd_cd);
            columns[j + 8] = _mm512_shuffle_i32x4::<0xdd>(even_ab, even_cd);
            columns[j + 12] = _mm512_shuffle_i32x4::<0xdd>(odd_ab, odd_cd);
        }
        columns
    }

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
        let masks = [width, width.saturating_sub(16)].map(lanes);
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
        let masks = [width, width.saturating_sub(16)].map(lanes);
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
