//! Tiles and packing with AVX2 and FMA, in f32.

use std::arch::x86_64::{
    __m256, _mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_mul_ps,
    _mm256_permute2f128_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_shuffle_ps, _mm256_storeu_ps,
    _mm256_unpackhi_ps, _mm256_unpacklo_ps,
};

use super::{Mat, PANEL};

/// Columns of a tile: two registers.
const HALF: usize = PANEL / 2;

/// Rows of a tile: 6 × 2 sums, two registers of `b` and one of `a` fit into 16, and 12 sums hide the latency of
/// two multiply-add units.
const ROWS: usize = 6;

/// Calls the tile for this number of rows.
macro_rules! for_rows {
    ($rows:expr, $tile:ident) => {
        match $rows {
            1 => $tile!(1),
            2 => $tile!(2),
            3 => $tile!(3),
            4 => $tile!(4),
            5 => $tile!(5),
            _ => $tile!(6),
        }
    };
}

/// All rows of `c` in the columns of one panel.
///
/// # Safety
/// Needs AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
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
    for first in (0..width).step_by(HALF) {
        let n = HALF.min(width - first);
        for row in (0..a.rows).step_by(ROWS) {
            // SAFETY: by the assertions above, rows `row..row + M` of `a` and `c` are in bounds.
            unsafe {
                let a_row = a.data.as_ptr().add(row * a.row_stride);
                let b = panel.as_ptr().add(first);
                let c_row = c.as_mut_ptr().add(row * c_stride + first);
                macro_rules! tile {
                    ($rows:literal) => {{
                        let sums = if a.column_stride == 1 {
                            sums::<$rows>(a.columns, a_row, a.row_stride, 1, b)
                        } else {
                            sums::<$rows>(a.columns, a_row, 1, a.column_stride, b)
                        };
                        store(sums, c_row, c_stride, n, add, alpha);
                    }};
                }
                for_rows!((a.rows - row).min(ROWS), tile);
            }
        }
    }
}

/// The products of `M` rows with half a panel.
///
/// # Safety
/// Needs AVX2 and FMA, `k` places of `M` rows of `a`, and as many rows of a panel.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn sums<const M: usize>(
    k: usize,
    a: *const f32,
    a_row: usize,
    a_column: usize,
    panel: *const f32,
) -> [[__m256; 2]; M] {
    let mut sums = [[_mm256_setzero_ps(); 2]; M];
    let (mut a, mut b) = (a, panel);
    for _ in 0..k {
        // SAFETY: the caller promises that these places exist; the pointers behind the last are not read.
        unsafe {
            let (low, high) = (_mm256_loadu_ps(b), _mm256_loadu_ps(b.add(HALF / 2)));
            for (i, sums) in sums.iter_mut().enumerate() {
                let x = _mm256_broadcast_ss(&*a.add(i * a_row));
                sums[0] = _mm256_fmadd_ps(x, low, sums[0]);
                sums[1] = _mm256_fmadd_ps(x, high, sums[1]);
            }
        }
        a = a.wrapping_add(a_column);
        b = b.wrapping_add(PANEL);
    }
    sums
}

/// Writes a tile's first `n` columns.
///
/// # Safety
/// Needs AVX2 and FMA, and `M` rows of `c` with `n` columns.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn store<const M: usize>(
    sums: [[__m256; 2]; M],
    c: *mut f32,
    c_stride: usize,
    n: usize,
    add: bool,
    alpha: f32,
) {
    let factor = _mm256_set1_ps(alpha);
    if n == HALF {
        for i in 0..M {
            for half in 0..2 {
                // SAFETY: the caller promises `M` rows of 16 columns.
                unsafe {
                    let c = c.add(i * c_stride + 8 * half);
                    let value = if add {
                        _mm256_fmadd_ps(factor, sums[i][half], _mm256_loadu_ps(c))
                    } else {
                        _mm256_mul_ps(factor, sums[i][half])
                    };
                    _mm256_storeu_ps(c, value);
                }
            }
        }
        return;
    }
    // Masked stores are slow on some processors, and this is the edge of a matrix.
    for (i, sums) in sums.into_iter().enumerate() {
        let mut values = [0f32; HALF];
        // SAFETY: two registers of eight floats; then `n` columns of row `i`.
        let c = unsafe {
            _mm256_storeu_ps(values.as_mut_ptr(), sums[0]);
            _mm256_storeu_ps(values.as_mut_ptr().add(8), sums[1]);
            std::slice::from_raw_parts_mut(c.add(i * c_stride), n)
        };
        for (c, value) in c.iter_mut().zip(values) {
            *c = if add { alpha.mul_add(value, *c) } else { alpha * value };
        }
    }
}

/// A panel from a column-major matrix of `k` rows, whose columns lie `stride` floats apart.
///
/// # Safety
/// Needs AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn pack_columns(
    data: &[f32],
    k: usize,
    stride: usize,
    width: usize,
    panel: &mut [f32],
) {
    assert!(width == 0 || (width - 1) * stride + k <= data.len());
    assert_eq!(panel.len(), k * PANEL);
    let whole = k - k % 8;
    for first in (0..PANEL).step_by(8) {
        let n = width.saturating_sub(first).min(8);
        for row in (0..whole).step_by(8) {
            let mut columns = [_mm256_setzero_ps(); 8];
            for (c, column) in columns.iter_mut().enumerate().take(n) {
                let from = data[(first + c) * stride + row..][..8].as_ptr();
                // SAFETY: eight floats of the column.
                *column = unsafe { _mm256_loadu_ps(from) };
            }
            for (r, values) in transposed(columns).into_iter().enumerate() {
                let to = panel[(row + r) * PANEL + first..][..8].as_mut_ptr();
                // SAFETY: eight floats of the panel.
                unsafe { _mm256_storeu_ps(to, values) };
            }
        }
        for row in whole..k {
            let to = &mut panel[row * PANEL + first..][..8];
            for (c, to) in to.iter_mut().enumerate() {
                *to = if c < n { data[(first + c) * stride + row] } else { 0.0 };
            }
        }
    }
}

/// 8 × 8 floats, rows as columns: in pairs, in fours, then in halves of registers.
#[target_feature(enable = "avx2")]
#[inline]
fn transposed(rows: [__m256; 8]) -> [__m256; 8] {
    let mut twos = rows;
    for i in (0..8).step_by(2) {
        twos[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
        twos[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
    }
    // Afterwards half l of register 4·g + j holds column 4·l + j of rows 4·g to 4·g + 3.
    let mut fours = twos;
    for i in (0..8).step_by(4) {
        for j in 0..2 {
            let (a, b) = (twos[i + j], twos[i + j + 2]);
            fours[i + 2 * j] = _mm256_shuffle_ps::<0x44>(a, b);
            fours[i + 2 * j + 1] = _mm256_shuffle_ps::<0xee>(a, b);
        }
    }
    let mut columns = fours;
    for j in 0..4 {
        columns[j] = _mm256_permute2f128_ps::<0x20>(fours[j], fours[j + 4]);
        columns[j + 4] = _mm256_permute2f128_ps::<0x31>(fours[j], fours[j + 4]);
    }
    columns
}
