//! One source, several instruction sets.

/// Compiles the body of a function for AVX-512, AVX2 + FMA and the baseline, and picks at run time.
///
/// The loops inside are written so that the compiler vectorizes them; NEON is part of the aarch64 baseline.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
                fn v4($($arg: $ty),*) $(-> $ret)? {
                    body($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn v3($($arg: $ty),*) $(-> $ret)? {
                    body($($arg),*)
                }
                if is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                {
                    // SAFETY: the features were just detected.
                    return unsafe { v4($($arg),*) };
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: the features were just detected.
                    return unsafe { v3($($arg),*) };
                }
            }
            body($($arg),*)
        }
    };
}
pub(crate) use multiversion;

/// Lanes of the accumulators in reductions. Fixed, so that sums do not depend on the instruction set's width.
pub(crate) const LANES: usize = 16;

/// Sum of `f(a[i], b[i])` in [`LANES`] running sums.
#[inline(always)]
pub(crate) fn reduce2(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for i in 0..LANES {
            sums[i] += f(x[i], y[i]);
        }
    }
    let mut sum = 0.0;
    for (x, y) in a_rest.iter().zip(b_rest) {
        sum += f(*x, *y);
    }
    sum + sum_lanes(sums)
}

/// Sum of `f(a[i])` in [`LANES`] running sums.
#[inline(always)]
pub(crate) fn reduce1(a: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    reduce2(a, a, |x, _| f(x))
}

#[inline(always)]
fn sum_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut n = LANES;
    while n > 1 {
        n /= 2;
        for i in 0..n {
            lanes[i] += lanes[i + n];
        }
    }
    lanes[0]
}

/// `e^x` for `x ≤ 0` with a relative error below 3e-7; underflows to a tiny positive number.
///
/// Argument reduction by ln 2 in two parts and a polynomial of degree 6 (coefficients as in Cephes' `expf`).
#[inline(always)]
pub(crate) fn exp_nonpositive(x: f32) -> f32 {
    let x = x.max(-87.0);
    // Adding 1.5·2^23 rounds to the nearest integer, leaves it in the lowest bits, and vectorizes everywhere.
    const ROUND: f32 = 12_582_912.0;
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-0.693_359_4, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    let p = 1.987_569_1e-4_f32
        .mul_add(r, 1.398_199_9e-3)
        .mul_add(r, 8.333_452e-3)
        .mul_add(r, 4.166_579_6e-2)
        .mul_add(r, 1.666_666_5e-1)
        .mul_add(r, 5.000_000_3e-1)
        .mul_add(r * r, r + 1.0);
    // The nine lowest bits of the constant are 0, so the shift leaves nothing of it.
    f32::from_bits(shifted.to_bits().wrapping_add(127) << 23) * p
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate_below_zero() {
        for i in 0..8_600 {
            let x = -(i as f32) * 0.01;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp_nonpositive(x)) - exact).abs() / exact;
            assert!(error < 3e-7, "exp({x}) is off by {error:e}");
        }
    }
}
