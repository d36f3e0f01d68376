//! The way from tokens to the loss: last norm, projection to classes, cross-entropy.

use std::ops::Range;

use burn::tensor::Tensor;

/// Parameters of the readout as tensors.
#[derive(Debug, Clone)]
pub struct ReadoutParameters<'a> {
    /// Gain of the norm, `[1, d_model]`.
    pub norm: &'a Tensor<2>,
    /// `[d_model, n_classes]`.
    pub head: &'a Tensor<2>,
    /// `[1, n_classes]`.
    pub bias: &'a Tensor<2>,
}

/// `RMSNorm(x[tokens])·gain·W + b` of some of the tokens, on the CPU; `None` on every other device.
///
/// One operation in place of six, and a backward pass that writes the tokens' gradient where it belongs instead of
/// padding a slice's.
///
/// # Shapes
/// - x: `[n_tokens, d_model]`
/// - returns: `[tokens.len(), n_classes]`
pub fn fused_readout(
    x: &Tensor<2>,
    tokens: &Range<usize>,
    parameters: &ReadoutParameters<'_>,
) -> Option<Tensor<2>> {
    #[cfg(feature = "cpu")]
    {
        cpu::readout(x, tokens, parameters)
    }
    #[cfg(not(feature = "cpu"))]
    {
        let _ = (x, tokens, parameters);
        None
    }
}

/// Weighted sum of the rows' cross-entropies, in nats, on the CPU; `None` on every other device.
///
/// The softmax is taken once: what the forward pass finds is the gradient up to a factor.
///
/// # Shapes
/// - logits: `[targets.len(), n_classes]`
/// - returns: `[1]`
///
/// # Panics
/// If there are not as many targets and weights as rows, or a target is no class.
pub fn fused_cross_entropy(
    logits: &Tensor<2>,
    targets: &[u8],
    weights: &[f32],
) -> Option<Tensor<1>> {
    #[cfg(feature = "cpu")]
    {
        cpu::cross_entropy(logits, targets, weights)
    }
    #[cfg(not(feature = "cpu"))]
    {
        let _ = (logits, targets, weights);
        None
    }
}

#[cfg(feature = "cpu")]
mod cpu {
    use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::NoCheckpointing};
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
    use burn::backend::flex::FlexTensor;
    use burn::backend::{Autodiff, Flex};
    use rayon::prelude::*;

    use super::super::block::CHUNK;
    use super::super::buffer::Buffer;
    use super::super::matmul::{Mat, Packed, product};
    use super::super::op::{flex_floats as floats, flex_tensor as tensor};
    use super::super::rows::{
        NORM_EPSILON, add_assign, gain_chunks, rms_norm, rms_norm_backward, sum_chunks,
    };
    use super::*;

    type Ad = Autodiff<Flex>;

    /// Differentiable inputs of the readout: x, gain, head, bias.
    const INPUTS: usize = 4;

    #[derive(Debug)]
    struct Readout;

    #[derive(Debug, Clone)]
    struct Saved {
        inputs: [FlexTensor; INPUTS],
        tokens: Range<usize>,
    }

    /// Sizes: model width, classes.
    fn sizes(inputs: &[FlexTensor; INPUTS]) -> (usize, usize) {
        let [d, classes] = inputs[2].layout().shape().dims::<2>();
        (d, classes)
    }

    fn forward(inputs: &[FlexTensor; INPUTS], tokens: &Range<usize>) -> FlexTensor {
        let (d, classes) = sizes(inputs);
        let [x, gain, head, bias] = inputs.each_ref().map(floats);
        let x = &x[tokens.start * d..tokens.end * d];
        let head = Packed::new(Mat::new(head, d, classes));
        let mut out = vec![0.0; tokens.len() * classes];
        out.par_chunks_mut(CHUNK * classes).zip(x.par_chunks(CHUNK * d)).for_each(|(out, x)| {
            let rows = x.len() / d;
            let (mut h, mut ignored) = (Buffer::stale(x.len()), Buffer::stale(rows));
            rms_norm(x, gain, NORM_EPSILON, &mut h, &mut ignored);
            product(out, Mat::new(&h, rows, d), &head);
            out.chunks_exact_mut(classes).for_each(|row| add_assign(row, bias));
        });
        tensor(out, [tokens.len(), classes].into())
    }

    impl Backward<Flex, INPUTS> for Readout {
        type State = Saved;

        fn backward(self, ops: Ops<Saved, INPUTS>, grads: &mut Gradients, _: &mut Checkpointer) {
            let dy = grads.consume::<Flex>(&ops.node).to_contiguous();
            let Saved { inputs, tokens } = ops.state;
            let (d, classes) = sizes(&inputs);
            let ([x, gain, head, _], dy) = (inputs.each_ref().map(floats), floats(&dy));
            let trained = ops.parents[1..].iter().any(Option::is_some);
            let n_chunks = tokens.len().div_ceil(CHUNK);
            let gain_len = if trained { d } else { 0 };

            let rows = tokens.start * d..tokens.end * d;
            let mut dx = vec![0.0; x.len()];
            let mut h = Buffer::stale(tokens.len() * d);
            let mut dgains = Buffer::zeros(n_chunks * gain_len);
            let head_t = Packed::new(Mat::new(head, d, classes).t());
            dx[rows.clone()]
                .par_chunks_mut(CHUNK * d)
                .zip(h.par_chunks_mut(CHUNK * d))
                .zip(x[rows].par_chunks(CHUNK * d))
                .zip(dy.par_chunks(CHUNK * classes))
                .zip(gain_chunks(&mut dgains, n_chunks))
                .for_each(|((((dx, h), x), dy), dgain)| {
                    let rows = x.len() / d;
                    let (mut dh, mut r) = (Buffer::stale(x.len()), Buffer::stale(rows));
                    rms_norm(x, gain, NORM_EPSILON, h, &mut r);
                    product(&mut dh, Mat::new(dy, rows, classes), &head_t);
                    rms_norm_backward(x, gain, &r, &dh, dx, dgain);
                });

            let mut values = [dx, Vec::new(), Vec::new(), Vec::new()];
            if trained {
                values[1] = sum_chunks(&dgains, gain_len);
                values[2] = vec![0.0; d * classes];
                let dy_packed = Packed::new(Mat::new(dy, tokens.len(), classes));
                product(&mut values[2], Mat::new(&h, tokens.len(), d).t(), &dy_packed);
                values[3] = sum_chunks(dy, classes);
            }
            for ((parent, values), input) in ops.parents.into_iter().zip(values).zip(&inputs) {
                if let Some(node) = parent {
                    let shape = input.layout().shape().clone();
                    grads.register::<Flex>(node.id, tensor(values, shape));
                }
            }
        }
    }

    pub(super) fn readout(
        x: &Tensor<2>,
        tokens: &Range<usize>,
        p: &ReadoutParameters<'_>,
    ) -> Option<Tensor<2>> {
        let inputs = [x, p.norm, p.head, p.bias];
        fn all<T: std::fmt::Debug>(items: [Option<T>; INPUTS]) -> Option<[T; INPUTS]> {
            let items: Vec<T> = items.into_iter().collect::<Option<_>>()?;
            Some(items.try_into().expect("as many as before"))
        }
        if x.device().is_autodiff() {
            let inputs = all(inputs.map(|t| t.clone().try_into_primitive::<Ad>().ok()))?;
            let prepared = Readout
                .prepare::<NoCheckpointing>(inputs.each_ref().map(|t| t.node()))
                .compute_bound()
                .stateful();
            let inputs = inputs.map(|t| t.into_primitive().to_contiguous());
            let out = forward(&inputs, tokens);
            return Some(Tensor::from_primitive::<Ad>(match prepared {
                OpsKind::Tracked(prepared) => {
                    prepared.finish(Saved { inputs, tokens: tokens.clone() }, out)
                }
                OpsKind::UnTracked(prepared) => prepared.finish(out),
            }));
        }
        let inputs = all(inputs.map(|t| t.clone().try_into_primitive::<Flex>().ok()))?
            .map(|t| t.to_contiguous());
        Some(Tensor::from_primitive::<Flex>(forward(&inputs, tokens)))
    }

    #[derive(Debug)]
    struct CrossEntropy;

    impl Backward<Flex, 1> for CrossEntropy {
        /// The loss's gradient with respect to the logits.
        type State = FlexTensor;

        fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
            let factor = floats(&grads.consume::<Flex>(&ops.node).to_contiguous())[0];
            if let [Some(node)] = ops.parents {
                let values = floats(&ops.state).iter().map(|g| g * factor).collect();
                let shape = ops.state.layout().shape().clone();
                grads.register::<Flex>(node.id, tensor(values, shape));
            }
        }
    }

    /// The loss, and its gradient with respect to the logits.
    fn loss_and_gradient(logits: &FlexTensor, targets: &[u8], weights: &[f32]) -> (f32, Vec<f32>) {
        let [n, classes] = logits.layout().shape().dims::<2>();
        assert!(n == targets.len() && n == weights.len(), "a target and a weight for each row");
        let mut gradient = floats(logits).to_vec();
        let mut loss = 0.0;
        for ((row, &target), &weight) in
            gradient.chunks_exact_mut(classes).zip(targets).zip(weights)
        {
            let asked = row[usize::from(target)];
            let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut sum = 0.0;
            for v in row.iter_mut() {
                *v = (*v - top).exp();
                sum += *v;
            }
            for v in row.iter_mut() {
                *v *= weight / sum;
            }
            row[usize::from(target)] -= weight;
            loss += f64::from(weight * (top + sum.ln() - asked));
        }
        (loss as f32, gradient)
    }

    pub(super) fn cross_entropy(
        logits: &Tensor<2>,
        targets: &[u8],
        weights: &[f32],
    ) -> Option<Tensor<1>> {
        let shape = logits.dims();
        if logits.device().is_autodiff() {
            let logits = logits.clone().try_into_primitive::<Ad>().ok()?;
            let prepared =
                CrossEntropy.prepare::<NoCheckpointing>([logits.node()]).compute_bound().stateful();
            let logits = logits.into_primitive().to_contiguous();
            let (loss, gradient) = loss_and_gradient(&logits, targets, weights);
            let loss = tensor(vec![loss], [1].into());
            return Some(Tensor::from_primitive::<Ad>(match prepared {
                OpsKind::Tracked(prepared) => prepared.finish(tensor(gradient, shape.into()), loss),
                OpsKind::UnTracked(prepared) => prepared.finish(loss),
            }));
        }
        let logits = logits.clone().try_into_primitive::<Flex>().ok()?.to_contiguous();
        let (loss, _) = loss_and_gradient(&logits, targets, weights);
        Some(Tensor::from_primitive::<Flex>(tensor(vec![loss], [1].into())))
    }
}
