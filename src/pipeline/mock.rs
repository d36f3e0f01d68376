//! A model family for tests: fast, deterministic, and it fails where it is told to.
//!
//! It answers a test with its input recolored by a number that depends on the seed, the steps and their
//! schedule, so that any difference in how a task was fitted shows in the submission.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::{TaskLimits, TaskRecord, solve_task};
use crate::adapter::FitFormat;
use crate::arc::{ColorPermutation, Example, Grid, Task, Test, View};
use crate::candidate::{CellMap, MapMeta, N_CLASSES, Predictions};
use crate::dataset::Format;
use crate::engine::{
    Adapter, Base, Check, Engine, EngineError, Fit, FitLimits, FitPlan, FitStep, HostTensor,
    ModelInfo, PredictPlan, StopReason,
};
use crate::recipe::Recipe;

/// A model that does what the task's id says: `panic-fit`, `panic-predict`, `panic-adapted`, `panic-score`,
/// `broken-map`, `too-large`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mock {
    /// How long a gradient step takes.
    pub step: Duration,
    /// How long a view of a test takes.
    pub view: Duration,
    /// Whether the views of a call say different things, none of which is the input.
    pub scattered: bool,
}

/// A task with the given id, whose three tests are told apart by their sizes.
pub(crate) fn task(id: &str) -> Task {
    let grid = |n: usize| Grid::from_fn(n, n + 1, |r, c| ((r * 3 + c) % 10) as u8);
    let examples = (2..5).map(|n| Example { input: grid(n), output: grid(n) }).collect();
    let tests = (3..6).map(|n| Test { input: grid(n), output: Some(grid(n)) }).collect();
    Task { id: id.to_owned(), examples, tests }
}

/// What becomes of a task under a recipe, with so many steps and no clock.
pub(crate) fn record(task: &Task, recipe: &Recipe, steps: usize) -> TaskRecord {
    let limits = TaskLimits {
        seconds: None,
        steps: Some(steps),
        memory_bytes: 1,
        replay: None,
        interrupted: &AtomicBool::new(false),
    };
    solve_task(&Mock::default(), task, recipe, limits, &mut |_| {}).unwrap().record
}

/// The default recipe with few steps.
pub(crate) fn recipe() -> Recipe {
    let mut recipe = Recipe::default();
    recipe.fit.steps = 10;
    recipe
}

impl Engine for Mock {
    fn info(&self) -> ModelInfo {
        let (name, device) = ("mock".to_owned(), "cpu".to_owned());
        ModelInfo { name, sha256: "00".repeat(32), parameters: 0, device }
    }

    fn fit(
        &self,
        task: &Task,
        plan: FitPlan<'_>,
        limits: FitLimits<'_>,
        on_step: &mut dyn FnMut(&FitStep),
    ) -> Result<Fit, EngineError> {
        assert!(task.tests.iter().all(|t| t.output.is_none()), "the truth is not for the solver");
        assert!(!task.id.contains("panic-fit"), "told to panic");
        if task.id.contains("too-large") {
            return Err(EngineError::Memory { needed: 2, allowed: limits.memory_bytes });
        }
        let format = if plan.fit.format == FitFormat::E2e { Format::E2e } else { Format::Icl };
        let began = Instant::now();
        let mut hash = Sha256::new();
        hash.update(plan.seed.to_le_bytes());
        hash.update(task.examples.len().to_le_bytes());
        if let Some(start) = plan.start {
            hash.update(start.adapter.tensors["number"].values[0].to_le_bytes());
            hash.update(start.steps.to_le_bytes());
        }
        let mut curve: Vec<FitStep> = Vec::new();
        let stop = loop {
            let step = curve.len();
            if limits.interrupted.load(Ordering::Relaxed) {
                break StopReason::Interrupted;
            }
            let seconds = began.elapsed().as_secs_f64();
            let progress = match limits.progress {
                Some(repeated) if step == repeated.len() => break StopReason::Steps,
                Some(repeated) => repeated[step],
                None => {
                    let steps = limits.steps.unwrap_or(plan.fit.steps);
                    let of_time = limits.seconds.map_or(0.0, |s| (seconds / s) as f32);
                    match (step as f32 / steps as f32).max(of_time) {
                        _ if step == steps => break StopReason::Steps,
                        share if share >= 1.0 => break StopReason::Budget,
                        share => share,
                    }
                }
            };
            sleep(self.step);
            hash.update(progress.to_le_bytes());
            let check = (step % 4 == 3).then_some(Check { exact: 1, of: 3 });
            let loss = 1.0 / (step + 1) as f32;
            curve.push(FitStep { step: step + 1, format, loss, seconds, progress, check });
            on_step(&curve[step]);
        };
        let values = vec![f32::from(hash.finalize()[0])];
        let tensors = [("number".to_owned(), HostTensor { shape: vec![1], values })].into();
        let lora = Some(plan.lora.clone());
        let adapter = Adapter {
            base: Base::Sha256(self.info().sha256),
            task: Some(task.id.clone()),
            formats: vec![format],
            lora,
            tensors,
        };
        let steps = curve.len();
        Ok(Fit { adapter: Some(adapter), curve, steps, best_step: steps, stop, ..Fit::none(stop) })
    }

    fn fit_shared(
        &self,
        tasks: &[Task],
        plan: FitPlan<'_>,
        limits: FitLimits<'_>,
        on_step: &mut dyn FnMut(&FitStep),
    ) -> Result<Fit, EngineError> {
        self.fit(&tasks[0], plan, limits, on_step)
    }

    fn predict(
        &self,
        task: &Task,
        test: usize,
        adapter: Option<&Adapter>,
        views: &[View],
        _: PredictPlan<'_>,
    ) -> Result<Predictions, EngineError> {
        assert!(!task.id.contains("panic-predict"), "told to panic");
        assert!(adapter.is_none() || !task.id.contains("panic-adapted"), "told to panic");
        let maps = views.iter().enumerate().map(|(i, view)| {
            sleep(self.view);
            let number = if self.scattered { 1 + i as u8 % 9 } else { number(adapter, view) };
            let mut map = map(&task.tests[test].input, view, number);
            if task.id.contains("broken-map") {
                map.log_probs.clear();
            }
            map
        });
        Ok(Predictions::Cells(maps.collect()))
    }

    fn score(
        &self,
        task: &Task,
        test: usize,
        adapter: Option<&Adapter>,
        under: &MapMeta,
        grids: &[&Grid],
        _: u64,
    ) -> Result<Vec<f32>, EngineError> {
        assert!(!task.id.contains("panic-score"), "told to panic");
        sleep(self.view);
        let map = map(&task.tests[test].input, &under.view, number(adapter, &under.view));
        Ok(grids.iter().map(|grid| map.log_prob(grid)).collect())
    }
}

/// What an adapter turns the colors on by under a view. A view in four says something else, so that there is something to
/// vote on.
fn number(adapter: Option<&Adapter>, view: &View) -> u8 {
    let number = adapter.map_or(0, |a| a.tensors["number"].values[0] as u8);
    number.wrapping_add(u8::from(view.dihedral.index() % 4 == 3))
}

/// A map that is sure of the input with its colors turned on by `number`.
fn map(input: &Grid, view: &View, number: u8) -> CellMap {
    let turned: [u8; 10] = std::array::from_fn(|c| ((c + usize::from(number)) % 10) as u8);
    let output = ColorPermutation::new(turned).unwrap().apply(input);
    let shown = view.apply(&output);
    let sure = |&color: &u8| {
        let mut classes = [-9.0; N_CLASSES];
        classes[usize::from(color)] = -0.01;
        classes
    };
    CellMap {
        view: view.clone(),
        format: Format::Icl,
        height: shown.height(),
        width: shown.width(),
        log_probs: shown.cells().iter().map(sure).collect(),
        shape: Some(shown.shape()),
    }
}
