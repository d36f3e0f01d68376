//! Fitting an adapter: cross-entropy over the marked tokens, gradients of the adapter alone, AdamW.

use std::collections::BTreeMap;

use burn::tensor::{DType, Int, Tensor, TensorData, activation};

use super::batch::{Batch, InputError};
use super::lora::{Lora, LoraPair, Module};
use super::model::Llama;
use super::recompute;
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
        let hidden = self.hidden_states(batch, lora, None)?;
        self.loss_behind(hidden, batch, lora)
    }

    /// [`Llama::loss`] from the hidden states of the batch.
    pub(super) fn loss_behind(
        &self,
        hidden: Tensor<2>,
        batch: &Batch,
        lora: Option<&Lora>,
    ) -> Result<Tensor<1>, InputError> {
        let (before, targets) = batch.predictions();
        if targets.is_empty() {
            return Err(InputError::NoTargets);
        }
        let n = targets.len();
        let logits = self.project_at(hidden, &before, lora).cast(DType::F32);
        let targets: Vec<i32> = targets.iter().map(|&t| t as i32).collect();
        let targets = TensorData::new(targets, [n, 1]);
        let targets = Tensor::<2, Int>::from_data(targets, &logits.device());
        let log_probs = activation::log_softmax(logits, 1).gather(1, targets);
        Ok(log_probs.sum().neg() / n as f64)
    }
}

/// An adapter under training, with the optimizer's state. The base model is not changed.
#[derive(Debug)]
pub struct Trainer {
    /// The base as constants of the graph.
    base: Llama,
    lora: Lora,
    adamw: AdamW,
    clip_norm: f64,
    moments: BTreeMap<Module, [Moments; 2]>,
    steps: usize,
    recomputes: bool,
}

impl Trainer {
    /// Begins to train `lora` on `model`. Gradients are scaled down to the global norm `clip_norm`; 0 turns that
    /// off.
    pub fn new(model: &Llama, lora: Lora, adamw: AdamW, clip_norm: f64) -> Self {
        let moments = lora.pairs.iter();
        let moments = moments.map(|(&m, pair)| (m, [adamw.init(&pair.a), adamw.init(&pair.b)]));
        let moments = moments.collect();
        Self {
            base: model.on_graph(),
            lora,
            adamw,
            clip_norm,
            moments,
            steps: 0,
            recomputes: false,
        }
    }

    /// The same, holding the activations of one block at a time where `yes`: it takes about a third more time, and
    /// much less memory.
    pub fn recomputing(self, yes: bool) -> Self {
        Self { recomputes: yes, ..self }
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
        if self.recomputes {
            let (loss, gradients) = recompute::gradients(&self.base, batch, &self.lora)?;
            return self.finite(loss).map(|loss| (loss, gradients));
        }
        let tracked = self.lora.map(|t| Tensor::from_inner(t.clone()).require_grad());
        let loss = self.base.loss(batch, Some(&tracked))?;
        let value = self.finite(loss.clone().inner().into_scalar::<f32>())?;
        let mut grads = loss.backward();
        let mut gradient = |tracked: &Tensor<2>, value: &Tensor<2>| {
            tracked.grad_remove(&mut grads).unwrap_or_else(|| value.zeros_like())
        };
        let pairs = tracked.pairs.iter().zip(self.lora.pairs.values());
        let pairs = pairs.map(|((&module, tracked), value)| {
            let (a, b) = (gradient(&tracked.a, &value.a), gradient(&tracked.b, &value.b));
            (module, LoraPair { a, b })
        });
        Ok((value, pairs.collect()))
    }

    fn finite(&self, loss: f32) -> Result<f32, TrainError> {
        let diverged = TrainError::Diverged { loss, steps: self.steps };
        loss.is_finite().then_some(loss).ok_or(diverged)
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
