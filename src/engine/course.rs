//! The course of a fit, the same for all families: steps, schedule, checks, and which weights are kept.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{Check, EngineError, Fit, FitLimits, FitPlan, FitStep, StopReason};
use crate::adapter::{FitConfig, FitFormat};
use crate::arc::Task;
use crate::dataset::{Episode, EpisodeSource, Format};

/// Losses that are averaged to judge a step without a check, or whether a fit has converged.
const LOSS_WINDOW: usize = 16;

/// Steps after which it is known how long one takes.
const TRIED: usize = 4;

/// Episodes in a row that may be too large before the fit is given up.
const PASSED_OVER: usize = 64;

/// A fit under way, as a family does its steps.
pub(super) trait Steps {
    /// What is fitted, as it stands at a step. Cloning shares it.
    type Values;

    /// One step on an episode of a task, the `t`-th from 1, at `progress` of the schedule; gives the loss before it. An
    /// episode of which nothing can be shown is an error of size ([`EngineError::is_size`]), and changes no weights.
    fn step(
        &mut self,
        task: usize,
        episode: Episode,
        format: Format,
        t: usize,
        progress: f32,
    ) -> Result<f32, EngineError>;

    /// Predicts each demonstration of the only task from the others, as they stand, and counts exact answers.
    fn held_out_check(&self) -> Result<Check, EngineError>;

    /// What is fitted, as it stands.
    fn values(&self) -> Self::Values;
}

/// Runs a fit to its end; gives it without its adapter, and the values that the adapter is made of unless the fit was
/// given up.
pub(super) fn run<S: Steps>(
    fit: &mut S,
    sources: &[(usize, EpisodeSource)],
    plan: FitPlan<'_>,
    limits: &FitLimits<'_>,
    notes: Vec<String>,
    on_step: &mut dyn FnMut(&FitStep),
) -> Result<(Fit, Option<S::Values>), EngineError> {
    let config = plan.fit;
    // Episodes are counted from the beginning of the first fit, everything else from that of this one.
    let behind = plan.start.map_or(0, |start| start.steps);
    let n_steps = n_steps(sources, config, limits, behind);
    let is_one = sources.iter().all(|(task, _)| *task == 0);
    let is_icl = sources.iter().any(|(_, source)| source.format() == Format::Icl);
    let checks = is_one && is_icl && config.check_every > 0;
    let clock = Clock { started: Instant::now(), limits, n_steps };
    let mut course = Fit { notes, ..Fit::none(StopReason::Steps) };
    let mut best: Option<Best<S::Values>> = None;
    let mut perfect = 0;
    let mut enough = None;
    let mut landing: Option<Landing> = None;
    let mut passed_over = 0;
    for step in 0..n_steps {
        let landed = landing.as_ref().filter(|l| step >= l.end).map(|l| l.reason);
        if let Some(reason) = clock.ended(step).or(landed) {
            course.stop = reason;
            break;
        }
        if clock.is_hopeless(step, config.least_steps) {
            course.notes.push(format!("no time for {} steps: given up", config.least_steps));
            (course.steps, course.stop) = (course.curve.len(), StopReason::GivenUp);
            return Ok((course, None));
        }
        let by_clock = clock.progress(step);
        let progress = landing.as_ref().map_or(by_clock, |l| l.progress(step).max(by_clock));
        // What is too large follows from sizes alone, so that a repetition passes over the same.
        let most = passed_over + PASSED_OVER;
        let (format, loss) = loop {
            let turn = behind + step + passed_over;
            let (task, source) = &sources[turn % sources.len()];
            let episode = source.episode((turn / sources.len()) as u64);
            match fit.step(*task, episode, source.format(), step + 1, progress) {
                Err(error) if error.is_size() && passed_over < most => passed_over += 1,
                loss => break (source.format(), loss?),
            }
        };
        let due = config.check_every > 0 && (step + 1) % config.check_every == 0;
        let check = if due && checks { Some(fit.held_out_check()?) } else { None };
        let seconds = clock.started.elapsed().as_secs_f64();
        let record = FitStep { step: step + 1, format, loss, seconds, progress, check };
        on_step(&record);
        course.curve.push(record);
        if due {
            keep_best(&mut best, &course.curve, || fit.values());
        }
        if let Some(check) = check {
            perfect = if check.exact == check.of { perfect + 1 } else { 0 };
            if config.patience > 0 && perfect >= config.patience {
                enough = Some(StopReason::HeldOut);
            }
        }
        if step + 1 >= LOSS_WINDOW && recent_loss(&course.curve) < config.converged_loss {
            enough = enough.or(Some(StopReason::Converged));
        }
        if let Some(reason) = enough.filter(|_| landing.is_none() && limits.progress.is_none()) {
            landing = Some(Landing::after(step, progress, reason));
        }
    }
    course.steps = course.curve.len();
    if passed_over > 0 {
        course.notes.push(format!(
            "{passed_over} episodes were too large even without context and were passed over"
        ));
    }
    // The last step is judged like any other, whatever ended the fit: a repetition of it must choose the
    // same weights.
    if best.as_ref().is_none_or(|best| best.step < course.steps) {
        keep_best(&mut best, &course.curve, || fit.values());
    }
    let (best_step, values) =
        best.map_or_else(|| (course.steps, fit.values()), |best| (best.step, best.values));
    course.best_step = best_step;
    Ok((course, Some(values)))
}

/// The episodes of each format that is fitted, each with its task's index, and what is to be said about them. Items of
/// finite datasets that `fits` refuses are left out ([`EpisodeSource::fitting`]).
///
/// Of several tasks, those that have no episodes in a format take no part in it.
pub(super) fn sources(
    tasks: &[Task],
    plan: FitPlan<'_>,
    fits: &dyn Fn(&Episode) -> bool,
) -> (Vec<(usize, EpisodeSource)>, Vec<String>) {
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
            let source = EpisodeSource::fitting(task, plan.dataset, format, plan.seed, fits);
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

/// The learning rate's factor at `progress` of the fit.
pub(super) fn rate(config: &FitConfig, progress: f64) -> f64 {
    if progress < config.warmup {
        return (progress / config.warmup).max(0.02);
    }
    let cosine = (1.0 + (std::f64::consts::PI * progress).cos()) / 2.0;
    config.final_learning_rate + (1.0 - config.final_learning_rate) * cosine
}

/// The weights to keep: most demonstrations right, then lowest recent loss, then latest.
struct Best<V> {
    exact: usize,
    loss: f32,
    step: usize,
    values: V,
}

/// Puts the weights after the last step of `curve` in the place of the best ones, if they are better.
///
/// A step without a check of its own is judged by the loss alone.
fn keep_best<V>(best: &mut Option<Best<V>>, curve: &[FitStep], values: impl FnOnce() -> V) {
    let Some(last) = curve.last() else { return };
    let loss = recent_loss(curve);
    let so_far = best.as_ref().map_or(0, |b| b.exact);
    let exact = last.check.map_or(so_far, |c| c.exact);
    let better = |b: &Best<V>| exact > b.exact || (exact == b.exact && loss <= b.loss);
    if best.as_ref().is_none_or(better) {
        *best = Some(Best { exact, loss, step: last.step, values: values() });
    }
}

/// Mean loss of the last steps.
fn recent_loss(curve: &[FitStep]) -> f32 {
    let recent = &curve[curve.len().saturating_sub(LOSS_WINDOW)..];
    recent.iter().map(|s| s.loss).sum::<f32>() / recent.len() as f32
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
        // The choice of a start may have left nothing.
        let by_time = self.limits.seconds.map_or(0.0, |s| (elapsed / s).min(1.0));
        by_time.max(step as f64 / self.n_steps as f64) as f32
    }
}
