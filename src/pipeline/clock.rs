//! The time of one task.

use std::time::Instant;

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
