//! The rules by which candidates are ranked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ballot::{Ballot, Panel};
use super::hierarchical::hierarchical;
use crate::arc::N_COLORS;
use crate::candidate::Candidate;

/// A rule that ranks candidates. `P_j(s)` is the probability of candidate `s` under map `j`, one of those that score.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Selector {
    /// Number of maps that propose it.
    Majority,
    /// Three votes of each symmetry's maps and of all maps together, then a vote among these
    /// (Akyürek et al., arXiv 2411.07279, as the reference code counts it).
    Hierarchical,
    /// `Σ_j P_j(s)`, the default recipe's.
    #[default]
    Sum,
    /// `Π_j P_j(s)`: the product of experts (Franzen et al., arXiv 2505.07859).
    Product,
    /// `min_j P_j(s)`.
    Min,
    /// `max_j P_j(s)`.
    Max,
    /// Number of maps that have it among their best grids, plus `mean_j log P_j(s)` (NVARC, Kaggle 2025).
    CountMeanLog,
    /// `mean_j P_j(s)^(1 / cells)` over all maps that score: how sure they are of a cell of it, by the geometric mean of its
    /// cells. Weighted majority adds up this weight over the maps that propose `s` alone; here what the other maps think
    /// of it counts as well, whoever proposes it.
    Confidence,
    /// `Σ_j P_j(s) / Σ_t P_j(t)`: each map spreads one vote over the candidates. Minimum Bayes risk where
    /// only the exact grid counts.
    MbrExact,
    /// `Σ_t P(t) × (share of cells in which s equals t)` with `P` of [`Selector::MbrExact`]: minimum Bayes
    /// risk where each cell counts. From the second rank on, the first is taken to be wrong.
    MbrCells,
    /// The pair that most probably has the right grid, where with equal chances either the maps are independent
    /// witnesses (`Π_j P_j(s)`) or one of them alone is right ([`Selector::MbrExact`]). If the first attempt is wrong,
    /// the second speaks for the views that never believed in it, and is no near-copy by default.
    Pair,
}

impl Selector {
    /// All rules.
    pub const ALL: [Selector; 11] = [
        Selector::Majority,
        Selector::Hierarchical,
        Selector::Sum,
        Selector::Product,
        Selector::Min,
        Selector::Max,
        Selector::CountMeanLog,
        Selector::Confidence,
        Selector::MbrExact,
        Selector::MbrCells,
        Selector::Pair,
    ];
}

/// How much the maps of each format count. All rules but [`Selector::Min`] and [`Selector::Max`] multiply by
/// it; these two only leave out what counts nothing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FormatWeights {
    /// Weight of an in-context map, at least 0.
    pub icl: f32,
    /// Weight of an end-to-end map, at least 0.
    pub e2e: f32,
}

impl Default for FormatWeights {
    fn default() -> Self {
        Self { icl: 1.0, e2e: 1.0 }
    }
}

/// A candidate's place in a ranking.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ranked {
    /// Index of the candidate.
    pub candidate: usize,
    /// What the rule says of it; higher is better. Products, sums, minima and maxima are logarithms.
    pub score: f32,
}

/// All candidates, the best first.
///
/// Equals are ordered by the product of experts and then as the store has them.
///
/// # Panics
/// If a candidate does not have one log-probability for each map of the panel that scores.
pub fn rank<'a>(
    candidates: &'a [Candidate],
    panel: impl Into<Panel<'a>>,
    selector: Selector,
    weights: &FormatWeights,
) -> Vec<Ranked> {
    rank_ballot(&Ballot::new(candidates, panel.into(), weights), selector)
}

/// [`rank`] of a ballot that is prepared already.
pub(super) fn rank_ballot(ballot: &Ballot<'_>, selector: Selector) -> Vec<Ranked> {
    if selector == Selector::Hierarchical {
        return hierarchical(ballot);
    }
    let scores = scores(ballot, selector);
    let mut order: Vec<usize> = (0..scores.len()).collect();
    let by_score = |scores: &[f64], a: usize, b: usize| {
        scores[b].total_cmp(&scores[a]).then_with(|| ballot.tie_break(a, b))
    };
    order.sort_by(|&a, &b| by_score(&scores, a, b));
    let mut ranked: Vec<Ranked> = order
        .iter()
        .map(|&candidate| Ranked { candidate, score: scores[candidate] as f32 })
        .collect();
    if selector == Selector::MbrCells
        && let Some((first, rest)) = ranked.split_first_mut()
    {
        let mut mass = ballot.shares.clone();
        mass[first.candidate] = 0.0;
        let scores = expected_agreement(ballot, &mass);
        rest.sort_by(|a, b| by_score(&scores, a.candidate, b.candidate));
        for ranked in rest {
            ranked.score = scores[ranked.candidate] as f32;
        }
    }
    ranked
}

/// What a rule says of each candidate.
fn scores(ballot: &Ballot<'_>, selector: Selector) -> Vec<f64> {
    let total = ballot.total_weight();
    let of_each = |score: &dyn Fn(usize, &Candidate) -> f64| {
        ballot.candidates.iter().enumerate().map(|(i, c)| score(i, c)).collect()
    };
    match selector {
        Selector::Majority => of_each(&|_, c| ballot.weight(&c.proposed_by)),
        Selector::Hierarchical => unreachable!("it is no score of single candidates"),
        Selector::Sum => of_each(&|i, _| log_sum(|| ballot.log_probs(i))),
        Selector::Product => ballot.product.clone(),
        Selector::Min => {
            of_each(&|i, _| ballot.log_probs(i).map(|(l, _)| l).fold(f64::INFINITY, f64::min))
        }
        Selector::Max => {
            of_each(&|i, _| ballot.log_probs(i).map(|(l, _)| l).fold(f64::NEG_INFINITY, f64::max))
        }
        Selector::CountMeanLog => of_each(&|i, c| {
            let count = ballot.weight(&c.proposed_by) + ballot.weight(&c.found_by);
            count + ballot.product[i] / total
        }),
        Selector::Confidence => of_each(&|i, c| {
            let cells = c.grid.cells().len() as f64;
            ballot.log_probs(i).map(|(l, w)| w * (l / cells).exp()).sum::<f64>() / total
        }),
        Selector::MbrExact => ballot.shares.clone(),
        Selector::MbrCells => expected_agreement(ballot, &ballot.shares),
        Selector::Pair => {
            let witnesses = normalized(&ballot.product);
            of_each(&|i, _| (witnesses[i] + ballot.shares[i]) / 2.0)
        }
    }
}

/// Probabilities in proportion to the exponentials of these.
fn normalized(logs: &[f64]) -> Vec<f64> {
    let top = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logs.iter().map(|log| (log - top).exp()).sum();
    logs.iter().map(|log| (log - top).exp() / sum).collect()
}

/// `ln Σ w exp(l)` without overflow or underflow.
fn log_sum<I: Iterator<Item = (f64, f64)>>(terms: impl Fn() -> I) -> f64 {
    let top = terms().map(|(l, _)| l).fold(f64::NEG_INFINITY, f64::max);
    if top == f64::NEG_INFINITY {
        return top;
    }
    top + terms().map(|(l, w)| w * (l - top).exp()).sum::<f64>().ln()
}

/// The expected share of cells in which each candidate equals the truth, if the truth is a candidate with
/// probability `mass`; a grid of another shape has no cell right.
fn expected_agreement(ballot: &Ballot<'_>, mass: &[f64]) -> Vec<f64> {
    // Agreement is a sum over cells, so that one table of masses a shape replaces all pairs of candidates.
    let mut tables: BTreeMap<(usize, usize), Vec<[f64; N_COLORS]>> = BTreeMap::new();
    for (candidate, &mass) in ballot.candidates.iter().zip(mass) {
        let cells = candidate.grid.cells();
        let table = tables
            .entry(candidate.grid.shape())
            .or_insert_with(|| vec![[0.0; N_COLORS]; cells.len()]);
        for (cell, &color) in table.iter_mut().zip(cells) {
            cell[usize::from(color)] += mass;
        }
    }
    let agreement = |candidate: &Candidate| {
        let cells = candidate.grid.cells();
        let table = &tables[&candidate.grid.shape()];
        let agreed = table.iter().zip(cells).map(|(cell, &color)| cell[usize::from(color)]);
        agreed.sum::<f64>() / cells.len() as f64
    };
    ballot.candidates.iter().map(agreement).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arc::Dihedral::{self, FlipRows, Identity, Rotate90, Rotate180, Transpose};
    use crate::candidate::MapMeta;
    use crate::dataset::Format;
    use crate::vote::testing::{maps, store};

    fn winner(candidates: &[Candidate], maps: &[MapMeta], selector: Selector) -> usize {
        rank(candidates, maps, selector, &FormatWeights::default())[0].candidate
    }

    /// Asserts that `selector` alone chooses candidate `chosen`.
    fn check(selector: Selector, chosen: usize, dihedrals: &[Dihedral], candidates: &[Candidate]) {
        let maps = maps(dihedrals);
        for other in Selector::ALL {
            let winner = winner(candidates, &maps, other);
            assert_eq!(winner == chosen, other == selector, "{selector:?}: {other:?} has {winner}");
        }
    }

    #[test]
    fn every_rule_has_a_case_that_no_other_decides_in_its_way() {
        let on = [Identity; 4];
        // Two maps prefer 11, but only just, and the others think nothing of it.
        let two_of_four = store(&[
            ("11", &[40.0, 40.0, 1.0, 1.0]),
            ("22", &[35.0, 35.0, 90.0, 40.0]),
            ("33", &[1.0, 1.0, 1.0, 50.0]),
        ]);
        check(Selector::Majority, 0, &on, &two_of_four);
        // Four maps of one symmetry against three of three.
        let by_symmetry = store(&[
            ("11", &[90.0, 90.0, 90.0, 90.0, 30.0, 30.0, 30.0]),
            ("22", &[1.0, 1.0, 1.0, 1.0, 40.0, 40.0, 40.0]),
        ]);
        let four = [Identity, Identity, Identity, Identity, Rotate90, FlipRows, Transpose];
        check(Selector::Hierarchical, 1, &four, &by_symmetry);
        let sum = store(&[("13", &[40.0, 5.0, 10.0]), ("3", &[20.0, 39.0, 1.0])]);
        check(Selector::Sum, 1, &on[..3], &sum);
        let product = store(&[("3", &[5.0, 11.0]), ("2", &[30.0, 2.0]), ("1", &[50.0, 1.0])]);
        check(Selector::Product, 1, &on[..2], &product);
        check(Selector::Min, 0, &on[..2], &store(&[("21", &[2.0, 2.0]), ("3", &[60.0, 1.0])]));
        check(Selector::Max, 0, &on[..2], &store(&[("111", &[5.0, 60.0]), ("31", &[50.0, 30.0])]));
        // Proposed by nobody, but among the best of every map.
        let mut found = store(&[
            ("11", &[20.0, 20.0, 5.0]),
            ("22", &[50.0, 15.0, 30.0]),
            ("33", &[1.0, 60.0, 1.0]),
            ("44", &[1.0, 1.0, 60.0]),
        ]);
        found[0].found_by = vec![0, 1, 2];
        check(Selector::CountMeanLog, 0, &on[..3], &found);
        let long = store(&[("312", &[1.0, 70.0]), ("2", &[90.0, 1.0])]);
        check(Selector::Confidence, 0, &on[..2], &long);
        let exact = store(&[("232", &[5.0, 3.0]), ("231", &[11.0, 1.0]), ("313", &[1.0, 10.0])]);
        check(Selector::MbrExact, 2, &on[..2], &exact);
        let cells = store(&[("12", &[2.0, 60.0]), ("22", &[20.0, 2.0]), ("23", &[30.0, 20.0])]);
        check(Selector::MbrCells, 1, &on[..2], &cells);
        let pair = store(&[
            ("2", &[15.0, 15.0]),
            ("312", &[20.0, 2.0]),
            ("13", &[20.0, 11.0]),
            ("22", &[3.0, 50.0]),
        ]);
        check(Selector::Pair, 2, &on[..2], &pair);
    }

    #[test]
    fn the_second_rank_of_cells_takes_the_first_to_be_wrong() {
        // 112 is almost 111. If 111 is wrong, what speaks for 112 is wrong as well.
        let candidates = store(&[("111", &[50.0]), ("112", &[10.0]), ("333", &[20.0])]);
        let maps = maps(&[Identity]);
        let ranks = |selector| -> Vec<usize> {
            let ranked = rank(&candidates, &maps, selector, &FormatWeights::default());
            ranked.iter().map(|r| r.candidate).collect()
        };
        assert_eq!(ranks(Selector::MbrCells), [0, 2, 1]);
        let near = store(&[("111", &[50.0]), ("112", &[19.0]), ("122", &[10.0]), ("333", &[20.0])]);
        let ranked = rank(&near, &maps, Selector::MbrCells, &FormatWeights::default());
        assert_eq!(ranked[1].candidate, 1);
        let total = 0.99;
        let expected = (0.19 + 0.10 * 2.0 / 3.0) / total;
        assert!((ranked[1].score - expected).abs() < 1e-6);
    }

    #[test]
    fn scores_are_what_the_rules_say() {
        let candidates = store(&[("11", &[50.0, 20.0]), ("22", &[10.0, 40.0])]);
        let check = |selector, expected: f32| {
            let ranked = rank(&candidates, &maps(&[Identity; 2]), selector, &Default::default());
            let score = ranked.iter().find(|r| r.candidate == 0).unwrap().score;
            assert!((score - expected).abs() < 1e-5, "{selector:?}: {score} for {expected}");
        };
        check(Selector::Majority, 1.0);
        check(Selector::Sum, 0.7_f32.ln());
        check(Selector::Product, 0.1_f32.ln());
        check(Selector::Min, 0.2_f32.ln());
        check(Selector::Max, 0.5_f32.ln());
        check(Selector::CountMeanLog, 1.0 + 0.1_f32.ln() / 2.0);
        check(Selector::Confidence, (0.5_f32.sqrt() + 0.2_f32.sqrt()) / 2.0);
        check(Selector::MbrExact, (5.0 / 6.0 + 2.0 / 6.0) / 2.0);
        let (product, share) = (0.1 / 0.14, (5.0 / 6.0 + 2.0 / 6.0) / 2.0);
        check(Selector::Pair, (product + share) / 2.0);
    }

    #[test]
    fn weights_scale_the_formats() {
        let candidates = store(&[("11", &[60.0, 10.0]), ("22", &[10.0, 50.0])]);
        let mut maps = maps(&[Identity; 2]);
        maps[1].format = Format::E2e;
        let winner = |selector, icl, e2e| {
            rank(&candidates, &maps, selector, &FormatWeights { icl, e2e })[0].candidate
        };
        for selector in Selector::ALL {
            assert_eq!(winner(selector, 1.0, 0.0), 0, "{selector:?}");
            assert_eq!(winner(selector, 0.0, 1.0), 1, "{selector:?}");
            assert_eq!(winner(selector, 0.0, 0.0), winner(selector, 1.0, 1.0), "{selector:?}");
        }
        for selector in [Selector::Majority, Selector::Sum, Selector::MbrExact] {
            assert_eq!(winner(selector, 1.0, 3.0), 1, "{selector:?}");
            assert_eq!(winner(selector, 3.0, 1.0), 0, "{selector:?}");
        }
    }

    #[test]
    fn equals_go_to_the_product_and_then_to_the_store() {
        let twins = store(&[
            ("11", &[20.0, 30.0]),
            ("22", &[30.0, 20.0]),
            ("33", &[30.0, 20.0]),
            ("44", &[5.0, 5.0]),
        ]);
        let maps = maps(&[Identity, Rotate180]);
        for selector in [Selector::Sum, Selector::Product, Selector::Min, Selector::Max] {
            let ranked = rank(&twins, &maps, selector, &FormatWeights::default());
            let order: Vec<usize> = ranked.iter().map(|r| r.candidate).collect();
            assert_eq!(order, [0, 1, 2, 3], "{selector:?}");
        }
        // Equal in the worst map, but not in the product.
        let uneven = store(&[("11", &[20.0, 20.0]), ("22", &[30.0, 20.0])]);
        assert_eq!(winner(&uneven, &maps, Selector::Min), 1);
    }

    #[test]
    fn improbable_grids_are_still_told_apart() {
        // Probabilities far below what a float holds.
        let mut candidates = store(&[("11", &[1.0, 1.0]), ("22", &[1.0, 1.0])]);
        candidates[0].log_probs = vec![-900.0, -2000.0];
        candidates[1].log_probs = vec![-899.0, crate::candidate::IMPOSSIBLE];
        let maps = maps(&[Identity; 2]);
        assert_eq!(winner(&candidates, &maps, Selector::Sum), 1);
        assert_eq!(winner(&candidates, &maps, Selector::Product), 0);
        for selector in Selector::ALL {
            let ranked = rank(&candidates, &maps, selector, &FormatWeights::default());
            assert!(ranked.iter().all(|r| r.score.is_finite()), "{selector:?}");
        }
    }

    #[test]
    fn the_second_of_a_pair_is_what_the_dissenters_say() {
        // Two maps are sure of 111, and think 112 the next best; one believes in neither.
        let candidates = store(&[
            ("111", &[90.0, 90.0, 1.0]),
            ("112", &[9.0, 9.0, 5.0]),
            ("33", &[0.1, 0.1, 80.0]),
        ]);
        let ranks = |selector| -> Vec<usize> {
            let ranked = rank(&candidates, &maps(&[Identity; 3]), selector, &Default::default());
            ranked.iter().map(|r| r.candidate).collect()
        };
        assert_eq!(ranks(Selector::Product), [0, 1, 2]);
        assert_eq!(ranks(Selector::Pair), [0, 2, 1]);
    }

    proptest! {
        #[test]
        fn no_pair_is_more_probably_right_than_the_best_pair(
            percent in prop::collection::vec(prop::collection::vec(1..40_u8, 4), 2..6),
            e2e in prop::collection::vec(any::<bool>(), 4),
        ) {
            let rows: Vec<Vec<f32>> =
                percent.iter().map(|r| r.iter().map(|&p| f32::from(p)).collect()).collect();
            let names = ["11", "12", "31", "1/2", "22"];
            let named: Vec<(&str, &[f32])> =
                names.iter().copied().zip(rows.iter().map(Vec::as_slice)).collect();
            let candidates = store(&named);
            let mut maps = maps(&[Identity, Rotate90, FlipRows, Transpose]);
            for (map, e2e) in maps.iter_mut().zip(e2e) {
                map.format = if e2e { Format::E2e } else { Format::Icl };
            }
            let weights = FormatWeights { icl: 1.0, e2e: 0.5 };
            let weight = |map: &MapMeta| if map.format == Format::E2e { 0.5 } else { 1.0 };
            // Every way in which the truth may have come about, with its probability.
            let probability = |grid: usize, map: usize| f64::from(rows[grid][map]) / 100.0;
            let together = |grid: usize| -> f64 {
                (0..4).map(|map| probability(grid, map).powf(weight(&maps[map]))).product()
            };
            let all: f64 = (0..rows.len()).map(together).sum();
            let total: f64 = maps.iter().map(weight).sum();
            let truth = |grid: usize| {
                let alone = (0..4).map(|map| {
                    let sum: f64 = (0..rows.len()).map(|other| probability(other, map)).sum();
                    weight(&maps[map]) / total * probability(grid, map) / sum
                });
                0.5 * together(grid) / all + 0.5 * alone.sum::<f64>()
            };
            let ranked = rank(&candidates, &maps, Selector::Pair, &weights);
            let chosen = truth(ranked[0].candidate) + truth(ranked[1].candidate);
            for a in 0..rows.len() {
                for b in 0..a {
                    prop_assert!(truth(a) + truth(b) <= chosen + 1e-6, "{a} {b}");
                }
            }
        }

        #[test]
        fn no_rule_looks_at_the_order_of_the_maps(
            percent in prop::collection::vec(prop::collection::vec(1..40_u8, 6), 2..6),
            views in prop::collection::vec(crate::arc::strategies::view(3), 6),
            e2e in prop::collection::vec(any::<bool>(), 6),
            order in Just((0..6_usize).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let rows: Vec<Vec<f32>> =
                percent.iter().map(|r| r.iter().map(|&p| f32::from(p)).collect()).collect();
            let names = ["11", "12", "31", "1/2", "22", "3"];
            let named: Vec<(&str, &[f32])> =
                names.iter().copied().zip(rows.iter().map(Vec::as_slice)).collect();
            let candidates = store(&named);
            let maps: Vec<MapMeta> = views.into_iter().zip(e2e).map(|(view, e2e)| MapMeta {
                view,
                format: if e2e { Format::E2e } else { Format::Icl },
            }).collect();
            prop_assume!((0..6).all(|i| !maps[..i].contains(&maps[i])));
            let shuffled: Vec<MapMeta> = order.iter().map(|&i| maps[i].clone()).collect();
            let moved: Vec<Candidate> = candidates.iter().map(|c| {
                let by = (0..6).filter(|&new| c.proposed_by.contains(&order[new]));
                Candidate {
                    proposed_by: by.collect(),
                    log_probs: order.iter().map(|&i| c.log_probs[i]).collect(),
                    ..c.clone()
                }
            }).collect();
            let weights = FormatWeights { icl: 0.7, e2e: 1.1 };
            for selector in Selector::ALL {
                prop_assert_eq!(
                    rank(&candidates, &maps, selector, &weights),
                    rank(&moved, &shuffled, selector, &weights)
                );
            }
        }
    }
}
