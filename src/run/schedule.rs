//! Wall time, shared out so that a run ends when it was told to.

use std::time::{Duration, Instant};

/// When a run must end, and how long a task may take.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// Wall seconds that a task may take at most.
    pub budget_seconds: Option<f64>,
    /// When the run must have ended.
    pub deadline: Option<Deadline>,
    /// Tasks worked on at the same time.
    pub jobs: usize,
}

/// The end of a run.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    /// When the last task should have ended.
    tasks: Instant,
    /// When whatever is still being worked on is given up.
    hard: Instant,
}

/// What a worker that asks for a task is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Share {
    /// As long as its steps take.
    Unlimited,
    /// This many wall seconds.
    Seconds(f64),
    /// There is no time for another task.
    Nothing,
}

/// Seconds of a run's time that no task is given.
pub(super) fn margin(seconds: f64) -> f64 {
    (seconds * 0.02).clamp(0.25, 5.0).min(seconds / 2.0)
}

impl Deadline {
    /// The deadline `duration` after `start`.
    ///
    /// Tasks are given a little less, for the one that overruns its share and for the last writes.
    pub fn after(start: Instant, duration: Duration) -> Self {
        let margin = margin(duration.as_secs_f64());
        let end = start + duration;
        Self {
            tasks: end - Duration::from_secs_f64(margin),
            hard: end - Duration::from_secs_f64(margin / 2.0),
        }
    }

    /// The sooner of the two.
    pub(super) fn or_sooner(self, other: Self) -> Self {
        if other.hard < self.hard { other } else { self }
    }

    /// Seconds from `now` to the moment when the last task should have ended.
    pub(super) fn left(self, now: Instant) -> f64 {
        self.tasks.saturating_duration_since(now).as_secs_f64()
    }

    /// When whatever is still being worked on is given up.
    pub fn hard(self) -> Instant {
        self.hard
    }
}

impl Schedule {
    /// How long the next of `waiting` tasks may take from `now` on.
    ///
    /// Until the deadline, each waiting task gets the same share of the workers' time, raised to `least` and then cut
    /// to the budget. `least` is what a task takes at the very least: the shortest in-context baseline so far.
    pub fn share(&self, now: Instant, waiting: usize, least: f64) -> Share {
        let Some(deadline) = self.deadline else {
            return self.budget_seconds.map_or(Share::Unlimited, Share::Seconds);
        };
        let left = deadline.left(now);
        if left <= least {
            return Share::Nothing;
        }
        let workers = self.jobs.min(waiting).max(1);
        let share = left * workers as f64 / waiting.max(1) as f64;
        let budget = self.budget_seconds.unwrap_or(f64::INFINITY);
        Share::Seconds(share.max(least).min(budget).min(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(
        budget_seconds: Option<f64>,
        start: Instant,
        seconds: u64,
        jobs: usize,
    ) -> Schedule {
        let deadline = Some(Deadline::after(start, Duration::from_secs(seconds)));
        Schedule { budget_seconds, deadline, jobs }
    }

    /// Seconds at which each worker ends when every task takes its whole share.
    fn play(schedule: Schedule, start: Instant, tasks: usize, least: f64) -> (Vec<f64>, Vec<f64>) {
        let mut free = vec![0.0f64; schedule.jobs];
        let mut shares = Vec::new();
        for waiting in (1..=tasks).rev() {
            let next = free.iter_mut().min_by(|a, b| a.total_cmp(b)).unwrap();
            match schedule.share(start + Duration::from_secs_f64(*next), waiting, least) {
                Share::Seconds(s) => {
                    *next += s;
                    shares.push(s);
                }
                Share::Nothing => break,
                Share::Unlimited => panic!("there is a deadline"),
            }
        }
        (free, shares)
    }

    #[test]
    fn without_a_deadline_a_task_gets_its_budget() {
        let now = Instant::now();
        let mut schedule = Schedule { budget_seconds: Some(30.0), deadline: None, jobs: 2 };
        assert_eq!(schedule.share(now, 5, 1.0), Share::Seconds(30.0));
        schedule.budget_seconds = None;
        assert_eq!(schedule.share(now, 5, 1.0), Share::Unlimited);
    }

    #[test]
    fn every_task_is_reached_and_all_end_before_the_deadline() {
        let start = Instant::now();
        for (tasks, jobs) in [(1, 1), (7, 1), (7, 2), (20, 3), (3, 8), (400, 4)] {
            let (free, shares) = play(schedule(None, start, 100, jobs), start, tasks, 0.01);
            assert_eq!(shares.len(), tasks);
            assert!(free.iter().all(|&end| end <= 98.1), "{tasks} tasks, {jobs} jobs: {free:?}");
            let used: f64 = shares.iter().sum();
            let capacity = 98.0 * jobs.min(tasks) as f64;
            assert!(used > 0.7 * capacity, "{tasks} tasks, {jobs} jobs: {used} of {capacity}");
        }
    }

    #[test]
    fn a_budget_caps_the_share_and_no_time_is_no_share() {
        let start = Instant::now();
        let schedule = schedule(Some(5.0), start, 100, 1);
        assert_eq!(schedule.share(start, 2, 0.1), Share::Seconds(5.0));
        assert_eq!(schedule.share(start + Duration::from_secs(99), 2, 0.1), Share::Nothing);
        assert_eq!(schedule.share(start + Duration::from_secs(97), 2, 2.0), Share::Nothing);
    }

    #[test]
    fn a_share_is_raised_to_the_least_but_not_above_the_budget() {
        let start = Instant::now();
        let share = |budget| schedule(budget, start, 100, 1).share(start, 1000, 2.0);
        assert_eq!(share(None), Share::Seconds(2.0));
        assert_eq!(share(Some(1.0)), Share::Seconds(1.0));
    }
}
