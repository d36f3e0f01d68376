//! Tiles that the compiler vectorizes, for any processor.

use super::super::simd::multiversion;
use super::{Mat, PANEL};

multiversion! {
    /// All rows of `c` in the columns of one panel.
    pub(super) fn portable_panel(
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
