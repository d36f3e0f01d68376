//! Log-probabilities of many grids under many maps at once.
//!
//! The sums are those of [`CellMap::log_prob`]. They are made grid shape by grid shape from a table of a few
//! cells at a time, in which the maps lie side by side: a candidate then adds whole rows of the table, and
//! both table and sums stay in the cache.

use std::collections::BTreeMap;

use super::cell_map::{CellMap, IMPOSSIBLE, Placement};
use crate::arc::{Grid, N_COLORS};

/// Maps that are added up together.
const LANES: usize = 16;

/// Cells in the table.
const BLOCK: usize = 8;

/// The log-probability of every grid (in the task's frame) under every map: `[grid][map]`, as
/// [`CellMap::log_prob`].
pub fn score_grids(maps: &[CellMap], grids: &[&Grid]) -> Vec<Vec<f32>> {
    let mut scores = vec![vec![IMPOSSIBLE; maps.len()]; grids.len()];
    let mut by_shape: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
    for (index, grid) in grids.iter().enumerate() {
        by_shape.entry(grid.shape()).or_default().push(index);
    }
    for (shape, members) in by_shape {
        let holders: Vec<(usize, Placement)> =
            maps.iter().enumerate().filter_map(|(j, map)| Some((j, map.place(shape)?))).collect();
        if holders.is_empty() {
            continue;
        }
        let outside: Vec<f32> =
            holders.iter().map(|&(j, _)| maps[j].log_pad_outside(shape) as f32).collect();
        let sums = sums_inside(maps, &holders, shape, grids, &members);
        let stride = sums.len() / members.len();
        for (sums, &grid) in sums.chunks_exact(stride).zip(&members) {
            for ((&inside, &outside), &(j, _)) in sums.iter().zip(&outside).zip(&holders) {
                scores[grid][j] = inside + outside;
            }
        }
    }
    scores
}

/// Sums of the colors' log-probabilities inside the grids: `[member][holder]`, the holders padded to whole
/// lanes.
fn sums_inside(
    maps: &[CellMap],
    holders: &[(usize, Placement)],
    shape: (usize, usize),
    grids: &[&Grid],
    members: &[usize],
) -> Vec<f32> {
    let stride = holders.len().next_multiple_of(LANES);
    let mut sums = vec![0.0_f32; members.len() * stride];
    let mut table = vec![0.0_f32; BLOCK * N_COLORS * stride];
    let n_cells = shape.0 * shape.1;
    for start in (0..n_cells).step_by(BLOCK) {
        let cells = start..(start + BLOCK).min(n_cells);
        for (rows, cell) in table.chunks_exact_mut(N_COLORS * stride).zip(cells.clone()) {
            for (lane, &(j, placement)) in holders.iter().enumerate() {
                let map = &maps[j];
                let shown = map.log_colors(placement.index(cell / shape.1, cell % shape.1));
                for (color, &shown_as) in map.view.colors.table().iter().enumerate() {
                    rows[color * stride + lane] = shown[usize::from(shown_as)];
                }
            }
        }
        for (sums, &grid) in sums.chunks_exact_mut(stride).zip(members) {
            let colors = &grids[grid].cells()[cells.clone()];
            let row = |k: usize| (k * N_COLORS + usize::from(colors[k])) * stride;
            let mut offsets = [0; BLOCK];
            for (k, offset) in offsets[..colors.len()].iter_mut().enumerate() {
                *offset = row(k);
            }
            add_rows(sums, &table, &offsets[..colors.len()]);
        }
    }
    sums
}

/// Adds the rows of `table` that begin at `offsets` to `sums`.
fn add_rows(sums: &mut [f32], table: &[f32], offsets: &[usize]) {
    for (lane, sums) in sums.chunks_exact_mut(LANES).enumerate() {
        let mut total = [0.0_f32; LANES];
        for &offset in offsets {
            let row = &table[offset + lane * LANES..][..LANES];
            for (total, &value) in total.iter_mut().zip(row) {
                *total += value;
            }
        }
        for (sum, &total) in sums.iter_mut().zip(&total) {
            *sum += total;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arc::strategies;
    use crate::candidate::testing::{forced_map, open_map};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn all_at_once_is_one_by_one(
            maps in prop::collection::vec(prop_oneof![open_map(5), forced_map(5)], 1..20),
            mut grids in prop::collection::vec(strategies::grid(5), 0..6),
        ) {
            grids.extend(maps.iter().map(CellMap::proposal));
            let scores = score_grids(&maps, &grids.iter().collect::<Vec<_>>());
            for (grid, scores) in grids.iter().zip(&scores) {
                for (map, &score) in maps.iter().zip(scores) {
                    let expected = map.log_prob(grid);
                    prop_assert!((score - expected).abs() < 1e-3, "{score} for {expected}");
                }
            }
        }
    }
}
