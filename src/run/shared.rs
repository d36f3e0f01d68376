//! One adapter for all tasks of a run.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{Plan, RunError, load_adapter, save_adapter};
use crate::arc::{Task, write_atomically};
use crate::engine::{Adapter, FitLimits, StopReason};
use crate::pipeline::Curve;

/// Folder of the adapter in a run directory.
const FOLDER: &str = "shared";

/// File of [`Fitted`], beside the adapter. It is written last: where it is, the adapter is whole.
const FITTED: &str = "fit.json";

/// Share of the time of all tasks that the fit takes; the predictions have the rest.
pub(super) const SHARE: f64 = 0.8;

/// How the adapter came about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Fitted {
    /// Wall seconds that it took.
    seconds: f64,
    /// Tasks that it was fitted for.
    tasks: usize,
    /// Tasks that are worked on at the same time, which all waited for it; fits of earlier versions do not say.
    #[serde(default = "one")]
    jobs: usize,
    /// Every step.
    curve: Curve,
}

fn one() -> usize {
    1
}

impl Fitted {
    /// Each task's part of the seconds. The records of tasks that are worked on at the same time count the same wall time
    /// each, and so the time in which none but this fit was worked on counts for every job.
    fn seconds_a_task(&self) -> f64 {
        self.seconds * self.jobs as f64 / self.tasks.max(1) as f64
    }
}

/// An adapter that all tasks of a run use.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) adapter: Adapter,
    /// Each task's part of the seconds that the fit took.
    pub(super) seconds: f64,
}

/// Where a run keeps it.
pub fn shared_path(run: &Path) -> PathBuf {
    run.join(FOLDER)
}

/// Gradient steps of a run's adapter for each of its tasks; `None` without one.
pub fn shared_steps(run: &Path) -> Option<f64> {
    let text = fs::read_to_string(shared_path(run).join(FITTED)).ok()?;
    let fitted: Fitted = serde_json::from_str(&text).ok()?;
    Some(fitted.curve.0.len() as f64 / fitted.tasks.max(1) as f64)
}

/// The adapter of the run in `directory`, or of the one that is repeated; fitted now if there is none yet. `None` if the
/// user interrupts.
///
/// # Errors
/// [`RunError`] if it cannot be fitted, read or written.
pub(super) fn shared(
    directory: &Path,
    tasks: &[Task],
    plan: &Plan,
) -> Result<Option<Shared>, RunError> {
    let own = shared_path(directory);
    let folder = plan.shared_from.as_ref().unwrap_or(&own);
    if let Some(fitted) = read(folder)? {
        return Ok(Some(fitted));
    }
    let Some((adapter, fitted)) = fit(tasks, plan)? else { return Ok(None) };
    save_adapter(&own, &adapter, &plan.engine.info())?;
    let (file, text) = (own.join(FITTED), serde_json::to_string(&fitted).expect("plain data"));
    let failed = |source| RunError::Io { action: "write", path: file.clone(), source };
    write_atomically(&file, text.as_bytes()).map_err(failed)?;
    Ok(Some(Shared { adapter, seconds: fitted.seconds_a_task() }))
}

fn read(folder: &Path) -> Result<Option<Shared>, RunError> {
    let file = folder.join(FITTED);
    let Ok(text) = fs::read_to_string(&file) else { return Ok(None) };
    let damaged = |e: serde_json::Error| RunError::Damaged {
        path: file.clone(),
        line: None,
        problem: e.to_string(),
    };
    let fitted: Fitted = serde_json::from_str(&text).map_err(damaged)?;
    Ok(Some(Shared { adapter: load_adapter(folder)?, seconds: fitted.seconds_a_task() }))
}

fn fit(tasks: &[Task], plan: &Plan) -> Result<Option<(Adapter, Fitted)>, RunError> {
    let began = Instant::now();
    let tasks: Vec<Task> = tasks.iter().map(Task::without_answers).collect();
    let all = tasks.len();
    let jobs = plan.schedule.jobs.min(all).max(1);
    let rounds = all as f64 / jobs as f64;
    let budget = plan.schedule.budget_seconds.map(|seconds| seconds * rounds);
    let left = plan.schedule.deadline.map(|deadline| deadline.left(began));
    let seconds = budget.into_iter().chain(left).min_by(f64::total_cmp).map(|s| s * SHARE);
    let limits = FitLimits {
        seconds,
        steps: Some(plan.limits.steps.unwrap_or(plan.recipe.fit.steps) * all),
        progress: None,
        memory_bytes: plan.limits.memory_bytes,
        interrupted: plan.interrupted,
    };
    let settings = plan.recipe.fit_plan();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(plan.threads).stack_size(8 << 20);
    let pool = pool.build().expect("the system gives a few threads");
    let report = &mut |step: &crate::engine::FitStep| {
        tracing::debug!(step = step.step, loss = step.loss, "shared adapter");
    };
    let fitted = pool.install(|| plan.engine.fit_shared(&tasks, settings, limits, report));
    let fitted = fitted.map_err(|e| RunError::Shared(e.to_string()))?;
    if fitted.stop == StopReason::Interrupted {
        return Ok(None);
    }
    let none = || RunError::Shared("no task has two demonstrations".to_owned());
    let adapter = fitted.adapter.ok_or_else(none)?;
    let seconds = began.elapsed().as_secs_f64();
    Ok(Some((adapter, Fitted { seconds, tasks: all, jobs, curve: Curve(fitted.curve) })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_fit_costs_a_task_what_a_fit_of_its_own_would_have() {
        let curve = Curve::default();
        let fitted = Fitted { seconds: 60.0, tasks: 12, jobs: 2, curve };
        assert_eq!(fitted.seconds_a_task(), 10.0);
        let mut object = serde_json::to_value(&fitted).unwrap();
        object.as_object_mut().unwrap().remove("jobs");
        let earlier: Fitted = serde_json::from_value(object).unwrap();
        assert_eq!(earlier.seconds_a_task(), 5.0);
    }
}
