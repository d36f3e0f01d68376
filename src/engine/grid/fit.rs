//! The per-task fit.

use std::time::Instant;

use burn::tensor::Tensor;

use super::GridEngine;
use super::parameters::{Optimizers, Parameters};
use super::start::nearest_start;
use crate::adapter::FitConfig;
use crate::arc::{Task, infer_shape};
use crate::dataset::{Episode, Format, Query};
use crate::engine::course::{Steps, rate, run, sources};
use crate::engine::{
    Check, Encoded, EngineError, Fit, FitLimits, FitPlan, FitStep, StopReason, Told, canvas_of,
};
use crate::model::{
    AdamW, GridModel, Moments, Muon, clip_factor, cross_entropy, log_probabilities,
};

/// Told shapes for training on a task: as the shape rule allows at its tests.
fn is_told(task: &Task) -> bool {
    task.tests.iter().all(|t| infer_shape(&task.examples, &t.input).is_some())
}

/// Removes queries, then context pairs, until the episode has at most `most` cells.
fn trim(mut episode: Episode, most: usize) -> Episode {
    let cells = |i: usize| {
        let (h, w) = canvas_of(std::slice::from_ref(&episode.pairs[i]));
        h * w
    };
    let sizes: Vec<usize> = (0..episode.pairs.len()).map(cells).collect();
    let total = |queries: &[Query]| {
        let read = (0..sizes.len()).filter(|i| queries.iter().any(|q| q.context.contains(i)));
        read.map(|i| sizes[i]).sum::<usize>()
            + queries.iter().map(|q| sizes[q.target]).sum::<usize>()
    };
    while episode.queries.len() > 1 && total(&episode.queries) > most {
        episode.queries.pop();
    }
    while total(&episode.queries) > most && episode.queries[0].context.len() > 1 {
        episode.queries[0].context.pop();
    }
    episode
}

/// Decay of Muon's momentum (Jordan et al. 2024).
const MOMENTUM: f64 = 0.95;

fn tell(told: bool, output: (usize, usize), canvas: (usize, usize)) -> Told {
    if told { Told::Shape(output) } else { Told::Nothing { canvas } }
}

fn most_probable(log_probs: &[f32; 11]) -> u8 {
    (1..11).fold(0, |best, i| if log_probs[i] > log_probs[best] { i } else { best }) as u8
}

/// Fits an adapter to one task or several; see [`crate::engine::Engine::fit`].
pub(super) fn fit(
    engine: &GridEngine,
    tasks: &[Task],
    plan: FitPlan<'_>,
    mut limits: FitLimits<'_>,
    on_step: &mut dyn FnMut(&FitStep),
) -> Result<Fit, EngineError> {
    let (sources, mut notes) = sources(tasks, plan, &|_| true);
    if sources.is_empty() {
        return Ok(Fit { notes, ..Fit::none(StopReason::NotFitted) });
    }
    let mut formats: Vec<Format> = sources.iter().map(|(_, source)| source.format()).collect();
    formats.dedup();
    let started = Instant::now();
    let mut fit = TaskFit::new(engine, tasks, plan, &limits, &formats)?;
    // The choice of a start counts.
    limits.seconds = limits.seconds.map(|s| (s - started.elapsed().as_secs_f64()).max(0.0));
    if !fit.told[0] && tasks.len() == 1 {
        notes.push("the output's shape is predicted: no shape rule fits".into());
    }
    let (mut course, values) = run(&mut fit, &sources, plan, &limits, notes, on_step)?;
    let name = |start: usize| engine.starts.get(start.checked_sub(1)?).cloned();
    course.start = fit.start.and_then(name);
    let base = &engine.info.sha256;
    let task = if let [task] = tasks { Some(task.id.clone()) } else { None };
    course.adapter = values.map(|values| {
        fit.parameters.adapter(&engine.model, &values, plan.lora, base, task, &formats)
    });
    Ok(course)
}

/// A fit under way.
struct TaskFit<'a> {
    tasks: &'a [Task],
    config: &'a FitConfig,
    /// The base model as constants of this fit's own graph.
    base: GridModel,
    parameters: Parameters,
    optimizers: Optimizers,
    /// Canvas cells that a step may have, for each task.
    most: Vec<usize>,
    /// Which of the model's starts the task tokens have begun at, where they were to choose.
    start: Option<usize>,
    /// Whether queries are told the shapes of their outputs, for each task.
    told: Vec<bool>,
}

impl<'a> TaskFit<'a> {
    fn new(
        engine: &GridEngine,
        tasks: &'a [Task],
        plan: FitPlan<'a>,
        limits: &FitLimits<'_>,
        formats: &[Format],
    ) -> Result<Self, EngineError> {
        let config = plan.fit;
        let most = |task| cells_within(&engine.model, task, limits.memory_bytes, config.max_tokens);
        let most = tasks.iter().map(most).collect::<Result<_, _>>()?;
        let weight_decay = config.weight_decay;
        let optimizers = Optimizers {
            adamw: AdamW { betas: config.betas, weight_decay },
            muon: (config.matrix_learning_rate > 0.0).then_some(Muon {
                momentum: MOMENTUM,
                weight_decay,
                precision: config.precision,
            }),
        };
        let e2e = formats.contains(&Format::E2e);
        let name = if let [task] = tasks { task.id.as_str() } else { "shared" };
        let mut parameters = Parameters::new(&engine.model, plan, name, e2e, &optimizers);
        let told: Vec<bool> = tasks.iter().map(is_told).collect();
        let mut start = None;
        match (plan.start, tasks) {
            (Some(start), _) => parameters.begin_from(engine, start.adapter)?,
            (None, [task]) if e2e => {
                let model = GridModel { precision: config.precision, ..engine.model.clone() };
                let cells = config.start_cells;
                start = Some(nearest_start(&model, task, told[0], cells));
            }
            _ => (),
        }
        if let Some(start) = start {
            parameters.begin_at(engine.model.start(start));
        }
        let mut base = engine.model.map(&mut |_, tensor| Tensor::from_inner(tensor));
        base.precision = config.precision;
        Ok(Self { tasks, config, base, parameters, optimizers, most, told, start })
    }
}

impl Steps for TaskFit<'_> {
    type Values = Vec<Tensor<2>>;

    fn step(
        &mut self,
        task: usize,
        episode: Episode,
        format: Format,
        t: usize,
        progress: f32,
    ) -> Result<f32, EngineError> {
        let episode = trim(episode, self.most[task]);
        let canvas = canvas_of(&episode.pairs);
        let mut encoded = Encoded::default();
        encoded.add(&episode, format, 0, |p| tell(self.told[task], p.output.shape(), canvas));

        let tracked = |v: &Tensor<2>| Tensor::from_inner(v.clone()).require_grad();
        let values: Vec<Tensor<2>> = self.parameters.values.iter().map(tracked).collect();
        let (model, tasks, lora) = self.parameters.install(&self.base, &values);
        let logits = model.forward(&encoded.batch, tasks.as_ref(), lora.as_ref());
        let loss = cross_entropy(logits, &encoded.targets, &encoded.weights);
        let value = loss.clone().inner().into_scalar::<f32>();
        if !value.is_finite() {
            return Err(EngineError::Diverged(value, t));
        }
        let mut grads = loss.backward();
        let gradients: Vec<Option<Tensor<2>>> =
            values.iter().map(|v| v.grad_remove(&mut grads)).collect();
        // Nobody else holds the parameters then, and they are changed where they lie.
        drop((values, model, tasks, lora, loss));
        let present: Vec<Tensor<2>> = gradients.iter().flatten().cloned().collect();
        let clip = clip_factor(&present, self.config.clip_norm);
        let factor = rate(self.config, f64::from(progress));
        for (i, gradient) in gradients.into_iter().enumerate() {
            // Task tokens take no part in an in-context step, and then keep their momentum too.
            let Some(gradient) = gradient else { continue };
            let peak = if i < self.parameters.n_adapter {
                self.config.learning_rate
            } else {
                self.config.task_learning_rate
            };
            let moments = &mut self.parameters.moments[i];
            let value = &mut self.parameters.values[i];
            if let (Moments::Muon { .. }, Some(muon)) = (&*moments, &self.optimizers.muon) {
                // Its updates are of one size, whatever the gradient's: nothing to clip.
                let rate = self.config.matrix_learning_rate * factor;
                *value = muon.step(rate, value.clone(), gradient, moments);
            } else {
                let adamw = &self.optimizers.adamw;
                adamw.step(peak * factor, t, value, &gradient, clip, moments);
            }
        }
        Ok(value)
    }

    fn held_out_check(&self) -> Result<Check, EngineError> {
        let base = self.base.map(&mut |_, tensor| tensor.inner());
        let (model, _, lora) = self.parameters.install(&base, &self.parameters.values);
        let (examples, most, told) = (&self.tasks[0].examples, self.most[0], self.told[0]);
        let n = examples.len();
        let canvas = canvas_of(examples);
        let others = |target: usize| (0..n).filter(|&i| i != target).collect();
        let all: Vec<Query> =
            (0..n).map(|target| Query { target, context: others(target) }).collect();
        // One demonstration at a time if all together are too large.
        let together = 2 * n * canvas.0 * canvas.1 <= most;
        let groups: Vec<Vec<Query>> =
            if together { vec![all] } else { all.into_iter().map(|q| vec![q]).collect() };
        let mut exact = 0;
        for queries in groups {
            let episode = Episode { pairs: examples.clone(), queries, frame: None };
            let mut encoded = Encoded::default();
            encoded.add(&trim(episode, most), Format::Icl, 0, |p| {
                tell(told, p.output.shape(), canvas)
            });
            let log_probs = log_probabilities(model.forward(&encoded.batch, None, lora.as_ref()));
            let predicted: Vec<u8> = log_probs.iter().map(most_probable).collect();
            exact += encoded.exact(&predicted).into_iter().filter(|&e| e).count();
        }
        Ok(Check { exact, of: n })
    }

    fn values(&self) -> Self::Values {
        self.parameters.values.clone()
    }
}

/// Canvas cells that a step may have: `most`, or what the memory allows.
fn cells_within(
    model: &GridModel,
    task: &Task,
    memory_bytes: u64,
    most: usize,
) -> Result<usize, EngineError> {
    let (h, w) = canvas_of(&task.examples);
    let per_cell = bytes_per_cell(model);
    let allowed = (memory_bytes / per_cell) as usize;
    // One query that reads one pair is the least that can be learnt from.
    let least = 2 * h * w;
    if allowed < least {
        let needed = least as u64 * per_cell;
        return Err(EngineError::Memory { needed, allowed: memory_bytes });
    }
    Ok(most.min(allowed).max(least))
}

/// Bytes that one canvas cell costs in a training step: what the blocks keep, and their scratch space.
fn bytes_per_cell(model: &GridModel) -> u64 {
    let c = &model.config;
    let kept = c.n_layers * (6 * c.d_model + c.d_ff + 4 * c.n_heads);
    let scratch = 12 * c.d_model + 3 * c.d_ff;
    4 * (kept + scratch) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arc::{Example, Grid};

    #[test]
    fn trimming_keeps_one_query_and_never_lets_it_read_its_target() {
        let grid = Grid::filled(3, 4, 1);
        let pair = Example { input: grid.clone(), output: grid };
        let queries =
            (0..4).map(|t| Query { target: t, context: (0..4).filter(|&i| i != t).collect() });
        let episode = Episode { pairs: vec![pair; 4], queries: queries.collect(), frame: None };
        assert_eq!(trim(episode.clone(), 1000).queries.len(), 4);
        assert_eq!(trim(episode.clone(), 12 * 6).queries.len(), 2);
        let least = trim(episode, 1);
        assert_eq!(least.queries, [Query { target: 0, context: vec![1] }]);
    }
}
