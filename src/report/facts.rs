//! What became of each task, and of all of them together.

use crate::arc::{Attempts, Grid, Submission, Task};
use crate::candidate::Candidate;
use crate::evaluate::{Candidates, Score, TaskScore, score_tasks};
use crate::pipeline::TaskRecord;
use crate::vote::Selector;

use super::Side;

/// Below this share of views that propose the first attempt, a task counts as answered with low confidence.
pub(super) const LOW_AGREEMENT: f64 = 0.5;

/// At most one cell in so many is wrong in a near miss.
pub(super) const NEAR_CELLS: usize = 20;

/// What became of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Every test is right with two attempts.
    Solved,
    /// What is wrong is nearly right: the truth was a candidate, or at most one cell in twenty is wrong.
    Near,
    /// Some attempt is further off.
    Wrong,
    /// Both attempts at some test have another shape than the truth.
    Shape,
    /// Some answer is not known.
    Unknown,
    /// The run has no record of it.
    Unreached,
}

impl Outcome {
    /// All outcomes, the best first.
    pub const ALL: [Outcome; 6] = [
        Outcome::Solved,
        Outcome::Near,
        Outcome::Wrong,
        Outcome::Shape,
        Outcome::Unknown,
        Outcome::Unreached,
    ];

    /// A short name without spaces, for the page's script and for `--json`.
    pub fn key(self) -> &'static str {
        match self {
            Outcome::Solved => "solved",
            Outcome::Near => "near",
            Outcome::Wrong => "wrong",
            Outcome::Shape => "shape",
            Outcome::Unknown => "unknown",
            Outcome::Unreached => "unreached",
        }
    }

    /// The name for readers.
    pub(super) fn label(self) -> &'static str {
        match self {
            Outcome::Solved => "solved",
            Outcome::Near => "near miss",
            Outcome::Wrong => "wrong",
            Outcome::Shape => "wrong shape",
            Outcome::Unknown => "no answer known",
            Outcome::Unreached => "not reached",
        }
    }

    /// What became of one test.
    fn of_test(attempts: &[Grid; 2], candidates: &[Candidate], truth: Option<&Grid>) -> Self {
        let Some(truth) = truth else { return Outcome::Unknown };
        if attempts.contains(truth) {
            return Outcome::Solved;
        }
        if candidates.iter().any(|candidate| candidate.grid == *truth) {
            return Outcome::Near;
        }
        let wrong = attempts.iter().filter_map(|attempt| wrong_cells(attempt, truth)).min();
        match wrong {
            None => Outcome::Shape,
            Some(wrong) if wrong * NEAR_CELLS <= truth.cells().len() => Outcome::Near,
            Some(_) => Outcome::Wrong,
        }
    }

    /// What became of a task: the worst of its tests.
    fn of_task(task: &Task, record: Option<&TaskRecord>) -> Self {
        let Some(record) = record else { return Outcome::Unreached };
        let of_test = |(t, attempts): (usize, &[Grid; 2])| {
            let candidates = record.tests.get(t).map_or(&[][..], |test| &test.candidates);
            Self::of_test(attempts, candidates, task.tests[t].output.as_ref())
        };
        record.attempts.iter().enumerate().map(of_test).max().unwrap_or(Outcome::Unknown)
    }
}

/// Cells in which two grids differ; `None` if their shapes do.
fn wrong_cells(a: &Grid, b: &Grid) -> Option<usize> {
    let differing = || a.cells().iter().zip(b.cells()).filter(|(a, b)| a != b).count();
    (a.shape() == b.shape()).then(differing)
}

/// What is known of a task.
#[derive(Debug, Clone)]
pub(super) struct TaskFacts<'a> {
    /// The task.
    pub task: &'a Task,
    /// Its record, if the run has got to it.
    pub record: Option<&'a TaskRecord>,
    /// Its score.
    pub score: TaskScore,
    /// What became of it.
    pub outcome: Outcome,
    /// The share of views that propose the first attempt, the least over its tests; `None` if nothing was predicted.
    pub agreement: Option<f64>,
    /// Whether the model was trained on a pair of it.
    pub trained_on: bool,
}

/// What is known of a run.
#[derive(Debug, Clone)]
pub(super) struct Facts<'a> {
    /// The run.
    pub side: &'a Side,
    /// Its tasks, in order.
    pub tasks: Vec<TaskFacts<'a>>,
    /// Its score.
    pub score: Score,
    /// The score of the base model's answers without a fit, one attempt each.
    pub baseline: Score,
    /// Tasks that each voting rule would have solved with the same candidates; empty if no answer is known.
    pub rules: Vec<(Selector, usize)>,
}

impl<'a> Facts<'a> {
    /// Judges every task of a run.
    pub(super) fn of(side: &'a Side) -> Self {
        let records = &side.run.records;
        let candidates: Candidates =
            records.iter().map(|(id, record)| (id.clone(), record.candidate_grids())).collect();
        let submission = submission(side, |record| record.attempts.clone());
        let scores = score_tasks(&side.dataset, &submission, Some(&candidates));
        let score = Score::of(&scores);
        let baseline = submission_of_baselines(side);
        let rules = if score.solved.is_some() { rules(side) } else { Vec::new() };
        let trained_on = side.run.circumstances.trained_on.as_deref().unwrap_or_default();
        let facts = |(task, score): (&'a Task, TaskScore)| {
            let record = records.get(&task.id);
            TaskFacts {
                task,
                record,
                score,
                outcome: Outcome::of_task(task, record),
                agreement: record.and_then(TaskRecord::agreement),
                trained_on: trained_on.contains(&task.id),
            }
        };
        let tasks = side.dataset.tasks.iter().zip(scores).map(facts).collect();
        let baseline = Score::of(&score_tasks(&side.dataset, &baseline, None));
        Self { side, tasks, score, baseline, rules }
    }

    /// The records there are.
    pub(super) fn records(&self) -> impl Iterator<Item = &'a TaskRecord> + '_ {
        self.tasks.iter().filter_map(|facts| facts.record)
    }
}

impl TaskFacts<'_> {
    /// Whether the views hardly agree.
    pub(super) fn is_unsure(&self) -> bool {
        self.agreement.is_some_and(|share| share < LOW_AGREEMENT)
    }
}

/// What a run submits if each record is answered in this way.
fn submission(side: &Side, answers: impl Fn(&TaskRecord) -> Vec<[Grid; 2]>) -> Submission {
    let both = |[first, second]: [Grid; 2]| Attempts::new(first, second);
    let all = |record| answers(record).into_iter().map(both).collect();
    let tasks = side.run.records.iter().map(|(id, record)| (id.clone(), all(record))).collect();
    Submission { tasks }
}

fn submission_of_baselines(side: &Side) -> Submission {
    submission(side, |record| record.baseline.iter().map(|g| [g.clone(), g.clone()]).collect())
}

/// Tasks that each rule would have solved.
fn rules(side: &Side) -> Vec<(Selector, usize)> {
    let solved = |selector| {
        let by_rule = |record: &TaskRecord| {
            let mut attempts = record.attempts.clone();
            for (attempts, test) in attempts.iter_mut().zip(&record.tests) {
                *attempts = test.tally.attempts_by(selector, &test.candidates, &attempts[0]);
            }
            attempts
        };
        let scores = score_tasks(&side.dataset, &submission(side, by_rule), None);
        scores.iter().filter(|score| score.solved() == Some(true)).count()
    };
    Selector::ALL.map(|selector| (selector, solved(selector))).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(rows: &[&[u8]]) -> Grid {
        Grid::from_rows(rows).unwrap()
    }

    fn candidate(grid: &Grid) -> Candidate {
        Candidate {
            grid: grid.clone(),
            proposed_by: Vec::new(),
            found_by: vec![0],
            product: false,
            majority: false,
            log_probs: vec![-1.0],
        }
    }

    #[test]
    fn outcomes_go_by_shape_cells_and_candidates() {
        let truth = Grid::filled(4, 5, 0);
        let mut one_off = truth.clone();
        one_off.set(0, 0, 1);
        let mut two_off = one_off.clone();
        two_off.set(1, 1, 1);
        let other = Grid::filled(5, 4, 0);
        let of = |a: &Grid, b: &Grid, found: &[Candidate]| {
            Outcome::of_test(&[a.clone(), b.clone()], found, Some(&truth))
        };
        assert_eq!(of(&other, &truth, &[]), Outcome::Solved);
        assert_eq!(of(&other, &one_off, &[]), Outcome::Near);
        assert_eq!(of(&other, &two_off, &[]), Outcome::Wrong);
        assert_eq!(of(&other, &other, &[]), Outcome::Shape);
        assert_eq!(of(&other, &other, &[candidate(&truth)]), Outcome::Near);
        assert_eq!(Outcome::of_test(&[truth.clone(), other], &[], None), Outcome::Unknown);
        assert_eq!(wrong_cells(&grid(&[&[1, 2]]), &grid(&[&[1, 3]])), Some(1));
    }

    #[test]
    fn keys_are_words_that_a_selector_can_name() {
        for outcome in Outcome::ALL {
            assert!(outcome.key().chars().all(|c| c.is_ascii_lowercase()), "{outcome:?}");
        }
    }
}
