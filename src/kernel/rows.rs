//! Operations on rows: norms, rotation, softmax, activation.

use super::layout::{Position, Rotary};
use super::simd::{LANES, exp_nonpositive, multiversion, reduce1, reduce2};

/// Added to the mean square before the root, in the grid model.
pub(crate) const NORM_EPSILON: f32 = 1e-5;

multiversion! {
    /// RMSNorm (Zhang & Sennrich 2019, arXiv 1910.07467): `out = x · r · gain`, `r = 1/√(mean(x²) + ε)`.
    ///
    /// Rows of `gain.len()`; `r` of each row is kept in `inverse_rms`.
    pub(crate) fn rms_norm(
        x: &[f32], gain: &[f32], epsilon: f32, out: &mut [f32], inverse_rms: &mut [f32],
    ) {
        let d = gain.len();
        for ((x, out), r) in x.chunks_exact(d).zip(out.chunks_exact_mut(d)).zip(inverse_rms) {
            *r = 1.0 / (reduce1(x, |v| v * v) / d as f32 + epsilon).sqrt();
            for ((out, x), g) in out.iter_mut().zip(x).zip(gain) {
                *out = x * *r * g;
            }
        }
    }
}

multiversion! {
    /// Gradient of [`rms_norm`], added to `dx`: `dx += r·(g∘dy − x · r²/d · Σ x∘g∘dy)`.
    ///
    /// The gain's gradient `Σ_rows dy∘x·r` is added to `dgain` unless that is empty.
    pub(crate) fn rms_norm_backward(
        x: &[f32], gain: &[f32], inverse_rms: &[f32], dy: &[f32], dx: &mut [f32], dgain: &mut [f32],
    ) {
        let d = gain.len();
        for (((x, dy), dx), &r) in
            x.chunks_exact(d).zip(dy.chunks_exact(d)).zip(dx.chunks_exact_mut(d)).zip(inverse_rms)
        {
            let mut sums = [0f32; LANES];
            for ((x, dy), g) in
                x.as_chunks::<LANES>().0.iter().zip(dy.as_chunks::<LANES>().0).zip(gain.as_chunks::<LANES>().0)
            {
                for i in 0..LANES {
                    sums[i] += x[i] * dy[i] * g[i];
                }
            }
            let mut dot: f32 = sums.iter().sum();
            for i in d - d % LANES..d {
                dot += x[i] * dy[i] * gain[i];
            }
            let c = dot * r * r / d as f32;
            for i in 0..d {
                dx[i] += r * (gain[i] * dy[i] - x[i] * c);
            }
            if !dgain.is_empty() {
                for i in 0..d {
                    dgain[i] += dy[i] * x[i] * r;
                }
            }
        }
    }
}

/// Normalizes queries and keys head by head and turns the first half of the heads, in place.
///
/// `qkv` has rows of `3·d`: queries, keys, values. Keeps the inverse RMS of each row's heads in `inverse_rms`
/// (rows of `2·n_heads`: queries, then keys).
pub(crate) fn normalize_and_rotate(
    qkv: &mut [f32],
    inverse_rms: &mut [f32],
    positions: &[Position],
    n_heads: usize,
    head_dim: usize,
    rotary: &Rotary,
) {
    let d = n_heads * head_dim;
    let mut angles = vec![0f32; head_dim];
    for ((row, r), position) in
        qkv.chunks_exact_mut(3 * d).zip(inverse_rms.chunks_exact_mut(2 * n_heads)).zip(positions)
    {
        normalize_heads(&mut row[..2 * d], r, head_dim);
        rotate(&mut row[..2 * d], position, n_heads, head_dim, rotary, &mut angles, 1.0);
    }
}

/// Gradient of [`normalize_and_rotate`] in place: `dqkv` holds the gradients after it, then before it.
///
/// `qkv` holds the values after it. The norm's formula is unchanged by a rotation, so it is applied in the
/// rotated frame and the result turned back.
pub(crate) fn normalize_and_rotate_backward(
    dqkv: &mut [f32],
    qkv: &[f32],
    inverse_rms: &[f32],
    positions: &[Position],
    n_heads: usize,
    head_dim: usize,
    rotary: &Rotary,
) {
    let d = n_heads * head_dim;
    let mut angles = vec![0f32; head_dim];
    for (((drow, row), r), position) in dqkv
        .chunks_exact_mut(3 * d)
        .zip(qkv.chunks_exact(3 * d))
        .zip(inverse_rms.chunks_exact(2 * n_heads))
        .zip(positions)
    {
        normalize_heads_backward(&mut drow[..2 * d], &row[..2 * d], r, head_dim);
        rotate(&mut drow[..2 * d], position, n_heads, head_dim, rotary, &mut angles, -1.0);
    }
}

/// Turns the first half of the heads of a row of queries and keys; `angles` is scratch of `head_dim` floats.
fn rotate(
    row: &mut [f32],
    position: &Position,
    n_heads: usize,
    head_dim: usize,
    rotary: &Rotary,
    angles: &mut [f32],
    direction: f32,
) {
    let Some(place) = position else { return };
    let (cos, sin) = angles.split_at_mut(head_dim / 2);
    let (queries, keys) = row.split_at_mut(n_heads * head_dim);
    for (i, part) in [queries, keys].into_iter().enumerate() {
        for (number, head) in part.chunks_exact_mut(head_dim).take(n_heads / 2).enumerate() {
            rotary.angles(place.turns(number)[i], cos, sin);
            rotate_head(head, cos, sin, direction);
        }
    }
}

multiversion! {
    fn normalize_heads(row: &mut [f32], inverse_rms: &mut [f32], head_dim: usize) {
        for (head, r) in row.chunks_exact_mut(head_dim).zip(inverse_rms) {
            *r = 1.0 / (reduce1(head, |v| v * v) / head_dim as f32 + NORM_EPSILON).sqrt();
            for v in head {
                *v *= *r;
            }
        }
    }
}

multiversion! {
    fn normalize_heads_backward(drow: &mut [f32], row: &[f32], inverse_rms: &[f32], head_dim: usize) {
        for ((dn, n), r) in
            drow.chunks_exact_mut(head_dim).zip(row.chunks_exact(head_dim)).zip(inverse_rms)
        {
            let mean = reduce2(dn, n, |a, b| a * b) / head_dim as f32;
            for (dn, n) in dn.iter_mut().zip(n) {
                *dn = r * (*dn - n * mean);
            }
        }
    }
}

multiversion! {
    /// Turns a head's pairs `(i, i + head_dim/2)` by the given angles, times `direction`.
    pub(crate) fn rotate_head(head: &mut [f32], cos: &[f32], sin: &[f32], direction: f32) {
        let half = cos.len();
        let (a, b) = head.split_at_mut(half);
        for i in 0..half {
            let (x, y, s) = (a[i], b[i], direction * sin[i]);
            a[i] = x * cos[i] - y * s;
            b[i] = x * s + y * cos[i];
        }
    }
}

multiversion! {
    /// From scores to shares that are not yet divided by their sum, `exp(s − top)`, in place, row by row of `width`.
    ///
    /// Keeps the logarithm of each row's sum of exponentials, and the factor that makes shares of the row. `bound`
    /// is what no score exceeds in size: where it is small it stands for the row's largest score, which then need not
    /// be looked for.
    pub(crate) fn softmax_rows(
        scores: &mut [f32], width: usize, bound: f32, log_sum_exp: &mut [f32], inverse_sums: &mut [f32],
    ) {
        for ((row, lse), inverse) in
            scores.chunks_exact_mut(width).zip(log_sum_exp).zip(inverse_sums)
        {
            let top = if bound <= SAFE_BOUND { bound } else { largest(row) };
            let mut sums = [0f32; LANES];
            let (chunks, rest) = row.as_chunks_mut::<LANES>();
            for c in chunks {
                for i in 0..LANES {
                    let e = exp_nonpositive(c[i] - top);
                    c[i] = e;
                    sums[i] += e;
                }
            }
            let mut sum: f32 = sums.iter().sum();
            for v in rest {
                *v = exp_nonpositive(*v - top);
                sum += *v;
            }
            *inverse = 1.0 / sum;
            *lse = top + sum.ln();
        }
    }
}

/// Scores of at most this size may be lowered by it: `exp(−2·bound)` is still a normal number, with room for sums.
const SAFE_BOUND: f32 = 40.0;

/// The largest value of a row.
#[inline(always)]
pub(super) fn largest(row: &[f32]) -> f32 {
    let mut max = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for c in chunks {
        for i in 0..LANES {
            max[i] = if c[i] > max[i] { c[i] } else { max[i] };
        }
    }
    max.into_iter().chain(rest.iter().copied()).fold(f32::NEG_INFINITY, f32::max)
}

multiversion! {
    /// From scores to probabilities `p` (in place) and from `dp` to the scores' gradients (in place):
    /// `p = exp(s − lse)`, `ds = p∘(dp − delta)`.
    pub(crate) fn softmax_backward_rows(
        scores: &mut [f32], dp: &mut [f32], width: usize, log_sum_exp: &[f32], delta: &[f32],
    ) {
        for (((row, dp), lse), delta) in scores
            .chunks_exact_mut(width)
            .zip(dp.chunks_exact_mut(width))
            .zip(log_sum_exp)
            .zip(delta)
        {
            for (s, dp) in row.iter_mut().zip(dp) {
                let p = exp_nonpositive((*s - lse).min(0.0));
                *s = p;
                *dp = p * (*dp - delta);
            }
        }
    }
}

multiversion! {
    /// `Σ a∘b` of rows of `width`.
    pub(crate) fn dot_rows(a: &[f32], b: &[f32], width: usize, out: &mut [f32]) {
        for ((a, b), out) in a.chunks_exact(width).zip(b.chunks_exact(width)).zip(out) {
            *out = reduce2(a, b, |x, y| x * y);
        }
    }
}

multiversion! {
    /// Squared ReLU (So et al. 2021, arXiv 2109.08668): `out = max(u, 0)²`.
    pub(crate) fn relu_squared(u: &[f32], out: &mut [f32]) {
        for (out, u) in out.iter_mut().zip(u) {
            let v = u.max(0.0);
            *out = v * v;
        }
    }
}

multiversion! {
    /// Gradient of [`relu_squared`] in place: `da` becomes `da · 2·max(u, 0)`.
    pub(crate) fn relu_squared_backward(u: &[f32], da: &mut [f32]) {
        for (da, u) in da.iter_mut().zip(u) {
            *da *= 2.0 * u.max(0.0);
        }
    }
}

multiversion! {
    /// `a += b`.
    pub(crate) fn add_assign(a: &mut [f32], b: &[f32]) {
        for (a, b) in a.iter_mut().zip(b) {
            *a += b;
        }
    }
}

/// One slice of the gain's gradient for each chunk; empty slices if it is not wanted.
pub(crate) fn gain_chunks(dgain: &mut [f32], n_chunks: usize) -> Vec<&mut [f32]> {
    if dgain.is_empty() {
        return (0..n_chunks).map(|_| &mut [][..]).collect();
    }
    let width = dgain.len() / n_chunks;
    dgain.chunks_exact_mut(width).collect()
}

/// The sum of rows of `width`.
pub(crate) fn sum_chunks(chunks: &[f32], width: usize) -> Vec<f32> {
    let mut sum = vec![0.0; width];
    if width > 0 {
        for chunk in chunks.chunks_exact(width) {
            add_assign(&mut sum, chunk);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_the_same_whether_a_row_s_largest_score_is_bounded_or_looked_for() {
        // Rows of 37: two stretches of lanes, and a rest.
        let scores: Vec<f32> = (0..4 * 37).map(|i| ((i * 29 % 97) as f32 - 48.0) * 0.6).collect();
        let run = |bound: f32| {
            let (mut p, mut lse, mut inverse) = (scores.clone(), vec![0.0; 4], vec![0.0; 4]);
            softmax_rows(&mut p, 37, bound, &mut lse, &mut inverse);
            for (row, inverse) in p.chunks_exact_mut(37).zip(&inverse) {
                row.iter_mut().for_each(|p| *p *= inverse);
            }
            (p, lse)
        };
        let (bounded, lse) = run(30.0);
        // A bound that is too large to subtract: the largest score is looked for.
        let (exact, exact_lse) = run(1e3);
        for (row, scores) in exact.chunks_exact(37).zip(scores.chunks_exact(37)) {
            let sum: f64 = scores.iter().map(|&s| f64::from(s).exp()).sum();
            for (p, s) in row.iter().zip(scores) {
                assert!((f64::from(*p) - f64::from(*s).exp() / sum).abs() < 1e-6);
            }
        }
        for (a, b) in bounded.iter().zip(&exact).chain(lse.iter().zip(&exact_lse)) {
            assert!((a - b).abs() <= 2e-6 * b.abs().max(1e-3), "{a} {b}");
        }
    }
}
