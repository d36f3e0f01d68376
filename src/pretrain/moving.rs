//! Weights on the move: their values, averages and moments, the step, and the state on disk.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use rayon::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::state::TrainState;
use super::{OptimizerConfig, PretrainConfig, PretrainError, Until};
use crate::engine::HostTensor;
use crate::kernel::{Precision, on_cpu};
use crate::model::{AdamW, Moments, Muon, clip_factor, to_device, to_host};

/// One trained tensor.
pub(super) struct Trained {
    pub(super) name: String,
    pub(super) value: Tensor<2>,
    pub(super) average: Tensor<2>,
    moments: Moments,
    mover: Mover,
}

/// Which optimizer moves a tensor, and how fast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Mover {
    /// Muon, at its peak learning rate.
    Muon(f64),
    /// AdamW.
    AdamW {
        /// Its peak learning rate.
        peak: f64,
        /// Decay of its moments.
        betas: [f64; 2],
    },
}

/// All trained tensors, and how far the run is.
pub(super) struct Moving {
    pub(super) trained: Vec<Trained>,
    muon: Muon,
    origin: Origin,
    pub(super) step: usize,
    pub(super) seconds: f64,
    on_cpu: bool,
}

/// What a run was begun with; it is only gone on with the same.
pub(super) struct Origin {
    /// Ids of the tasks.
    pub(super) tasks: Vec<String>,
    /// Fingerprint of their pairs.
    pub(super) pairs: String,
    /// SHA-256 of the weights; empty for random ones.
    pub(super) initial: String,
}

impl Moving {
    /// Tensors at a run's beginning; `mover` says by name and shape what moves each.
    pub(super) fn new(
        tensors: Vec<(String, Tensor<2>)>,
        o: &OptimizerConfig,
        precision: Precision,
        mover: impl Fn(&str, [usize; 2]) -> Mover,
        origin: Origin,
    ) -> Self {
        let muon = Muon { momentum: o.momentum, weight_decay: o.weight_decay, precision };
        let trained = tensors.into_iter().map(|(name, value)| {
            let mover = mover(&name, value.dims());
            let moments = match mover {
                Mover::Muon(_) => muon.init(&name, &value),
                Mover::AdamW { betas, .. } => adamw(betas).init(&value),
            };
            Trained { name, average: value.clone(), value, moments, mover }
        });
        let trained: Vec<Trained> = trained.collect();
        let on_cpu = trained.first().is_some_and(|t| on_cpu(&t.value));
        Self { trained, muon, origin, step: 0, seconds: 0.0, on_cpu }
    }

    /// Continues from a saved state.
    pub(super) fn resume<M: PartialEq + Serialize + DeserializeOwned>(
        &mut self,
        path: &Path,
        config: &PretrainConfig<M>,
        device: &Device,
    ) -> Result<(), PretrainError> {
        let (state, tensors) = TrainState::<M>::load(path)?;
        let Origin { tasks, pairs, initial } = &self.origin;
        let other = |what: &str| PretrainError::OtherRun { path: path.into(), what: what.into() };
        if state.config != *config {
            return Err(other("another recipe"));
        }
        if state.tasks != *tasks {
            return Err(other("other training tasks"));
        }
        if state.pairs.is_some_and(|of_state| of_state != *pairs) {
            return Err(other("other pairs: give the same --tasks and --re-arc"));
        }
        // Without --init whatever it began with is gone on with.
        if !initial.is_empty() && state.initial.is_some_and(|of_state| of_state != *initial) {
            return Err(other("other weights to begin with: give the same --init, or none"));
        }
        let find = |name: String| {
            tensors.get(&name).cloned().ok_or_else(|| other(&format!("no tensor `{name}`")))
        };
        for t in &mut self.trained {
            t.value = to_device(&find(format!("value.{}", t.name))?, device);
            t.average = to_device(&find(format!("average.{}", t.name))?, device);
            let n = t.moments.to_host().len();
            let moments: Result<Vec<HostTensor>, _> =
                (0..n).map(|i| find(format!("moment{i}.{}", t.name))).collect();
            t.moments =
                t.moments.with_host(&moments?).ok_or_else(|| other("other tensor shapes"))?;
        }
        self.step = state.step;
        self.seconds = state.seconds;
        Ok(())
    }

    /// Saves everything that the next step depends on.
    pub(super) fn save<M: Clone + Serialize + DeserializeOwned>(
        &self,
        path: &Path,
        config: &PretrainConfig<M>,
    ) -> Result<(), PretrainError> {
        let mut tensors = BTreeMap::new();
        for t in &self.trained {
            tensors.insert(format!("value.{}", t.name), to_host(&t.value));
            tensors.insert(format!("average.{}", t.name), to_host(&t.average));
            for (i, m) in t.moments.to_host().into_iter().enumerate() {
                tensors.insert(format!("moment{i}.{}", t.name), m);
            }
        }
        let Origin { tasks, pairs, initial } = &self.origin;
        let state = TrainState {
            config: config.clone(),
            tasks: tasks.clone(),
            pairs: Some(pairs.clone()),
            initial: Some(initial.clone()),
            step: self.step,
            seconds: self.seconds,
        };
        state.save(&tensors, path)
    }

    /// Share of the run that is done; 1 at its end.
    pub(super) fn share(&self, until: Until) -> f64 {
        match until {
            Until::Steps(n) => self.step as f64 / n.max(1) as f64,
            Until::Seconds(s) => self.seconds / s,
        }
    }

    /// Share of the run that is done after the next step, as far as it is known.
    pub(super) fn share_after_step(&self, until: Until) -> f64 {
        match until {
            Until::Steps(n) => (self.step + 1) as f64 / n.max(1) as f64,
            Until::Seconds(_) => self.share(until),
        }
    }

    /// The learning rates' factor at this step.
    fn rate(&self, o: &OptimizerConfig, until: Until) -> f64 {
        let warmup = ((self.step + 1) as f64 / o.warmup_steps.max(1) as f64).min(1.0);
        let falling = (self.share(until) - o.decay_from) / (1.0 - o.decay_from).max(1e-9);
        warmup * (1.0 - falling.clamp(0.0, 1.0) * (1.0 - o.final_learning_rate))
    }

    /// Takes a step against the gradients, one for each tensor in their order.
    pub(super) fn update(
        &mut self,
        gradients: Vec<Option<Tensor<2>>>,
        o: &OptimizerConfig,
        until: Until,
    ) {
        let rate = self.rate(o, until);
        let others: Vec<Tensor<2>> = self
            .trained
            .iter()
            .zip(&gradients)
            .filter(|(t, _)| matches!(t.mover, Mover::AdamW { .. }))
            .filter_map(|(_, g)| g.clone())
            .collect();
        let clip = clip_factor(&others, o.clip_norm);
        self.step += 1;
        let step = self.step;
        let muon = self.muon;
        let mut matrices = Vec::new();
        for (t, gradient) in self.trained.iter_mut().zip(gradients) {
            let Some(g) = gradient else { continue };
            match t.mover {
                Mover::Muon(peak) => {
                    matrices.push((peak * rate, &mut t.value, g, &mut t.moments));
                }
                Mover::AdamW { peak, betas } => {
                    let adamw = adamw(betas);
                    adamw.step(peak * rate, step, &mut t.value, &g, clip, &mut t.moments);
                }
            }
        }
        // Early on the average follows closely, so that it is not held back by the random start.
        let keep = o.ema.min(step as f64 / (step + 9) as f64);
        let average = |t: &mut Trained| {
            t.average = t.average.clone() * keep + t.value.clone() * (1.0 - keep);
        };
        if self.on_cpu {
            // The tensors are small: one thread each, side by side.
            matrices.into_par_iter().for_each(|(rate, value, gradient, moments)| {
                *value = muon.step(rate, value.clone(), gradient, moments);
            });
            self.trained.par_iter_mut().for_each(average);
        } else {
            muon.step_together(matrices);
            self.trained.iter_mut().for_each(average);
        }
    }
}

fn adamw(betas: [f64; 2]) -> AdamW {
    AdamW { betas, weight_decay: 0.0 }
}
