//! What a model says about each cell of an output, and what follows for whole grids.

use serde::{Deserialize, Serialize};

use super::prepared::PreparedMap;
use crate::arc::{Grid, MAX_SIDE, N_COLORS, View};
use crate::dataset::Format;

/// Index of PAD ("no cell here") among a cell's classes, after the ten colors.
pub const PAD_CLASS: usize = 10;

/// Classes of a cell: ten colors and PAD.
pub const N_CLASSES: usize = 11;

/// Stands for the log-probability of a grid that a map cannot hold. It is finite, so that sums, averages
/// and JSON stay well-defined, and below anything that a map gives to a grid that it can hold.
pub const IMPOSSIBLE: f32 = -1.0e6;

/// Smallest log-probability of one class in one cell; a model that rules a class out says less than it
/// believes it does, and 900 such cells must stay above [`IMPOSSIBLE`].
pub(super) const LEAST_LOG_PROB: f32 = -100.0;

/// Height and width.
pub(super) type Shape = (usize, usize);

/// What the model says about each cell of a test output, under one view.
///
/// Everything is in the frame that the view shows: `log_probs[row * width + column][class]`, natural
/// logarithms, normalized over the eleven classes.
#[derive(Debug, Clone, PartialEq)]
pub struct CellMap {
    /// The view under which the prediction was made.
    pub view: View,
    /// The format in which it was made.
    pub format: Format,
    /// Rows of the canvas.
    pub height: usize,
    /// Columns of the canvas.
    pub width: usize,
    /// Log-probabilities of the classes, cell by cell; `height * width` entries.
    pub log_probs: Vec<[f32; N_CLASSES]>,
    /// The output's shape as shown, where a shape rule gave it. The output then stands in the canvas'
    /// top-left corner, and PAD is impossible inside it. Otherwise the predicted PAD region decides.
    pub shape: Option<(usize, usize)>,
}

/// What a map was made under: all that the vote needs to know of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapMeta {
    /// The view under which the prediction was made.
    pub view: View,
    /// The format in which it was made.
    pub format: Format,
}

impl CellMap {
    /// What the map was made under.
    pub fn meta(&self) -> MapMeta {
        MapMeta { view: self.view.clone(), format: self.format }
    }

    /// The most probable grid, in the task's frame.
    ///
    /// It has the forced shape or else [`CellMap::most_probable_shape`], and in each cell the color that is
    /// most probable there.
    pub fn proposal(&self) -> Grid {
        PreparedMap::new(self).best_grid(self.most_probable_shape())
    }

    /// The forced shape or, without one, the `(height, width)` that maximizes the probability of "a color
    /// in every cell inside, PAD in every cell outside"; in the task's frame.
    pub fn most_probable_shape(&self) -> (usize, usize) {
        self.most_probable_shapes(&self.shape_log_probs(), 1)[0]
    }

    /// The `limit` most probable of the shapes in `log_probs` in decreasing probability, at least one, in the
    /// task's frame; of equals the smaller first.
    pub(super) fn most_probable_shapes(
        &self,
        log_probs: &[(Shape, f64)],
        limit: usize,
    ) -> Vec<Shape> {
        let limit = limit.max(1);
        let mut best: Vec<(Shape, f64)> = Vec::new();
        for &(shape, log_prob) in log_probs {
            let rank = best.partition_point(|&(_, other)| other >= log_prob);
            if rank < limit {
                best.insert(rank, (shape, log_prob));
                best.truncate(limit);
            }
        }
        let task_frame = self.view.dihedral.inverse();
        best.into_iter().map(|(shape, _)| task_frame.apply_shape(shape)).collect()
    }

    /// Every shape that the output can have, as shown, with its log-probability: the forced one, or all that
    /// the canvas can hold, row by row.
    pub(super) fn shape_log_probs(&self) -> Vec<(Shape, f64)> {
        if let Some(forced) = self.shape {
            return vec![(forced, 0.0)];
        }
        // Summed over a rectangle: how much likelier its cells are to hold colors than PAD.
        let gain = PrefixSums::new(self.height, self.width, |i| {
            f64::from(log_color_mass(&self.log_probs[i])) - f64::from(self.log_pad(i))
        });
        let all_pad: f64 = (0..self.log_probs.len()).map(|i| f64::from(self.log_pad(i))).sum();
        let heights = 1..=self.height.min(MAX_SIDE);
        heights
            .flat_map(|h| (1..=self.width.min(MAX_SIDE)).map(move |w| (h, w)))
            .map(|(h, w)| ((h, w), all_pad + gain.of(h, w)))
            .collect()
    }

    /// The log-probability of `grid`, which stands in the task's frame.
    ///
    /// It is the sum of the colors' log-probabilities inside and, unless the shape was forced, of PAD's
    /// outside. With a forced shape, the ten colors are renormalized: PAD was no choice.
    /// [`IMPOSSIBLE`] if the grid does not fit on the canvas or contradicts the forced shape.
    pub fn log_prob(&self, grid: &Grid) -> f32 {
        if !self.holds(grid.shape()) {
            return IMPOSSIBLE;
        }
        let shown = self.view.apply(grid);
        let inside = shown.cells().iter().enumerate().map(|(i, &color)| {
            let index = i / shown.width() * self.width + i % shown.width();
            let log_prob = self.log_probs[index][usize::from(color)] - self.log_norm(index);
            f64::from(log_prob.max(LEAST_LOG_PROB))
        });
        (inside.sum::<f64>() + self.log_pad_outside(grid.shape())) as f32
    }

    /// The log-probability that everything outside a grid of `shape` (in the task's frame) is PAD; 0 with a
    /// forced shape.
    pub(super) fn log_pad_outside(&self, shape: Shape) -> f64 {
        if self.shape.is_some() {
            return 0.0;
        }
        let (height, width) = self.view.dihedral.apply_shape(shape);
        let outside = (0..self.log_probs.len())
            .filter(|i| i / self.width >= height || i % self.width >= width);
        outside.map(|i| f64::from(self.log_pad(i))).sum()
    }

    /// True if a grid of `shape` (in the task's frame) fits on the canvas and is not ruled out by the forced
    /// shape.
    pub(super) fn holds(&self, shape: Shape) -> bool {
        let shown = self.view.dihedral.apply_shape(shape);
        let fits = shown.0 <= self.height && shown.1 <= self.width;
        fits && self.shape.is_none_or(|forced| forced == shown)
    }

    /// What [`CellMap::log_prob`] divides the colors of a canvas cell by.
    pub(super) fn log_norm(&self, index: usize) -> f32 {
        if self.shape.is_some() { log_color_mass(&self.log_probs[index]) } else { 0.0 }
    }

    fn log_pad(&self, index: usize) -> f32 {
        self.log_probs[index][PAD_CLASS].max(LEAST_LOG_PROB)
    }
}

/// The log-probability that a cell holds any color.
fn log_color_mass(cell: &[f32; N_CLASSES]) -> f32 {
    let pad = cell[PAD_CLASS];
    if pad < -17.0 {
        return 0.0; // PAD is below the rounding of the colors' sum.
    }
    if pad < -7.0 {
        let p = pad.exp();
        return -p - 0.5 * p * p; // ln(1 − p); the next term is below rounding.
    }
    if pad < -0.1 {
        return (-pad.exp()).ln_1p();
    }
    // 1 − exp(pad) would cancel: add the colors up.
    let colors = &cell[..N_COLORS];
    let top = colors.iter().copied().fold(LEAST_LOG_PROB, f32::max);
    let sum: f32 = colors.iter().map(|&c| (c - top).exp()).sum();
    (top + sum.ln()).max(LEAST_LOG_PROB)
}

/// Sums over the rectangles in the top-left corner of a canvas.
struct PrefixSums {
    width: usize,
    sums: Vec<f64>,
}

impl PrefixSums {
    fn new(height: usize, width: usize, value: impl Fn(usize) -> f64) -> Self {
        let mut sums = vec![0.0; (height + 1) * (width + 1)];
        for row in 0..height {
            let mut line = 0.0;
            for column in 0..width {
                line += value(row * width + column);
                let above = sums[row * (width + 1) + column + 1];
                sums[(row + 1) * (width + 1) + column + 1] = above + line;
            }
        }
        Self { width, sums }
    }

    fn of(&self, height: usize, width: usize) -> f64 {
        self.sums[height * (self.width + 1) + width]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arc::strategies;
    use crate::candidate::testing::{forced_map, open_map};

    /// Everything at once and slowly: the candidate is shown through the view and compared cell by cell.
    fn brute_force(map: &CellMap, grid: &Grid) -> Option<f64> {
        let shown = map.view.apply(grid);
        if shown.height() > map.height || shown.width() > map.width {
            return None;
        }
        if map.shape.is_some_and(|forced| forced != shown.shape()) {
            return None;
        }
        let mut sum = 0.0;
        for row in 0..map.height {
            for column in 0..map.width {
                let p = map.log_probs[row * map.width + column].map(|l| f64::from(l).exp());
                if row < shown.height() && column < shown.width() {
                    let colors: f64 = p[..N_COLORS].iter().sum();
                    let norm = if map.shape.is_some() { colors } else { 1.0 };
                    sum += (p[usize::from(shown.get(row, column))] / norm).ln();
                } else if map.shape.is_none() {
                    sum += p[PAD_CLASS].ln();
                }
            }
        }
        Some(sum)
    }

    fn agrees(map: &CellMap, grid: &Grid) -> Result<(), TestCaseError> {
        match brute_force(map, grid) {
            None => prop_assert_eq!(map.log_prob(grid), IMPOSSIBLE),
            Some(expected) => {
                let found = f64::from(map.log_prob(grid));
                let tolerance = 1e-4 * (1.0 + expected.abs());
                prop_assert!((found - expected).abs() < tolerance, "{found} for {expected}");
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn a_grid_scores_as_if_it_were_shown_and_summed(
            map in prop_oneof![open_map(6), forced_map(6)],
            grid in strategies::grid(6),
        ) {
            agrees(&map, &grid)?;
            agrees(&map, &map.proposal())?;
        }

        #[test]
        fn the_proposal_is_the_best_grid_of_its_shape(
            map in prop_oneof![open_map(5), forced_map(5)],
            cell: prop::sample::Index,
            color in 0..10_u8,
        ) {
            let best = map.proposal();
            let i = cell.index(best.cells().len());
            let mut other = best.clone();
            other.set(i / best.width(), i % best.width(), color);
            prop_assert!(map.log_prob(&other) <= map.log_prob(&best) + 1e-4);
        }

        #[test]
        fn the_padding_chooses_the_most_probable_shape(map in open_map(6)) {
            let p = |i: usize, class: usize| f64::from(map.log_probs[i][class]).exp();
            let probability = |(height, width): Shape| {
                let cells = (0..map.height * map.width).map(|i| {
                    let inside = i / map.width < height && i % map.width < width;
                    let colors = (0..N_COLORS).map(|c| p(i, c)).sum::<f64>();
                    if inside { colors } else { p(i, PAD_CLASS) }
                });
                cells.map(f64::ln).sum::<f64>()
            };
            let (height, width) = (map.height, map.width);
            let shapes = (1..=height).flat_map(|h| (1..=width).map(move |w| (h, w)));
            let best = shapes.map(probability).fold(f64::NEG_INFINITY, f64::max);
            let chosen = map.view.dihedral.apply_shape(map.most_probable_shape());
            prop_assert!((probability(chosen) - best).abs() < 1e-3);
            prop_assert_eq!(map.view.dihedral.apply_shape(map.proposal().shape()), chosen);
        }

        #[test]
        fn a_forced_shape_is_proposed_in_the_tasks_frame(map in forced_map(6)) {
            prop_assert_eq!(map.view.apply(&map.proposal()).shape(), map.shape.unwrap());
        }
    }

    #[test]
    fn classes_that_a_model_rules_out_stay_finite() {
        let mut cell = [f32::NEG_INFINITY; N_CLASSES];
        cell[3] = 0.0;
        let map = CellMap {
            view: View::IDENTITY,
            format: Format::Icl,
            height: 1,
            width: 2,
            log_probs: vec![cell, cell],
            shape: Some((1, 2)),
        };
        assert_eq!(map.log_prob(&Grid::filled(1, 2, 3)), 0.0);
        let ruled_out = map.log_prob(&Grid::filled(1, 2, 4));
        assert!(ruled_out > IMPOSSIBLE && ruled_out < -100.0, "{ruled_out}");
        assert_eq!(map.log_prob(&Grid::filled(2, 1, 3)), IMPOSSIBLE);
    }

    #[test]
    fn the_mass_of_the_colors_is_exact_at_both_ends() {
        for pad in [-30.0_f32, -16.0, -7.1, -5.0, -0.5, -0.05, -1e-4, -1e-7] {
            let rest = -f64::from(pad).exp_m1();
            let mut cell = [(rest / 10.0).ln() as f32; N_CLASSES];
            cell[PAD_CLASS] = pad;
            let found = f64::from(log_color_mass(&cell));
            assert!((found - rest.ln()).abs() < 1e-4, "{found} for {}", rest.ln());
        }
    }
}
