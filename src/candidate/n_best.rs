//! The most probable grids of one map, in decreasing probability.
//!
//! Cells are independent, so that the grids of one shape need no search tree over tokens: each is the best
//! grid with some cells flipped, and the flips are enumerated best first. It is what a depth-first search
//! with a probability threshold is to a model that writes a grid cell after cell.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use serde::{Deserialize, Serialize};

use super::cell_map::{CellMap, Shape};
use super::prepared::{PreparedMap, best_two};
use crate::arc::{Color, Grid, N_COLORS};

/// Settings of [`CellMap::n_best`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NBestConfig {
    /// Largest number of grids of one map.
    pub limit: usize,
    /// A grid is given up if it is less than this share as probable as the map's best, 0 to 1. The
    /// depth-first search of Franzen et al. (arXiv 2505.07859) takes absolute probabilities above 0.09.
    pub min_ratio: f32,
    /// Where no shape is forced: how many of the most probable shapes take part, at least 1.
    pub shapes: usize,
}

impl Default for NBestConfig {
    fn default() -> Self {
        Self { limit: 6, min_ratio: 0.05, shapes: 2 }
    }
}

/// The grids of one shape, as flips of the best one.
struct Flips {
    shape: Shape,
    best: Vec<Color>,
    best_log_prob: f64,
    /// The cells that are cheapest to flip, cheapest first.
    cells: Vec<Flippable>,
}

/// A cell and what its other colors cost.
struct Flippable {
    index: usize,
    /// Loss of log-probability and color, cheapest first.
    others: Vec<(f64, Color)>,
}

/// A set of flips, each a position in [`Flips::cells`] and one in [`Flippable::others`]; positions of cells
/// increase.
struct State {
    log_prob: f64,
    shape: usize,
    flips: Vec<(usize, usize)>,
}

impl Ord for State {
    /// The more probable is greater; among equals the earlier shape and then the earlier flips.
    fn cmp(&self, other: &Self) -> Ordering {
        let by_probability = self.log_prob.total_cmp(&other.log_prob);
        by_probability.then_with(|| (other.shape, &other.flips).cmp(&(self.shape, &self.flips)))
    }
}

impl PartialOrd for State {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for State {}

impl CellMap {
    /// The most probable grids, in the task's frame and in decreasing order of [`CellMap::log_prob`], which
    /// comes with each.
    ///
    /// Exact: no grid of the shapes that take part is skipped.
    pub fn n_best(&self, config: &NBestConfig) -> Vec<(Grid, f32)> {
        PreparedMap::new(self).n_best(config).1
    }
}

impl PreparedMap<'_> {
    /// The map's proposal and its [`CellMap::n_best`].
    pub(super) fn n_best(&self, config: &NBestConfig) -> (Grid, Vec<(Grid, f32)>) {
        let shapes = self.map.most_probable_shapes(&self.shapes, config.shapes);
        let all: Vec<Flips> = shapes.iter().map(|&s| self.flips(s, config.limit)).collect();
        let proposal = all[0].grid(&[]);
        let unflipped = all.iter().enumerate().map(|(shape, flips)| State {
            log_prob: flips.best_log_prob,
            shape,
            flips: Vec::new(),
        });
        let mut heap: BinaryHeap<State> = unflipped.collect();
        let least = heap.peek().map_or(0.0, |s| s.log_prob) + f64::from(config.min_ratio).ln();
        let mut found = Vec::new();
        while let Some(state) = heap.pop() {
            if found.len() >= config.limit || state.log_prob < least {
                break;
            }
            let flips = &all[state.shape];
            found.push((flips.grid(&state.flips), state.log_prob as f32));
            flips.push_successors(&state, &mut heap);
        }
        (proposal, found)
    }

    /// The grids of `shape`, as far as the best `limit` of them need it.
    fn flips(&self, shape: Shape, limit: usize) -> Flips {
        let placed = self.place(shape).expect("the shape is one of the map's own");
        let n_cells = shape.0 * shape.1;
        let mut best = Vec::with_capacity(n_cells);
        let mut cheapest: Vec<(f32, usize)> = Vec::with_capacity(n_cells);
        let mut inside = 0.0;
        for (index, cell) in placed.cells().enumerate() {
            let (color, cost) = best_two(cell);
            inside += f64::from(cell[usize::from(color)]);
            best.push(color);
            cheapest.push((cost, index));
        }
        // The best `limit` grids can only flip the `limit` cheapest cells.
        let by_cost = |a: &(f32, usize), b: &(f32, usize)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        if limit < n_cells {
            cheapest.select_nth_unstable_by(limit, by_cost);
            cheapest.truncate(limit);
        }
        cheapest.sort_by(by_cost);
        let flippable = |&(_, index): &(f32, usize)| Flippable {
            index,
            others: others(placed.cell(index), best[index]),
        };
        let cells = cheapest.iter().map(flippable).collect();
        Flips { shape, best_log_prob: inside + self.map.log_pad_outside(shape), cells, best }
    }
}

/// What every color but `best` costs in a cell, cheapest first.
fn others(cell: &[f32; N_COLORS], best: Color) -> Vec<(f64, Color)> {
    let log_prob = |color: Color| f64::from(cell[usize::from(color)]);
    let others = (0..N_COLORS as Color).filter(|&color| color != best);
    let mut others: Vec<(f64, Color)> =
        others.map(|color| (log_prob(best) - log_prob(color), color)).collect();
    others.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    others
}

impl Flips {
    fn cost(&self, (cell, other): (usize, usize)) -> f64 {
        self.cells[cell].others[other].0
    }

    fn grid(&self, flips: &[(usize, usize)]) -> Grid {
        let mut cells = self.best.clone();
        for &(cell, other) in flips {
            let cell = &self.cells[cell];
            cells[cell.index] = cell.others[other].1;
        }
        Grid::from_cells(self.shape.0, self.shape.1, cells).expect("the shape and colors of a grid")
    }

    /// Every set of flips has one predecessor, which is no less probable, so that the enumeration meets each
    /// once and in order: undo the last flip's last step, from another color to the next cheaper one, from a
    /// cell to the next cheaper one that is free, or altogether.
    fn push_successors(&self, state: &State, heap: &mut BinaryHeap<State>) {
        let mut push = |log_prob: f64, flips: Vec<(usize, usize)>| {
            heap.push(State { log_prob, shape: state.shape, flips });
        };
        let next = state.flips.last().map_or(0, |&(cell, _)| cell + 1);
        if next < self.cells.len() {
            let more = state.flips.iter().copied().chain([(next, 0)]).collect();
            push(state.log_prob - self.cost((next, 0)), more);
        }
        let Some((&last, rest)) = state.flips.split_last() else { return };
        let without = state.log_prob + self.cost(last);
        if last.1 == 0 && next < self.cells.len() {
            let moved = rest.iter().copied().chain([(next, 0)]).collect();
            push(without - self.cost((next, 0)), moved);
        }
        if last.1 + 1 < self.cells[last.0].others.len() {
            let recolored = (last.0, last.1 + 1);
            push(without - self.cost(recolored), rest.iter().copied().chain([recolored]).collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::candidate::testing::{forced_map, open_map};

    /// All grids of the shape, the most probable first.
    fn every_grid(map: &CellMap, shape: (usize, usize)) -> Vec<(f32, Grid)> {
        let n_cells = shape.0 * shape.1;
        let all = (0..10_usize.pow(n_cells as u32)).map(|number| {
            let digit = |i: usize| (number / 10_usize.pow(i as u32) % 10) as Color;
            let grid = Grid::from_cells(shape.0, shape.1, (0..n_cells).map(digit).collect());
            let grid = grid.unwrap();
            (map.log_prob(&grid), grid)
        });
        let mut all: Vec<_> = all.collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        all
    }

    fn check(map: &CellMap, expected: &[(f32, Grid)], config: &NBestConfig) {
        let found = map.n_best(config);
        assert_eq!(found.len(), expected.len().min(config.limit));
        let distinct: BTreeSet<&Grid> = found.iter().map(|(grid, _)| grid).collect();
        assert_eq!(distinct.len(), found.len(), "a grid came twice");
        for ((grid, log_prob), (best, _)) in found.iter().zip(expected) {
            assert!((log_prob - best).abs() < 1e-3, "{log_prob} where {best} is possible");
            assert!((log_prob - map.log_prob(grid)).abs() < 1e-3);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn the_best_grids_of_a_forced_shape_come_in_order(map in forced_map(2), limit in 1..400_usize) {
            let shape = map.most_probable_shape();
            let config = NBestConfig { limit, min_ratio: 0.0, shapes: 1 };
            check(&map, &every_grid(&map, shape), &config);
        }

        #[test]
        fn the_best_grids_of_two_shapes_come_merged(map in open_map(2), limit in 1..60_usize) {
            let shapes = map.most_probable_shapes(&map.shape_log_probs(), 2);
            let mut all: Vec<_> = shapes.iter().flat_map(|&s| every_grid(&map, s)).collect();
            all.sort_by(|a, b| b.0.total_cmp(&a.0));
            check(&map, &all, &NBestConfig { limit, min_ratio: 0.0, shapes: 2 });
        }

        #[test]
        fn improbable_grids_are_given_up(map in forced_map(4), min_ratio in 0.01_f32..1.0) {
            let config = NBestConfig { limit: 40, min_ratio, shapes: 1 };
            let found = map.n_best(&config);
            let best = map.log_prob(&map.proposal());
            prop_assert!((found[0].1 - best).abs() < 1e-3);
            for (_, log_prob) in &found {
                prop_assert!(*log_prob >= best + min_ratio.ln() - 1e-3);
            }
            let all = map.n_best(&NBestConfig { min_ratio: 0.0, ..config });
            let expected = all.iter().filter(|(_, l)| *l >= best + min_ratio.ln() + 1e-3).count();
            prop_assert!(found.len() >= expected);
        }
    }
}
