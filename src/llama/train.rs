//! Fitting an adapter: cross-entropy over the marked tokens, gradients of the adapter alone, AdamW.

use std::collections::BTreeMap;

use burn::tensor::{DType, Gradients, Int, Tensor, TensorData, activation};

use super::batch::{Batch, InputError};
use super::lora::{Lora, LoraPair, Module, Target};
use super::model::{Llama, Pass};
use crate::model::{AdamW, Moments, clip_factor};

/// Why a step cannot be taken.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TrainError {
    /// The batch.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A loss that is infinite or not a number.
    #[error("the loss became {loss} after {steps} steps; lower the learning rate")]
    Diverged {
        /// The loss.
        loss: f32,
        /// Steps before it.
        steps: usize,
    },
}

/// The loss's gradients, in the shapes of the adapter.
pub type LoraGradients = BTreeMap<Module, LoraPair>;

impl Llama {
    /// Mean cross-entropy of a batch's targets, in nats. Scores are only made where a target follows.
    ///
    /// # Shapes
    /// - returns: `[1]`
    ///
    /// # Errors
    /// [`InputError`] as [`Llama::logits`], and if nothing is a target.
    pub fn loss(&self, batch: &Batch, lora: Option<&Lora>) -> Result<Tensor<1>, InputError> {
        Ok(cross_entropy(self.target_logits(batch, lora)?, &batch.predictions().1))
    }

    /// [`Llama::loss`], and for each target, in their order in the batch, whether no token is more probable there.
    ///
    /// # Errors
    /// As [`Llama::loss`].
    pub fn loss_and_hits(
        &self,
        batch: &Batch,
        lora: Option<&Lora>,
    ) -> Result<(Tensor<1>, Vec<bool>), InputError> {
        let logits = self.target_logits(batch, lora)?;
        let targets = batch.predictions().1;
        let best = logits.clone().argmax(1).into_data();
        let hits = best.iter::<i64>().zip(&targets).map(|(best, &t)| best == i64::from(t));
        let hits = hits.collect();
        Ok((cross_entropy(logits, &targets), hits))
    }

    /// Scores where a target follows, `[n_targets, vocab_size]`.
    fn target_logits(&self, batch: &Batch, lora: Option<&Lora>) -> Result<Tensor<2>, InputError> {
        let (before, _) = batch.predictions();
        if before.is_empty() {
            return Err(InputError::NoTargets);
        }
        let hidden = self.hidden_states(batch, lora, None)?;
        Ok(self.project_at(hidden, &before, lora))
    }
}

/// Mean cross-entropy of `targets` under scores of shape `[n_targets, vocab_size]`, in nats; `[1]`.
fn cross_entropy(logits: Tensor<2>, targets: &[u32]) -> Tensor<1> {
    let n = targets.len();
    let targets: Vec<i32> = targets.iter().map(|&t| t as i32).collect();
    let targets = TensorData::new(targets, [n, 1]);
    let targets = Tensor::<2, Int>::from_data(targets, &logits.device());
    let log_probs = activation::log_softmax(logits.cast(DType::F32), 1).gather(1, targets);
    log_probs.sum().neg() / n as f64
}

/// An adapter under training, with the optimizer's state. The base model is not changed.
#[derive(Debug)]
pub struct Trainer {
    model: Llama,
    /// The base as constants of the graph.
    base: Llama,
    lora: Lora,
    adamw: AdamW,
    clip_norm: f64,
    gradient_checkpointing: bool,
    moments: BTreeMap<Module, [Moments; 2]>,
    steps: usize,
}

impl Trainer {
    /// Begins to train `lora` on `model`. Gradients are scaled down to the global norm `clip_norm`; 0 turns that
    /// off.
    pub fn new(model: &Llama, lora: Lora, adamw: AdamW, clip_norm: f64) -> Self {
        let moments = lora.pairs.iter();
        let moments = moments.map(|(&m, pair)| (m, [adamw.init(&pair.a), adamw.init(&pair.b)]));
        let moments = moments.collect();
        let (model, base) = (model.clone(), model.on_graph());
        let gradient_checkpointing = false;
        Self { model, base, lora, adamw, clip_norm, gradient_checkpointing, moments, steps: 0 }
    }

    /// Whether a step keeps no more than each block's input and makes the rest anew, block by block, for the gradients
    /// (Chen et al. 2016, arXiv 1604.06174): less memory, a third more time, the same gradients but for rounding. Off at first.
    pub fn with_gradient_checkpointing(self, gradient_checkpointing: bool) -> Self {
        Self { gradient_checkpointing, ..self }
    }

    /// As [`Trainer::with_gradient_checkpointing`], for the steps that follow.
    pub fn set_gradient_checkpointing(&mut self, gradient_checkpointing: bool) {
        self.gradient_checkpointing = gradient_checkpointing;
    }

    /// The adapter as it stands.
    pub fn lora(&self) -> &Lora {
        &self.lora
    }

    /// The adapter as it stands, without the rest.
    pub fn into_lora(self) -> Lora {
        self.lora
    }

    /// The loss of a batch, in nats, and its gradients. To accumulate over several batches, add them up.
    ///
    /// # Errors
    /// [`TrainError`] if the batch cannot be fed, or the loss is not finite.
    pub fn gradients(&self, batch: &Batch) -> Result<(f32, LoraGradients), TrainError> {
        let tracked = self.lora.map(|t| Tensor::from_inner(t.clone()).require_grad());
        let mut gradients = LoraGradients::new();
        // Adds the gradients of the layers that a backward pass has come by.
        let mut collect = |grads: &mut Gradients, layer: Option<Option<usize>>| {
            let modules = tracked.pairs.iter();
            for (module, pair) in modules.filter(|(m, _)| layer.is_none_or(|l| m.layer == l)) {
                let [a, b] = [&pair.a, &pair.b].map(|t| {
                    t.grad_remove(grads).unwrap_or_else(|| t.clone().inner().zeros_like())
                });
                match gradients.get_mut(module) {
                    // The embedding's and the head's come from two passes, each of one of them.
                    Some(sum) => {
                        sum.a = sum.a.clone() + a;
                        sum.b = sum.b.clone() + b;
                    }
                    None => drop(gradients.insert(*module, LoraPair { a, b })),
                }
            }
        };
        if !self.gradient_checkpointing {
            let loss = self.base.loss(batch, Some(&tracked))?;
            let value = self.finite(&loss)?;
            collect(&mut loss.backward(), None);
            return Ok((value, gradients));
        }
        let (before, targets) = batch.predictions();
        if targets.is_empty() {
            return Err(InputError::NoTargets.into());
        }
        let pass = Pass::new(&self.model, batch, Some(&self.lora), None)?;
        let mut inputs = vec![pass.embed()];
        for i in 0..self.model.config.num_hidden_layers {
            inputs.push(pass.block(i, inputs[i].clone(), None));
        }
        let pass = Pass::new(&self.base, batch, Some(&tracked), None)?;
        let mut leaf = || Tensor::from_inner(inputs.pop().expect("an input each")).require_grad();
        let x: Tensor<2> = leaf();
        let logits = self.base.project_at(pass.norm(x.clone()), &before, Some(&tracked));
        let loss = cross_entropy(logits, &targets);
        let value = self.finite(&loss)?;
        let mut grads = loss.backward();
        let mut gradient = x.grad_remove(&mut grads).expect("the loss depends on it");
        collect(&mut grads, Some(None));
        for i in (0..self.base.config.num_hidden_layers).rev() {
            let x: Tensor<2> = leaf();
            // The gradient of this sum with respect to the block's output is the one that came from above.
            let sum = (pass.block(i, x.clone(), None) * Tensor::from_inner(gradient)).sum();
            let mut grads = sum.backward();
            gradient = x.grad_remove(&mut grads).expect("the block depends on it");
            collect(&mut grads, Some(Some(i)));
        }
        if tracked.pairs.contains_key(&Module { layer: None, target: Target::EmbedTokens }) {
            let sum = (pass.embed() * Tensor::from_inner(gradient)).sum();
            collect(&mut sum.backward(), Some(None));
        }
        Ok((value, gradients))
    }

    fn finite(&self, loss: &Tensor<1>) -> Result<f32, TrainError> {
        let loss = loss.clone().inner().into_scalar::<f32>();
        match loss.is_finite() {
            true => Ok(loss),
            false => Err(TrainError::Diverged { loss, steps: self.steps }),
        }
    }

    /// Moves the adapter against `gradients`.
    ///
    /// # Panics
    /// If the gradients are of another adapter.
    pub fn apply(&mut self, gradients: LoraGradients, learning_rate: f64) {
        let all: Vec<Tensor<2>> =
            gradients.values().flat_map(|g| [g.a.clone(), g.b.clone()]).collect();
        let clip = clip_factor(&all, self.clip_norm);
        self.steps += 1;
        for (module, pair) in &mut self.lora.pairs {
            let gradient = &gradients[module];
            let moments = self.moments.get_mut(module).expect("made with the adapter");
            let parts = [(&mut pair.a, &gradient.a), (&mut pair.b, &gradient.b)];
            for ((value, gradient), moments) in parts.into_iter().zip(moments) {
                self.adamw.step(learning_rate, self.steps, value, gradient, clip, moments);
            }
        }
    }

    /// One step of AdamW on a batch; gives the loss before it, in nats.
    ///
    /// # Errors
    /// As [`Trainer::gradients`].
    pub fn step(&mut self, batch: &Batch, learning_rate: f64) -> Result<f32, TrainError> {
        let (loss, gradients) = self.gradients(batch)?;
        self.apply(gradients, learning_rate);
        Ok(loss)
    }
}
