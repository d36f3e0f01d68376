//! What is kept of a solved task: everything that a report, a comparison or a repetition needs.

use serde::{Deserialize, Serialize};

use super::{Curve, HeldOut, Part};
use crate::arc::{Grid, Task};
use crate::candidate::{Candidate, CutReason, MapMeta, Uncertainty};
use crate::effort::{Difficulty, Standing};
use crate::engine::{Adapter, Check, FitStep, StopReason};
use crate::vote::{Panel, Tally};

/// What became of a task. One line of a run's `records.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// The task's id.
    pub task: String,
    /// The two attempts at each test, the better one first.
    pub attempts: Vec<[Grid; 2]>,
    /// What the base model answers without a fit, under the first view, for each test; empty if it failed.
    pub baseline: Vec<Grid>,
    /// Why a stage failed; the attempts then are the best that the other stages gave.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failed: Option<String>,
    /// What a reader should know, such as that there was one demonstration only.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub notes: Vec<String>,
    /// Whether an adapter was fitted and used.
    pub fitted: bool,
    /// Why the fit ended.
    pub stop: StopReason,
    /// The training task whose task tokens the fit started from, if the model names it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub start: Option<String>,
    /// Gradient steps done.
    pub steps: usize,
    /// The step whose weights were kept.
    pub best_step: usize,
    /// The held-out check of the kept step, or the last one before it.
    pub check: Option<Check>,
    /// The parts of the fit, each with a schedule of its own; empty where none was fitted.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub parts: Vec<Part>,
    /// How the demonstration was predicted that the first part had left out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub held_out: Option<HeldOut>,
    /// How hard the task looks by this and by the agreement of the views.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub difficulty: Option<Difficulty>,
    /// Whether a run that gives its time where it is worth most has not gone back to this task after this visit, since nothing
    /// spoke for any answer.
    #[serde(skip_serializing_if = "is_false", default)]
    pub abstained: bool,
    /// Views predicted under.
    pub views: usize,
    /// How many views were predicted together, call by call: last bits may depend on it.
    pub chunks: Vec<usize>,
    /// Where the time went.
    pub seconds: Seconds,
    /// Every gradient step.
    pub curve: Curve,
    /// How many maps or fresh views have scored the candidates, if time was over before all had.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub scored: Option<usize>,
    /// The view and the format of each map, the same for every test; where they score the candidates, of those that had
    /// the time to.
    pub maps: Vec<MapMeta>,
    /// The fresh views and formats that have scored the candidates, where the maps do not.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub experts: Vec<MapMeta>,
    /// The candidates and the tally of each test; empty if the prediction failed.
    pub tests: Vec<TestRecord>,
}

/// The candidates for one test, and how they were chosen from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestRecord {
    /// Every distinct grid that was proposed, with its log-probability under each map or fresh view.
    pub candidates: Vec<Candidate>,
    /// What every rule of the vote makes of them.
    pub tally: Tally,
    /// How sure the maps are of each cell, where they agree on the shape.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uncertainty: Option<Uncertainty>,
    /// The searches, beams and draws that may have missed grids that they looked for.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub cut: Vec<CutShort>,
}

/// A search, a beam or draws that were ended before they had found everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutShort {
    /// Which map it made.
    pub map: usize,
    /// What ended it.
    pub reason: CutReason,
    /// Steps that it had taken.
    pub nodes: usize,
}

/// Wall seconds of the stages of a task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// The in-context baseline.
    pub baseline: f64,
    /// The fit.
    pub fit: f64,
    /// The prediction under all views.
    pub predict: f64,
    /// Candidates, scores and vote.
    pub vote: f64,
    /// All of it.
    pub total: f64,
}

impl Seconds {
    /// These and those of a later visit.
    pub(super) fn plus(self, later: Self) -> Self {
        Self {
            baseline: self.baseline + later.baseline,
            fit: self.fit + later.fit,
            predict: self.predict + later.predict,
            vote: self.vote + later.vote,
            total: self.total + later.total,
        }
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// How a record is repeated exactly.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Replay {
    /// Whether an adapter is fitted at all.
    pub fitted: bool,
    /// What the fit consists of.
    pub parts: Vec<PartReplay>,
    /// How many views are predicted together, call by call.
    pub chunks: Vec<usize>,
    /// How many maps or fresh views score the candidates, if not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scored: Option<usize>,
    /// What time has cut, for each test: the map, and the steps that were taken.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub timed_out: Vec<Vec<(usize, usize)>>,
}

impl Replay {
    /// The steps after which time had cut a prediction, if it had.
    pub(super) fn cut_after(&self, test: usize, map: usize) -> Option<usize> {
        let cut = self.timed_out.get(test)?;
        cut.iter().find(|(m, _)| *m == map).map(|&(_, nodes)| nodes)
    }
}

/// How a part of a fit is repeated exactly.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PartReplay {
    /// The demonstration that takes no part.
    pub left_out: Option<usize>,
    /// The share of the schedule behind at each step, a step for each.
    pub progress: Vec<f32>,
}

/// A finished task: its record, and the adapter if one was fitted.
#[derive(Debug, Clone, PartialEq)]
pub struct Solved {
    /// What is kept.
    pub record: TaskRecord,
    /// What was learnt.
    pub adapter: Option<Adapter>,
}

impl TaskRecord {
    /// How this record is repeated.
    pub fn replay(&self) -> Replay {
        let mut progress = self.curve.0.iter().map(|step| step.progress);
        // Records of earlier versions do not say that a fit had one part.
        let whole = [Part { steps: self.steps, left_out: None }];
        let parts = if self.parts.is_empty() { &whole[..] } else { &self.parts };
        let part = |part: &Part| PartReplay {
            left_out: part.left_out,
            progress: progress.by_ref().take(part.steps).collect(),
        };
        let parts = parts.iter().map(part).collect();
        let timed = |test: &TestRecord| {
            let cut = test.cut.iter().filter(|cut| cut.reason == CutReason::Time);
            cut.map(|cut| (cut.map, cut.nodes)).collect()
        };
        let mut timed_out: Vec<Vec<(usize, usize)>> = self.tests.iter().map(timed).collect();
        if timed_out.iter().all(Vec::is_empty) {
            timed_out.clear();
        }
        let (fitted, chunks, scored) = (self.fitted, self.chunks.clone(), self.scored);
        Replay { fitted, parts, chunks, scored, timed_out }
    }

    /// How often the task was worked on: a visit's fit ends with a part that leaves nothing out. Of several visits the maps and
    /// the candidates are those of the last, but the seconds are those of all.
    pub fn visits(&self) -> usize {
        self.parts.iter().filter(|part| part.left_out.is_none()).count().max(1)
    }

    /// The share of the maps that propose the first attempt, the least over the tests; `None` where there are too few.
    pub fn agreement(&self) -> Option<f64> {
        if self.maps.len() < LEAST_MAPS {
            return None;
        }
        let of_test = |(test, attempts): (&TestRecord, &[Grid; 2])| {
            let proposed = test.candidates.iter().find(|candidate| candidate.grid == attempts[0]);
            proposed.map_or(0.0, |c| c.proposed_by.len() as f64 / self.maps.len().max(1) as f64)
        };
        self.tests.iter().zip(&self.attempts).map(of_test).min_by(f64::total_cmp)
    }

    /// How hard the task looks, by the demonstration that was held out (where the fit had come far enough to tell) and by
    /// the agreement of the views.
    pub fn estimate_difficulty(&self) -> Option<Difficulty> {
        Difficulty::of(self.telling_hold_out().map(HeldOut::rate), self.agreement())
    }

    /// How the demonstration was predicted that the fit left out, where it had come far enough for that to tell something.
    pub fn telling_hold_out(&self) -> Option<HeldOut> {
        self.held_out.filter(|check| check.steps >= HeldOut::LEAST_STEPS)
    }

    /// How the task stands, for a schedule; `steps` are the most that a fit may have.
    pub fn standing(&self, steps: usize) -> Standing {
        let mut end = 0;
        let ends = self.parts.iter().map(|part| {
            end += part.steps;
            mean_loss(&self.curve.0[..end.min(self.curve.0.len())])
        });
        let losses: Vec<f64> = ends.collect();
        let before = losses.len().checked_sub(2).map(|index| losses[index]);
        // What was ended early on purpose is not gone on with.
        let is_over =
            matches!(self.stop, StopReason::HeldOut | StopReason::Converged | StopReason::GivenUp);
        Standing {
            difficulty: self.difficulty,
            steps: self.steps,
            seconds: self.seconds.total,
            loss: losses.last().copied().unwrap_or(f64::INFINITY),
            loss_before: before,
            is_open: self.fitted && self.failed.is_none() && !is_over && self.steps < steps,
        }
    }

    /// The maps that the vote hears.
    pub fn panel(&self) -> Panel<'_> {
        Panel::new(&self.maps, &self.experts)
    }

    /// What some of the maps alone have found for a test. Fresh views score it as they score everything.
    pub fn seen_by(&self, maps: &[usize], test: &TestRecord) -> Vec<Candidate> {
        let experts: Vec<usize> = (0..self.experts.len()).collect();
        let scores = if experts.is_empty() { maps } else { &experts };
        test.candidates.iter().filter_map(|c| c.as_seen_by(maps, scores)).collect()
    }

    /// The distinct grids that could have been attempted for each test: the candidates, and then attempts that are none,
    /// such as the base model's answer where no candidate was left.
    pub fn candidate_grids(&self) -> Vec<Vec<Grid>> {
        let grids = |(t, attempts): (usize, &[Grid; 2])| {
            let candidates = self.tests.get(t).map_or(&[][..], |test| &test.candidates);
            let mut grids: Vec<Grid> = candidates.iter().map(|c| c.grid.clone()).collect();
            for attempt in attempts {
                if !grids.contains(attempt) {
                    grids.push(attempt.clone());
                }
            }
            grids
        };
        self.attempts.iter().enumerate().map(grids).collect()
    }
}

/// Fewer maps than this agree by themselves.
const LEAST_MAPS: usize = 4;

/// Mean loss of the last 16 of these steps, or of all.
fn mean_loss(steps: &[FitStep]) -> f64 {
    let last = &steps[steps.len().saturating_sub(16)..];
    last.iter().map(|step| f64::from(step.loss)).sum::<f64>() / last.len().max(1) as f64
}

/// Attempts for a task that nothing is known about: each test's input as it is, and the first
/// demonstration's output.
///
/// # Panics
/// If the task has no demonstration.
pub fn fallback_attempts(task: &Task) -> Vec<[Grid; 2]> {
    let second = &task.examples[0].output;
    task.tests.iter().map(|t| [t.input.clone(), second.clone()]).collect()
}

#[cfg(test)]
mod tests {
    use super::super::mock::{recipe, record, task};
    use super::*;

    #[test]
    fn a_fit_that_was_ended_early_on_purpose_is_not_gone_on_with() {
        let mut record = record(&task("a"), &recipe(), 3);
        for (stop, is_open) in [
            (StopReason::Steps, true),
            (StopReason::Budget, true),
            (StopReason::HeldOut, false),
            (StopReason::Converged, false),
            (StopReason::GivenUp, false),
        ] {
            record.stop = stop;
            assert_eq!(record.standing(10).is_open, is_open, "{stop:?}");
        }
    }

    #[test]
    fn what_is_attempted_is_among_the_grids_that_could_have_been() {
        let mut record = record(&task("a"), &recipe(), 3);
        let found = record.candidate_grids();
        for (grids, test) in found.iter().zip(&record.tests) {
            assert_eq!(grids.len(), test.candidates.len(), "attempts are no other grids");
        }
        let answer = Grid::filled(1, 7, 3);
        record.attempts[0] = [answer.clone(), answer.clone()];
        record.tests[0].candidates.clear();
        assert_eq!(record.candidate_grids()[0], [answer]);
        record.tests.clear();
        assert_eq!(record.candidate_grids().len(), record.attempts.len());
    }

    #[test]
    fn a_visit_s_fit_ends_with_a_part_that_leaves_nothing_out() {
        let mut record = record(&task("a"), &recipe(), 3);
        assert_eq!(record.visits(), 1);
        record.parts = [Some(1), None].map(|left_out| Part { steps: 3, left_out }).into();
        assert_eq!(record.visits(), 1);
        record.parts.push(Part { steps: 2, left_out: None });
        assert_eq!(record.visits(), 2);
        record.parts.clear();
        assert_eq!(record.visits(), 1);
    }
}
