//! The stages that the pipeline goes through, and what a task carries from one to the next.

use std::convert::Infallible;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::clock::{Clock, affordable, fit_seconds};
use super::guard::guard;
use super::parts::{Fitted, Fitting, HeldOut};
use super::record::{Seconds, Solved, TaskRecord, TestRecord, fallback_attempts};
use super::{Curve, Event, Interrupted, TaskLimits, VIEWS_AT_ONCE};
use crate::adapter::FitFormat;
use crate::arc::{Grid, Task, View};
use crate::candidate::{
    CellMap, ViewStop, ViewsConfig, collect_candidates, sample_views, sure_cells, uncertainty,
};
use crate::effort::Difficulty;
use crate::engine::{Adapter, Engine, EngineError, FitLimits, FitStep, StopReason};
use crate::recipe::Recipe;
use crate::vote::tally_votes;

/// How many predictions of a test under one view take as long as a gradient step, about. A fit without the
/// time for one step would only overrun the budget.
const STEP_COST: f64 = 5.0;

/// A task on its way through the stages.
pub(super) struct Solving<'a> {
    engine: &'a dyn Engine,
    task: &'a Task,
    recipe: &'a Recipe,
    limits: TaskLimits<'a>,
    clock: Clock,
    views: Vec<View>,
    /// Seconds that one view of every test takes, as far as is known.
    seconds_per_view: f64,
    failed: Option<String>,
    seconds: Seconds,
}

/// What was predicted, and under how many views.
pub(super) struct Predicted {
    /// Maps of each test, as many for each.
    maps: Vec<Vec<CellMap>>,
    /// Views done.
    done: usize,
    /// Views wanted.
    of: usize,
    /// How many of them were predicted together, call by call.
    chunks: Vec<usize>,
    /// Whether the views agreed enough for the rest to be left out.
    settled: bool,
}

impl<'a> Solving<'a> {
    /// Begins with a task; its clock starts now.
    pub(super) fn begin(
        engine: &'a dyn Engine,
        task: &'a Task,
        recipe: &'a Recipe,
        limits: TaskLimits<'a>,
    ) -> Self {
        Self {
            engine,
            task,
            recipe,
            limits,
            clock: Clock::start(limits.seconds.filter(|_| limits.replay.is_none())),
            views: sample_views(&recipe.views, task.examples.len(), recipe.seed, &task.id),
            seconds_per_view: 0.0,
            failed: None,
            seconds: Seconds::default(),
        }
    }

    /// Seconds since it began.
    pub(super) fn elapsed(&self) -> f64 {
        self.clock.elapsed()
    }

    pub(super) fn check_interrupt(&self) -> Result<(), Interrupted> {
        if self.limits.interrupted.load(Ordering::Relaxed) { Err(Interrupted) } else { Ok(()) }
    }

    /// The result of a stage; a failure is kept for the record, the first one if there are several.
    pub(super) fn keep<T>(&mut self, result: Result<T, String>) -> Option<T> {
        result
            .map_err(|reason| {
                tracing::warn!("{reason}");
                self.failed.get_or_insert(reason);
            })
            .ok()
    }

    /// What the base model says under the first view, a map for each test; empty if it fails.
    pub(super) fn baseline(&mut self, on_event: &mut dyn FnMut(Event)) -> Vec<CellMap> {
        let began = Instant::now();
        let maps = guard("in-context baseline", || self.predict_chunk(None, 0..1));
        let maps: Vec<_> = self.keep(maps).unwrap_or_default().into_iter().flatten().collect();
        self.seconds.baseline = began.elapsed().as_secs_f64();
        self.seconds_per_view = self.seconds.baseline;
        if !maps.is_empty() {
            on_event(Event::Baseline { grids: maps.iter().map(CellMap::proposal).collect() });
        }
        maps
    }

    /// Takes what an earlier record says of the time a view takes in place of the baseline's.
    pub(super) fn expect_as(&mut self, record: &TaskRecord) {
        // Every visit has predicted under all views, and has fitted one part with all demonstrations.
        let visits = record.parts.iter().filter(|part| part.left_out.is_none()).count();
        let views = (record.views * visits).max(1) as f64;
        let formats = if self.recipe.fit.format == FitFormat::Both { 2.0 } else { 1.0 };
        self.seconds_per_view = record.seconds.predict / views / formats;
    }

    /// Maps under some of the views, for each test.
    fn predict_chunk(
        &self,
        adapter: Option<&Adapter>,
        views: Range<usize>,
    ) -> Result<Vec<Vec<CellMap>>, EngineError> {
        let (views, config) = (&self.views[views], &self.recipe.views);
        let tests = 0..self.task.tests.len();
        tests
            .map(|test| predict_views(self.engine, self.task, test, adapter, views, config))
            .collect()
    }

    /// The fit, or what stands for it where there is none or it fails; `earlier` is one to go on with, and the
    /// seconds that it has taken.
    pub(super) fn fit(
        &mut self,
        earlier: Option<(Fitted, f64)>,
        on_step: &mut dyn FnMut(&FitStep),
    ) -> Result<Fitted, String> {
        let repeated = self.limits.replay;
        let mut config = self.recipe.fit.clone();
        let mut note = None;
        if config.format == FitFormat::None {
            return Ok(Fitted::none(StopReason::NotFitted, None));
        }
        if repeated.is_some_and(|r| !r.fitted) {
            let note = Some("not fitted in the repeated run");
            return Ok(Fitted::none(StopReason::NotFitted, note));
        }
        if self.task.examples.len() == 1 {
            config.format = FitFormat::E2e;
            note = Some("one demonstration: leave-one-out is impossible, fitted end-to-end");
        }
        let formats = if config.format == FitFormat::Both { 2.0 } else { 1.0 };
        let per_view = formats * self.seconds_per_view;
        let left = self.clock.left();
        let seconds = left.map(|s| fit_seconds(s, self.views.len(), per_view));
        let least = STEP_COST * self.seconds_per_view / self.task.tests.len() as f64;
        if seconds.is_some_and(|s| s <= least) {
            return Ok(Fitted::none(StopReason::Budget, Some("no time for a fit")));
        }
        self.seconds_per_view = per_view;
        let limits = FitLimits {
            seconds,
            steps: self.limits.steps,
            progress: None,
            memory_bytes: self.limits.memory_bytes,
            interrupted: self.limits.interrupted,
        };
        let began = Instant::now();
        let (engine, task, recipe) = (self.engine, self.task, self.recipe);
        let fitting = Fitting { engine, task, recipe, config: &config, limits };
        let fitted = guard("fit", || match (repeated, earlier) {
            (Some(repeated), _) => fitting.repeat(&repeated.parts, on_step),
            (None, Some((fitted, seconds))) => fitting.go_on(fitted, seconds, on_step),
            (None, None) => fitting.fresh(on_step),
        });
        self.seconds.fit = began.elapsed().as_secs_f64();
        let mut fitted = fitted?;
        fitted.fit.notes.extend(note.map(str::to_owned));
        Ok(fitted)
    }

    /// Maps under as many views as time allows, for each test.
    ///
    /// Without an adapter the baseline's maps are those of the first view.
    pub(super) fn predict(
        &mut self,
        baseline: &[CellMap],
        adapter: Option<&Adapter>,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<Predicted, Interrupted> {
        let began = Instant::now();
        let repeated = self.limits.replay.map(|r| r.chunks.as_slice());
        let of = repeated.map_or(self.views.len(), |_| self.views.len().min(self.repeated_views()));
        let mut predicted = Predicted {
            maps: vec![Vec::new(); self.task.tests.len()],
            done: 0,
            of,
            chunks: vec![],
            settled: false,
        };
        if adapter.is_none() && !baseline.is_empty() {
            predicted.add(1, baseline.iter().map(|map| vec![map.clone()]).collect());
        }
        while predicted.done < of {
            self.check_interrupt()?;
            let (done, calls) = (predicted.done, predicted.chunks.len());
            let n = match repeated {
                Some(chunks) => chunks.get(calls).map_or(0, |&n| n.min(of - done)),
                None => self.next_chunk(done, of),
            };
            if n == 0 {
                break;
            }
            if repeated.is_none() && predicted.is_settled(self.recipe.views.stop) {
                predicted.settled = true;
                break;
            }
            let chunk_began = Instant::now();
            let chunk = guard("prediction", || self.predict_chunk(adapter, done..done + n));
            let Some(chunk) = self.keep(chunk) else { break };
            self.seconds_per_view = chunk_began.elapsed().as_secs_f64() / n as f64;
            predicted.add(n, chunk);
            on_event(Event::Views { done: predicted.done, of });
        }
        self.seconds.predict = began.elapsed().as_secs_f64();
        Ok(predicted)
    }

    /// How many views to predict next; 0 if time is over.
    fn next_chunk(&self, done: usize, of: usize) -> usize {
        let wanted = VIEWS_AT_ONCE.min(of - done);
        let affordable = affordable(self.clock.left(), wanted, self.seconds_per_view);
        // A fitted adapter is worth one view at the very least.
        if done == 0 { affordable.max(1) } else { affordable }
    }

    /// Views of the run that is repeated.
    fn repeated_views(&self) -> usize {
        self.limits.replay.map_or(0, |r| r.chunks.iter().sum())
    }

    /// Candidates and vote for each test; empty if that fails.
    pub(super) fn choose(&mut self, predicted: &Predicted) -> Vec<TestRecord> {
        let began = Instant::now();
        let choose = |maps: &Vec<CellMap>| {
            let candidates = collect_candidates(maps, &self.recipe.candidates);
            let metas: Vec<_> = maps.iter().map(CellMap::meta).collect();
            let tally = tally_votes(&candidates, &metas, &self.recipe.vote);
            TestRecord { candidates, tally, uncertainty: uncertainty(maps) }
        };
        let chosen = if predicted.done == 0 {
            Ok(Vec::new())
        } else {
            guard("vote", || Ok::<_, Infallible>(predicted.maps.iter().map(choose).collect()))
        };
        let chosen = self.keep(chosen).unwrap_or_default();
        self.seconds.vote = began.elapsed().as_secs_f64();
        chosen
    }

    /// The record, and the adapter.
    pub(super) fn finish(
        mut self,
        baseline: Vec<Grid>,
        fitted: Fitted,
        predicted: &Predicted,
        tests: Vec<TestRecord>,
    ) -> Solved {
        let mut attempts = fallback_attempts(self.task);
        for (attempts, first) in attempts.iter_mut().zip(&baseline) {
            *attempts = [first.clone(), attempts[0].clone()];
        }
        for (attempts, test) in attempts.iter_mut().zip(&tests) {
            *attempts = test.tally.attempts(&test.candidates, &attempts[0]);
        }
        let Predicted { maps, done, of, chunks, settled } = predicted;
        let Fitted { fit, parts, held_out } = fitted;
        let mut notes = fit.notes;
        if *settled {
            notes.push(format!("settled after {done} of {of} views"));
        } else if done < of {
            notes.push(format!("{done} of {of} views"));
        }
        self.seconds.total = self.clock.elapsed();
        let kept = fit.curve.iter().take(fit.best_step);
        let mut record = TaskRecord {
            task: self.task.id.clone(),
            attempts,
            baseline,
            failed: self.failed,
            notes,
            fitted: fit.adapter.is_some(),
            stop: fit.stop,
            steps: fit.steps,
            best_step: fit.best_step,
            check: kept.filter_map(|step| step.check).next_back(),
            parts,
            held_out,
            difficulty: None,
            abstained: false,
            views: *done,
            chunks: chunks.clone(),
            seconds: self.seconds,
            curve: Curve(fit.curve),
            maps: maps.first().map_or(Vec::new(), |maps| maps.iter().map(CellMap::meta).collect()),
            tests,
        };
        let telling = held_out.filter(|check| check.steps >= HeldOut::LEAST_STEPS);
        record.difficulty = Difficulty::of(telling.map(HeldOut::rate), record.agreement());
        Solved { record, adapter: fit.adapter }
    }
}

/// Maps of a test under some views, which may give each other the cells that they are sure of.
pub(super) fn predict_views(
    engine: &dyn Engine,
    task: &Task,
    test: usize,
    adapter: Option<&Adapter>,
    views: &[View],
    config: &ViewsConfig,
) -> Result<Vec<CellMap>, EngineError> {
    let mut maps = engine.predict(task, test, adapter, views)?;
    for _ in 0..config.rounds {
        match sure_cells(&maps, config.sure) {
            Some(given) if given.count() > 0 && !given.is_whole() => {
                maps = engine.predict_given(task, test, adapter, &given, maps)?;
            }
            _ => break,
        }
    }
    Ok(maps)
}

impl Predicted {
    /// Whether time was over before as many views as `wanted`.
    pub(super) fn is_cut_below(&self, wanted: usize) -> bool {
        !self.settled && self.done < wanted
    }

    /// Whether the views done so far settle every test.
    fn is_settled(&self, stop: ViewStop) -> bool {
        self.maps.iter().all(|maps| {
            let a_view = maps.len() / self.done.max(1);
            stop.is_settled(maps, (self.of - self.done) * a_view)
        })
    }

    /// Adds the maps of the next `n` views, for each test.
    fn add(&mut self, n: usize, chunk: Vec<Vec<CellMap>>) {
        for (maps, new) in self.maps.iter_mut().zip(chunk) {
            maps.extend(new);
        }
        self.done += n;
        self.chunks.push(n);
    }
}
