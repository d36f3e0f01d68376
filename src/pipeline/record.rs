//! What is kept of a solved task: everything that a report, a comparison or a repetition needs.

use serde::{Deserialize, Serialize};

use super::Curve;
use crate::arc::{Grid, Task};
use crate::candidate::{Candidate, CutReason, MapMeta, Uncertainty};
use crate::engine::{Adapter, Check, StopReason};
use crate::vote::{Tally, VoteConfig, tally_votes};

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
    /// Gradient steps done.
    pub steps: usize,
    /// The step whose weights were kept.
    pub best_step: usize,
    /// The held-out check of the kept step, or the last one before it.
    pub check: Option<Check>,
    /// Views predicted under.
    pub views: usize,
    /// How many views were predicted together, call by call: last bits may depend on it.
    pub chunks: Vec<usize>,
    /// Where the time went.
    pub seconds: Seconds,
    /// Every gradient step.
    pub curve: Curve,
    /// How many of the maps have scored the candidates, if time was over before all had.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub scored: Option<usize>,
    /// The view and the format of each map that has scored the candidates, the same for every test.
    pub maps: Vec<MapMeta>,
    /// The candidates and the tally of each test; empty if the prediction failed.
    pub tests: Vec<TestRecord>,
}

/// The candidates for one test, and how they were chosen from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestRecord {
    /// Every distinct grid that was proposed, with its log-probability under each map.
    pub candidates: Vec<Candidate>,
    /// What every rule of the vote makes of them.
    pub tally: Tally,
    /// How sure the maps are of each cell, where they agree on the shape.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uncertainty: Option<Uncertainty>,
    /// The searches that may have missed grids above their threshold.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub cut: Vec<CutShort>,
}

/// A search that was ended before it had found everything.
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

/// How a record is repeated exactly.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Replay {
    /// Whether an adapter is fitted at all.
    pub fitted: bool,
    /// The share of the schedule behind at each step, a step for each.
    pub progress: Vec<f32>,
    /// How many views are predicted together, call by call.
    pub chunks: Vec<usize>,
    /// How many maps score the candidates, if not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scored: Option<usize>,
    /// The searches that time ended, for each test: the map, and the steps that were taken.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub timed_out: Vec<Vec<(usize, usize)>>,
}

impl Replay {
    /// The steps after which time was over for a search, if it was.
    pub(super) fn cut_after(&self, test: usize, map: usize) -> Option<usize> {
        let searches = self.timed_out.get(test)?;
        searches.iter().find(|(m, _)| *m == map).map(|&(_, nodes)| nodes)
    }
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
        let progress = self.curve.0.iter().map(|s| s.progress).collect();
        let timed = |test: &TestRecord| {
            let cut = test.cut.iter().filter(|cut| cut.reason == CutReason::Time);
            cut.map(|cut| (cut.map, cut.nodes)).collect()
        };
        let mut timed_out: Vec<Vec<(usize, usize)>> = self.tests.iter().map(timed).collect();
        if timed_out.iter().all(Vec::is_empty) {
            timed_out.clear();
        }
        let (fitted, chunks, scored) = (self.fitted, self.chunks.clone(), self.scored);
        Replay { fitted, progress, chunks, scored, timed_out }
    }

    /// The attempts that another vote makes of the same candidates.
    pub fn revote(&self, config: &VoteConfig) -> Vec<[Grid; 2]> {
        let mut attempts = self.attempts.clone();
        for (attempts, test) in attempts.iter_mut().zip(&self.tests) {
            let tally = tally_votes(&test.candidates, &self.maps, config);
            *attempts = tally.attempts(&test.candidates, &attempts[0]);
        }
        attempts
    }

    /// The distinct grids that were candidates for each test, the best first.
    pub fn candidate_grids(&self) -> Vec<Vec<Grid>> {
        let grids = |test: &TestRecord| test.candidates.iter().map(|c| c.grid.clone()).collect();
        self.tests.iter().map(grids).collect()
    }
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
