//! The fused decoder block as a Burn operation with its own gradient.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::causal::CausalLayout;
use super::decoder::{DecoderShape, PerParameter};

/// A block's parameters as tensors of two axes, vectors as one row; `None` for those that the block does not have.
pub type DecoderParameters = PerParameter<Option<Tensor<2>>>;

#[cfg(feature = "cpu")]
mod cpu {
    use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::NoCheckpointing};
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
    use burn::backend::flex::FlexTensor;
    use burn::backend::{Autodiff, Flex};
    use burn::tensor::DType;

    use super::super::buffer::Buffer;
    use super::super::decoder::{
        CacheMut, DecoderState, PARAMETERS, Weights, decoder_backward, decoder_forward,
    };
    use super::super::op::{flex_floats as floats, flex_tensor as tensor};
    use super::*;

    type Ad = Autodiff<Flex>;

    /// Number of differentiable inputs: x, and the parameters.
    const INPUTS: usize = 1 + PARAMETERS;

    #[derive(Debug)]
    struct FusedDecoder;

    #[derive(Debug, Clone)]
    struct Saved {
        shape: DecoderShape,
        layout: Arc<CausalLayout>,
        x: FlexTensor,
        parameters: Vec<Option<FlexTensor>>,
        state: Arc<DecoderState>,
    }

    fn weights(parameters: &[Option<FlexTensor>]) -> Weights<'_> {
        let of = |i: usize| parameters[i].as_ref().map_or(&[][..], floats);
        PerParameter::from_list(std::array::from_fn(of))
    }

    impl Backward<Flex, INPUTS> for FusedDecoder {
        type State = Saved;

        fn backward(self, ops: Ops<Saved, INPUTS>, grads: &mut Gradients, _: &mut Checkpointer) {
            let dz = grads.consume::<Flex>(&ops.node).to_contiguous();
            let Saved { shape, layout, x, parameters, state } = ops.state;
            let weights = weights(&parameters);
            let [input, nodes @ ..] = ops.parents;
            let wanted = std::array::from_fn(|i| nodes[i].is_some() && parameters[i].is_some());
            let (dx, gradients) = decoder_backward(
                &shape,
                &layout,
                &weights,
                floats(&x),
                &state,
                floats(&dz),
                input.is_some(),
                &PerParameter::from_list(wanted),
            );
            if let Some(node) = input {
                grads.register::<Flex>(node.id, tensor(dx, x.layout().shape().clone()));
            }
            for ((node, values), parameter) in
                nodes.into_iter().zip(gradients.into_list()).zip(&parameters)
            {
                if let (Some(node), Some(parameter)) = (node, parameter) {
                    let shape = parameter.layout().shape().clone();
                    grads.register::<Flex>(node.id, tensor(values, shape));
                }
            }
        }
    }

    fn out(values: Buffer, x: &FlexTensor) -> FlexTensor {
        tensor(values.into_vec(), x.layout().shape().clone())
    }

    pub(super) fn run(
        shape: &DecoderShape,
        layout: &Arc<CausalLayout>,
        parameters: DecoderParameters,
        x: &Tensor<2>,
        cache: Option<&mut [Tensor<4>; 2]>,
    ) -> Option<Tensor<2>> {
        let parameters = parameters.into_list();
        let all_f32 = parameters.iter().flatten().all(|p| p.dtype() == DType::F32);
        if !all_f32 || x.dtype() != DType::F32 {
            return None;
        }
        if x.device().is_autodiff() {
            if cache.is_some() {
                return None;
            }
            let x = x.clone().try_into_primitive::<Ad>().ok()?;
            let mut nodes = vec![x.node()];
            let mut values = Vec::with_capacity(PARAMETERS);
            for parameter in parameters {
                let Some(parameter) = parameter else {
                    // A place that nothing is registered for.
                    nodes.push(x.node());
                    values.push(None);
                    continue;
                };
                let parameter = parameter.try_into_primitive::<Ad>().ok()?;
                nodes.push(parameter.node());
                values.push(Some(parameter.into_primitive().to_contiguous()));
            }
            let nodes: [_; INPUTS] = nodes.try_into().ok()?;
            let prepared =
                FusedDecoder.prepare::<NoCheckpointing>(nodes).compute_bound().stateful();
            let x = x.into_primitive().to_contiguous();
            let keep = matches!(prepared, OpsKind::Tracked(_));
            let (values_out, state) =
                decoder_forward(shape, layout, &weights(&values), floats(&x), None, keep);
            let out = out(values_out, &x);
            let out = match prepared {
                OpsKind::Tracked(prepared) => {
                    let layout = layout.clone();
                    let state = Arc::new(state.expect("the state was asked for"));
                    let saved = Saved { shape: *shape, layout, x, parameters: values, state };
                    prepared.finish(saved, out)
                }
                OpsKind::UnTracked(prepared) => prepared.finish(out),
            };
            return Some(Tensor::from_primitive::<Ad>(out));
        }
        let primitive = |t: Tensor<2>| Some(t.try_into_primitive::<Flex>().ok()?.to_contiguous());
        let x = primitive(x.clone())?;
        let mut values = Vec::with_capacity(PARAMETERS);
        for parameter in parameters {
            values.push(match parameter {
                Some(parameter) => Some(primitive(parameter)?),
                None => None,
            });
        }
        let values_out = match cache {
            None => decoder_forward(shape, layout, &weights(&values), floats(&x), None, false).0,
            Some(cache) => with_cache(cache, |mut cache| {
                let cache = Some(&mut cache);
                decoder_forward(shape, layout, &weights(&values), floats(&x), cache, false).0
            })?,
        };
        Some(Tensor::from_primitive::<Flex>(out(values_out, &x)))
    }

    /// Runs `f` on the cache's memory, which is copied first if somebody else holds it too.
    fn with_cache<R>(cache: &mut [Tensor<4>; 2], f: impl FnOnce(CacheMut<'_>) -> R) -> Option<R> {
        let [_, _, capacity, _] = cache[0].dims();
        let device = cache[0].device();
        let mut take = |i: usize| {
            // So that the primitive is the only holder.
            let nothing = Tensor::zeros([1, 1, 1, 1], &device);
            let tensor = std::mem::replace(&mut cache[i], nothing);
            Some(tensor.try_into_primitive::<Flex>().ok()?.to_contiguous())
        };
        let (mut keys, mut values) = (take(0)?, take(1)?);
        let result = f(CacheMut {
            keys: keys.storage_mut::<f32>(),
            values: values.storage_mut::<f32>(),
            capacity,
        });
        cache[0] = Tensor::from_primitive::<Flex>(keys);
        cache[1] = Tensor::from_primitive::<Flex>(values);
        Some(result)
    }
}

/// Runs a decoder block fused, if all is f32 on the CPU device; `None`, and nothing done, elsewhere.
///
/// With a `cache`, outside autodiff only, the tokens go on behind those that it holds and are written into it; it must
/// have room for them.
///
/// # Shapes
/// - x, returns: `[n_tokens, hidden_size]`, laid out as `layout` says
/// - cache: keys and values, each `[n_rows, n_kv_heads, capacity, head_dim]`
pub fn fused_decoder(
    shape: &DecoderShape,
    layout: &Arc<CausalLayout>,
    parameters: DecoderParameters,
    x: &Tensor<2>,
    cache: Option<&mut [Tensor<4>; 2]>,
) -> Option<Tensor<2>> {
    #[cfg(feature = "cpu")]
    {
        cpu::run(shape, layout, parameters, x, cache)
    }
    #[cfg(not(feature = "cpu"))]
    {
        let _ = (shape, layout, parameters, x, cache);
        None
    }
}
