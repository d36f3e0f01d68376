//! Submissions against solutions, under every rule that is in use.
//!
//! A *strict* score counts a task only if all of its tests are right; the *fractional* score (Kaggle's, ARC
//! Prize's) gives a task the share of its tests that are right; the *per-test* score counts test inputs. A
//! test is right at *pass@1* if the first attempt is, at *pass@2* if either is, and for the *oracle* if the
//! truth is among all candidates, attempts included. A task that a submission lacks counts as wrong; a truth
//! that is not known counts as nothing.

use std::collections::BTreeMap;

use rand::Rng;
use serde::Serialize;

use crate::arc::{Attempts, Dataset, Grid, Submission, Task};
use crate::rng;

/// Candidates for the tests of tasks, by task id: for each test its grids, the best first.
pub type Candidates = BTreeMap<String, Vec<Vec<Grid>>>;

/// Resamples of [`bootstrap_interval`].
const RESAMPLES: usize = 10_000;

/// What became of one test; every field is `None` if it cannot be known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct TestScore {
    /// The first attempt is right.
    pub pass_at_1: Option<bool>,
    /// Either attempt is right.
    pub pass_at_2: Option<bool>,
    /// The truth is among the candidates or the attempts, where candidates are given.
    pub oracle: Option<bool>,
}

/// What became of one task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaskScore {
    /// The task's id.
    pub id: String,
    /// False if the submission has no entry for the task.
    pub submitted: bool,
    /// Its tests, in order.
    pub tests: Vec<TestScore>,
}

/// Shares between 0 and 1 under the three rules; `None` where no truth is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Shares {
    /// Share of the tasks with every test right.
    pub strict: Option<f64>,
    /// Mean over the tasks of the share of their tests that are right.
    pub fractional: Option<f64>,
    /// Share of the tests that are right.
    pub per_test: Option<f64>,
}

/// A submission's score on a set of tasks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score {
    /// Tasks in the set.
    pub tasks: usize,
    /// Tasks all of whose answers are known; the strict and fractional shares are of these.
    pub known_tasks: usize,
    /// Tests in the set.
    pub tests: usize,
    /// Tests whose answer is known; the per-test share is of these.
    pub known_tests: usize,
    /// Tasks without an entry in the submission; they count as wrong.
    pub missing: usize,
    /// Tasks solved under the strict rule with two attempts; `None` if no truth is known.
    pub solved: Option<usize>,
    /// Shares when only the first attempt counts.
    pub pass_at_1: Shares,
    /// Shares when either attempt counts: the score that ARC reports.
    pub pass_at_2: Shares,
    /// Shares when any candidate counts; `None` without candidates.
    pub oracle: Option<Shares>,
    /// 95 % interval of `pass_at_2.strict`, by [`bootstrap_interval`] over tasks.
    pub strict_interval: Option<[f64; 2]>,
    /// 95 % interval of `pass_at_2.fractional`, by [`bootstrap_interval`] over tasks.
    pub fractional_interval: Option<[f64; 2]>,
}

/// Which of a test's verdicts a score counts.
type Rule = fn(&TestScore) -> Option<bool>;

impl TestScore {
    /// Compares what was answered to one test with the truth.
    pub fn of(
        attempts: Option<&Attempts>,
        candidates: Option<&[Grid]>,
        truth: Option<&Grid>,
    ) -> Self {
        let Some(truth) = truth else { return Self::default() };
        let [first, second] = attempts.map_or([None; 2], Attempts::both);
        let is_attempted = first == Some(truth) || second == Some(truth);
        Self {
            pass_at_1: Some(first == Some(truth)),
            pass_at_2: Some(is_attempted),
            // What is attempted where nothing was predicted is among no candidates.
            oracle: candidates.map(|grids| is_attempted || grids.contains(truth)),
        }
    }
}

impl TaskScore {
    /// Compares what was answered to a task with its truth.
    pub fn of(
        task: &Task,
        attempts: Option<&[Attempts]>,
        candidates: Option<&[Vec<Grid>]>,
    ) -> Self {
        let test = |(t, test): (usize, &crate::arc::Test)| {
            let attempts = attempts.and_then(|all| all.get(t));
            let candidates = candidates.map(|all| all.get(t).map_or(&[][..], Vec::as_slice));
            TestScore::of(attempts, candidates, test.output.as_ref())
        };
        let tests = task.tests.iter().enumerate().map(test).collect();
        Self { id: task.id.clone(), submitted: attempts.is_some(), tests }
    }

    /// Whether every test is right with two attempts; `None` unless every answer is known.
    pub fn solved(&self) -> Option<bool> {
        self.fractional().map(|share| share == 1.0)
    }

    /// The share of the tests that are right with two attempts; `None` unless every answer is known.
    pub fn fractional(&self) -> Option<f64> {
        self.fraction(|test| test.pass_at_2)
    }

    /// The share of the tests that are right; `None` unless every verdict is known.
    fn fraction(&self, rule: Rule) -> Option<f64> {
        let verdicts: Vec<bool> = self.tests.iter().map(rule).collect::<Option<_>>()?;
        let right = verdicts.iter().filter(|right| **right).count();
        (!verdicts.is_empty()).then(|| right as f64 / verdicts.len() as f64)
    }
}

impl Score {
    /// Sums up the scores of tasks.
    pub fn of(tasks: &[TaskScore]) -> Self {
        let tests = || tasks.iter().flat_map(|task| &task.tests);
        let solved: Vec<bool> = tasks.iter().filter_map(TaskScore::solved).collect();
        let strict: Vec<f64> = solved.iter().map(|s| f64::from(u8::from(*s))).collect();
        let fractions: Vec<f64> = tasks.iter().filter_map(TaskScore::fractional).collect();
        Self {
            tasks: tasks.len(),
            known_tasks: solved.len(),
            tests: tests().count(),
            known_tests: tests().filter(|test| test.pass_at_2.is_some()).count(),
            missing: tasks.iter().filter(|task| !task.submitted).count(),
            solved: (!solved.is_empty()).then(|| solved.iter().filter(|s| **s).count()),
            pass_at_1: shares(tasks, |test| test.pass_at_1),
            pass_at_2: shares(tasks, |test| test.pass_at_2),
            oracle: tests().any(|t| t.oracle.is_some()).then(|| shares(tasks, |test| test.oracle)),
            strict_interval: bootstrap_interval(&strict, 0),
            fractional_interval: bootstrap_interval(&fractions, 0),
        }
    }
}

/// Scores a submission on every task of a set, in the set's order.
pub fn score_tasks(
    dataset: &Dataset,
    submission: &Submission,
    candidates: Option<&Candidates>,
) -> Vec<TaskScore> {
    let score = |task: &Task| {
        let attempts = submission.tasks.get(&task.id).map(Vec::as_slice);
        let candidates = candidates.map(|all| all.get(&task.id).map_or(&[][..], Vec::as_slice));
        TaskScore::of(task, attempts, candidates)
    };
    dataset.tasks.iter().map(score).collect()
}

/// The 95 % interval of the mean of `values` (one a task) by the percentile bootstrap.
///
/// Deterministic in `seed`. `None` for fewer than two values, and where the interval has no width, as of all-equal values:
/// that says that the sample is too small to tell, not that the mean is certain.
pub fn bootstrap_interval(values: &[f64], seed: u64) -> Option<[f64; 2]> {
    if values.len() < 2 {
        return None;
    }
    let mut random = rng::stream(seed, "", "bootstrap", 0);
    let mut mean = || {
        let draw = |_| values[random.random_range(0..values.len())];
        (0..values.len()).map(draw).sum::<f64>() / values.len() as f64
    };
    let mut means: Vec<f64> = (0..RESAMPLES).map(|_| mean()).collect();
    means.sort_by(f64::total_cmp);
    let tail = RESAMPLES / 40;
    let (low, high) = (means[tail], means[RESAMPLES - 1 - tail]);
    (low < high).then_some([low, high])
}

/// The exact two-sided McNemar test: the probability that of `a + b` tasks on which two methods differ, so uneven a
/// part or a more uneven one goes to one of them, if each is as likely to win a task (McNemar 1947; the exact
/// form is a binomial test).
pub fn mcnemar(a: usize, b: usize) -> f64 {
    let n = a + b;
    // ln C(n, k) - n ln 2, from one k to the next.
    let mut log_term = -(n as f64) * 2f64.ln();
    let mut tail = 0.0;
    for k in 0..=a.min(b) {
        tail += log_term.exp();
        log_term += ((n - k) as f64 / (k + 1) as f64).ln();
    }
    (2.0 * tail).min(1.0)
}

fn shares(tasks: &[TaskScore], rule: Rule) -> Shares {
    let fractions: Vec<f64> = tasks.iter().filter_map(|task| task.fraction(rule)).collect();
    let verdicts: Vec<bool> = tasks.iter().flat_map(|t| t.tests.iter().filter_map(rule)).collect();
    let share = |sum: f64, of: usize| (of > 0).then(|| sum / of as f64);
    let count = |n: usize| n as f64;
    Shares {
        strict: share(count(fractions.iter().filter(|f| **f == 1.0).count()), fractions.len()),
        fractional: share(fractions.iter().sum(), fractions.len()),
        per_test: share(count(verdicts.iter().filter(|right| **right).count()), verdicts.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arc::{Example, Test};

    fn grid(color: u8) -> Grid {
        Grid::filled(1, 1, color)
    }

    /// A task whose tests have these answers; 9 stands for an unknown one.
    fn task(id: &str, answers: &[u8]) -> Task {
        let output = |&c: &u8| (c != 9).then(|| grid(c));
        let test = |c| Test { input: grid(0), output: output(c) };
        let examples = vec![Example { input: grid(0), output: grid(0) }];
        Task { id: id.into(), examples, tests: answers.iter().map(test).collect() }
    }

    fn dataset(tasks: Vec<Task>) -> Dataset {
        Dataset { tasks, ..Dataset::default() }
    }

    fn submission(entries: &[(&str, &[(u8, u8)])]) -> Submission {
        let attempts = |pairs: &[(u8, u8)]| {
            pairs.iter().map(|&(a, b)| Attempts::new(grid(a), grid(b))).collect()
        };
        let tasks = entries.iter().map(|(id, pairs)| (id.to_string(), attempts(pairs))).collect();
        Submission { tasks }
    }

    fn score(dataset: &Dataset, submission: &Submission) -> Score {
        Score::of(&score_tasks(dataset, submission, None))
    }

    #[test]
    fn the_rules_differ_where_a_task_has_two_tests() {
        // a: both right, one of them only with the second attempt; b: one of two; c: wrong; d: missing.
        let tasks = [("a", &[1, 2][..]), ("b", &[1, 2]), ("c", &[3]), ("d", &[4])];
        let dataset = dataset(tasks.map(|(id, answers)| task(id, answers)).into());
        let submission = submission(&[
            ("a", &[(1, 0), (0, 2)]),
            ("b", &[(1, 1), (0, 0)]),
            ("c", &[(4, 4)]),
            ("elsewhere", &[(4, 4)]),
        ]);
        let score = score(&dataset, &submission);
        assert_eq!((score.tasks, score.tests, score.missing), (4, 6, 1));
        assert_eq!(score.solved, Some(1));
        let shares = |s: f64, f: f64, t: f64| Shares {
            strict: Some(s),
            fractional: Some(f),
            per_test: Some(t),
        };
        assert_eq!(score.pass_at_2, shares(0.25, 1.5 / 4.0, 3.0 / 6.0));
        assert_eq!(score.pass_at_1, shares(0.0, 1.0 / 4.0, 2.0 / 6.0));
        assert_eq!(score.oracle, None);
    }

    #[test]
    fn attempts_are_matched_to_tests_by_position() {
        let dataset = dataset(vec![task("a", &[1, 2])]);
        assert_eq!(score(&dataset, &submission(&[("a", &[(2, 2), (1, 1)])])).solved, Some(0));
        assert_eq!(
            score(&dataset, &submission(&[("a", &[(1, 1)])])).pass_at_2.fractional,
            Some(0.5)
        );
        let more = submission(&[("a", &[(1, 1), (2, 2), (3, 3)])]);
        assert_eq!(score(&dataset, &more).solved, Some(1));
    }

    #[test]
    fn an_unknown_truth_counts_neither_way() {
        let right = submission(&[("a", &[(1, 1)]), ("b", &[(1, 1), (2, 2)])]);
        let none = score(&dataset(vec![task("a", &[9])]), &right);
        assert_eq!((none.solved, none.pass_at_2, none.known_tests), (None, Shares::default(), 0));
        let half = score(&dataset(vec![task("a", &[1]), task("b", &[1, 9])]), &right);
        assert_eq!((half.known_tasks, half.known_tests, half.solved), (1, 2, Some(1)));
        assert_eq!(half.pass_at_2.strict, Some(1.0));
    }

    #[test]
    fn a_grid_of_the_same_cells_and_another_shape_is_wrong() {
        let truth = Grid::filled(2, 3, 1);
        let attempts = Attempts::new(Grid::filled(3, 2, 1), Grid::filled(1, 6, 1));
        assert_eq!(TestScore::of(Some(&attempts), None, Some(&truth)).pass_at_2, Some(false));
    }

    #[test]
    fn the_oracle_looks_at_every_candidate() {
        let dataset = dataset(vec![task("a", &[1]), task("b", &[2]), task("c", &[3])]);
        let of = |color: u8| vec![vec![grid(7), grid(8), grid(color)]];
        let candidates = [("a".to_string(), of(1)), ("b".to_string(), of(0))].into();
        let scores = score_tasks(&dataset, &Submission::default(), Some(&candidates));
        let score = Score::of(&scores);
        assert_eq!(score.oracle.and_then(|shares| shares.strict), Some(1.0 / 3.0));
        assert_eq!(score.solved, Some(0));
        let attempted = score_tasks(&dataset, &submission(&[("c", &[(3, 4)])]), Some(&candidates));
        let oracle = Score::of(&attempted).oracle;
        assert_eq!(oracle.and_then(|shares| shares.strict), Some(2.0 / 3.0));
    }

    #[test]
    fn the_exact_test_knows_the_binomial_tables() {
        assert_eq!(mcnemar(0, 0), 1.0);
        assert_eq!(mcnemar(3, 3), 1.0);
        for (a, b, p) in [(5, 0, 0.0625), (0, 8, 2.0 / 256.0), (1, 7, 18.0 / 256.0)] {
            assert!((mcnemar(a, b) - p).abs() < 1e-12, "{a} {b}");
            assert_eq!(mcnemar(a, b), mcnemar(b, a));
        }
        // R: binom.test(40, 100)$p.value
        assert!((mcnemar(40, 60) - 0.056_887_93).abs() < 1e-7, "{}", mcnemar(40, 60));
        assert!(mcnemar(0, 2000) >= 0.0 && mcnemar(1000, 1000) == 1.0);
    }

    #[test]
    fn the_bootstrap_interval_repeats_and_covers_the_normal_one() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 4 == 0)).collect();
        let [low, high] = bootstrap_interval(&values, 0).unwrap();
        assert_eq!(bootstrap_interval(&values, 0), Some([low, high]));
        let half_width = 1.96 * (0.25f64 * 0.75 / 400.0).sqrt();
        assert!((low - (0.25 - half_width)).abs() < 0.006, "{low}");
        assert!((high - (0.25 + half_width)).abs() < 0.006, "{high}");
        assert_eq!(bootstrap_interval(&[1.0], 0), None);
        for all_equal in [0.0, 0.3, 1.0] {
            assert_eq!(bootstrap_interval(&[all_equal; 60], 0), None, "it is not certain");
        }
        assert_eq!(bootstrap_interval(&[], 0), None);
    }
}
