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
        if !initial.is_empty() && state.initial.as_ref().is_some_and(|of_state| of_state != initial)
        {
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
        if let Some(initial) = state.initial {
            self.origin.initial = initial;
        }
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

    /// Share of the run that is done after the next step, as far as it is known.
    pub(super) fn share_after_step(&self, until: Until) -> f64 {
        until.share(self.step + 1, self.seconds)
    }

    /// The learning rates' factor at this step.
    fn rate(&self, o: &OptimizerConfig, until: Until) -> f64 {
        let warmup = ((self.step + 1) as f64 / o.warmup_steps.max(1) as f64).min(1.0);
        let falling =
            (until.share(self.step, self.seconds) - o.decay_from) / (1.0 - o.decay_from).max(1e-9);
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

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;

    fn optimizer() -> OptimizerConfig {
        let recipe = include_str!("../../data/recipes/pretrain.toml");
        let config: PretrainConfig = toml::from_str(recipe).unwrap();
        OptimizerConfig {
            warmup_steps: 100,
            decay_from: 0.2,
            final_learning_rate: 0.1,
            ema: 0.99,
            ..config.optimizer
        }
    }

    fn one_tensor(o: &OptimizerConfig) -> Moving {
        let tensors = vec![("x".to_owned(), Tensor::zeros([1, 2], &Device::flex()))];
        let mover = |_: &str, _| Mover::AdamW { peak: 0.5, betas: o.betas };
        let origin = Origin { tasks: Vec::new(), pairs: String::new(), initial: String::new() };
        Moving::new(tensors, o, Precision::F32, mover, origin)
    }

    #[test]
    fn rates_warm_up_stay_and_fall_to_their_last_value() {
        let o = optimizer();
        let mut moving = one_tensor(&o);
        let mut rate = |step, seconds, until| {
            (moving.step, moving.seconds) = (step, seconds);
            (1e4 * moving.rate(&o, until)).round() / 1e4
        };
        let by_steps = [0, 49, 99, 200, 600, 1000].map(|n| rate(n, 0.0, Until::Steps(1000)));
        assert_eq!(by_steps, [0.01, 0.5, 1.0, 1.0, 0.55, 0.1]);
        let by_time = [0.0, 12.0, 36.0, 60.0, 61.0].map(|s| rate(500, s, Until::Seconds(60.0)));
        assert_eq!(by_time, [1.0, 1.0, 0.55, 0.1, 0.1]);
        // A run that is shorter than its warm-up is at no point above it.
        assert_eq!(rate(6, 0.0, Until::Steps(10)), 0.0385);
    }

    #[test]
    fn the_average_follows_closely_at_first_and_then_by_its_own_rate() {
        let o = optimizer();
        let mut moving = one_tensor(&o);
        let mut step = |n: usize| {
            moving.step = n - 1;
            let before = to_host(&moving.trained[0].average).values[0];
            let gradient = Tensor::ones([1, 2], &Device::flex());
            moving.update(vec![Some(gradient)], &o, Until::Steps(1_000_000));
            let [value, average] = [&moving.trained[0].value, &moving.trained[0].average]
                .map(|t| to_host(t).values[0]);
            assert!(value < before, "a step goes against the gradient");
            (average - value) / (before - value)
        };
        let kept = [1, 11, 5000].map(|n| (step(n) * 1e3).round() / 1e3);
        assert_eq!(kept, [0.1, 0.55, 0.99]);
    }
}
