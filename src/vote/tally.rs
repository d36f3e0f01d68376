//! The outcome of a vote, and what the report keeps of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ballot::{Ballot, Panel};
use super::selector::rank_ballot;
use super::{FormatWeights, Ranked, Selector};
use crate::arc::Grid;
use crate::candidate::Candidate;

/// Settings of the vote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VoteConfig {
    /// The rule that chooses the attempts. All others are tallied for comparison.
    pub selector: Selector,
    /// How much the maps of each format count.
    pub weights: FormatWeights,
    /// Ranks of each rule that the record keeps, at least 2.
    pub keep_ranks: usize,
}

impl Default for VoteConfig {
    fn default() -> Self {
        Self { selector: Selector::default(), weights: FormatWeights::default(), keep_ranks: 5 }
    }
}

/// What every rule made of the candidates of one test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// The rule that chose the attempts.
    pub selector: Selector,
    /// The first ranks of every rule; candidates by their index, where their views stand too.
    pub ranks: BTreeMap<Selector, Vec<Ranked>>,
}

impl Tally {
    /// The two attempts under the rule that was chosen, as `two_attempts` has them.
    pub fn attempts(&self, candidates: &[Candidate], fallback: &Grid) -> [Grid; 2] {
        self.attempts_by(self.selector, candidates, fallback)
    }

    /// The two attempts under any rule, for comparison.
    pub fn attempts_by(
        &self,
        selector: Selector,
        candidates: &[Candidate],
        fallback: &Grid,
    ) -> [Grid; 2] {
        let ranking = self.ranks.get(&selector).map_or(&[][..], Vec::as_slice);
        two_attempts(ranking, candidates, fallback)
    }
}

/// Ranks the candidates by every rule.
///
/// # Panics
/// If a candidate does not have one log-probability for each map of the panel that scores.
pub fn tally_votes<'a>(
    candidates: &'a [Candidate],
    panel: impl Into<Panel<'a>>,
    config: &VoteConfig,
) -> Tally {
    let ballot = Ballot::new(candidates, panel.into(), &config.weights);
    let ranks = Selector::ALL.map(|selector| {
        let mut ranked = rank_ballot(&ballot, selector);
        ranked.truncate(config.keep_ranks.max(2));
        (selector, ranked)
    });
    Tally { selector: config.selector, ranks: ranks.into_iter().collect() }
}

/// The grids of the two highest ranks.
///
/// A lone candidate is attempted twice, and with none both attempts are `fallback`.
fn two_attempts(ranking: &[Ranked], candidates: &[Candidate], fallback: &Grid) -> [Grid; 2] {
    let grid = |rank: usize| ranking.get(rank).map(|r| &candidates[r.candidate].grid);
    let first = grid(0).unwrap_or(fallback);
    [first.clone(), grid(1).unwrap_or(first).clone()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arc::Dihedral::Identity;
    use crate::vote::testing::{grid, maps, store};

    #[test]
    fn attempts_differ_whenever_there_are_two_candidates() {
        let fallback = grid("000");
        let candidates = store(&[("11", &[90.0]), ("22", &[1.0])]);
        let tally = tally_votes(&candidates, &maps(&[Identity]), &VoteConfig::default());
        for selector in Selector::ALL {
            let attempts = tally.attempts_by(selector, &candidates, &fallback);
            assert_eq!(attempts, [grid("11"), grid("22")], "{selector:?}");
        }
        let lone = store(&[("11", &[90.0])]);
        let tally = tally_votes(&lone, &maps(&[Identity]), &VoteConfig::default());
        assert_eq!(tally.attempts(&lone, &fallback), [grid("11"), grid("11")]);
        let tally = tally_votes(&[], &maps(&[]), &VoteConfig::default());
        assert_eq!(tally.attempts(&[], &fallback), [fallback.clone(), fallback]);
    }

    #[test]
    fn the_chosen_rule_makes_the_attempts() {
        let candidates = store(&[("21", &[2.0, 2.0]), ("3", &[60.0, 1.0])]);
        let first = |selector| {
            let config = VoteConfig { selector, ..Default::default() };
            let tally = tally_votes(&candidates, &maps(&[Identity; 2]), &config);
            tally.attempts(&candidates, &grid("0"))[0].clone()
        };
        assert_eq!(first(Selector::Product), grid("3"));
        assert_eq!(first(Selector::Min), grid("21"));
    }

    #[test]
    fn fresh_maps_score_what_others_propose() {
        // The maps that propose hold with 11, each of the fresh ones with 22.
        let mut candidates = store(&[("11", &[90.0, 90.0]), ("22", &[1.0, 1.0])]);
        for (candidate, log_prob) in candidates.iter_mut().zip([-5.0, -0.1]) {
            candidate.log_probs = vec![log_prob; 3];
        }
        let (proposing, fresh) = (maps(&[Identity; 2]), maps(&[Identity; 3]));
        let panel = Panel::new(&proposing, &fresh);
        let tally = tally_votes(&candidates, panel, &VoteConfig::default());
        let first = |selector| tally.ranks[&selector][0];
        assert_eq!(first(Selector::Product).candidate, 1);
        assert!((first(Selector::Product).score + 0.3).abs() < 1e-6);
        for selector in [Selector::Majority, Selector::Hierarchical] {
            assert_eq!(first(selector).candidate, 0, "{selector:?}");
        }
        // Two have found 11, and three say what they think of it.
        let scores = tally.ranks[&Selector::CountMeanLog].iter().map(|ranked| ranked.score);
        assert_eq!(scores.map(|score| (score * 10.0).round()).collect::<Vec<_>>(), [-1.0, -30.0]);
    }

    #[test]
    fn a_tally_keeps_the_first_ranks_and_comes_back_from_json() {
        let candidates = store(&[("1", &[40.0]), ("2", &[30.0]), ("3", &[20.0]), ("4", &[5.0])]);
        let config = VoteConfig { keep_ranks: 3, ..Default::default() };
        let tally = tally_votes(&candidates, &maps(&[Identity]), &config);
        assert_eq!(tally.ranks.len(), Selector::ALL.len());
        assert!(tally.ranks.values().all(|ranks| ranks.len() == 3));
        let text = serde_json::to_string(&tally).unwrap();
        assert_eq!(serde_json::from_str::<Tally>(&text).unwrap(), tally);
    }
}
