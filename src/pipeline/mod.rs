//! The stages in order, for one task: baseline, fit, prediction, candidates, vote.
//!
//! Time is looked at only where a limit in seconds was given; without one, the result depends on the task,
//! the recipe and the model alone.

mod clock;
mod curve;
mod guard;
#[cfg(test)]
pub(crate) mod mock;
mod parts;
mod record;
mod stages;

use std::sync::atomic::AtomicBool;

pub use curve::Curve;
pub use parts::{HeldOut, Part};
pub use record::{
    CutShort, PartReplay, Replay, Seconds, Solved, TaskRecord, TestRecord, fallback_attempts,
};

use crate::arc::{Grid, Task};
use crate::engine::{Adapter, Engine, Fit, FitStep, StopReason};
use crate::recipe::Recipe;
use parts::Fitted;
use stages::Solving;

/// Views predicted in one call, where time allows.
pub const VIEWS_AT_ONCE: usize = 8;

/// What ends the work on a task besides its recipe.
#[derive(Debug, Clone, Copy)]
pub struct TaskLimits<'a> {
    /// Wall seconds for everything.
    pub seconds: Option<f64>,
    /// Gradient steps, where they are not the recipe's.
    pub steps: Option<usize>,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// What an earlier record did, to be repeated; it overrules the time and the steps.
    pub replay: Option<&'a Replay>,
    /// Set when the work is to be given up.
    pub interrupted: &'a AtomicBool,
}

/// What a stage has to say while a task is being solved.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The base model's answer to each test, without a fit.
    Baseline {
        /// One output for each test.
        grids: Vec<Grid>,
    },
    /// A gradient step.
    Step(FitStep),
    /// Views have been predicted under.
    Views {
        /// Views done.
        done: usize,
        /// Views wanted.
        of: usize,
    },
}

/// The work on a task was given up; nothing of it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// A stage that failed, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StageFailed(String);

/// Solves a task: two attempts for each test, and everything that was decided on the way.
///
/// A stage that fails is recorded, and the attempts are the best that the other stages give: predictions
/// without an adapter, the baseline, or at last [`fallback_attempts`]. Answers that `task` may hold are not
/// looked at.
///
/// # Errors
/// [`Interrupted`] if `limits.interrupted` was set; nothing is wrong with the task then.
pub fn solve_task(
    engine: &dyn Engine,
    task: &Task,
    recipe: &Recipe,
    limits: TaskLimits<'_>,
    on_event: &mut dyn FnMut(Event),
) -> Result<Solved, Interrupted> {
    let task = &task.without_answers();
    let _span = tracing::info_span!("solve", task = %task.id).entered();
    let mut solving = Solving::begin(engine, task, recipe, limits);
    let baseline = solving.baseline(on_event);
    solving.check_interrupt()?;
    let fit = solving.fit(None, &mut |step| on_event(Event::Step(*step)));
    solving.check_interrupt()?;
    let failed = Fitted::none(StopReason::NotFitted, Some("the base model answers without a fit"));
    let fitted = solving.keep(fit).unwrap_or(failed);
    let predicted = solving.predict(&baseline, fitted.fit.adapter.as_ref(), on_event)?;
    let chosen = solving.choose(&predicted, fitted.fit.adapter.as_ref())?;
    let baseline = solving.answers(&baseline);
    Ok(solving.finish(baseline, fitted, &predicted, chosen))
}

/// Spends more time on a task: its fit goes on from where `earlier` left it, and the tests are predicted anew.
///
/// `adapter` is what was learnt so far; without it, it is first learnt again, exactly and without a clock. If the fit
/// cannot go on, the earlier record stands, with the time that was spent, and the task is closed. The record of the
/// result says of all visits together what [`solve_task`] says of one, and is repeated as one.
///
/// # Errors
/// [`Interrupted`] as [`solve_task`]; the earlier record stands then.
pub fn continue_task(
    engine: &dyn Engine,
    task: &Task,
    recipe: &Recipe,
    limits: TaskLimits<'_>,
    earlier: &TaskRecord,
    adapter: Option<Adapter>,
    on_event: &mut dyn FnMut(Event),
) -> Result<Solved, Interrupted> {
    let task = &task.without_answers();
    let _span = tracing::info_span!("continue", task = %task.id).entered();
    let adapter = adapter.or_else(|| {
        let replay = Some(&earlier.replay());
        let mut again = Solving::begin(engine, task, recipe, TaskLimits { replay, ..limits });
        again.fit(None, &mut |_| {}).ok()?.fit.adapter
    });
    let mut solving = Solving::begin(engine, task, recipe, limits);
    solving.check_interrupt()?;
    solving.expect_as(earlier);
    let fitted = adapter.map(|adapter| {
        let so_far = (Fitted::of(earlier, adapter), earlier.seconds.fit);
        solving.fit(Some(so_far), &mut |step| on_event(Event::Step(*step)))
    });
    solving.check_interrupt()?;
    let fitted = match fitted {
        // A finite dataset may be used up before all steps are done.
        Some(Ok(Fitted { fit, .. })) if fit.adapter.is_some() && fit.steps == earlier.steps => {
            return Ok(given_up(earlier, &solving, "its dataset is used up"));
        }
        Some(Ok(fitted)) if fitted.fit.adapter.is_some() => fitted,
        stuck => {
            let reason = stuck.and_then(Result::err).unwrap_or("no time for more steps".to_owned());
            return Ok(given_up(earlier, &solving, &reason));
        }
    };
    let predicted = solving.predict(&[], fitted.fit.adapter.as_ref(), on_event)?;
    if predicted.are_too_few_after(earlier.views) {
        let reason = solving.failed().unwrap_or("no time for enough views");
        return Ok(given_up(earlier, &solving, reason));
    }
    let chosen = solving.choose(&predicted, fitted.fit.adapter.as_ref())?;
    if chosen.is_empty() {
        // Without a vote the attempts would be those of no fit.
        return Ok(given_up(earlier, &solving, solving.failed().unwrap_or("no candidates")));
    }
    let mut solved = solving.finish(earlier.baseline.clone(), fitted, &predicted, chosen);
    solved.record.seconds = earlier.seconds.plus(solved.record.seconds);
    Ok(solved)
}

/// An earlier record that a later visit has added nothing to but its time.
fn given_up(earlier: &TaskRecord, solving: &Solving<'_>, reason: &str) -> Solved {
    let mut record = earlier.clone();
    record.seconds.total += solving.elapsed();
    record.stop = StopReason::GivenUp;
    record.notes.push(format!("the fit could not go on: {reason}"));
    Solved { record, adapter: None }
}

/// Fits a task's adapter and does nothing else. An interrupt ends the fit, and what was learnt is kept.
///
/// # Errors
/// [`StageFailed`] if the fit fails or panics.
pub fn fit_task(
    engine: &dyn Engine,
    task: &Task,
    recipe: &Recipe,
    limits: TaskLimits<'_>,
    on_step: &mut dyn FnMut(&FitStep),
) -> Result<Fit, StageFailed> {
    let task = &task.without_answers();
    let fitted = Solving::begin(engine, task, recipe, limits).fit(None, on_step);
    Ok(fitted.map_err(StageFailed)?.fit)
}

/// Predicts a task's tests with an adapter that was fitted before, or with the base model alone.
///
/// # Errors
/// [`Interrupted`] as [`solve_task`].
pub fn predict_task(
    engine: &dyn Engine,
    task: &Task,
    adapter: Option<&Adapter>,
    recipe: &Recipe,
    limits: TaskLimits<'_>,
    on_event: &mut dyn FnMut(Event),
) -> Result<Solved, Interrupted> {
    let task = &task.without_answers();
    let mut solving = Solving::begin(engine, task, recipe, limits);
    let baseline = solving.baseline(on_event);
    let predicted = solving.predict(&baseline, adapter, on_event)?;
    let chosen = solving.choose(&predicted, adapter)?;
    let mut fitted = Fitted::none(StopReason::NotFitted, None);
    fitted.fit.adapter = adapter.cloned();
    let baseline = solving.answers(&baseline);
    Ok(solving.finish(baseline, fitted, &predicted, chosen))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::mock::{Mock, recipe, task};
    use super::*;
    use crate::adapter::FitFormat;

    static IDLE: AtomicBool = AtomicBool::new(false);

    fn limits(interrupted: &AtomicBool) -> TaskLimits<'_> {
        TaskLimits { seconds: None, steps: None, memory_bytes: 1, replay: None, interrupted }
    }

    fn solve(engine: Mock, task: &Task, seconds: Option<f64>) -> Solved {
        let limits = TaskLimits { seconds, ..limits(&IDLE) };
        solve_task(&engine, task, &recipe(), limits, &mut |_| {}).unwrap()
    }

    #[test]
    fn every_test_of_a_task_gets_two_attempts_from_one_adapter() {
        let solved = solve(Mock::default(), &task("a"), None);
        let record = solved.record;
        assert_eq!((record.attempts.len(), record.tests.len(), record.baseline.len()), (3, 3, 3));
        assert_eq!((record.failed, record.steps, record.fitted), (None, 10, true));
        assert!(record.attempts.iter().all(|[a, b]| a != b));
        for (test, [first, _]) in task("a").tests.iter().zip(&record.attempts) {
            assert_eq!(first.shape(), test.input.shape());
        }
        assert!(solved.adapter.is_some());
    }

    #[test]
    fn a_failing_stage_is_recorded_and_the_other_stages_answer() {
        let input = |task: &Task, test: usize| task.tests[test].input.clone();
        let check = |id: &str, reason: &str, tests: usize, fitted: bool| {
            let record = solve(Mock::default(), &task(id), None).record;
            let failed = record.failed.unwrap();
            assert!(failed.contains(reason), "{failed}");
            assert_eq!((record.tests.len(), record.fitted), (tests, fitted), "{id}");
            // The mock's base model answers with the input, and so does the fallback.
            assert_eq!(record.attempts.len(), 3);
            assert_eq!(record.attempts[1][0], input(&task(id), 1), "{id}");
        };
        check("panic-fit", "fit: panicked: told to panic", 3, false);
        check("too-large", "fit: the task needs about 2 bytes", 3, false);
        check("panic-adapted", "prediction: panicked", 0, true);
        check("panic-predict", "in-context baseline: panicked", 0, true);
    }

    #[test]
    fn one_demonstration_is_fitted_end_to_end_with_a_note() {
        let mut task = task("a");
        task.examples.truncate(1);
        let record = solve(Mock::default(), &task, None).record;
        assert!(record.curve.0.iter().all(|s| s.format == crate::dataset::Format::E2e));
        assert!(record.notes[0].starts_with("one demonstration"), "{:?}", record.notes);
    }

    #[test]
    fn the_baseline_recipe_fits_nothing_and_uses_every_view() {
        let mut recipe = recipe();
        recipe.fit.format = FitFormat::None;
        let task = task("a");
        let solved =
            solve_task(&Mock::default(), &task, &recipe, limits(&IDLE), &mut |_| {}).unwrap();
        assert_eq!(solved.adapter, None);
        assert_eq!((solved.record.stop, solved.record.views), (StopReason::NotFitted, 16));
    }

    #[test]
    fn views_that_agree_end_the_prediction_where_the_recipe_says_so_and_in_a_repetition() {
        let mut recipe = recipe();
        recipe.views.count = 40;
        let run = |recipe: &Recipe, replay: Option<&Replay>| {
            let limits = TaskLimits { replay, ..limits(&IDLE) };
            solve_task(&Mock::default(), &task("a"), recipe, limits, &mut |_| {}).unwrap().record
        };
        assert_eq!(run(&recipe, None).views, 40);
        recipe.views.stop = crate::candidate::ViewStop::Beta;
        let settled = run(&recipe, None);
        assert!(settled.views < 40 && settled.views % VIEWS_AT_ONCE == 0, "{}", settled.views);
        let note = format!("settled after {} of 40 views", settled.views);
        assert!(settled.notes.contains(&note), "{:?}", settled.notes);
        assert_eq!(run(&recipe, Some(&settled.replay())).tests, settled.tests);
        // Thirty votes of forty are too few for a second grid to be safe from a third.
        recipe.views.stop = crate::candidate::ViewStop::Decided;
        assert_eq!(run(&recipe, None).views, 40);
    }

    #[test]
    fn a_budget_in_seconds_is_kept() {
        let engine = |step, view| Mock {
            step: Duration::from_millis(step),
            view: Duration::from_millis(view),
            ..Mock::default()
        };
        // Room for everything; many steps and few views; too little time for all views; none for a fit.
        for (step, view, seconds) in [(20, 5, 1.0), (5, 10, 0.5), (20, 20, 0.6), (5, 40, 0.3)] {
            let mut recipe = recipe();
            recipe.fit.steps = 100_000;
            let solve = || {
                let began = Instant::now();
                let limits = TaskLimits { seconds: Some(seconds), ..limits(&IDLE) };
                let solved =
                    solve_task(&engine(step, view), &task("a"), &recipe, limits, &mut |_| {});
                (solved.unwrap().record, began.elapsed().as_secs_f64())
            };
            // A busy machine may let the mock sleep longer than asked, but not three times in a row; all views would take
            // far longer each time.
            let mut tries = (0..3).map(|_| solve());
            let (record, took) = tries
                .find(|(_, took)| *took < seconds * 1.05 + 0.25)
                .unwrap_or_else(|| panic!("never within {seconds} s"));
            assert!(took > seconds * 0.7, "{took} s of {seconds} s: {:?}", record.seconds);
            assert!(record.views >= 1 && record.failed.is_none());
        }
    }

    #[test]
    fn fresh_views_score_what_the_others_propose() {
        let mut recipe = recipe();
        recipe.views.count = 4;
        let solve = |recipe: &Recipe, engine: &Mock, seconds: Option<f64>| {
            let limits = TaskLimits { seconds, ..limits(&IDLE) };
            solve_task(engine, &task("a"), recipe, limits, &mut |_| {}).unwrap().record
        };
        let plain = solve(&recipe, &Mock::default(), None);
        recipe.candidates.fresh_views = 7;
        let fresh = solve(&recipe, &Mock::default(), None);
        assert_eq!((fresh.maps.len(), fresh.experts.len(), fresh.scored), (4, 7, None));
        assert_eq!(fresh.maps, plain.maps);
        assert!(fresh.experts.iter().all(|expert| !fresh.maps.contains(expert)));
        for (fresh, plain) in fresh.tests.iter().zip(&plain.tests) {
            assert_eq!(fresh.candidates.len(), plain.candidates.len());
            for (a, b) in fresh.candidates.iter().zip(&plain.candidates) {
                assert_eq!((&a.grid, &a.proposed_by), (&b.grid, &b.proposed_by));
                assert_eq!((a.log_probs.len(), b.log_probs.len()), (7, 4));
            }
        }
        // What the views propose is judged by what the others say: as many of them as there are.
        let best = &fresh.tests[0].candidates[0];
        let product = fresh.tests[0].tally.ranks[&crate::vote::Selector::Product][0];
        assert_eq!(product.candidate, 0);
        assert!((product.score - best.log_probs.iter().sum::<f32>()).abs() < 1e-3);
        let read = crate::compare::Reading::default().of(&fresh, &recipe.vote);
        assert_eq!(read.attempts, fresh.attempts);
        let seen = fresh.seen_by(&[0], &fresh.tests[0]);
        assert!(!seen.is_empty() && seen.iter().all(|candidate| candidate.log_probs.len() == 7));
        // Where time is over before all have scored, those that have do, and that is repeated.
        let view = Duration::from_millis(15);
        let engine = Mock { view, ..Mock::default() };
        recipe.fit.format = FitFormat::None;
        recipe.candidates.fresh_views = 60;
        let cut = solve(&recipe, &engine, Some(0.6));
        let n = cut.scored.unwrap();
        assert!((1..60).contains(&n) && cut.experts.len() == n, "{:?}", cut.notes);
        assert_eq!(cut.tests[0].candidates[0].log_probs.len(), n);
        let text = serde_json::to_string(&cut).unwrap();
        let replay = serde_json::from_str::<TaskRecord>(&text).unwrap().replay();
        let repeated = TaskLimits { replay: Some(&replay), ..limits(&IDLE) };
        let again = solve_task(&Mock::default(), &task("a"), &recipe, repeated, &mut |_| {});
        let again = again.unwrap().record;
        assert_eq!((&again.tests, &again.experts), (&cut.tests, &cut.experts));
        // Where the settings allow no further views, those that there are score.
        recipe.views.colors = crate::candidate::ViewColors::None;
        recipe.views.orders = false;
        recipe.views.count = 8;
        let none = solve(&recipe, &Mock::default(), None);
        assert_eq!((none.experts.len(), none.tests[0].candidates[0].log_probs.len()), (0, 8));
    }

    #[test]
    fn a_record_is_repeated_exactly_without_its_clock() {
        let (step, view) = (Duration::from_millis(3), Duration::from_millis(4));
        let engine = Mock { step, view, ..Mock::default() };
        let mut recipe = recipe();
        recipe.fit.steps = 100_000;
        let timed = TaskLimits { seconds: Some(0.4), ..limits(&IDLE) };
        let first = solve_task(&engine, &task("a"), &recipe, timed, &mut |_| {}).unwrap();
        let text = serde_json::to_string(&first.record).unwrap();
        let record: TaskRecord = serde_json::from_str(&text).unwrap();
        let replay = record.replay();
        let repeated = TaskLimits { replay: Some(&replay), ..limits(&IDLE) };
        let again =
            solve_task(&Mock::default(), &task("a"), &recipe, repeated, &mut |_| {}).unwrap();
        assert_eq!(again.record.attempts, first.record.attempts);
        assert_eq!(again.record.tests, first.record.tests);
        assert_eq!(again.adapter, first.adapter);
        assert_eq!((again.record.chunks, again.record.steps), (record.chunks, record.steps));
    }

    #[test]
    fn a_task_that_is_gone_back_to_has_one_record_of_all_visits() {
        let mut recipe = recipe();
        recipe.fit.hold_out = 0.4;
        let (task, engine) = (task("a"), Mock::default());
        let until = |steps| TaskLimits { steps: Some(steps), ..limits(&IDLE) };
        let go_on = |first: &TaskRecord, adapter: Option<Adapter>| {
            continue_task(&engine, &task, &recipe, until(16), first, adapter, &mut |_| {}).unwrap()
        };
        let first = solve_task(&engine, &task, &recipe, until(10), &mut |_| {}).unwrap();
        let later = go_on(&first.record, first.adapter.clone());
        let parts: Vec<usize> = later.record.parts.iter().map(|part| part.steps).collect();
        assert_eq!((later.record.steps, parts), (16, vec![4, 6, 6]));
        assert_eq!(later.record.curve.0[..10], first.record.curve.0[..]);
        assert_eq!(later.record.held_out, first.record.held_out);
        assert_eq!(later.record.baseline, first.record.baseline);
        assert_ne!(later.record.tests, first.record.tests);
        assert!(later.record.seconds.total > first.record.seconds.total);
        // What a crash has lost is learnt again, and all of it can be repeated in one go.
        assert_eq!(go_on(&first.record, None).record.tests, later.record.tests);
        let replay = later.record.replay();
        let repeated = TaskLimits { replay: Some(&replay), ..limits(&IDLE) };
        let again = solve_task(&engine, &task, &recipe, repeated, &mut |_| {}).unwrap();
        assert_eq!((again.record.tests, again.adapter), (later.record.tests, later.adapter));
        // No time, or no step, is left: the record stands, and nobody goes back to it again.
        let record = &first.record;
        for (stuck, note) in
            [(TaskLimits { seconds: Some(1e-9), ..until(20) }, "no time"), (until(10), "used up")]
        {
            let adapter = first.adapter.clone();
            let stuck = continue_task(&engine, &task, &recipe, stuck, record, adapter, &mut |_| {});
            let stuck = stuck.unwrap().record;
            assert_eq!((&stuck.tests, &stuck.parts), (&record.tests, &record.parts));
            assert!(stuck.notes.last().unwrap().contains(note), "{:?}", stuck.notes);
            assert!(record.standing(20).is_open && !stuck.standing(20).is_open, "{stuck:?}");
        }
    }

    #[test]
    fn a_later_visit_that_fails_leaves_the_answers_of_the_one_before() {
        let engine = Mock::default();
        let until = |steps| TaskLimits { steps: Some(steps), ..limits(&IDLE) };
        for (id, fresh_views) in [("panic-adapted", 0), ("panic-score", 2)] {
            let mut recipe = recipe();
            recipe.candidates.fresh_views = fresh_views;
            let first = solve_task(&engine, &task("a"), &recipe, until(4), &mut |_| {}).unwrap();
            assert_eq!(first.record.failed, None);
            let (record, adapter) = (&first.record, first.adapter.clone());
            let ignored = &mut |_| {};
            let later =
                continue_task(&engine, &task(id), &recipe, until(8), record, adapter, ignored);
            let later = later.unwrap().record;
            assert_eq!((&later.attempts, later.steps), (&record.attempts, 4), "{id}");
            let note = later.notes.last().unwrap();
            assert!(note.contains("could not go on") && note.contains("told to panic"), "{note}");
        }
    }

    #[test]
    fn an_interrupted_task_leaves_nothing() {
        let interrupted = AtomicBool::new(true);
        let mut steps = 0;
        let result =
            solve_task(&Mock::default(), &task("a"), &recipe(), limits(&interrupted), &mut |e| {
                steps += usize::from(matches!(e, Event::Step(_)));
            });
        assert_eq!((result, steps), (Err(Interrupted), 0));
    }
}
