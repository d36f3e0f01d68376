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

/// By the demonstrations that the fitted model reproduced in the last held-out check.
pub(super) fn by_check(facts: &Facts<'_>) -> Vec<Bin> {
    let labels = ["none", "some", "all"].map(str::to_owned);
    let bin = |task: &TaskFacts<'_>| {
        let check = task.record?.check?;
        Some(match check.exact {
            0 => 0,
            n if n < check.of => 1,
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
