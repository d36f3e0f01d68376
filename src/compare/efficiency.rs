//! What share of a run's spending led to its answers.
//!
//! The two measures of Chen et al. 2024 ("Do NOT think that much for 2+3=?", arXiv 2412.21187), which count the
//! tokens of a chain of thought, with seconds of wall time in place of tokens: the fit's count too.

use serde::Serialize;

use crate::arc::{Grid, Task};
use crate::candidate::Candidate;
use crate::pipeline::{TaskRecord, TestRecord};
use crate::vote::{Panel, VoteConfig, rank};

/// Means over tasks; `None` where there is nothing to take a mean of, or where a task was worked on in several visits:
/// what the earlier ones predicted is not kept, and the tasks with one visit are not like the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Efficiency {
    /// ξ_O, over the tasks with known answers: the share of a task's seconds that had been spent when the right
    /// grids first were among its two attempts; 0 for a task that is not solved in the end. A solved task's rest
    /// confirmed only what was found.
    pub outcome: Option<f64>,
    /// The same over the solved tasks alone: near 1 says that the time was needed, whatever the score is.
    pub outcome_of_solved: Option<f64>,
    /// ξ_P: the share of a task's seconds that went to predictions of grids which nothing before had proposed: neither the
    /// base model's first answer, which counts as new itself, nor an earlier view.
    pub process: Option<f64>,
}

impl Efficiency {
    /// The means over the records of these tasks. `vote` is how the attempts are chosen.
    pub fn of<'a>(
        pairs: impl Iterator<Item = (&'a Task, &'a TaskRecord)>,
        vote: &VoteConfig,
    ) -> Self {
        let (mut outcomes, mut processes) = (Vec::new(), Vec::new());
        for (task, record) in pairs {
            if record.visits() > 1 {
                return Self::default();
            }
            let answers: Option<Vec<&Grid>> =
                task.tests.iter().map(|t| t.output.as_ref()).collect();
            outcomes.extend(answers.map(|answers| spent_until_right(&answers, record, vote)));
            processes.extend(spent_on_new(record));
        }
        let solved: Vec<f64> = outcomes.iter().copied().flatten().collect();
        let all: Vec<f64> = outcomes.iter().map(|share| share.unwrap_or(0.0)).collect();
        Self { outcome: mean(&all), outcome_of_solved: mean(&solved), process: mean(&processes) }
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The share of a task's seconds after which all answers stood among the attempts; `None` if in the end they do not.
fn spent_until_right(answers: &[&Grid], record: &TaskRecord, vote: &VoteConfig) -> Option<f64> {
    let right = |attempts: &[[Grid; 2]]| {
        attempts.len() == answers.len() && attempts.iter().zip(answers).all(|(a, t)| a.contains(t))
    };
    if !right(&record.attempts) {
        return None;
    }
    let seconds = &record.seconds;
    let baseline = seconds.baseline / seconds.total.max(f64::MIN_POSITIVE);
    if record.baseline.len() == answers.len()
        && record.baseline.iter().zip(answers).all(|(a, t)| a == *t)
    {
        return Some(baseline.min(1.0));
    }
    let n_maps = record.maps.len();
    let chosen_after = |n: usize, (test, answer): (&TestRecord, &&Grid)| {
        let first: Vec<usize> = (0..n).collect();
        let candidates = record.seen_by(&first, test);
        let panel = Panel::new(&record.maps[..n], &record.experts);
        rank(&candidates, panel, vote.selector, &vote.weights)
            .iter()
            .take(2)
            .any(|ranked| candidates[ranked.candidate].grid == **answer)
    };
    let first =
        (1..n_maps).find(|&n| record.tests.iter().zip(answers).all(|pair| chosen_after(n, pair)));
    let predicted = first.unwrap_or(n_maps) as f64 / n_maps.max(1) as f64;
    let spent = seconds.baseline + seconds.fit + seconds.predict * predicted;
    Some((spent / seconds.total.max(f64::MIN_POSITIVE)).min(1.0))
}

/// The share of a task's seconds that went to new grids; `None` if nothing was predicted. A map takes its part of the time
/// of all predictions.
fn spent_on_new(record: &TaskRecord) -> Option<f64> {
    let n_maps = record.maps.len() * record.tests.len();
    if n_maps == 0 {
        return None;
    }
    let new = |(t, test): (usize, &TestRecord)| {
        let known = record.baseline.get(t);
        let is_new = |c: &&Candidate| !c.proposed_by.is_empty() && Some(&c.grid) != known;
        test.candidates.iter().filter(is_new).count()
    };
    let new: usize = record.tests.iter().enumerate().map(new).sum();
    let seconds = &record.seconds;
    let spent = seconds.baseline + seconds.predict * new as f64 / n_maps as f64;
    Some((spent / seconds.total.max(f64::MIN_POSITIVE)).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arc::Dihedral;
    use crate::compare::Reading;
    use crate::pipeline::{Part, Seconds, mock};
    use crate::vote::testing::{grid, maps, store};
    use crate::vote::{Selector, tally_votes};

    /// A record with one test whose four maps like the candidates by these percentages.
    fn record(candidates: &[(&str, &[f32])], baseline: &str) -> (Task, TaskRecord) {
        let mut task = mock::task("a");
        task.tests.truncate(1);
        let mut record = mock::record(&task.without_answers(), &mock::recipe(), 3);
        record.maps = maps(&[Dihedral::Identity; 4]);
        record.baseline = vec![grid(baseline)];
        record.seconds = Seconds { baseline: 1.0, fit: 5.0, predict: 3.0, vote: 1.0, total: 10.0 };
        let candidates = store(candidates);
        let tally = tally_votes(&candidates, &record.maps, &vote());
        record.tests = vec![TestRecord { candidates, tally, uncertainty: None, cut: vec![] }];
        (task, record)
    }

    fn vote() -> VoteConfig {
        VoteConfig { selector: Selector::Majority, ..VoteConfig::default() }
    }

    fn efficiency(answer: &str, (mut task, record): (Task, TaskRecord)) -> Efficiency {
        task.tests[0].output = Some(grid(answer));
        let record = Reading::default().of(&record, &vote());
        Efficiency::of(std::iter::once((&task, &record)), &vote())
    }

    /// Two maps propose 11 and 22, the other two 33.
    const LATE: [(&str, &[f32]); 3] = [
        ("11", &[60.0, 10.0, 10.0, 10.0]),
        ("22", &[10.0, 60.0, 10.0, 10.0]),
        ("33", &[1.0, 1.0, 60.0, 60.0]),
    ];

    #[test]
    fn an_answer_costs_what_was_spent_until_it_was_attempted() {
        let close = |a: Option<f64>, b: f64| assert!((a.unwrap() - b).abs() < 1e-9, "{a:?} {b}");
        // 33 is proposed by the third map, and has overtaken one of the others only with the fourth.
        let late = efficiency("33", record(&LATE, "9"));
        let third = efficiency("11", record(&LATE, "9"));
        assert!(late.outcome.unwrap() > third.outcome.unwrap());
        // The first map has it: baseline, fit, and a quarter of the views.
        close(third.outcome, (1.0 + 5.0 + 3.0 / 4.0) / 10.0);
        close(third.outcome_of_solved, third.outcome.unwrap());
        // The baseline had it.
        close(efficiency("11", record(&LATE, "11")).outcome, 0.1);
        // The baseline, and of the views' three seconds those of three grids from four maps.
        close(late.process, (1.0 + 3.0 * 0.75) / 10.0);
        // What the baseline has said is not new.
        close(efficiency("33", record(&LATE, "11")).process, (1.0 + 3.0 * 0.5) / 10.0);
        // A longer fit is a smaller share for the rest.
        let (task, mut longer) = record(&LATE, "9");
        (longer.seconds.fit, longer.seconds.total) = (15.0, 20.0);
        close(efficiency("33", (task, longer)).process, (1.0 + 3.0 * 0.75) / 20.0);
    }

    #[test]
    fn of_several_visits_it_is_not_known_what_the_earlier_ones_brought() {
        let ((task, once), (other, mut twice)) = (record(&LATE, "9"), record(&LATE, "9"));
        assert!(Efficiency::of(std::iter::once((&task, &once)), &vote()).process.is_some());
        twice.parts.push(Part { steps: 2, left_out: None });
        let both = [(&task, &once), (&other, &twice)].into_iter();
        assert_eq!(Efficiency::of(both, &vote()), Efficiency::default());
    }

    #[test]
    fn what_is_not_solved_has_no_outcome_and_what_is_not_known_does_not_count() {
        let unsolved = efficiency("77", record(&LATE, "9"));
        assert_eq!((unsolved.outcome, unsolved.outcome_of_solved), (Some(0.0), None));
        let (mut task, unknown) = record(&LATE, "9");
        task.tests[0].output = None;
        let unknown = Efficiency::of(std::iter::once((&task, &unknown)), &vote());
        assert_eq!((unknown.outcome, unknown.process), (None, Some(0.325)));
        assert_eq!(Efficiency::of(std::iter::empty(), &vote()), Efficiency::default());
    }
}
