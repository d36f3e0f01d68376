//! When further views are not worth their time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Predictions;

/// When predicting ends before all views are done. Views count as votes for what they propose; the rule is asked
/// between calls of the model, and every test of a task must have settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ViewStop {
    /// Never.
    Never,
    /// When the remaining views, all together, could not give another grid more votes than the first.
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
        if self == Self::Never {
            return false;
        }
        let mut votes = BTreeMap::new();
        for grid in predictions.proposals() {
            *votes.entry(grid).or_insert(0_usize) += 1;
        }
        if votes.is_empty() {
            return false;
        }
        let mut counts: Vec<usize> = votes.into_values().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let (first, second) = (counts[0], counts.get(1).copied().unwrap_or(0));
        match self {
            Self::Never => false,
            Self::Decided => first > second + remaining,
            Self::Beta => probability_above_half(first, second) >= CONFIDENCE,
        }
    }
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
        assert!(
            ViewStop::Decided.is_settled(&three, 2) && !ViewStop::Decided.is_settled(&three, 3)
        );
        assert!(
            ViewStop::Decided.is_settled(&split, 2) && !ViewStop::Decided.is_settled(&split, 3)
        );
        // 1 − 2⁻⁴ and 1 − 2⁻⁵.
        assert!(!ViewStop::Beta.is_settled(&three, 100) && ViewStop::Beta.is_settled(&four, 100));
        assert!(!ViewStop::Beta.is_settled(&split, 100));
        assert!(!ViewStop::Beta.is_settled(&Predictions::default(), 0));
    }
}
