//! The two-stage vote of Akyürek et al. (arXiv 2411.07279), as their code counts it.
//!
//! Stage one: the maps of each symmetry, and all maps together, each cast three votes for the three grids
//! that they propose most often. Where they propose fewer, the row majority and then the column majority
//! of their proposals stand in, even if that repeats a grid: a unanimous group casts three votes for one.
//! Stage two: the grid with most votes is first; among the next, equal votes are decided by how many maps of
//! the untransformed task propose a grid. (The code compares two such grids only, in an order that changes
//! from run to run, and loses one of several equally frequent grids of a group; here all take part.)

use std::collections::HashMap;

use super::Ranked;
use super::ballot::Ballot;
use crate::arc::{Dihedral, Grid};
use crate::candidate::{column_majority, row_majority, vote_groups};

/// All candidates by their votes.
pub(super) fn hierarchical(ballot: &Ballot<'_>) -> Vec<Ranked> {
    let candidates = ballot.candidates;
    let by_grid: HashMap<&Grid, usize> =
        candidates.iter().enumerate().map(|(i, c)| (&c.grid, i)).collect();
    let mut proposal = vec![None; ballot.maps.len()];
    for (index, candidate) in candidates.iter().enumerate() {
        for &map in &candidate.proposed_by {
            proposal[map] = Some(index);
        }
    }
    let mut votes = vec![0_u32; candidates.len()];
    let mut untransformed = vec![0.0; candidates.len()];
    for group in vote_groups(ballot.maps.iter().map(|m| m.view.dihedral)) {
        let members = ballot.proposing.iter().filter(|(map, _)| group.members.contains(map));
        let proposals: Vec<(usize, f64)> =
            members.filter_map(|&(map, weight)| Some((proposal[map]?, weight))).collect();
        for winner in three_votes(ballot, &proposals, &by_grid) {
            votes[winner] += 1;
        }
        if group.dihedral == Some(Dihedral::Identity) {
            for &(candidate, weight) in &proposals {
                untransformed[candidate] += weight;
            }
        }
    }
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by(|&a, &b| votes[b].cmp(&votes[a]).then_with(|| ballot.tie_break(a, b)));
    if let Some((_, rest)) = order.split_first_mut() {
        rest.sort_by(|&a, &b| {
            let by_votes = votes[b].cmp(&votes[a]);
            let by_identity = untransformed[b].total_cmp(&untransformed[a]);
            by_votes.then(by_identity).then_with(|| ballot.tie_break(a, b))
        });
    }
    let ranked = |&candidate: &usize| Ranked { candidate, score: votes[candidate] as f32 };
    order.iter().map(ranked).collect()
}

/// The candidates for which a group with these proposals (and their weights) votes. A majority grid that is
/// no candidate gets its vote lost.
fn three_votes(
    ballot: &Ballot<'_>,
    proposals: &[(usize, f64)],
    by_grid: &HashMap<&Grid, usize>,
) -> Vec<usize> {
    let mut counts: Vec<(usize, f64)> = Vec::new();
    for &(candidate, weight) in proposals {
        match counts.iter_mut().find(|(other, _)| *other == candidate) {
            Some((_, count)) => *count += weight,
            None => counts.push((candidate, weight)),
        }
    }
    counts.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| ballot.tie_break(a.0, b.0)));
    let mut votes: Vec<Option<usize>> = counts.iter().take(3).map(|&(c, _)| Some(c)).collect();
    if votes.is_empty() || votes.len() == 3 {
        return votes.into_iter().flatten().collect();
    }
    let grids: Vec<&Grid> = proposals.iter().map(|&(c, _)| &ballot.candidates[c].grid).collect();
    let find = |grid: Option<Grid>| grid.and_then(|grid| by_grid.get(&grid).copied());
    let (rows, columns) = (find(row_majority(&grids)), find(column_majority(&grids)));
    while votes.len() < 3 {
        votes.push(if votes.contains(&rows) { columns } else { rows });
    }
    votes.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arc::Dihedral::{FlipRows, Identity, Rotate90};
    use crate::candidate::Candidate;
    use crate::vote::testing::{maps, store};
    use crate::vote::{FormatWeights, Selector, rank};

    fn votes(candidates: &[Candidate], dihedrals: &[Dihedral]) -> Vec<(usize, f32)> {
        let maps = maps(dihedrals);
        let ranked = rank(candidates, &maps, Selector::Hierarchical, &FormatWeights::default());
        ranked.iter().map(|r| (r.candidate, r.score)).collect()
    }

    #[test]
    fn a_unanimous_group_votes_three_times_for_its_grid() {
        let candidates = store(&[("11", &[60.0, 60.0, 5.0]), ("22", &[10.0, 10.0, 50.0])]);
        // All: 11, 22 and the row majority 11, which is there, so the column majority 11 again.
        // Identity: three times 11. Quarter turn: three times 22.
        let expected = [(0, 1.0 + 1.0 + 3.0), (1, 1.0 + 3.0)];
        assert_eq!(votes(&candidates, &[Identity, Identity, Rotate90]), expected);
    }

    #[test]
    fn a_group_of_two_grids_also_votes_for_its_majority_rows_or_columns() {
        let mut candidates = store(&[
            ("11/33", &[60.0, 10.0]),
            ("22/00", &[10.0, 50.0]),
            ("11/00", &[1.0, 1.0]), // the smaller of the rows
        ]);
        let maps = [Identity; 2];
        assert_eq!(votes(&candidates, &maps), [(0, 2.0), (1, 2.0), (2, 2.0)]);
        // A majority that is no candidate loses its vote, and does not pass it on.
        candidates.pop();
        assert_eq!(votes(&candidates, &maps), [(0, 2.0), (1, 2.0)]);
        // If the rows give one of the two grids, it is the columns' turn, which may repeat it.
        let repeated = store(&[("11/22", &[60.0, 60.0, 10.0]), ("13/23", &[10.0, 10.0, 60.0])]);
        assert_eq!(votes(&repeated, &[Identity; 3]), [(0, 4.0), (1, 2.0)]);
        let columns = store(&[
            ("01/00", &[60.0, 10.0]), // also the smaller of the rows
            ("10/11", &[10.0, 50.0]),
            ("00/01", &[1.0, 1.0]), // the smaller of the columns
        ]);
        assert_eq!(votes(&columns, &maps), [(0, 2.0), (1, 2.0), (2, 2.0)]);
        // Three grids need no majority.
        let three = store(&[
            ("11", &[60.0, 1.0, 1.0]),
            ("12", &[1.0, 50.0, 1.0]),
            ("13", &[1.0, 1.0, 40.0]),
        ]);
        assert_eq!(votes(&three, &[Identity; 3]), [(0, 2.0), (1, 2.0), (2, 2.0)]);
    }

    #[test]
    fn equal_votes_for_the_second_rank_go_to_the_untransformed_task() {
        let candidates = store(&[
            ("11", &[5.0, 60.0, 5.0, 60.0]),
            ("22", &[5.0, 20.0, 70.0, 20.0]),
            ("33", &[40.0, 1.0, 1.0, 1.0]),
        ]);
        let ranked = votes(&candidates, &[Identity, Rotate90, FlipRows, Rotate90]);
        // Each has one vote of all maps and three of its own symmetry. The product prefers 22, 11, 33, and
        // decides the first rank; 33 is second as the proposal for the task itself.
        assert_eq!(ranked, [(1, 4.0), (2, 4.0), (0, 4.0)]);
    }
}
