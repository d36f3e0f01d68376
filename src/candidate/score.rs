//! Log-probabilities of many grids under many maps at once.
//!
//! The sums are those of [`CellMap::log_prob`]. Candidates of one shape differ in few cells, so that each is
//! summed as a difference from the first of them. The differences come from a table of a few cells at a time,
//! in which the maps lie side by side: a candidate adds whole rows of it, and the table stays in the cache.

use std::collections::BTreeMap;

use super::cell_map::{CellMap, IMPOSSIBLE};
use super::prepared::{Placed, PreparedMap};
use crate::arc::{Color, Grid, N_COLORS};

/// Cells in the table.
const BLOCK: usize = 8;

/// The log-probability of every grid (in the task's frame) under every map: `[grid][map]`, as
/// [`CellMap::log_prob`].
pub fn score_grids(maps: &[CellMap], grids: &[&Grid]) -> Vec<Vec<f32>> {
    score_prepared(&maps.iter().map(PreparedMap::new).collect::<Vec<_>>(), grids)
}

/// [`score_grids`] of maps that are prepared already.
pub(super) fn score_prepared(maps: &[PreparedMap<'_>], grids: &[&Grid]) -> Vec<Vec<f32>> {
    let mut scores = vec![vec![IMPOSSIBLE; maps.len()]; grids.len()];
    let mut by_shape: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
    for (index, grid) in grids.iter().enumerate() {
        by_shape.entry(grid.shape()).or_default().push(index);
    }
    for (shape, members) in by_shape {
        let placed = maps.iter().enumerate().filter_map(|(j, map)| Some((j, map.place(shape)?)));
        let (holders, placed): (Vec<usize>, Vec<Placed>) = placed.unzip();
        if holders.is_empty() {
            continue;
        }
        let cells: Vec<&[Color]> = members.iter().map(|&grid| grids[grid].cells()).collect();
        let (mut first, others) = sums_inside(&placed, &cells);
        for (first, &j) in first.iter_mut().zip(&holders) {
            *first += maps[j].map.log_pad_outside(shape);
        }
        for (differences, &grid) in others.chunks_exact(holders.len()).zip(&members) {
            for ((&j, &first), &difference) in holders.iter().zip(&first).zip(differences) {
                scores[grid][j] = first as f32 + difference;
            }
        }
    }
    scores
}

/// Sums of the colors' log-probabilities inside grids of one shape: of the first grid, by map, and by how much
/// the others' differ from it, `[grid][map]`.
fn sums_inside(maps: &[Placed<'_>], grids: &[&[Color]]) -> (Vec<f64>, Vec<f32>) {
    let n_maps = maps.len();
    let mut first = vec![0.0_f64; n_maps];
    let mut differences = vec![0.0_f32; grids.len() * n_maps];
    let mut table = vec![0.0_f32; BLOCK * N_COLORS * n_maps];
    for (block, base) in grids[0].chunks(BLOCK).enumerate() {
        let start = block * BLOCK;
        let changes = changes(grids, start, base);
        // Only colors that some grid has in a cell are looked up.
        let mut rows = [const { Vec::new() }; BLOCK];
        for change in &changes {
            if !rows[change.cell].contains(&change.color) {
                rows[change.cell].push(change.color);
            }
        }
        for (j, (map, first)) in maps.iter().zip(&mut first).enumerate() {
            for (k, (&base, rows)) in base.iter().zip(&rows).enumerate() {
                let cell = map.cell(start + k);
                let of_base = cell[usize::from(base)];
                *first += f64::from(of_base);
                for &color in rows {
                    let row = k * N_COLORS + usize::from(color);
                    table[row * n_maps + j] = cell[usize::from(color)] - of_base;
                }
            }
        }
        for change in &changes {
            let row = change.cell * N_COLORS + usize::from(change.color);
            let row = &table[row * n_maps..][..n_maps];
            let sums = &mut differences[change.grid * n_maps..][..n_maps];
            for (sum, &difference) in sums.iter_mut().zip(row) {
                *sum += difference;
            }
        }
    }
    (first, differences)
}

/// A cell of a block in which a grid differs from the first one.
struct Change {
    grid: usize,
    cell: usize,
    color: Color,
}

/// Where the grids differ from `base`, which is the first grid's from cell `start` on; grid by grid.
fn changes(grids: &[&[Color]], start: usize, base: &[Color]) -> Vec<Change> {
    let mut changes = Vec::new();
    for (grid, cells) in grids.iter().enumerate() {
        let cells = &cells[start..start + base.len()];
        if cells == base {
            continue;
        }
        let differing =
            cells.iter().zip(base).enumerate().filter(|(_, (color, base))| color != base);
        changes.extend(differing.map(|(cell, (&color, _))| Change { grid, cell, color }));
    }
    changes
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
