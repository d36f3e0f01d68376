//! A fit in parts, each of which goes on from where the one before it ended.
//!
//! With a hold-out the first part leaves one demonstration out of everything, and then has to predict it: the only
//! test of what was learnt that asks for no answer and that no step was trained for.

use std::collections::BTreeSet;
use std::time::Instant;

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::record::{PartReplay, TaskRecord};
use super::stages::scored_candidates;
use crate::adapter::FitConfig;
use crate::arc::{Example, Task, Test};
use crate::candidate::{ViewsConfig, sample_views};
use crate::engine::{
    Adapter, DecodeConfig, DecodeMethod, Engine, EngineError, Fit, FitLimits, FitPlan, FitStep,
    PredictPlan, Start, StopReason,
};
use crate::recipe::Recipe;
use crate::rng;
use crate::vote::tally_votes;

/// Views under which the demonstration that was left out is predicted.
const HELD_OUT_VIEWS: usize = 8;

/// A stretch of a fit with a schedule of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Gradient steps.
    pub steps: usize,
    /// The demonstration that took no part in them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub left_out: Option<usize>,
}

/// How a demonstration was predicted that had no part in the fit so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldOut {
    /// Its index.
    pub demonstration: usize,
    /// Gradient steps behind the prediction.
    pub steps: usize,
    /// Predictions that were right in every cell.
    pub exact: usize,
    /// Predictions made: under each view, in each format.
    pub of: usize,
    /// Whether the vote over these predictions has it among two attempts.
    pub solved: bool,
}

impl HeldOut {
    /// Steps after which a rate begins to say something of the task.
    pub const LEAST_STEPS: usize = 16;

    /// The held-out solve rate `r̂`, from 0 to 1.
    pub fn rate(self) -> f64 {
        self.exact as f64 / self.of.max(1) as f64
    }

    /// What a reader is told.
    pub(super) fn note(self) -> String {
        let Self { demonstration, steps, exact, of, .. } = self;
        let name = demonstration + 1;
        format!("held-out demonstration {name}: {exact} of {of} exact after {steps} steps")
    }
}

/// A fit with what its parts were.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fitted {
    pub(super) fit: Fit,
    pub(super) parts: Vec<Part>,
    pub(super) held_out: Option<HeldOut>,
}

impl Fitted {
    /// What stands for a fit where there is none.
    pub(super) fn none(stop: StopReason, note: Option<&str>) -> Self {
        let notes = note.into_iter().map(str::to_owned).collect();
        let fit = Fit { notes, ..Fit::none(stop) };
        Self { fit, parts: Vec::new(), held_out: None }
    }

    /// What a record says of a fit, with what it has learnt.
    pub(super) fn of(record: &TaskRecord, adapter: Adapter) -> Self {
        let fit = Fit {
            adapter: Some(adapter),
            curve: record.curve.0.clone(),
            steps: record.steps,
            best_step: record.best_step,
            stop: record.stop,
            start: record.start.clone(),
            notes: record.held_out.iter().map(|check| check.note()).collect(),
        };
        Self { fit, parts: record.parts.clone(), held_out: record.held_out }
    }

    /// Adds what was learnt after it.
    fn add(&mut self, later: Fit, left_out: Option<usize>, seconds: f64) {
        let behind = self.fit.steps;
        self.parts.push(Part { steps: later.steps, left_out });
        let shifted = |step: FitStep| shift(step, behind, seconds);
        self.fit.curve.extend(later.curve.into_iter().map(shifted));
        self.fit.adapter = later.adapter;
        self.fit.steps += later.steps;
        self.fit.best_step = behind + later.best_step;
        self.fit.stop = later.stop;
        self.fit.start = self.fit.start.take().or(later.start);
        for note in later.notes {
            if !self.fit.notes.contains(&note) {
                self.fit.notes.push(note);
            }
        }
    }
}

/// A part's step, counted from the beginning of the first part.
fn shift(step: FitStep, behind: usize, seconds: f64) -> FitStep {
    FitStep { step: behind + step.step, seconds: seconds + step.seconds, ..step }
}

/// Everything that the parts of a fit share.
#[derive(Clone, Copy)]
pub(super) struct Fitting<'a> {
    pub(super) engine: &'a dyn Engine,
    pub(super) task: &'a Task,
    pub(super) recipe: &'a Recipe,
    /// The recipe's settings of the fit, as this task allows them.
    pub(super) config: &'a FitConfig,
    /// What ends the parts together.
    pub(super) limits: FitLimits<'a>,
}

impl Fitting<'_> {
    /// Fits from the beginning: without one demonstration first, where the recipe says so, then with all.
    pub(super) fn fresh(&self, on_step: &mut dyn FnMut(&FitStep)) -> Result<Fitted, EngineError> {
        let began = Instant::now();
        let mut fitted = Fitted::none(StopReason::NotFitted, None);
        let share = self.config.hold_out;
        let mut rest = self.limits;
        let left_out = (share > 0.0).then(|| choose(self.task, self.recipe.seed)).flatten();
        if let Some(left_out) = left_out {
            let all = self.limits.steps.unwrap_or(self.config.steps);
            let first = ((all as f64 * share).round() as usize).max(1);
            let seconds = self.limits.seconds.map(|s| s * share);
            let limits = FitLimits { steps: Some(first), seconds, ..self.limits };
            let least_steps = (self.config.least_steps as f64 * share).ceil() as usize;
            let config = FitConfig { least_steps, ..self.config.clone() };
            let part = Fitting { config: &config, ..*self };
            part.add(&mut fitted, Some(left_out), limits, 0.0, on_step)?;
            if fitted.fit.adapter.is_none() || fitted.fit.stop == StopReason::Interrupted {
                return Ok(fitted);
            }
            rest.steps = Some(all.saturating_sub(first));
            // A limit of nothing would be none.
            let left = |s: f64| (s - began.elapsed().as_secs_f64()).max(1e-3);
            rest.seconds = self.limits.seconds.map(left);
        } else if share > 0.0 {
            fitted.fit.notes.push("too few demonstrations to hold one out".to_owned());
        }
        let enough = self.config.hold_out_enough;
        let is_sure = enough > 0.0 && fitted.held_out.is_some_and(|check| check.rate() >= enough);
        if is_sure {
            // The rest only has to learn what was left out.
            rest.steps = rest.steps.map(|steps| steps.min(fitted.fit.steps));
            rest.seconds = rest.seconds.zip(self.limits.seconds).map(|(s, all)| s.min(all * share));
        }
        self.add(&mut fitted, None, rest, began.elapsed().as_secs_f64(), on_step)?;
        if is_sure && matches!(fitted.fit.stop, StopReason::Steps | StopReason::Budget) {
            fitted.fit.stop = StopReason::HeldOut;
        }
        Ok(fitted)
    }

    /// Repeats the parts of an earlier fit.
    pub(super) fn repeat(
        &self,
        parts: &[PartReplay],
        on_step: &mut dyn FnMut(&FitStep),
    ) -> Result<Fitted, EngineError> {
        let began = Instant::now();
        let mut fitted = Fitted::none(StopReason::NotFitted, None);
        for part in parts {
            let limits = FitLimits { progress: Some(&part.progress), ..self.limits };
            self.add(&mut fitted, part.left_out, limits, began.elapsed().as_secs_f64(), on_step)?;
        }
        Ok(fitted)
    }

    /// Goes on with a fit that has taken so many seconds.
    pub(super) fn go_on(
        &self,
        mut fitted: Fitted,
        seconds: f64,
        on_step: &mut dyn FnMut(&FitStep),
    ) -> Result<Fitted, EngineError> {
        let all = self.limits.steps.unwrap_or(self.config.steps);
        let steps = Some(all.saturating_sub(fitted.fit.steps));
        self.add(&mut fitted, None, FitLimits { steps, ..self.limits }, seconds, on_step)?;
        Ok(fitted)
    }

    /// One more part, which begins so many seconds after the first, and where a demonstration is left out, its
    /// prediction.
    fn add(
        &self,
        fitted: &mut Fitted,
        left_out: Option<usize>,
        limits: FitLimits<'_>,
        seconds: f64,
        on_step: &mut dyn FnMut(&FitStep),
    ) -> Result<(), EngineError> {
        let behind = fitted.fit.steps;
        let without = left_out.map(|index| without(self.task, index));
        let start = fitted.fit.adapter.as_ref().map(|adapter| Start { adapter, steps: behind });
        let plan = FitPlan { fit: self.config, start, ..self.recipe.fit_plan() };
        let later =
            self.engine.fit(without.as_ref().unwrap_or(self.task), plan, limits, &mut |step| {
                on_step(&shift(*step, behind, seconds))
            })?;
        fitted.add(later, left_out, seconds);
        if let (Some(index), Some(task), Some(adapter)) = (left_out, &without, &fitted.fit.adapter)
            && fitted.fit.stop != StopReason::Interrupted
        {
            let check = self.check(task, index, adapter, fitted.fit.steps)?;
            fitted.fit.notes.push(check.note());
            fitted.held_out = Some(check);
        }
        Ok(())
    }

    /// Predicts the demonstration that `task` lacks, as a test is predicted.
    fn check(
        &self,
        task: &Task,
        demonstration: usize,
        adapter: &Adapter,
        steps: usize,
    ) -> Result<HeldOut, EngineError> {
        let Recipe { views, candidates, vote, decode, seed, .. } = self.recipe;
        // The likeliest answer will do: what a search finds besides says nothing of a rate.
        let decode = &DecodeConfig { method: DecodeMethod::Greedy, ..decode.clone() };
        let memory_bytes = self.limits.memory_bytes;
        let (seconds, cut_after, earlier) = (None, None, &[][..]);
        let plan = PredictPlan { decode, seed: *seed, seconds, cut_after, earlier, memory_bytes };
        let views = ViewsConfig { count: views.count.min(HELD_OUT_VIEWS), ..views.clone() };
        let views = sample_views(&views, task.examples.len(), *seed, &task.id);
        let maps = self.engine.predict(task, 0, Some(adapter), &views, plan)?;
        let Example { input, output } = &self.task.examples[demonstration];
        let (engine, adapter) = (self.engine, Some(adapter));
        let candidates =
            scored_candidates(engine, task, 0, adapter, &maps, candidates, memory_bytes)?;
        let attempts = tally_votes(&candidates, &maps.metas(), vote).attempts(&candidates, input);
        Ok(HeldOut {
            demonstration,
            steps,
            exact: maps.proposals().iter().filter(|grid| *grid == output).count(),
            of: maps.len(),
            solved: attempts.contains(output),
        })
    }
}

/// The demonstration to leave out, by chance among those that no other repeats; `None` where fewer than two others
/// would be left.
fn choose(task: &Task, seed: u64) -> Option<usize> {
    let examples = &task.examples;
    if examples.iter().collect::<BTreeSet<_>>().len() < 3 {
        return None;
    }
    let is_alone = |&i: &usize| examples.iter().filter(|&e| *e == examples[i]).count() == 1;
    let alone: Vec<usize> = (0..examples.len()).filter(is_alone).collect();
    let mut rng = rng::stream(seed, &task.id, "hold-out", 0);
    (!alone.is_empty()).then(|| alone[rng.random_range(0..alone.len())])
}

/// The task with a demonstration turned into its only test.
fn without(task: &Task, index: usize) -> Task {
    let mut examples = task.examples.clone();
    let Example { input, .. } = examples.remove(index);
    Task { id: task.id.clone(), examples, tests: vec![Test { input, output: None }] }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::arc::{Grid, View};
    use crate::candidate::{MapMeta, Predictions};
    use crate::engine::ModelInfo;
    use crate::pipeline::mock::{Mock, recipe, task};
    use crate::pipeline::{Replay, TaskLimits, solve_task};

    static IDLE: AtomicBool = AtomicBool::new(false);

    /// A model that knows the answers of all pairs that it has been fitted on or is shown, and of no others.
    #[derive(Default)]
    struct Memory(Mutex<Vec<Example>>);

    impl Engine for Memory {
        fn info(&self) -> ModelInfo {
            Mock::default().info()
        }

        fn fit(
            &self,
            task: &Task,
            plan: FitPlan<'_>,
            limits: FitLimits<'_>,
            on_step: &mut dyn FnMut(&FitStep),
        ) -> Result<Fit, EngineError> {
            self.0.lock().unwrap().extend(task.examples.iter().cloned());
            Mock::default().fit(task, plan, limits, on_step)
        }

        fn predict(
            &self,
            task: &Task,
            test: usize,
            _: Option<&Adapter>,
            views: &[View],
            _: PredictPlan<'_>,
        ) -> Result<Predictions, EngineError> {
            let input = &task.tests[test].input;
            let seen = self.0.lock().unwrap();
            let known = seen.iter().chain(&task.examples).find(|pair| pair.input == *input);
            let answer = known.map_or(Grid::filled(1, 1, 7), |pair| pair.output.clone());
            let sure =
                |view: &View| crate::candidate::testing::sure_map(view.clone(), &answer, 0.9);
            Ok(Predictions::Cells(views.iter().map(sure).collect()))
        }

        fn score(
            &self,
            _: &Task,
            _: usize,
            _: Option<&Adapter>,
            _: &MapMeta,
            _: &[&Grid],
            _: u64,
        ) -> Result<Vec<f32>, EngineError> {
            unreachable!("maps score every grid by themselves")
        }
    }

    fn solve(
        engine: &dyn Engine,
        task: &Task,
        set: &[&str],
        replay: Option<&Replay>,
    ) -> TaskRecord {
        let mut recipe = recipe();
        recipe.fit = Recipe::resolve("default", set).unwrap().fit;
        recipe.fit.steps = 10;
        let limits =
            TaskLimits { seconds: None, steps: None, memory_bytes: 1, replay, interrupted: &IDLE };
        solve_task(engine, task, &recipe, limits, &mut |_| {}).unwrap().record
    }

    #[test]
    fn what_is_held_out_is_neither_fitted_on_nor_shown_before_it_is_predicted() {
        let (engine, task) = (Memory::default(), task("a"));
        let record = solve(&engine, &task, &["fit.hold_out=0.3"], None);
        let check = record.held_out.unwrap();
        assert_eq!((check.exact, check.of, check.solved, check.steps), (0, 8, false, 3));
        let left_out = Some(check.demonstration);
        let parts = [Part { steps: 3, left_out }, Part { steps: 7, left_out: None }];
        assert_eq!(record.parts, parts);
        assert!(record.notes[0].contains("0 of 8 exact after 3 steps"), "{:?}", record.notes);
        // All take part in the rest: now it knows them.
        assert!(task.examples.iter().all(|pair| engine.0.lock().unwrap().contains(pair)));
        let again = solve(&engine, &task, &["fit.hold_out=0.3"], None).held_out.unwrap();
        assert_eq!(
            (again.demonstration, again.exact, again.solved),
            (check.demonstration, 8, true)
        );
        let plain = solve(&engine, &task, &[], None);
        assert_eq!((plain.held_out, plain.parts.len()), (None, 1));
    }

    #[test]
    fn every_demonstration_is_held_out_in_some_task_and_a_repeated_one_never() {
        let mut drawn = BTreeSet::new();
        for name in 0..40 {
            let mut task = task(&name.to_string());
            drawn.extend(choose(&task, 0));
            task.examples.push(task.examples[1].clone());
            assert!([Some(0), Some(2)].contains(&choose(&task, 0)));
            task.examples.remove(0);
            assert_eq!(choose(&task, 0), None, "two different ones are too few");
        }
        assert_eq!(drawn, BTreeSet::from([0, 1, 2]));
    }

    #[test]
    fn a_rate_that_is_high_enough_shortens_the_rest() {
        let engine = Memory::default();
        let set = ["fit.hold_out=0.3", "fit.hold_out_enough=1"];
        let unsure = solve(&engine, &task("a"), &set, None);
        assert_eq!((unsure.steps, unsure.stop), (10, StopReason::Steps));
        // The model has seen the pair by now.
        let sure = solve(&engine, &task("a"), &set, None);
        assert_eq!((sure.steps, sure.stop), (6, StopReason::HeldOut));
    }

    #[test]
    fn a_fit_in_parts_is_one_curve_and_is_repeated_exactly() {
        let (engine, set) = (Mock::default(), ["fit.hold_out=0.3"]);
        let first = solve(&engine, &task("a"), &set, None);
        let steps: Vec<usize> = first.curve.0.iter().map(|step| step.step).collect();
        assert_eq!(steps, (1..=10).collect::<Vec<_>>());
        let text = serde_json::to_string(&first).unwrap();
        let record: TaskRecord = serde_json::from_str(&text).unwrap();
        let again = solve(&engine, &task("a"), &set, Some(&record.replay()));
        assert_eq!(
            (&again.tests, again.held_out, &again.parts),
            (&first.tests, first.held_out, &first.parts)
        );
        // In one part of as many steps something else is learnt.
        assert_ne!(solve(&engine, &task("a"), &[], None).tests, first.tests);
    }
}
