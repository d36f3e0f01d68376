//! Products with few rows on the left: decoding reads each weight once, so packing it would cost more than the product.

use rayon::prelude::*;

use super::buffer::Buffer;
use super::matmul::Into;
use super::simd::{LANES, multiversion, reduce2};

/// Most rows of activations for which a weight is read where it lies.
pub(super) const THIN: usize = 16;

/// Multiplications of a piece of work.
const PIECE: usize = 1 << 17;

/// `c = alpha · x·wᵀ` (or `c += …`) with rows of `c` that begin `c_stride` floats apart.
///
/// # Shapes
/// - x: `[n, inputs]`
/// - w: `[outputs, inputs]`
pub(super) fn multiply_thin(
    c: &mut [f32],
    c_stride: usize,
    into: Into,
    alpha: f32,
    x: &[f32],
    w: &[f32],
    inputs: usize,
) {
    let (n, outputs) = (x.len() / inputs, w.len() / inputs);
    // [outputs, n]: what a piece writes lies together.
    let mut y = Buffer::stale(outputs * n);
    // Each output is one sum of its own, so the division into pieces changes nothing.
    let rows = (PIECE / (inputs * n).max(1)).next_multiple_of(4).max(4);
    y.par_chunks_mut(rows * n)
        .zip(w.par_chunks(rows * inputs))
        .for_each(|(y, w)| dots(w, x, inputs, y));
    for (r, c) in c.chunks_mut(c_stride).take(n).enumerate() {
        for (c, y) in c[..outputs].iter_mut().zip(y.chunks_exact(n)) {
            *c = if into == Into::Add { *c + alpha * y[r] } else { alpha * y[r] };
        }
    }
}

multiversion! {
    /// `y[j, t] = w[j]·x[t]`, four rows of `w` at a time.
    fn dots(w: &[f32], x: &[f32], inputs: usize, y: &mut [f32]) {
        let n = x.len() / inputs;
        for (w, y) in w.chunks(4 * inputs).zip(y.chunks_mut(4 * n)) {
            if w.len() < 4 * inputs {
                for (w, y) in w.chunks_exact(inputs).zip(y.chunks_exact_mut(n)) {
                    for (x, y) in x.chunks_exact(inputs).zip(y) {
                        *y = reduce2(w, x, |a, b| a * b);
                    }
                }
                continue;
            }
            let (w01, w23) = w.split_at(2 * inputs);
            let ((w0, w1), (w2, w3)) = (w01.split_at(inputs), w23.split_at(inputs));
            for (t, x) in x.chunks_exact(inputs).enumerate() {
                let mut sums = [[0f32; LANES]; 4];
                let (xs, x_rest) = x.as_chunks::<LANES>();
                let ([a, b], [c, d]) = (
                    [w0, w1].map(|w| w.as_chunks::<LANES>().0),
                    [w2, w3].map(|w| w.as_chunks::<LANES>().0),
                );
                for ((((x, a), b), c), d) in xs.iter().zip(a).zip(b).zip(c).zip(d) {
                    for i in 0..LANES {
                        sums[0][i] = x[i].mul_add(a[i], sums[0][i]);
                        sums[1][i] = x[i].mul_add(b[i], sums[1][i]);
                        sums[2][i] = x[i].mul_add(c[i], sums[2][i]);
                        sums[3][i] = x[i].mul_add(d[i], sums[3][i]);
                    }
                }
                for (j, (sums, w)) in sums.iter().zip([w0, w1, w2, w3]).enumerate() {
                    let mut sum: f32 = sums.iter().sum();
                    for (x, w) in x_rest.iter().zip(&w[inputs - x_rest.len()..]) {
                        sum += x * w;
                    }
                    y[j * n + t] = sum;
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
    fn thin_products_equal_the_naive_sum() {
        let mut rng = stream(0, "test", "thin", 0);
        for case in 0..60 {
            let (n, k, m) =
                (rng.random_range(1..THIN), rng.random_range(1..200), rng.random_range(1..90));
            let [x, w] = [n * k, m * k]
                .map(|n| (0..n).map(|_| rng.random_range(-1.0..1.0)).collect::<Vec<f32>>());
            let stride = m + rng.random_range(0..5);
            let before: Vec<f32> = (0..n * stride).map(|_| rng.random_range(-1.0..1.0)).collect();
            let into = if rng.random() { Into::Add } else { Into::Set };
            let mut c = before.clone();
            multiply_thin(&mut c, stride, into, 0.5, &x, &w, k);
            for (i, (found, before)) in c.iter().zip(&before).enumerate() {
                let (r, j) = (i / stride, i % stride);
                let expected = if j < m {
                    let dot: f32 = (0..k).map(|p| x[r * k + p] * w[j * k + p]).sum();
                    0.5 * dot + if into == Into::Add { *before } else { 0.0 }
                } else {
                    *before
                };
                assert!((found - expected).abs() < 1e-4, "case {case} ({r}, {j})");
            }
        }
    }
}
