//! The fused block as a Burn operation with its own gradient.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::block::{BlockShape, BlockWeights};
use super::layout::Layout;

/// A block's parameters as tensors, on the device of its input.
#[derive(Debug, Clone)]
pub struct BlockParameters {
    /// `[1, d_model]`
    pub input_norm: Tensor<2>,
    /// `[d_model, 3·d_model]`
    pub qkv_proj: Tensor<2>,
    /// `[1, n_heads]`
    pub q_scale: Tensor<2>,
    /// `[d_model, d_model]`
    pub o_proj: Tensor<2>,
    /// `[1, d_model]`
    pub mlp_norm: Tensor<2>,
    /// `[d_model, d_ff]`
    pub up_proj: Tensor<2>,
    /// `[d_ff, d_model]`
    pub down_proj: Tensor<2>,
}

/// The values of a contiguous f32 tensor.
#[cfg(feature = "cpu")]
pub(super) fn flex_floats(tensor: &burn::backend::flex::FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().expect("a contiguous f32 tensor")
}

/// A contiguous f32 tensor made of `values`.
#[cfg(feature = "cpu")]
pub(super) fn flex_tensor(
    values: Vec<f32>,
    shape: burn::tensor::Shape,
) -> burn::backend::flex::FlexTensor {
    use burn::backend::flex::{FlexTensor, Layout};
    use burn::tensor::{Bytes, DType};
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(shape), DType::F32)
}

#[cfg(feature = "cpu")]
mod cpu {
    use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::NoCheckpointing};
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
    use burn::backend::flex::FlexTensor;
    use burn::backend::{Autodiff, Flex};

    use super::super::block::{BlockState, Wanted, block_backward, block_forward};
    use super::*;
    use super::{flex_floats as floats, flex_tensor as tensor};

    type Ad = Autodiff<Flex>;

    /// Number of differentiable inputs: x, the seven weights, the LoRA vector.
    const INPUTS: usize = 9;

    #[derive(Debug)]
    struct FusedBlock;

    #[derive(Debug, Clone)]
    struct Saved {
        shape: BlockShape,
        layout: Arc<Layout>,
        inputs: [FlexTensor; INPUTS],
        state: Arc<BlockState>,
    }

    fn weights<'a>(inputs: &'a [FlexTensor; INPUTS], shape: &BlockShape) -> BlockWeights<'a> {
        BlockWeights {
            input_norm: floats(&inputs[1]),
            qkv_proj: floats(&inputs[2]),
            q_scale: floats(&inputs[3]),
            o_proj: floats(&inputs[4]),
            mlp_norm: floats(&inputs[5]),
            up_proj: floats(&inputs[6]),
            down_proj: floats(&inputs[7]),
            lora: if shape.lora.is_some() { floats(&inputs[8]) } else { &[] },
        }
    }

    impl Backward<Flex, INPUTS> for FusedBlock {
        type State = Saved;

        fn backward(self, ops: Ops<Saved, INPUTS>, grads: &mut Gradients, _: &mut Checkpointer) {
            let dz = grads.consume::<Flex>(&ops.node).to_contiguous();
            let Saved { shape, layout, inputs, state } = ops.state;
            let wanted = Wanted {
                input: ops.parents[0].is_some(),
                weights: ops.parents[1..8].iter().any(Option::is_some),
                lora: ops.parents[8].is_some() && shape.lora.is_some(),
            };
            let weights = weights(&inputs, &shape);
            let g = block_backward(
                &shape,
                &layout,
                &weights,
                floats(&inputs[0]),
                &state,
                floats(&dz),
                wanted,
            );
            let values = [
                g.input,
                g.input_norm,
                g.qkv_proj,
                g.q_scale,
                g.o_proj,
                g.mlp_norm,
                g.up_proj,
                g.down_proj,
                g.lora,
            ];
            for ((parent, values), input) in ops.parents.into_iter().zip(values).zip(&inputs) {
                if let Some(node) = parent
                    && !values.is_empty()
                {
                    let shape = input.layout().shape().clone();
                    grads.register::<Flex>(node.id, tensor(values, shape));
                }
            }
        }
    }

    fn collect<T: std::fmt::Debug>(items: [Option<T>; INPUTS]) -> Option<[T; INPUTS]> {
        let items: Vec<T> = items.into_iter().collect::<Option<_>>()?;
        Some(items.try_into().expect("as many as before"))
    }

    pub(super) fn run(
        shape: &BlockShape,
        layout: &Arc<Layout>,
        p: &BlockParameters,
        lora: &Tensor<2>,
        x: &Tensor<2>,
    ) -> Option<Tensor<2>> {
        let inputs = [
            x,
            &p.input_norm,
            &p.qkv_proj,
            &p.q_scale,
            &p.o_proj,
            &p.mlp_norm,
            &p.up_proj,
            &p.down_proj,
            lora,
        ];
        if x.device().is_autodiff() {
            let inputs = collect(inputs.map(|t| t.clone().try_into_primitive::<Ad>().ok()))?;
            let prepared = FusedBlock
                .prepare::<NoCheckpointing>(inputs.each_ref().map(|t| t.node()))
                .compute_bound()
                .stateful();
            let inputs = inputs.map(|t| t.into_primitive().to_contiguous());
            let keep = matches!(prepared, OpsKind::Tracked(_));
            let (out, state) =
                block_forward(shape, layout, &weights(&inputs, shape), floats(&inputs[0]), keep);
            let out = tensor(out, inputs[0].layout().shape().clone());
            let out = match prepared {
                OpsKind::Tracked(prepared) => {
                    let state = Arc::new(state.expect("the state was asked for"));
                    let saved = Saved { shape: *shape, layout: layout.clone(), inputs, state };
                    prepared.finish(saved, out)
                }
                OpsKind::UnTracked(prepared) => prepared.finish(out),
            };
            return Some(Tensor::from_primitive::<Ad>(out));
        }
        let inputs = collect(inputs.map(|t| t.clone().try_into_primitive::<Flex>().ok()))?
            .map(|t| t.to_contiguous());
        let (out, _) =
            block_forward(shape, layout, &weights(&inputs, shape), floats(&inputs[0]), false);
        Some(Tensor::from_primitive::<Flex>(tensor(out, inputs[0].layout().shape().clone())))
    }
}

/// Whether a tensor lies on the CPU device, outside automatic differentiation.
pub fn on_cpu(x: &Tensor<2>) -> bool {
    #[cfg(feature = "cpu")]
    {
        x.clone().try_into_primitive::<burn::backend::Flex>().is_ok()
    }
    #[cfg(not(feature = "cpu"))]
    {
        let _ = x;
        false
    }
}

/// Runs a block fused, if `x` is an f32 tensor on the CPU device; `None` on every other device.
///
/// `lora` is the block's flat LoRA vector; any tensor of one element stands for none.
///
/// # Shapes
/// - x: `[n_tokens, d_model]`, laid out as `layout` says
/// - lora: `[1, n]` as [`BlockShape::lora_ranges`] divides it
/// - returns: `[n_tokens, d_model]`
pub fn fused_block(
    shape: &BlockShape,
    layout: &Arc<Layout>,
    parameters: &BlockParameters,
    lora: &Tensor<2>,
    x: &Tensor<2>,
) -> Option<Tensor<2>> {
    #[cfg(feature = "cpu")]
    {
        cpu::run(shape, layout, parameters, lora, x)
    }
    #[cfg(not(feature = "cpu"))]
    {
        let _ = (shape, layout, parameters, lora, x);
        None
    }
}
