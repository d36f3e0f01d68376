//! AdamW as one pass over a parameter, its gradient and its two moments.

use burn::tensor::Tensor;

/// Added to the root of the second moment.
pub const ADAM_EPSILON: f64 = 1e-8;

/// What a step multiplies by (Loshchilov & Hutter 2017, arXiv 1711.05101):
///
/// ```text
/// m ← β₁·m + (1−β₁)·g        v ← β₂·v + (1−β₂)·g²        g = gradient · clip
/// p ← keep·p − rate · m / (√(v·correction) + ε)
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWFactors {
    /// Decay of the first and the second moment, `β₁` and `β₂`.
    pub betas: [f64; 2],
    /// In front of the gradient.
    pub clip: f64,
    /// In front of the parameter: 1 less the weight decay.
    pub keep: f64,
    /// The learning rate with the first moment's bias correction, `η / (1−β₁ᵗ)`.
    pub rate: f64,
    /// The second moment's bias correction, `1 / (1−β₂ᵗ)`.
    pub correction: f64,
}

/// Takes one step. `None`, and nothing done, on other devices than the CPU.
///
/// What nobody else holds is changed where it lies; a tensor that is shared is copied first.
///
/// # Shapes
/// All four tensors have the same.
pub fn adamw_step(
    factors: &AdamWFactors,
    parameter: &mut Tensor<2>,
    gradient: &Tensor<2>,
    first: &mut Tensor<2>,
    second: &mut Tensor<2>,
) -> Option<()> {
    #[cfg(feature = "cpu")]
    {
        cpu::step(factors, parameter, gradient, first, second)
    }
    #[cfg(not(feature = "cpu"))]
    {
        let _ = (factors, parameter, gradient, first, second);
        None
    }
}

/// The sum of a tensor's squared values; `None` on other devices than the CPU.
pub fn sum_of_squares(tensor: &Tensor<2>) -> Option<f64> {
    #[cfg(feature = "cpu")]
    {
        cpu::sum_of_squares(tensor)
    }
    #[cfg(not(feature = "cpu"))]
    {
        let _ = tensor;
        None
    }
}

#[cfg(feature = "cpu")]
mod cpu {
    use burn::backend::Flex;
    use burn::backend::flex::FlexTensor;
    use rayon::prelude::*;

    use super::super::op::flex_floats;
    use super::super::simd::{multiversion, reduce1};
    use super::*;

    /// Values in one piece of work. Fixed, so that sums do not depend on the number of threads.
    const CHUNK: usize = 1 << 14;

    multiversion! {
        // Plain products and sums: the same bits with every instruction set.
        fn step_chunk(p: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32], c: [f32; 7]) {
            let [b1, one_minus_b1, b2, one_minus_b2, keep, rate, correction] = c;
            for (((p, m), v), g) in p.iter_mut().zip(m).zip(v).zip(g) {
                *m = *m * b1 + g * one_minus_b1;
                *v = *v * b2 + g * g * one_minus_b2;
                *p = *p * keep - rate * *m / ((*v * correction).sqrt() + ADAM_EPSILON as f32);
            }
        }
    }

    multiversion! {
        fn squares(values: &[f32]) -> f32 {
            reduce1(values, |v| v * v)
        }
    }

    fn primitive(tensor: &Tensor<2>) -> Option<FlexTensor> {
        Some(tensor.clone().try_into_primitive::<Flex>().ok()?.to_contiguous())
    }

    pub(super) fn step(
        f: &AdamWFactors,
        parameter: &mut Tensor<2>,
        gradient: &Tensor<2>,
        first: &mut Tensor<2>,
        second: &mut Tensor<2>,
    ) -> Option<()> {
        let g = primitive(gradient)?;
        let (mut p, mut m, mut v) = (primitive(parameter)?, primitive(first)?, primitive(second)?);
        // So that the primitives are the only holders.
        let nothing = Tensor::<2>::zeros([1, 1], &parameter.device());
        for tensor in [&mut *parameter, &mut *first, &mut *second] {
            *tensor = nothing.clone();
        }
        let n = flex_floats(&g).len();
        assert!(
            [&p, &m, &v].iter().all(|t| t.storage::<f32>().len() == n),
            "parameter, gradient and moments are whole tensors of one shape"
        );
        let [b1, b2] = f.betas;
        // The gradient's factor goes into those of its moments, which costs no pass of its own.
        let (g1, g2) = ((1.0 - b1) * f.clip, (1.0 - b2) * f.clip * f.clip);
        let c = [b1, g1, b2, g2, f.keep, f.rate, f.correction].map(|x| x as f32);
        p.storage_mut::<f32>()
            .par_chunks_mut(CHUNK)
            .zip(m.storage_mut::<f32>().par_chunks_mut(CHUNK))
            .zip(v.storage_mut::<f32>().par_chunks_mut(CHUNK))
            .zip(flex_floats(&g).par_chunks(CHUNK))
            .for_each(|(((p, m), v), g)| step_chunk(p, m, v, g, c));
        *parameter = Tensor::from_primitive::<Flex>(p);
        *first = Tensor::from_primitive::<Flex>(m);
        *second = Tensor::from_primitive::<Flex>(v);
        Some(())
    }

    pub(super) fn sum_of_squares(tensor: &Tensor<2>) -> Option<f64> {
        let tensor = primitive(tensor)?;
        let pieces: Vec<f32> = flex_floats(&tensor).par_chunks(CHUNK).map(squares).collect();
        Some(pieces.into_iter().map(f64::from).sum())
    }
}
