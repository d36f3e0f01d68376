//! From the maps of one test to its distinct candidates.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::NBestConfig;
use super::cell_map::{CellMap, IMPOSSIBLE, Shape};
use super::majority::{column_majority, row_majority};
use super::prediction::Proposals;
use super::prepared::PreparedMap;
use super::score::score_prepared;
use crate::arc::{Color, Dihedral, Grid, MAX_SIDE, N_COLORS};

/// Settings of [`collect_candidates`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CandidateConfig {
    /// Grids that each map may add to its proposal.
    pub n_best: NBestConfig,
    /// Add the cell-wise product of all maps.
    pub product: bool,
    /// Add the row and column majorities, which only the hierarchical vote of the paper asks for.
    pub majorities: bool,
    /// Largest number of candidates, at least 1; those that no map proposes go first.
    pub max_candidates: usize,
    /// Views beside those of the maps, under which alone the candidates are scored (Franzen et al., arXiv
    /// 2505.07859, use 16): a map is no judge of what it has found itself. With 0 the maps score them.
    pub fresh_views: usize,
}

impl Default for CandidateConfig {
    fn default() -> Self {
        Self {
            n_best: NBestConfig::default(),
            product: true,
            majorities: true,
            max_candidates: 400,
            fresh_views: 0,
        }
    }
}

/// A grid that may be the answer, in the task's frame, with everything that a vote needs to know of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The grid.
    pub grid: Grid,
    /// Indices of the maps whose proposal it is.
    pub proposed_by: Vec<usize>,
    /// Indices of the further maps that have it among their most probable grids.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub found_by: Vec<usize>,
    /// It is the cell-wise product of all maps.
    #[serde(skip_serializing_if = "is_false", default)]
    pub product: bool,
    /// It is the row or column majority of the proposals, of all or of one symmetry.
    #[serde(skip_serializing_if = "is_false", default)]
    pub majority: bool,
    /// Its log-probability under each map that scores, in nats, rounded to thousandths: what the record keeps is
    /// what the vote saw.
    pub log_probs: Vec<f32>,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl Candidate {
    /// A candidate that nobody has proposed yet.
    fn new(grid: Grid) -> Self {
        Self {
            grid,
            proposed_by: Vec::new(),
            found_by: Vec::new(),
            product: false,
            majority: false,
            log_probs: Vec::new(),
        }
    }

    /// What some of the maps know of it, which are counted anew in the order given, with these of its scores; `None` if
    /// they have not found it. What blends all maps is not theirs to know.
    pub fn as_seen_by(&self, maps: &[usize], scores: &[usize]) -> Option<Self> {
        let among = |all: &[usize]| {
            let place = |(place, map): (usize, &usize)| all.contains(map).then_some(place);
            maps.iter().enumerate().filter_map(place).collect()
        };
        let seen = Self {
            proposed_by: among(&self.proposed_by),
            found_by: among(&self.found_by),
            log_probs: scores.iter().map(|&score| self.log_probs[score]).collect(),
            ..Self::new(self.grid.clone())
        };
        (!seen.proposed_by.is_empty() || !seen.found_by.is_empty()).then_some(seen)
    }
}

/// The distinct candidates of one test, each scored under every map.
///
/// Their order does not depend on the order of the maps: by number of proposals, then blends of maps, then
/// the highest log-probability under a map that has it among its best, then the grid itself.
pub fn collect_candidates(maps: &[CellMap], config: &CandidateConfig) -> Vec<Candidate> {
    let maps: Vec<PreparedMap> = maps.iter().map(PreparedMap::new).collect();
    let mut found = BTreeMap::new();
    let mut proposals = Vec::with_capacity(maps.len());
    for (index, map) in maps.iter().enumerate() {
        proposals.push(add_best(&mut found, index, map, &config.n_best));
    }
    if config.product
        && let Some(product) = product_of_maps(&maps)
    {
        entry(&mut found, &product).0.product = true;
    }
    if config.majorities {
        let proposals: Vec<Option<&Grid>> = proposals.iter().map(Some).collect();
        add_majorities(&mut found, maps.iter().map(|m| m.map.view.dihedral), &proposals);
    }
    let mut candidates = in_order(found, config);
    let scores = score_prepared(&maps, &candidates.iter().map(|c| &c.grid).collect::<Vec<_>>());
    for (candidate, scores) in candidates.iter_mut().zip(scores) {
        candidate.log_probs = scores.into_iter().map(rounded).collect();
    }
    candidates
}

/// The distinct grids among the proposals for one test, in the same order, without scores: what a proposal does not
/// say is the model's to say ([`add_scores`]).
///
/// `config.n_best.limit` holds for the grids that each may add to its first; the other settings of
/// `config.n_best`, and the product, belong to cell maps.
pub fn merge_proposals(proposals: &[Proposals], config: &CandidateConfig) -> Vec<Candidate> {
    let mut found = BTreeMap::new();
    for (index, proposals) in proposals.iter().enumerate() {
        for (rank, (grid, log_prob)) in proposals.grids.iter().enumerate() {
            if rank > config.n_best.limit {
                break;
            }
            let (candidate, best) = entry(&mut found, grid);
            *best = best.max(*log_prob);
            if rank == 0 { &mut candidate.proposed_by } else { &mut candidate.found_by }
                .push(index);
        }
    }
    if config.majorities {
        let firsts: Vec<Option<&Grid>> =
            proposals.iter().map(|p| p.grids.first().map(|(grid, _)| grid)).collect();
        let dihedrals = proposals.iter().map(|p| p.meta.view.dihedral);
        add_majorities(&mut found, dihedrals, &firsts);
    }
    in_order(found, config)
}

/// Adds what one more map says of each candidate.
///
/// # Panics
/// If there is not one log-probability for each.
pub fn add_scores(candidates: &mut [Candidate], log_probs: Vec<f32>) {
    assert_eq!(candidates.len(), log_probs.len(), "one for each candidate");
    for (candidate, log_prob) in candidates.iter_mut().zip(log_probs) {
        candidate.log_probs.push(rounded(log_prob));
    }
}

/// Forgets who has found a candidate among the maps from `n_maps` on, for those have not scored it.
pub fn forget_maps(candidates: &mut [Candidate], n_maps: usize) {
    for candidate in candidates {
        candidate.proposed_by.retain(|&map| map < n_maps);
        candidate.found_by.retain(|&map| map < n_maps);
    }
}

/// Adds the majorities of all proposals and of those of each symmetry.
fn add_majorities(
    found: &mut Found,
    dihedrals: impl Iterator<Item = Dihedral> + Clone,
    proposals: &[Option<&Grid>],
) {
    for group in vote_groups(dihedrals) {
        let grids: Vec<&Grid> = group.members.iter().filter_map(|&i| proposals[i]).collect();
        for grid in [row_majority(&grids), column_majority(&grids)].into_iter().flatten() {
            entry(found, &grid).0.majority = true;
        }
    }
}

/// The candidates that are kept, in the order that [`collect_candidates`] states.
fn in_order(found: Found, config: &CandidateConfig) -> Vec<Candidate> {
    let mut found: Vec<(Candidate, f32)> = found.into_values().collect();
    // The sort is stable, and the grids are in order already.
    found.sort_by(|(a, best_of_a), (b, best_of_b)| {
        let key = |c: &Candidate| (c.proposed_by.len(), c.product || c.majority);
        key(b).cmp(&key(a)).then(best_of_b.total_cmp(best_of_a))
    });
    found.truncate(config.max_candidates.max(1));
    found.into_iter().map(|(candidate, _)| candidate).collect()
}

/// Candidates by grid, with the highest log-probability under a map that has them among its best.
type Found = BTreeMap<Grid, (Candidate, f32)>;

/// Adds the best grids of a map and returns the very best, its proposal.
fn add_best(found: &mut Found, index: usize, map: &PreparedMap, config: &NBestConfig) -> Grid {
    // One more than asked for, as the proposal is usually among them.
    let wanted = if config.limit > 0 { config.limit + 1 } else { 0 };
    let (proposal, n_best) = map.n_best(&NBestConfig { limit: wanted, ..config.clone() });
    entry(found, &proposal).0.proposed_by.push(index);
    let mut left = config.limit;
    for (grid, log_prob) in n_best {
        let is_proposal = grid == proposal;
        if !is_proposal && left == 0 {
            break;
        }
        let (candidate, best) = entry(found, &grid);
        *best = best.max(log_prob);
        if !is_proposal {
            candidate.found_by.push(index);
            left -= 1;
        }
    }
    proposal
}

/// What is known of a grid, new or old.
fn entry<'a>(found: &'a mut Found, grid: &Grid) -> &'a mut (Candidate, f32) {
    if !found.contains_key(grid) {
        found.insert(grid.clone(), (Candidate::new(grid.clone()), IMPOSSIBLE));
    }
    found.get_mut(grid).expect("it was just put there")
}

/// To thousandths of a nat, which JSON writes in few digits. It has no way to write what is not a number, and a model whose
/// sums have overflowed says just that.
fn rounded(log_prob: f32) -> f32 {
    if !log_prob.is_finite() {
        return IMPOSSIBLE;
    }
    (f64::from(log_prob) * 1000.0).round() as f32 / 1000.0 + 0.0
}

/// Maps that vote together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoteGroup {
    /// The symmetry of all its views, or `None` for the group of all maps.
    pub dihedral: Option<Dihedral>,
    /// Indices of its maps.
    pub members: Vec<usize>,
}

/// The groups of the paper's vote, those that have a map: all maps, then the maps of each symmetry.
pub fn vote_groups(dihedrals: impl Iterator<Item = Dihedral> + Clone) -> Vec<VoteGroup> {
    let names = std::iter::once(None).chain(Dihedral::ALL.map(Some));
    let groups = names.map(|dihedral| {
        let members = dihedrals.clone().enumerate();
        let members = members.filter(|&(_, d)| dihedral.is_none_or(|wanted| wanted == d));
        VoteGroup { dihedral, members: members.map(|(index, _)| index).collect() }
    });
    groups.filter(|group| !group.members.is_empty()).collect()
}

/// The grid that has in each cell the color with the highest product of probabilities over all maps, in the
/// shape for which the same holds.
fn product_of_maps(maps: &[PreparedMap]) -> Option<Grid> {
    let shape = shape_of_product(maps)?;
    let mut sums = vec![[0.0_f64; N_COLORS]; shape.0 * shape.1];
    for placed in maps.iter().filter_map(|map| map.place(shape)) {
        for (sums, cell) in sums.iter_mut().zip(placed.cells()) {
            for (sum, &log_prob) in sums.iter_mut().zip(cell) {
                *sum += f64::from(log_prob);
            }
        }
    }
    let best = |sums: &[f64; N_COLORS]| {
        (1..N_COLORS).fold(0, |best, c| if sums[c] > sums[best] { c } else { best }) as Color
    };
    let cells = sums.iter().map(best).collect();
    Some(Grid::from_cells(shape.0, shape.1, cells).expect("a legal shape and colors"))
}

/// The shape, in the task's frame, that most maps can hold and that is most probable under their product.
fn shape_of_product(maps: &[PreparedMap]) -> Option<Shape> {
    let mut totals = vec![(0_usize, 0.0_f64); MAX_SIDE * MAX_SIDE];
    for map in maps {
        let task_frame = map.map.view.dihedral.inverse();
        for &(shown, log_prob) in &map.shapes {
            let (height, width) = task_frame.apply_shape(shown);
            let (holders, total) = &mut totals[(height - 1) * MAX_SIDE + width - 1];
            *holders += 1;
            *total += log_prob;
        }
    }
    let better = |a: (usize, f64), b: (usize, f64)| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).is_gt();
    let best = (1..totals.len()).fold(0, |x, y| if better(totals[y], totals[x]) { y } else { x });
    (totals[best].0 > 0).then_some((best / MAX_SIDE + 1, best % MAX_SIDE + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arc::{View, strategies};
    use crate::candidate::testing::{forced_map, open_map, sure_map};

    /// Nothing but the proposals.
    fn bare() -> CandidateConfig {
        let n_best = NBestConfig { limit: 0, ..Default::default() };
        CandidateConfig { n_best, product: false, majorities: false, ..Default::default() }
    }

    #[test]
    fn what_is_no_number_is_stored_as_impossible() {
        let stored = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.12345].map(rounded);
        assert_eq!(stored, [IMPOSSIBLE, IMPOSSIBLE, IMPOSSIBLE, -0.123]);
    }

    #[test]
    fn some_maps_know_only_what_they_found() {
        let candidate = Candidate {
            proposed_by: vec![2],
            found_by: vec![0, 3],
            product: true,
            majority: true,
            log_probs: vec![-1.0, -2.0, -3.0, -4.0],
            ..Candidate::new(Grid::filled(1, 1, 0))
        };
        let seen = candidate.as_seen_by(&[0, 1], &[0, 1]).unwrap();
        assert_eq!((seen.proposed_by, seen.found_by), (vec![], vec![0]));
        assert_eq!((seen.log_probs, seen.product), (vec![-1.0, -2.0], false));
        let seen = candidate.as_seen_by(&[1, 2], &[1, 2]).unwrap();
        assert_eq!((seen.proposed_by, seen.found_by), (vec![1], vec![]));
        assert_eq!(seen.log_probs, [-2.0, -3.0]);
        let later = Candidate { found_by: vec![3], ..candidate };
        assert_eq!(later.as_seen_by(&[0, 1], &[0, 1]), None);
    }

    proptest! {
        #[test]
        fn one_grid_seen_from_everywhere_is_one_candidate(
            grid in strategies::grid(6),
            views in prop::collection::vec(strategies::view(3), 1..12),
        ) {
            let maps: Vec<CellMap> =
                views.into_iter().map(|view| sure_map(view, &grid, 0.9)).collect();
            let candidates = collect_candidates(&maps, &bare());
            prop_assert_eq!(candidates.len(), 1);
            prop_assert_eq!(&candidates[0].grid, &grid);
            prop_assert_eq!(&candidates[0].proposed_by, &(0..maps.len()).collect::<Vec<_>>());
            // All blends of unanimous maps are the same grid again.
            let all = collect_candidates(&maps, &CandidateConfig { n_best: bare().n_best, ..Default::default() });
            prop_assert_eq!(all.len(), 1);
            prop_assert!(all[0].product && all[0].majority);
        }

        #[test]
        fn every_candidate_is_scored_under_every_map(
            maps in prop::collection::vec(prop_oneof![open_map(4), forced_map(4)], 1..6),
        ) {
            let candidates = collect_candidates(&maps, &CandidateConfig::default());
            for candidate in &candidates {
                prop_assert_eq!(candidate.log_probs.len(), maps.len());
                for (map, &kept) in maps.iter().zip(&candidate.log_probs) {
                    let expected = map.log_prob(&candidate.grid);
                    prop_assert!((kept - expected).abs() < 2e-3, "{kept} for {expected}");
                }
            }
            let proposals: usize = candidates.iter().map(|c| c.proposed_by.len()).sum();
            prop_assert_eq!(proposals, maps.len());
            for (index, map) in maps.iter().enumerate() {
                let own = candidates.iter().find(|c| c.proposed_by.contains(&index)).unwrap();
                prop_assert_eq!(&own.grid, &map.proposal());
                prop_assert!(!own.found_by.contains(&index));
            }
        }

        #[test]
        fn the_order_of_the_maps_does_not_matter(
            maps in prop::collection::vec(prop_oneof![open_map(4), forced_map(4)], 1..6),
            seed: u64,
        ) {
            use rand::seq::SliceRandom;
            let mut order: Vec<usize> = (0..maps.len()).collect();
            order.shuffle(&mut crate::rng::stream(seed, "", "", 0));
            let shuffled: Vec<CellMap> = order.iter().map(|&i| maps[i].clone()).collect();
            let before = collect_candidates(&maps, &CandidateConfig::default());
            let after = collect_candidates(&shuffled, &CandidateConfig::default());
            prop_assert_eq!(before.len(), after.len());
            for (before, after) in before.iter().zip(&after) {
                prop_assert_eq!(&before.grid, &after.grid);
                let mut by: Vec<usize> = after.proposed_by.iter().map(|&i| order[i]).collect();
                by.sort();
                prop_assert_eq!(&before.proposed_by, &by);
                for (new, &old) in order.iter().enumerate() {
                    prop_assert_eq!(before.log_probs[old], after.log_probs[new]);
                }
            }
        }

        #[test]
        fn the_product_is_the_best_grid_of_all_maps_together(
            shape in (1..4_usize, 1..4_usize),
            views in prop::collection::vec(strategies::view(3), 1..5),
            cells in prop::collection::vec(prop::array::uniform11(-6.0_f32..3.0), 9 * 4),
            flip: prop::sample::Index,
            color in 0..10_u8,
        ) {
            let maps: Vec<CellMap> = views.into_iter().enumerate().map(|(i, view)| {
                let shown = view.dihedral.apply_shape(shape);
                let mine = &cells[i * 9..][..shown.0 * shown.1];
                CellMap {
                    view,
                    format: crate::dataset::Format::Icl,
                    height: shown.0,
                    width: shown.1,
                    log_probs: mine.iter().map(|&c| crate::candidate::testing::normalized(c)).collect(),
                    shape: Some(shown),
                }
            }).collect();
            let product = product_of_maps(&maps.iter().map(PreparedMap::new).collect::<Vec<_>>()).unwrap();
            let total = |grid: &Grid| maps.iter().map(|m| m.log_prob(grid)).sum::<f32>();
            let i = flip.index(product.cells().len());
            let mut other = product.clone();
            other.set(i / product.width(), i % product.width(), color);
            prop_assert!(total(&other) <= total(&product) + 1e-3);
        }
    }

    #[test]
    fn the_product_can_be_a_grid_that_no_map_proposes() {
        let first = Grid::from_rows(&[[1, 2]]).unwrap();
        let second = Grid::from_rows(&[[3, 4]]).unwrap();
        let mut maps =
            vec![sure_map(View::IDENTITY, &first, 0.6), sure_map(View::IDENTITY, &second, 0.6)];
        // Each is surer of another cell.
        maps[0].log_probs[0] = sure_map(View::IDENTITY, &first, 0.99).log_probs[0];
        maps[1].log_probs[1] = sure_map(View::IDENTITY, &second, 0.99).log_probs[1];
        let candidates = collect_candidates(&maps, &CandidateConfig { product: true, ..bare() });
        let product = candidates.iter().find(|c| c.product).unwrap();
        assert_eq!(product.grid, Grid::from_rows(&[[1, 4]]).unwrap());
        assert!(product.proposed_by.is_empty());
    }

    #[test]
    fn what_no_map_proposes_gives_way_first() {
        let grid = Grid::from_rows(&[[1, 2, 3]]).unwrap();
        let other = Grid::from_rows(&[[4, 5, 6]]).unwrap();
        let maps = [sure_map(View::IDENTITY, &grid, 0.4), sure_map(View::IDENTITY, &other, 0.4)];
        let all = collect_candidates(&maps, &CandidateConfig::default());
        assert!(all.len() > 4);
        let config = CandidateConfig { max_candidates: 2, ..Default::default() };
        let kept = collect_candidates(&maps, &config);
        assert_eq!(kept, all[..2]);
        assert!(kept.iter().all(|c| c.proposed_by.len() == 1));
    }

    #[test]
    fn what_only_one_map_finds_comes_in_the_order_of_that_map() {
        let grid = Grid::from_rows(&[[9, 8, 7]]).unwrap();
        let mut map = sure_map(View::IDENTITY, &grid, 0.4);
        for (i, color) in [5, 0, 3].into_iter().enumerate() {
            map.log_probs[i][color] += 0.2 * (i as f32 + 1.0);
        }
        let config = CandidateConfig { n_best: NBestConfig::default(), ..bare() };
        let candidates = collect_candidates(&[map], &config);
        assert_eq!(candidates.len(), 7);
        let log_probs: Vec<f32> = candidates.iter().map(|c| c.log_probs[0]).collect();
        assert!(log_probs.is_sorted_by(|a, b| a >= b), "{log_probs:?}");
        assert!(candidates[1..].iter().all(|c| c.found_by == [0]));
    }

    #[test]
    fn a_record_is_compact_and_comes_back_equal() {
        let maps = [
            sure_map(View::IDENTITY, &Grid::filled(1, 1, 3), 0.7),
            sure_map(View::IDENTITY, &Grid::filled(1, 2, 3), 0.7),
        ];
        let candidates = collect_candidates(&maps, &bare());
        assert_eq!(candidates[0].log_probs[1], IMPOSSIBLE);
        let text = serde_json::to_string(&candidates[0]).unwrap();
        assert_eq!(text, r#"{"grid":[[3]],"proposed_by":[0],"log_probs":[-0.357,-1000000.0]}"#);
        assert_eq!(serde_json::from_str::<Candidate>(&text).unwrap(), candidates[0]);
    }
}
