//! The per-task fit.

use std::sync::atomic::Ordering;
use std::time::Instant;

use burn::tensor::Tensor;

use super::GridEngine;
use super::parameters::{Optimizers, Parameters};
use crate::adapter::{FitConfig, FitFormat};
use crate::arc::{Task, infer_shape};
use crate::dataset::{Episode, EpisodeSource, Format, Query};
use crate::engine::{
    Check, Encoded, EngineError, Fit, FitLimits, FitPlan, FitStep, StopReason, Told, canvas_of,
};
use crate::model::{
    AdamW, GridModel, Moments, Muon, clip_factor, cross_entropy, log_probabilities,
};

/// Losses that are averaged to judge a step without a check, or whether a fit has converged.
const LOSS_WINDOW: usize = 16;

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

/// Steps after which it is known how long one takes.
const TRIED: usize = 4;

fn tell(told: bool, output: (usize, usize), canvas: (usize, usize)) -> Told {
    if told { Told::Shape(output) } else { Told::Nothing { canvas } }
}

fn most_probable(log_probs: &[f32; 11]) -> u8 {
    (1..11).fold(0, |best, i| if log_probs[i] > log_probs[best] { i } else { best }) as u8
}

/// The learning rate's factor at `progress` of the fit.
fn rate(config: &FitConfig, progress: f64) -> f64 {
    if progress < config.warmup {
        return (progress / config.warmup).max(0.02);
    }
    let cosine = (1.0 + (std::f64::consts::PI * progress).cos()) / 2.0;
    config.final_learning_rate + (1.0 - config.final_learning_rate) * cosine
}

/// The weights to keep: most demonstrations right, then lowest recent loss, then latest.
struct Best {
    exact: usize,
    loss: f32,
    step: usize,
    values: Vec<Tensor<2>>,
}

/// Puts the weights after the last step of `curve` in the place of the best ones, if they are better.
///
/// A step without a check of its own is judged by the loss alone.
fn keep_best(best: &mut Option<Best>, curve: &[FitStep], values: &[Tensor<2>]) {
    let Some(last) = curve.last() else { return };
    let loss = recent_loss(curve);
    let so_far = best.as_ref().map_or(0, |b| b.exact);
    let exact = last.check.map_or(so_far, |c| c.exact);
    let better = |b: &Best| exact > b.exact || (exact == b.exact && loss <= b.loss);
    if best.as_ref().is_none_or(better) {
        *best = Some(Best { exact, loss, step: last.step, values: values.to_vec() });
    }
}

/// Mean loss of the last steps.
fn recent_loss(curve: &[FitStep]) -> f32 {
    let recent = &curve[curve.len().saturating_sub(LOSS_WINDOW)..];
    recent.iter().map(|s| s.loss).sum::<f32>() / recent.len() as f32
}

/// The episodes of each format that is fitted, each with its task's index, and what is to be said about them.
///
/// Of several tasks, those that have no episodes in a format take no part in it.
fn sources(tasks: &[Task], plan: FitPlan<'_>) -> (Vec<(usize, EpisodeSource)>, Vec<String>) {
    let wanted: &[Format] = match plan.fit.format {
        FitFormat::None => &[],
        FitFormat::Icl => &[Format::Icl],
        FitFormat::E2e => &[Format::E2e],
        FitFormat::Both => &[Format::Icl, Format::E2e],
    };
    let mut sources: Vec<(usize, EpisodeSource)> = Vec::new();
    let mut notes = Vec::new();
    for (index, task) in tasks.iter().enumerate() {
        for &format in wanted {
            let source = EpisodeSource::new(task, plan.dataset, format, plan.seed);
            if tasks.len() > 1 && source.problem().is_some() {
                continue;
            }
            notes.extend(source.problem().map(|problem| problem.to_string()));
            if !sources.iter().any(|(i, s)| *i == index && s.format() == source.format()) {
                sources.push((index, source));
            }
        }
    }
    (sources, notes)
}

/// Fits an adapter to one task or several; see [`crate::engine::Engine::fit`].
pub(super) fn fit(
    engine: &GridEngine,
    tasks: &[Task],
    plan: FitPlan<'_>,
    limits: FitLimits<'_>,
    on_step: &mut dyn FnMut(&FitStep),
) -> Result<Fit, EngineError> {
    let (sources, mut notes) = sources(tasks, plan);
    if sources.is_empty() {
        let (curve, stop) = (Vec::new(), StopReason::NotFitted);
        return Ok(Fit { adapter: None, curve, steps: 0, best_step: 0, stop, notes });
    }
    let mut formats: Vec<Format> = sources.iter().map(|(_, source)| source.format()).collect();
    formats.dedup();
    let mut fit = TaskFit::new(engine, tasks, plan, &limits, &formats)?;
    if !fit.told[0] && tasks.len() == 1 {
        notes.push("the output's shape is predicted: no shape rule fits".into());
    }
    // Episodes are counted from the beginning of the first fit, everything else from that of this one.
    let behind = plan.start.map_or(0, |start| start.steps);
    let n_steps = n_steps(&sources, plan.fit, &limits, behind);
    let checks = tasks.len() == 1 && formats.contains(&Format::Icl) && plan.fit.check_every > 0;
    let clock = Clock { started: Instant::now(), limits: &limits, n_steps };
    let mut curve: Vec<FitStep> = Vec::new();
    let mut best: Option<Best> = None;
    let mut perfect = 0;
    let mut enough = None;
    let mut landing: Option<Landing> = None;
    let mut stop = StopReason::Steps;
    for step in 0..n_steps {
        let landed = landing.as_ref().filter(|l| step >= l.end).map(|l| l.reason);
        if let Some(reason) = clock.ended(step).or(landed) {
            stop = reason;
            break;
        }
        if clock.is_hopeless(step, plan.fit.least_steps) {
            notes.push(format!("no time for {} steps: given up", plan.fit.least_steps));
            let steps = curve.len();
            let stop = StopReason::GivenUp;
            return Ok(Fit { adapter: None, curve, steps, best_step: 0, stop, notes });
        }
        let by_clock = clock.progress(step);
        let progress = landing.as_ref().map_or(by_clock, |l| l.progress(step).max(by_clock));
        let turn = behind + step;
        let (task, source) = &sources[turn % sources.len()];
        let episode = source.episode((turn / sources.len()) as u64);
        let loss = fit.step(*task, episode, source.format(), step + 1, progress)?;
        let due = plan.fit.check_every > 0 && (step + 1) % plan.fit.check_every == 0;
        let check = (due && checks).then(|| fit.held_out_check());
        let (format, seconds) = (source.format(), clock.started.elapsed().as_secs_f64());
        let record = FitStep { step: step + 1, format, loss, seconds, progress, check };
        on_step(&record);
        curve.push(record);
        if due {
            keep_best(&mut best, &curve, &fit.parameters.values);
        }
        if let Some(check) = check {
            perfect = if check.exact == check.of { perfect + 1 } else { 0 };
            let patience = plan.fit.patience;
            if patience > 0 && perfect >= patience {
                enough = Some(StopReason::HeldOut);
            }
        }
        if step + 1 >= LOSS_WINDOW && recent_loss(&curve) < plan.fit.converged_loss {
            enough = enough.or(Some(StopReason::Converged));
        }
        if let Some(reason) = enough.filter(|_| landing.is_none() && limits.progress.is_none()) {
            landing = Some(Landing::after(step, progress, reason));
        }
    }
    let steps = curve.len();
    // The last step is judged like any other, whatever ended the fit: a repetition of it must choose the
    // same weights.
    if best.as_ref().is_none_or(|best| best.step < steps) {
        keep_best(&mut best, &curve, &fit.parameters.values);
    }
    let (best_step, values) =
        best.map_or((steps, fit.parameters.values.clone()), |best| (best.step, best.values));
    let base = &engine.info.sha256;
    let adapter = fit.parameters.adapter(&engine.model, &values, plan.lora, base, &formats);
    Ok(Fit { adapter: Some(adapter), curve, steps, best_step, stop, notes })
}

/// The end of a fit that needs no more training: weights that were moved at a high learning rate still shake,
/// so the rest of the schedule is run through quickly.
struct Landing {
    first: usize,
    end: usize,
    from: f32,
    reason: StopReason,
}

impl Landing {
    /// Behind step `step`, whose progress was `from`.
    fn after(step: usize, from: f32, reason: StopReason) -> Self {
        let first = step + 1;
        Self { first, end: first + (first / 4).max(8), from, reason }
    }

    fn progress(&self, step: usize) -> f32 {
        let share = (step - self.first) as f32 / (self.end - self.first) as f32;
        self.from + (1.0 - self.from) * share
    }
}

/// Steps that the settings, the limits and the dataset allow.
fn n_steps(
    sources: &[(usize, EpisodeSource)],
    config: &FitConfig,
    limits: &FitLimits<'_>,
    behind: usize,
) -> usize {
    let n = limits.progress.map_or(limits.steps.unwrap_or(config.steps), <[f32]>::len);
    let mut finite = sources.iter().map(|(_, source)| source.steps());
    let finite = finite.try_fold(0, |sum, n| Some(sum + n?));
    finite.map_or(n, |all| n.min((all as usize).saturating_sub(behind)))
}

/// What ends a fit, and how far it has come.
struct Clock<'a> {
    started: Instant,
    limits: &'a FitLimits<'a>,
    n_steps: usize,
}

impl Clock<'_> {
    /// Whether the budget has no room for `least` steps, as far as the first few tell.
    fn is_hopeless(&self, step: usize, least: usize) -> bool {
        let timed = self.limits.seconds.filter(|_| self.limits.progress.is_none());
        let Some(seconds) = timed.filter(|_| step == TRIED && least > 0) else { return false };
        let expected = seconds / self.started.elapsed().as_secs_f64() * step as f64;
        expected < least.min(self.n_steps) as f64
    }

    /// Why step `step` (from 0) is not begun, if it is not.
    fn ended(&self, step: usize) -> Option<StopReason> {
        if self.limits.interrupted.load(Ordering::Relaxed) {
            return Some(StopReason::Interrupted);
        }
        // A step that would end farther behind the limit than this moment is before it is not begun.
        let elapsed = self.started.elapsed().as_secs_f64();
        let half_a_step = elapsed / (2 * step).max(1) as f64;
        let over = |seconds| step > 0 && elapsed + half_a_step >= seconds;
        let timed = self.limits.progress.is_none();
        (timed && self.limits.seconds.is_some_and(over)).then_some(StopReason::Budget)
    }

    /// The share of the schedule that lies behind step `step` (from 0).
    fn progress(&self, step: usize) -> f32 {
        if let Some(recorded) = self.limits.progress {
            return recorded[step];
        }
        let elapsed = self.started.elapsed().as_secs_f64();
        let by_time = self.limits.seconds.map_or(0.0, |s| elapsed / s);
        by_time.max(step as f64 / self.n_steps as f64) as f32
    }
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
            muon: (config.matrix_learning_rate > 0.0)
                .then_some(Muon { momentum: MOMENTUM, weight_decay }),
        };
        let e2e = formats.contains(&Format::E2e);
        let name = if let [task] = tasks { task.id.as_str() } else { "shared" };
        let mut parameters = Parameters::new(&engine.model, plan, name, e2e, &optimizers);
        if let Some(start) = plan.start {
            parameters.begin_from(engine, start.adapter)?;
        }
        let mut base = engine.model.map(&mut |_, tensor| Tensor::from_inner(tensor));
        base.precision = config.precision;
        let told = tasks.iter().map(is_told).collect();
        Ok(Self { tasks, config, base, parameters, optimizers, most, told })
    }

    /// One step on an episode of a task; gives the loss before it.
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
            if let (Moments::Muon(_), Some(muon)) = (&*moments, &self.optimizers.muon) {
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

    /// Predicts each demonstration of the only task from the others, as they stand, and counts exact answers.
    fn held_out_check(&self) -> Check {
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
        Check { exact, of: n }
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
