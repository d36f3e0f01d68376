//! When further views are not worth their time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Predictions;
use crate::arc::Grid;

/// When predicting ends before all views are done. Views count as votes for what they propose; the rule is asked
/// between calls of the model, which predicts eight views at once, and every test of a task must have settled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ViewStop {
    /// Never.
    #[default]
    Never,
    /// When the remaining views, all together, could not bring a third grid among the two that most views propose. They are
    /// what the unweighted majority attempts; another vote may still choose otherwise. Views that all agree leave the second
    /// open, and go on.
    Decided,
    /// When the first grid is the likelier one of the first two with 95 % probability: of a share of votes with the
    /// prior Beta(1, 1), seen `v₁` times against `v₂`, at least 95 % of the mass is above one half
    /// (adaptive consistency, Aggarwal et al. 2023, arXiv 2305.11860).
    Beta,
}

/// What [`ViewStop::Beta`] asks for.
const CONFIDENCE: f64 = 0.95;

impl ViewStop {
    /// Whether predicting may end after these predictions of one test, when `remaining` are still to come.
    pub fn is_settled(self, predictions: &Predictions, remaining: usize) -> bool {
        self != Self::Never && self.settles(&votes(&predictions.proposals()), remaining)
    }

    /// The same of the numbers of votes that the grids of one test have, in any order.
    pub fn settles(self, votes: &[usize], remaining: usize) -> bool {
        let mut votes = votes.to_vec();
        votes.sort_unstable_by(|a, b| b.cmp(a));
        let [first, second, third] = [0, 1, 2].map(|rank| votes.get(rank).copied().unwrap_or(0));
        match self {
            Self::Never => false,
            Self::Decided => second > third + remaining,
            Self::Beta => probability_above_half(first, second) >= CONFIDENCE,
        }
    }
}

/// How many of the proposals each distinct grid has.
fn votes(proposals: &[Grid]) -> Vec<usize> {
    let mut votes: BTreeMap<&Grid, usize> = BTreeMap::new();
    for grid in proposals {
        *votes.entry(grid).or_default() += 1;
    }
    votes.into_values().collect()
}

/// The mass above one half of Beta(a + 1, b + 1): that of at most `a` heads among `a + b + 1` throws of a fair coin.
fn probability_above_half(a: usize, b: usize) -> f64 {
    let n = a + b + 1;
    let mut probability = 0.5_f64.powi(n as i32);
    let mut sum = 0.0;
    for heads in 0..=a {
        sum += probability;
        probability *= (n - heads) as f64 / (heads + 1) as f64;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::super::testing::sure_map;
    use super::*;
    use crate::arc::View;
    use crate::vote::testing::grid;

    #[test]
    fn the_beta_rule_is_the_integral_of_its_density() {
        for (a, b) in [(0, 0), (3, 0), (4, 0), (5, 2), (7, 7), (40, 25)] {
            let density = |p: f64| p.powi(a as i32) * (1.0 - p).powi(b as i32);
            let n = 200_000;
            let sum =
                |from: usize| (from..n).map(|i| density((i as f64 + 0.5) / n as f64)).sum::<f64>();
            let exact = sum(n / 2) / sum(0);
            assert!((probability_above_half(a, b) - exact).abs() < 1e-6, "{a} {b}");
        }
    }

    #[test]
    fn each_rule_ends_where_it_says() {
        let maps = |texts: &[&str]| {
            let map = |text: &&str| sure_map(View::IDENTITY, &grid(text), 0.9);
            Predictions::Cells(texts.iter().map(map).collect())
        };
        let three = maps(&["12", "12", "12"]);
        let four = maps(&["12", "12", "12", "12"]);
        let split = maps(&["12", "12", "12", "12", "21"]);
        assert!(!ViewStop::Never.is_settled(&four, 0));
        // 1 − 2⁻⁴ and 1 − 2⁻⁵.
        assert!(!ViewStop::Beta.is_settled(&three, 100) && ViewStop::Beta.is_settled(&four, 100));
        assert!(!ViewStop::Beta.is_settled(&split, 100));
        assert!(!ViewStop::Beta.is_settled(&Predictions::default(), 0));
    }

    /// Whether some way to cast `remaining` more votes, for these grids or new ones, changes the two with the most votes
    /// or leaves a tie for the second place.
    fn can_change(votes: &[usize], remaining: usize) -> bool {
        if remaining == 0 {
            let least = votes[..2].iter().min();
            return votes[2..].iter().max() >= least;
        }
        (0..=votes.len()).any(|grid| {
            let mut later = votes.to_vec();
            later.resize(votes.len().max(grid + 1), 0);
            later[grid] += 1;
            can_change(&later, remaining - 1)
        })
    }

    #[test]
    fn decided_says_that_no_later_view_can_change_which_two_grids_most_views_propose() {
        let (mut settled, mut open) = (0, 0);
        for first in 0..8 {
            for second in 0..=first {
                for third in 0..=second {
                    for remaining in 0..4 {
                        let votes = [first, second, third];
                        let decided = ViewStop::Decided.settles(&votes, remaining);
                        let expected = !can_change(&votes, remaining);
                        assert_eq!(decided, expected, "{votes:?}, {remaining} to come");
                        if decided { settled += 1 } else { open += 1 }
                    }
                }
            }
        }
        assert!(settled > 50 && open > 50, "{settled} {open}");
        // The first grid is safe here, and the second is not.
        assert!(!ViewStop::Decided.settles(&[9, 1], 2) && !ViewStop::Decided.settles(&[10], 2));
    }
}
