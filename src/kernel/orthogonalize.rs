//! The nearest semi-orthogonal matrix, as Muon needs it.

use super::matmul::{Into, Mat, Precision, matmul};

/// Muon's quintic (Jordan et al. 2024): `x ← 3.4445 x − 4.7750 (x xᵀ) x + 2.0315 (x xᵀ)² x`, which takes singular values
/// within 0..1 to about 1, and stays near 1 rather than at it.
pub const NEWTON_SCHULZ: [f64; 3] = [3.4445, -4.7750, 2.0315];

/// Number of iterations; the least singular values that count get there in as many.
pub const NEWTON_SCHULZ_STEPS: usize = 5;

/// Added to the norm, so that a gradient of zeros has no update.
pub const NEWTON_SCHULZ_EPSILON: f64 = 1e-7;

/// Newton–Schulz iterations on the row-major `[rows, columns]` matrix `x`, on the calling thread.
pub fn orthogonalize(
    mut x: Vec<f32>,
    rows: usize,
    columns: usize,
    precision: Precision,
) -> Vec<f32> {
    // The square of the shorter side is multiplied.
    let tall = rows > columns;
    let (r, c) = if tall { (columns, rows) } else { (rows, columns) };
    if tall {
        x = transposed(&x, rows, columns);
    }
    let square: f64 = x.iter().map(|&v| f64::from(v).powi(2)).sum();
    let scale = (1.0 / (square.sqrt() + NEWTON_SCHULZ_EPSILON)) as f32;
    x.iter_mut().for_each(|v| *v *= scale);
    let [first, third, fifth] = NEWTON_SCHULZ.map(|f| f as f32);
    let mut gram = vec![0.0; r * r];
    for _ in 0..NEWTON_SCHULZ_STEPS {
        let m = Mat::new(&x, r, c);
        matmul(&mut gram, r, Into::Set, 1.0, m, m.t(), precision);
        let g = Mat::new(&gram, r, r);
        let mut factor: Vec<f32> = gram.iter().map(|v| v * third).collect();
        matmul(&mut factor, r, Into::Add, fifth, g, g, precision);
        let mut next: Vec<f32> = x.iter().map(|v| v * first).collect();
        matmul(&mut next, c, Into::Add, 1.0, Mat::new(&factor, r, r), m, precision);
        x = next;
    }
    if tall { transposed(&x, r, c) } else { x }
}

/// The row-major transpose of a row-major `[rows, columns]` matrix.
fn transposed(x: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    for (i, row) in x.chunks_exact(columns).enumerate() {
        row.iter().enumerate().for_each(|(j, &v)| out[j * rows + i] = v);
    }
    out
}
