//! The time of one task.

use std::time::Instant;

use crate::adapter::FitFormat;
use crate::arc::{Grid, Task};

/// Wall time since a task began, and what is left of its budget.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    began: Instant,
    budget_seconds: Option<f64>,
}

impl Clock {
    pub(super) fn start(budget_seconds: Option<f64>) -> Self {
        Self { began: Instant::now(), budget_seconds }
    }

    /// Seconds since the task began.
    pub(super) fn elapsed(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Seconds left, below zero if overdrawn; `None` without a budget.
    pub(super) fn left(&self) -> Option<f64> {
        self.budget_seconds.map(|budget| budget - self.elapsed())
    }
}

/// Seconds of the time `left` that a fit may take so that prediction can follow.
///
/// Prediction gets what `views` views take at `seconds_per_view`, but at most half of the time: a fit that
/// gets less is worth less than the last views.
pub(super) fn fit_seconds(left: f64, views: usize, seconds_per_view: f64) -> f64 {
    (left - (views as f64 * seconds_per_view).min(left / 2.0)).max(0.0)
}

/// What a view costs with a fit of this format in place of the baseline, which reads the demonstrations: end-to-end a grid model
/// reads the test alone, and a model that writes does not know the format.
pub(super) fn share_of_baseline(task: &Task, format: FitFormat, writes: bool) -> f64 {
    let cells = |grid: &Grid| grid.cells().len() as f64;
    let tests = task.tests.iter().map(|test| cells(&test.input)).sum::<f64>()
        / task.tests.len().max(1) as f64;
    let demonstrations: f64 = task.examples.iter().map(|pair| cells(&pair.input)).sum();
    let alone = if writes { 1.0 } else { tests / (tests + demonstrations) };
    match format {
        FitFormat::None | FitFormat::Icl => 1.0,
        FitFormat::E2e => alone,
        FitFormat::Both => 1.0 + alone,
    }
}

/// How many of the `wanted` views can be predicted in the time `left`.
pub(super) fn affordable(left: Option<f64>, wanted: usize, seconds_per_view: f64) -> usize {
    match left {
        Some(left) if left <= 0.0 => 0,
        Some(left) if seconds_per_view > 0.0 => wanted.min((left / seconds_per_view) as usize),
        _ => wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arc::{Example, Test};

    #[test]
    fn an_end_to_end_view_costs_the_test_alone() {
        let input = Grid::filled(2, 3, 0);
        let example = Example { input: Grid::filled(3, 3, 0), output: input.clone() };
        let tests = vec![Test { input: input.clone(), output: None }; 2];
        let task = Task { id: "t".into(), examples: vec![example; 2], tests };
        let share = |format| share_of_baseline(&task, format, false);
        assert_eq!(share(FitFormat::Icl), 1.0);
        assert_eq!(share(FitFormat::E2e), 0.25);
        assert_eq!(share(FitFormat::Both), 1.25);
        assert_eq!(share_of_baseline(&task, FitFormat::E2e, true), 1.0);
    }

    #[test]
    fn a_fit_gets_what_prediction_leaves_and_half_at_least() {
        assert_eq!(fit_seconds(30.0, 16, 0.25), 26.0);
        assert_eq!(fit_seconds(30.0, 64, 1.0), 15.0);
        assert_eq!(fit_seconds(-1.0, 16, 0.25), 0.0);
    }

    #[test]
    fn only_as_many_views_as_time_allows() {
        assert_eq!(affordable(Some(1.0), 16, 0.25), 4);
        assert_eq!(affordable(Some(9.0), 16, 0.25), 16);
        assert_eq!(affordable(Some(-0.5), 16, 0.25), 0);
        assert_eq!(affordable(Some(0.1), 16, 0.0), 16);
        assert_eq!(affordable(None, 16, 0.25), 16);
    }
}
