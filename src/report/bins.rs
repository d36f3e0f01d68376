//! Accuracy by what makes a task hard.

use super::facts::{Facts, TaskFacts};
use crate::effort::Difficulty;

/// Tasks that have something in common, and how many of them are solved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bin {
    /// What they have in common.
    pub label: String,
    /// How many of them are solved.
    pub solved: usize,
    /// How many there are whose answers are known.
    pub of: usize,
}

/// The upper bounds, inclusive, of the bins of the largest side of a task's grids.
const SIDES: [usize; 5] = [5, 10, 15, 20, 30];

/// The upper bounds of the bins of the share of views that agree; the last takes 1 too.
const AGREEMENT: [f64; 5] = [0.2, 0.4, 0.6, 0.8, 1.0];

/// By the largest height or width among the grids that the solver has seen.
pub(super) fn by_size(facts: &Facts<'_>) -> Vec<Bin> {
    let labels = SIDES.iter().enumerate().map(|(i, &side)| {
        let from = if i == 0 { 1 } else { SIDES[i - 1] + 1 };
        format!("{from}–{side}")
    });
    let side = |task: &TaskFacts<'_>| SIDES.iter().position(|&s| task.task.largest_side() <= s);
    fill(facts, labels.collect(), side)
}

/// By the share of the views that propose the first attempt: whether the run knows what it knows.
pub(super) fn by_agreement(facts: &Facts<'_>) -> Vec<Bin> {
    let labels = AGREEMENT.iter().enumerate().map(|(i, share)| {
        let from = if i == 0 { 0.0 } else { AGREEMENT[i - 1] };
        format!("{:.0}–{:.0} %", 100.0 * from, 100.0 * share)
    });
    let bin = |task: &TaskFacts<'_>| {
        let share = task.agreement?;
        let last = AGREEMENT.len() - 1;
        Some(AGREEMENT.iter().position(|&high| share < high).unwrap_or(last))
    };
    fill(facts, labels.collect(), bin)
}

/// By how hard the run took a task to be.
pub(super) fn by_difficulty(facts: &Facts<'_>) -> Vec<Bin> {
    let labels = Difficulty::ALL.map(|difficulty| difficulty.name().to_owned());
    let bin = |task: &TaskFacts<'_>| {
        let difficulty = task.record?.difficulty?;
        Difficulty::ALL.iter().position(|other| *other == difficulty)
    };
    fill(facts, labels.into(), bin)
}

/// By what was reproduced of what the fit had not seen: the predictions of the demonstration that was held out, or else the
/// demonstrations of the last check, each from the others.
pub(super) fn by_check(facts: &Facts<'_>) -> Vec<Bin> {
    let labels = ["none", "some", "all"].map(str::to_owned);
    let bin = |task: &TaskFacts<'_>| {
        let record = task.record?;
        let held_out = record.held_out.map(|held_out| (held_out.exact, held_out.of));
        let (exact, of) = held_out.or(record.check.map(|check| (check.exact, check.of)))?;
        Some(match exact {
            0 => 0,
            n if n < of => 1,
            _ => 2,
        })
    };
    fill(facts, labels.into(), bin)
}

/// Counts the tasks whose answers are known into the bins that `bin` says; others are left out.
fn fill(
    facts: &Facts<'_>,
    labels: Vec<String>,
    bin: impl Fn(&TaskFacts<'_>) -> Option<usize>,
) -> Vec<Bin> {
    let mut bins: Vec<_> =
        labels.into_iter().map(|label| Bin { label, solved: 0, of: 0 }).collect();
    for task in &facts.tasks {
        if let (Some(solved), Some(bin)) = (task.score.solved(), bin(task)) {
            bins[bin].of += 1;
            bins[bin].solved += usize::from(solved);
        }
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::super::testing::side;
    use super::*;
    use crate::engine::Check;
    use crate::pipeline::HeldOut;

    #[test]
    fn a_held_out_demonstration_goes_before_the_check_of_a_fit() {
        let mut side = side("run", &["a", "b", "c"], &["a"]);
        let records = &mut side.run.records;
        let held_out = |exact| HeldOut { demonstration: 0, steps: 9, exact, of: 8, solved: false };
        for id in ["a", "b", "c"] {
            records.get_mut(id).unwrap().check = Some(Check { exact: 3, of: 3 });
        }
        records.get_mut("b").unwrap().held_out = Some(held_out(0));
        records.get_mut("c").unwrap().held_out = Some(held_out(5));
        let bins = by_check(&Facts::of(&side));
        let counts: Vec<_> = bins.iter().map(|bin| (bin.solved, bin.of)).collect();
        assert_eq!(counts, [(0, 1), (0, 1), (1, 1)]);
        // End-to-end fits have no check, and were not in the chart.
        let record = side.run.records.get_mut("c").unwrap();
        (record.check, record.held_out) = (None, Some(held_out(8)));
        assert_eq!(by_check(&Facts::of(&side))[2].of, 2);
    }
}
