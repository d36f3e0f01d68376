//! Gradients with the activations of one block at a time: the others are computed again when their turn comes
//! (Chen et al. 2016, arXiv 1604.06174; "gradient checkpointing").

use burn::tensor::{Gradients, Tensor};

use super::batch::{Batch, InputError};
use super::lora::{Lora, LoraPair, Module, Target};
use super::model::Llama;
use super::train::LoraGradients;

/// The loss of a batch, in nats, and the gradients of `lora` (in the shapes of its pairs), on a model whose weights are
/// constants of a graph. Only what each block reads is kept between the blocks.
pub(super) fn gradients(
    base: &Llama,
    batch: &Batch,
    lora: &Lora,
) -> Result<(f32, LoraGradients), InputError> {
    base.check(batch, None)?;
    // Without a tensor that wants gradients nothing is kept.
    let fixed = lora.map(|t| Tensor::from_inner(t.clone()));
    let pass = base.pass(batch, Some(&fixed), None);
    let mut inputs = vec![base.embed(&batch.tokens, Some(&fixed)).inner()];
    for i in 0..base.config.num_hidden_layers {
        let x = Tensor::from_inner(inputs[i].clone());
        inputs.push(base.block(&pass, i, x, None).inner());
    }
    drop(pass);

    let mut found = LoraGradients::new();
    let tracked = || lora.map(|t| Tensor::from_inner(t.clone()).require_grad());
    let top = tracked();
    let x = leaf(inputs.pop());
    let loss = base.loss_behind(base.last_norm(x.clone()), batch, Some(&top))?;
    let value = loss.clone().inner().into_scalar::<f32>();
    let mut grads = loss.backward();
    let mut of_x = x.grad_remove(&mut grads);
    collect(&top, &mut grads, &mut found);
    for i in (0..base.config.num_hidden_layers).rev() {
        let Some(of_output) = of_x.take() else { break };
        let lora = tracked();
        let x = leaf(inputs.pop());
        let pass = base.pass(batch, Some(&lora), None);
        let mut grads = backward(base.block(&pass, i, x.clone(), None), of_output);
        of_x = x.grad_remove(&mut grads);
        collect(&lora, &mut grads, &mut found);
    }
    let embedding = Module { layer: None, target: Target::EmbedTokens };
    if let Some(of_output) = of_x.filter(|_| lora.pairs.contains_key(&embedding)) {
        let lora = tracked();
        let x = base.embed(&batch.tokens, Some(&lora));
        collect(&lora, &mut backward(x, of_output), &mut found);
    }
    for (module, pair) in &lora.pairs {
        let zeros = || LoraPair { a: pair.a.zeros_like(), b: pair.b.zeros_like() };
        found.entry(*module).or_insert_with(zeros);
    }
    Ok((value, found))
}

/// What a block reads, as a value that gradients are wanted of.
fn leaf(input: Option<Tensor<2>>) -> Tensor<2> {
    Tensor::from_inner(input.expect("a block reads something")).require_grad()
}

/// Gradients from those of an output.
fn backward(output: Tensor<2>, of_output: Tensor<2>) -> Gradients {
    (output * Tensor::from_inner(of_output)).sum().backward()
}

/// Takes the gradients of the factors that took part. Each layer takes part once.
fn collect(tracked: &Lora, grads: &mut Gradients, found: &mut LoraGradients) {
    for (&module, pair) in &tracked.pairs {
        let (a, b) = (pair.a.grad_remove(grads), pair.b.grad_remove(grads));
        if let (Some(a), Some(b)) = (a, b) {
            found.insert(module, LoraPair { a, b });
        }
    }
}
