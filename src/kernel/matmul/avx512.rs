//! Tiles and packing with AVX-512, in f32 and in bfloat16.

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
            let high = _mm512_maskz_loadu_ps(lanes(n.saturating_sub(16)), from.wrapping_add(16));
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
            let high = _mm512_maskz_loadu_ps(lanes(n.saturating_sub(16)), from.wrapping_add(16));
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

/// Writes a tile's sums. Not a function: where one is not inlined, the sums are kept in memory rather than in registers.
/// The caller promises that all rows of `c` are in bounds; the masks keep loads and stores within its columns.
macro_rules! store {
    ($sums:ident, $c:ident, $c_row:ident, $add:ident, $alpha:ident, $masks:ident) => {
        let alpha = _mm512_set1_ps($alpha);
        for (i, sums) in $sums.iter().enumerate() {
            for (half, sum) in sums.iter().enumerate() {
                let to = $c.add(i * $c_row + 16 * half);
                let value = if $add {
                    let old = _mm512_maskz_loadu_ps($masks[half], to);
                    _mm512_fmadd_ps(alpha, *sum, old)
                } else {
                    _mm512_mul_ps(alpha, *sum)
                };
                _mm512_mask_storeu_ps(to, $masks[half], value);
            }
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
        store!(sums, c, c_row, add, alpha, masks);
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
        store!(sums, c, c_row, add, alpha, masks);
    }
}
