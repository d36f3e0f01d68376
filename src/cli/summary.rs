//! What a run has come to: a table for people, an object for programs.

use std::path::Path;

use serde_json::{Value, json};

use super::values::{show_bytes, show_seconds};
use crate::arc::{Attempts, Dataset, Submission};
use crate::evaluate::{Candidates, Score, Shares, TaskScore, score_tasks};
use crate::memory;
use crate::pipeline::TaskRecord;
use crate::run::RunDirectory;

/// The result of a run, as far as there is one.
pub(super) struct Summary {
    score: Score,
    /// The base model's answers, scored as if they were the only attempts.
    baseline: Score,
    seconds: f64,
    /// Tasks that failed inside or could not be read, with the reason.
    failures: Vec<(String, String)>,
    /// Tasks without a record.
    unreached: usize,
    /// Tasks that the schedule gave no more time, as they looked hopeless.
    abstained: usize,
    interrupted: bool,
    /// Tasks of which the model was trained on a pair, if it says.
    trained_on: Option<Vec<String>>,
}

/// How a run ended, besides its records.
pub(super) struct Ended {
    /// Wall seconds of this process.
    pub seconds: f64,
    /// Tasks without a record.
    pub unreached: usize,
    /// Whether the user interrupted it.
    pub interrupted: bool,
    /// Tasks of which the model was trained on a pair, if it says.
    pub trained_on: Option<Vec<String>>,
}

impl Summary {
    /// Sums up a run on the tasks in `dataset`, whose answers may be known.
    pub(super) fn of(dataset: &Dataset, run: &RunDirectory, ended: &Ended) -> Self {
        let records = run.records();
        let candidates: Candidates =
            records.iter().map(|(id, record)| (id.clone(), record.candidate_grids())).collect();
        let once = |record: &TaskRecord| {
            record.baseline.iter().map(|g| Attempts::new(g.clone(), g.clone())).collect()
        };
        let baseline = records.iter().map(|(id, record)| (id.clone(), once(record))).collect();
        let baseline = Submission { tasks: baseline };
        let score = |submission: &Submission, candidates| -> Vec<TaskScore> {
            score_tasks(dataset, submission, candidates)
        };
        let unreadable = dataset.unusable().map(|error| {
            let id = error.task.clone().unwrap_or_else(|| error.file.clone());
            (id, error.to_string())
        });
        let reason = |id: &String| Some((id.clone(), records.get(id)?.failed.clone()?));
        let inside = dataset.tasks.iter().filter_map(|task| reason(&task.id));
        Self {
            score: Score::of(&score(&run.attempts(), Some(&candidates))),
            baseline: Score::of(&score(&baseline, None)),
            seconds: ended.seconds,
            failures: inside.chain(unreadable).collect(),
            unreached: ended.unreached,
            abstained: records.values().filter(|record| record.abstained).count(),
            interrupted: ended.interrupted,
            trained_on: ended.trained_on.clone(),
        }
    }

    /// Whether some task has failed or was not reached.
    pub(super) fn is_lacking(&self) -> bool {
        !self.failures.is_empty() || self.unreached > 0
    }

    /// Prints the table on standard error.
    pub(super) fn print(&self, run: &Path) {
        if self.score.solved.is_some() {
            let of = |shares: &Option<Shares>, rule: fn(&Shares) -> Option<f64>| {
                percent(shares.as_ref().and_then(rule))
            };
            say!("\n{:<22}{:>9}{:>12}{:>10}", "", "strict", "fractional", "per test");
            for (name, shares) in [
                ("in-context baseline", Some(self.baseline.pass_at_1)),
                ("pass@1", Some(self.score.pass_at_1)),
                ("pass@2", Some(self.score.pass_at_2)),
                ("oracle", self.score.oracle),
            ] {
                let (strict, fractional) =
                    (of(&shares, |s| s.strict), of(&shares, |s| s.fractional));
                let per_test = of(&shares, |s| s.per_test);
                say!("{name:<22}{strict:>9}{fractional:>12}{per_test:>10}");
            }
        }
        let mut line = format!("\n{} tasks", self.score.tasks);
        if let Some(solved) = self.score.solved {
            line += &format!(", {solved} solved");
        }
        if !self.failures.is_empty() {
            line += &format!(", {} failed", self.failures.len());
        }
        if self.unreached > 0 {
            line += &format!(", {} not reached", self.unreached);
        }
        if self.abstained > 0 {
            line += &format!(", {} abstained from", self.abstained);
        }
        line += &format!(", {}", show_seconds(self.seconds));
        if let Some(ids) = self.trained_on.as_ref().filter(|ids| !ids.is_empty()) {
            line += &format!(", {} known from training", ids.len());
        }
        if let Some(bytes) = memory::peak_bytes() {
            line += &format!(", peak memory {}", show_bytes(bytes));
        }
        say!("{line}");
        for (task, reason) in &self.failures {
            say!("failed: {task}: {reason}");
        }
        say!("run directory {}", run.display());
    }

    /// The object for `--json`.
    pub(super) fn to_json(&self, run: &Path, submission: &Path) -> Value {
        let failures = self.failures.iter();
        let failures: Vec<_> =
            failures.map(|(task, reason)| json!({"task": task, "reason": reason})).collect();
        json!({
            "tasks": self.score.tasks,
            "solved": self.score.solved,
            "strict": self.score.pass_at_2.strict,
            "fractional": self.score.pass_at_2.fractional,
            "per_test": self.score.pass_at_2.per_test,
            "pass_at_1": self.score.pass_at_1,
            "pass_at_2": self.score.pass_at_2,
            "oracle": self.score.oracle,
            "baseline": self.baseline.pass_at_1,
            "seconds": self.seconds,
            "peak_memory_bytes": memory::peak_bytes(),
            "failed": self.failures.len(),
            "failures": failures,
            "unreached": self.unreached,
            "abstained": self.abstained,
            "interrupted": self.interrupted,
            "trained_on": self.trained_on,
            "submission": submission,
            "run": run,
        })
    }
}

fn percent(share: Option<f64>) -> String {
    share.map_or("–".to_owned(), |s| format!("{:.1} %", s * 100.0))
}
