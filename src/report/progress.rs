//! How right a run would have been had it ended sooner: what its records say of less time and of fewer views.

use crate::arc::Task;
use crate::candidate::Candidate;
use crate::compare::{AfterViews, Reading, numbers_of_views};
use crate::pipeline::TaskRecord;
use crate::vote::VoteConfig;

use super::facts::{Facts, TaskFacts};

/// What the answer to a task is worth at some moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Moment {
    /// Seconds since the work on the task began.
    pub seconds: f64,
    /// Views predicted; 0 for the base model's answer.
    pub views: usize,
    /// The first attempt at every test is right.
    pub pass_at_1: bool,
    /// Either attempt at every test is right.
    pub pass_at_2: bool,
    /// The truth of every test is among the candidates.
    pub oracle: bool,
}

/// The share of tasks, 0 to 1, whose answer is right after so many seconds of work on each: `(seconds, share)` where it
/// changes, in order of time. Empty if no answer is known.
///
/// Before its fit a task is answered by the base model; views are taken to come evenly while they are predicted. Of a task
/// that was worked on in several visits, whose earlier views are not kept, the base model's answer stands until the last.
pub(super) fn against_time(facts: &Facts<'_>) -> Vec<(f64, f64)> {
    let known = facts.tasks.iter().filter(|task| task.score.solved().is_some()).count();
    let mut changes: Vec<(f64, i64)> = Vec::new();
    for task in &facts.tasks {
        let mut was = false;
        let is_dated = |moment: &Moment| {
            let views = task.record.filter(|r| r.visits() > 1).map(|record| record.views);
            moment.views == 0 || views.is_none_or(|all| moment.views == all)
        };
        for moment in moments(task, &facts.side.recipe.vote).into_iter().filter(is_dated) {
            if moment.pass_at_2 != was {
                changes.push((moment.seconds, if was { -1 } else { 1 }));
                was = moment.pass_at_2;
            }
        }
    }
    changes.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut right = 0;
    let mut points = Vec::new();
    for (seconds, change) in changes {
        right += change;
        points.push((seconds, right as f64 / known.max(1) as f64));
    }
    let end = facts.records().map(|record| record.seconds.total).max_by(f64::total_cmp);
    let last = points.last().map_or(0.0, |point| point.1);
    points.extend(end.filter(|_| known > 0).map(|end| (end, last)));
    points
}

/// The shares of tasks that are right after 1, 2, 4, .. views, up to the most that any task had. Empty if no answer is
/// known or there was but one view.
pub(super) fn against_views(facts: &Facts<'_>) -> Vec<AfterViews> {
    let known: Vec<_> = facts.tasks.iter().filter(|task| task.score.solved().is_some()).collect();
    let moments: Vec<_> = known.iter().map(|task| moments(task, &facts.side.recipe.vote)).collect();
    let most = moments.iter().flatten().map(|moment| moment.views).max().unwrap_or(0);
    if most < 2 {
        return Vec::new();
    }
    let at = |views: usize| {
        let share = |right: fn(&Moment) -> bool| {
            let is_right = |moments: &&Vec<Moment>| {
                let last = moments.iter().rev().find(|m| m.views > 0 && m.views <= views);
                last.is_some_and(right)
            };
            moments.iter().filter(is_right).count() as f64 / known.len() as f64
        };
        AfterViews {
            views,
            pass_at_1: share(|m| m.pass_at_1),
            pass_at_2: share(|m| m.pass_at_2),
            oracle: share(|m| m.oracle),
        }
    };
    numbers_of_views(most).into_iter().map(at).collect()
}

/// The moments at which a task's answer may have changed; none if an answer is not known.
fn moments(facts: &TaskFacts<'_>, vote: &VoteConfig) -> Vec<Moment> {
    let (Some(record), Some(solved)) = (facts.record, facts.score.solved()) else {
        return Vec::new();
    };
    let truths = facts.task.tests.iter().map(|test| test.output.as_ref());
    let baseline = record.baseline.len() == facts.task.tests.len()
        && record.baseline.iter().zip(truths).all(|(answer, truth)| Some(answer) == truth);
    let mut moments = vec![Moment {
        seconds: record.seconds.baseline,
        views: 0,
        pass_at_1: baseline,
        pass_at_2: baseline,
        oracle: baseline,
    }];
    let all = record.views;
    for views in numbers_of_views(all).into_iter().filter(|&views| views < all) {
        moments.extend(after(views, record, facts.task, vote));
    }
    moments.push(Moment {
        seconds: record.seconds.total,
        views: all,
        pass_at_1: facts.score.tests.iter().all(|test| test.pass_at_1 == Some(true)),
        pass_at_2: solved,
        oracle: facts.score.tests.iter().all(|test| test.oracle == Some(true)),
    });
    moments
}

/// What the first `views` views alone would have come to; `None` without predictions.
fn after(views: usize, record: &TaskRecord, task: &Task, vote: &VoteConfig) -> Option<Moment> {
    let reading = Reading { views: Some(views), ..Reading::default() };
    let read = reading.of(record, vote);
    let seconds = &read.seconds;
    let mut moment = Moment {
        seconds: seconds.baseline + seconds.fit + seconds.predict,
        views,
        pass_at_1: true,
        pass_at_2: true,
        oracle: true,
    };
    for (t, test) in read.tests.iter().enumerate() {
        let truth = task.tests[t].output.as_ref()?;
        let attempts = &read.attempts[t];
        moment.pass_at_1 &= attempts[0] == *truth;
        moment.pass_at_2 &= attempts.contains(truth);
        let is_truth = |candidate: &Candidate| candidate.grid == *truth;
        moment.oracle &= attempts.contains(truth) || test.candidates.iter().any(is_truth);
    }
    (!read.tests.is_empty()).then_some(moment)
}

#[cfg(test)]
mod tests {
    use super::super::testing::side;
    use super::*;
    use crate::arc::Grid;
    use crate::pipeline::Part;

    #[test]
    fn the_last_moment_is_the_score_of_the_run() {
        let side = side("run", &["a", "b", "c"], &["a", "c"]);
        let facts = Facts::of(&side);
        let strict = facts.score.pass_at_2.strict.unwrap();
        assert_eq!(strict, 2.0 / 3.0);
        let time = against_time(&facts);
        assert!(time.is_sorted_by(|a, b| a.0 <= b.0) && time[0].0 > 0.0, "{time:?}");
        assert_eq!(time.last().unwrap().1, strict);
        let views = against_views(&facts);
        let counts: Vec<_> = views.iter().map(|point| point.views).collect();
        assert_eq!(counts, [1, 2, 4, 8, 16]);
        assert_eq!(views.last().unwrap().pass_at_2, strict);
        // The first view of the mock answers as most of them do.
        assert_eq!(views[0].pass_at_1, strict);
        assert!(views.iter().all(|p| p.pass_at_1 <= p.pass_at_2 && p.pass_at_2 <= p.oracle));
    }

    #[test]
    fn of_several_visits_the_answer_is_dated_when_the_last_has_ended() {
        let mut side = side("run", &["a"], &["a"]);
        let record = side.run.records.get_mut("a").unwrap();
        (record.seconds.baseline, record.seconds.total) = (1.0, 10.0);
        (record.seconds.fit, record.seconds.predict) = (4.0, 4.0);
        record.baseline.fill(Grid::filled(1, 7, 4));
        assert!(against_time(&Facts::of(&side))[0].0 < 10.0, "the first views have it");
        let part = Part { steps: 2, left_out: None };
        side.run.records.get_mut("a").unwrap().parts.push(part);
        let facts = Facts::of(&side);
        assert_eq!(against_time(&facts), [(10.0, 1.0), (10.0, 1.0)]);
        // The views themselves are those of the last visit.
        assert_eq!(against_views(&facts).len(), 5);
    }

    #[test]
    fn what_was_not_reached_never_becomes_right() {
        let mut side = side("run", &["a", "b"], &["a", "b"]);
        side.run.records.remove("b");
        let facts = Facts::of(&side);
        assert_eq!(against_time(&facts).last().unwrap().1, 0.5);
        assert_eq!(against_views(&facts).last().unwrap().pass_at_2, 0.5);
        side.run.records.clear();
        assert_eq!(against_time(&Facts::of(&side)), []);
    }
}
